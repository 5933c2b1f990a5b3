//! Seccomp: which system calls a container's processes may make.
//!
//! In: `linux.seccomp` of a bundle's `config.json`, as the OCI has it. Out: a program for the kernel ([`program`], pure),
//! installed in the last moment before a process becomes the container's. libcontainer would leave that to a C library,
//! and forgets it for commands that are run in a container.
//! Without `no_new_privs` the kernel asks for CAP_SYS_ADMIN: the process holds it until it becomes the container's, not
//! longer, for it is not in the bounding set. What it may gain later (setuid programs) stays as it is without a filter.

mod numbers;
mod program;

use std::collections::BTreeMap;

use libcontainer::oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use nix::{
    errno::Errno,
    libc::{self, c_ulong, sock_filter, sock_fprog},
};
use serde_json::Value;

use self::program::{Comparison, Condition, Profile, Rule};

/// What a process installs.
#[derive(Clone)]
pub struct Filter {
    program: Vec<sock_filter>,
    flags: c_ulong,
}

/// The filter of a bundle, if it has one; the error is for the user.
pub fn of_bundle(config: &Value) -> Result<Option<Filter>, String> {
    let Some(seccomp) = config.pointer("/linux/seccomp") else { return Ok(None) };
    let seccomp: LinuxSeccomp =
        serde_json::from_value(seccomp.clone()).map_err(|error| format!("cannot understand the seccomp profile: {error}"))?;
    let profile = profile(&seccomp, &numbers::by_name())?;
    let program = program::program(&profile).ok_or("the seccomp profile is too long for the kernel")?;
    let flag = |flag: &LinuxSeccompFilterFlag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        // The process has one thread, and no filter here asks anybody.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync | LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
    };
    let flags = seccomp.flags().iter().flatten().map(flag).fold(0, |all, flag| all | flag);
    Ok(Some(Filter { program, flags }))
}

/// The rules by number. A call that the architecture does not have is none of its processes' business.
fn profile(seccomp: &LinuxSeccomp, numbers: &BTreeMap<&str, u32>) -> Result<Profile, String> {
    let action = seccomp.default_action();
    let mut profile =
        Profile { rules: BTreeMap::new(), otherwise: verdict(action, seccomp.default_errno_ret())?, beyond: beyond(seccomp)? };
    for syscall in seccomp.syscalls().iter().flatten() {
        let rules = rules(syscall)?;
        for number in syscall.names().iter().filter_map(|name| numbers.get(name.as_str())) {
            profile.rules.entry(*number).or_default().extend(rules.iter().cloned());
        }
    }
    Ok(profile)
}

/// Calls that came after the profile was written do not exist for the container, as runc has it: a C library that hears
/// that a call is forbidden gives up, one that hears that there is none tries the older one.
fn beyond(seccomp: &LinuxSeccomp) -> Result<u32, String> {
    match seccomp.default_action() {
        action @ (LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace) => {
            verdict(action, seccomp.default_errno_ret())
        }
        _ => Ok(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
    }
}

fn verdict(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, String> {
    if action == LinuxSeccompAction::ScmpActNotify {
        return Err("the seccomp profile asks an agent (SCMP_ACT_NOTIFY), and there is none".to_owned());
    }
    Ok(action.as_u32(errno.map(|errno| errno & libc::SECCOMP_RET_DATA)))
}

fn rules(syscall: &LinuxSyscall) -> Result<Vec<Rule>, String> {
    let verdict = verdict(syscall.action(), syscall.errno_ret())?;
    let conditions =
        syscall.args().iter().flatten().map(condition).collect::<Option<Vec<_>>>().ok_or("a system call has six arguments")?;
    let twice = (0..6).any(|argument| conditions.iter().filter(|condition| condition.argument == argument).count() > 1);
    if twice {
        // Two conditions on one argument mean either, as runc has it.
        return Ok(conditions.into_iter().map(|condition| Rule { conditions: vec![condition], verdict }).collect());
    }
    Ok(vec![Rule { conditions, verdict }])
}

fn condition(argument: &LinuxSeccompArg) -> Option<Condition> {
    let value = argument.value();
    let comparison = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => Comparison::NotEqual(value),
        LinuxSeccompOperator::ScmpCmpLt => Comparison::Less(value),
        LinuxSeccompOperator::ScmpCmpLe => Comparison::LessOrEqual(value),
        LinuxSeccompOperator::ScmpCmpEq => Comparison::Equal(value),
        LinuxSeccompOperator::ScmpCmpGe => Comparison::GreaterOrEqual(value),
        LinuxSeccompOperator::ScmpCmpGt => Comparison::Greater(value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            Comparison::Masked { mask: value, value: argument.value_two().unwrap_or_default() }
        }
    };
    let argument = u32::try_from(argument.index()).ok().filter(|index| *index < 6)?;
    Some(Condition { argument, comparison })
}

impl Filter {
    /// Binds this process and what becomes of it.
    #[allow(unsafe_code)]
    pub fn install(&self) -> Result<(), Errno> {
        let program = sock_fprog {
            len: u16::try_from(self.program.len()).map_err(|_| Errno::E2BIG)?,
            filter: self.program.as_ptr().cast_mut(),
        };
        // SAFETY: the call reads `len` instructions through a pointer that is good until it returns, and keeps none; the
        // kernel checks the program. Neither the standard library nor nix has a safe call for it.
        let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, self.flags, &raw const program) };
        Errno::result(result).map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_profile_in_the_words_of_the_oci() {
        let config = json!({"linux": {"seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
            "syscalls": [
                {"names": ["one", "nobody-knows"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["two"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": [
                    {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 3, "op": "SCMP_CMP_EQ"},
                ]},
            ],
        }}});
        let seccomp: LinuxSeccomp = serde_json::from_value(config["linux"]["seccomp"].clone()).unwrap();
        let profile = profile(&seccomp, &BTreeMap::from([("one", 1), ("two", 2)])).unwrap();
        assert_eq!((profile.otherwise, profile.beyond), (0x5_0000 | 13, 0x5_0000 | 38));
        assert_eq!(profile.rules[&1], [Rule { conditions: Vec::new(), verdict: libc::SECCOMP_RET_ALLOW }]);
        assert_eq!(profile.rules[&2].len(), 2, "either value");
        assert!(of_bundle(&config).unwrap().is_some());
        assert!(of_bundle(&json!({"linux": {}})).unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let refused = |seccomp: Value| of_bundle(&json!({"linux": {"seccomp": seccomp}})).err().unwrap_or_default();
        assert!(refused(json!({"defaultAction": "SCMP_ACT_NOTIFY"})).contains("NOTIFY"));
        assert!(refused(json!({"defaultAction": "SCMP_ACT_MAYBE"})).contains("cannot understand"));
        let argument = json!([{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]);
        let syscalls = json!([{"names": ["read"], "action": "SCMP_ACT_KILL", "args": argument}]);
        assert!(refused(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls})).contains("six arguments"));
    }

    #[test]
    fn names_have_this_architectures_numbers() {
        let numbers = numbers::by_name();
        assert_eq!(numbers["execve"], u32::try_from(libc::SYS_execve).unwrap());
        assert_eq!(numbers["fchmodat2"], 452);
        assert!(!numbers.contains_key("nobody-knows"));
    }
}
