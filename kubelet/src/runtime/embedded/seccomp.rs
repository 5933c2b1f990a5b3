//! Which system calls a container may make. Pure but for reading a profile that lies on the node.
//!
//! In: what the pod asks for, the capabilities that the container has. Out: `linux.seccomp` of its configuration, which
//! the shim makes a program of.
//! <https://kubernetes.io/docs/reference/node/seccomp/>

use std::{fs, path::Path};

use anyhow::Context;
use serde_json::{Value, json};

use crate::runtime::{ContainerConfig, Seccomp};

/// Calls that concern a process itself, its files, its peers, or ask for a capability anyway.
const ALLOWED: &str = "\
    accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod chown clock_adjtime \
    clock_getres clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create \
    epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve \
    execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown \
    fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex \
    futex_requeue futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid geteuid getgid \
    getgroups getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit \
    get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getxattr getxattrat \
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents \
    ioprio_get ioprio_set io_setup io_submit kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown \
    lgetxattr link linkat listen listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat madvise \
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap \
    modify_ldt mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink mremap mseal msgctl msgget \
    msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause \
    pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 preadv preadv2 \
    prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 ptrace pwrite64 pwritev pwritev2 read readahead \
    readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr removexattrat rename renameat \
    renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
    rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam sched_get_priority_max \
    sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam \
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto setfsgid \
    setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid setrlimit \
    set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setxattr setxattrat shmat shmctl shmdt shmget \
    shutdown sigaltstack signalfd signalfd4 socketpair splice stat statfs statx symlink symlinkat sync sync_file_range \
    syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create \
    timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat ustat utime utimensat utimes vfork \
    vmsplice wait4 waitid write writev";
/// Calls that a capability brings with it.
const BY_CAPABILITY: [(&str, &str); 13] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        SYS_ADMIN,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie mount mount_setattr \
         move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname setns statmount \
         syslog umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime settimeofday"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
];
/// The capability that installs a filter, and with which namespaces are no danger.
pub const SYS_ADMIN: &str = "CAP_SYS_ADMIN";
/// Bits of clone's flags that make namespaces: they open much of the kernel to whoever is root in one.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
/// Address family that leads out of a virtual machine past every network namespace.
const AF_VSOCK: u64 = 40;
/// Domains of execution that are harmless: Linux' own, with and without short inodes, and the question for it.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// What runtimes let containers do that ask for nothing else: the calls that common programs make.
fn default_profile(capabilities: &[String]) -> Value {
    let has = |name: &str| capabilities.iter().any(|held| held == name);
    let own = BY_CAPABILITY.iter().filter(|(capability, _)| has(capability)).map(|(_, calls)| *calls);
    let names: Vec<&str> = [ALLOWED].into_iter().chain(own).flat_map(str::split_whitespace).collect();
    let allow = |name: &str, args: Value| json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": args});
    let mut syscalls = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    syscalls.push(allow("socket", json!([{"index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_NE"}])));
    for domain in PERSONALITIES {
        syscalls.push(allow("personality", json!([{"index": 0, "value": domain, "op": "SCMP_CMP_EQ"}])));
    }
    if !has(SYS_ADMIN) {
        let no_namespaces = json!([{"index": 0, "value": NAMESPACE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]);
        syscalls.push(allow("clone", no_namespaces));
        // Its flags lie in memory that no filter sees; a C library that hears that there is none takes clone.
        syscalls.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    }
    json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": EPERM, "syscalls": syscalls})
}

/// The profile of a container, if it has one; `local` is what a file on the node says.
pub fn profile(config: &ContainerConfig, capabilities: &[String], local: Option<&Value>) -> Option<Value> {
    match &config.seccomp {
        _ if config.privileged => None,
        Seccomp::Unconfined => None,
        Seccomp::RuntimeDefault => Some(default_profile(capabilities)),
        Seccomp::Localhost(_) => local.cloned(),
    }
}

/// Reads the profile that a container names, if it names one.
pub fn local(seccomp: &Seccomp) -> anyhow::Result<Option<Value>> {
    let Seccomp::Localhost(path) = seccomp else { return Ok(None) };
    let read = |path: &Path| -> anyhow::Result<Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    read(path).map(Some).with_context(|| format!("cannot load seccomp profile {:?}", path.display().to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rules<'a>(profile: &'a Value, name: &str) -> Vec<&'a Value> {
        let all = profile["syscalls"].as_array().unwrap();
        all.iter().filter(|rule| rule["names"].as_array().unwrap().iter().any(|named| named == name)).collect()
    }

    #[test]
    fn capabilities_bring_their_calls() {
        let plain = default_profile(&["CAP_SYS_CHROOT".to_owned()]);
        for (name, count) in [("read", 1), ("chroot", 1), ("mount", 0), ("keyctl", 0), ("unshare", 0), ("personality", 5)] {
            assert_eq!(rules(&plain, name).len(), count, "{name}");
        }
        assert_eq!(rules(&plain, "clone")[0]["args"][0]["op"], "SCMP_CMP_MASKED_EQ");
        assert_eq!(rules(&plain, "clone3")[0]["errnoRet"], ENOSYS);
        let admin = default_profile(&[SYS_ADMIN.to_owned()]);
        assert_eq!(rules(&admin, "mount").len(), 1);
        assert!(rules(&admin, "clone")[0].get("args").is_none());
    }

    #[test]
    fn a_profile_on_the_node_is_read_or_missed_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.json");
        let wanted = Seccomp::Localhost(file.clone());
        let error = format!("{:#}", local(&wanted).unwrap_err());
        assert!(error.starts_with("cannot load seccomp profile") && error.contains("own.json"), "{error}");
        fs::write(&file, r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
        let read = local(&wanted).unwrap();
        let config = ContainerConfig { seccomp: wanted, ..ContainerConfig::default() };
        assert_eq!(profile(&config, &[], read.as_ref()).unwrap()["defaultAction"], "SCMP_ACT_ALLOW");
        let privileged = ContainerConfig { privileged: true, ..config };
        assert!(profile(&privileged, &[], read.as_ref()).is_none());
        assert!(local(&Seccomp::RuntimeDefault).unwrap().is_none());
    }
}
