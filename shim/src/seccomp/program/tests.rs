//! Aim: the program says what the profile says. Method: a machine that runs it, for many numbers and arguments, beside a
//! judge that reads the rules.
#![allow(clippy::unwrap_used)]

use super::*;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | 1;
const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | 38;

/// What the kernel tells of a call, in words of 32 bits.
fn told(architecture: u32, number: u32, arguments: [u64; 6]) -> Vec<u32> {
    let mut words = vec![number, architecture, 0, 0];
    words.extend(arguments.iter().flat_map(|argument| [*argument as u32, (*argument >> 32) as u32]));
    words
}

fn run(program: &[sock_filter], told: &[u32]) -> u32 {
    let (mut at, mut register) = (0, 0);
    loop {
        let now = program[at];
        at += 1;
        let jump = |is: bool| usize::from(if is { now.jt } else { now.jf });
        match now.code {
            LOAD => register = told[now.k as usize / 4],
            AND => register &= now.k,
            RETURN => return now.k,
            JUMP => at += now.k as usize,
            JUMP_EQUAL => at += jump(register == now.k),
            JUMP_GREATER => at += jump(register > now.k),
            JUMP_GREATER_OR_EQUAL => at += jump(register >= now.k),
            other => panic!("the kernel would refuse {other}"),
        }
    }
}

fn is_true(condition: &Condition, arguments: [u64; 6]) -> bool {
    let argument = arguments[condition.argument as usize];
    match condition.comparison {
        Comparison::NotEqual(value) => argument != value,
        Comparison::Less(value) => argument < value,
        Comparison::LessOrEqual(value) => argument <= value,
        Comparison::Equal(value) => argument == value,
        Comparison::GreaterOrEqual(value) => argument >= value,
        Comparison::Greater(value) => argument > value,
        Comparison::Masked { mask, value } => argument & mask == value,
    }
}

fn judge_by_rules(profile: &Profile, number: u32, arguments: [u64; 6]) -> u32 {
    let Some(rules) = profile.rules.get(&number) else {
        let last = profile.rules.keys().max();
        return if last.is_some_and(|last| number > *last) { profile.beyond } else { profile.otherwise };
    };
    let holds = |rule: &&Rule| rule.conditions.iter().all(|condition| is_true(condition, arguments));
    rules.iter().find(holds).map_or(profile.otherwise, |rule| rule.verdict)
}

fn check(profile: &Profile, numbers: impl IntoIterator<Item = u32>) {
    const VALUES: [u64; 8] = [0, 1, 7, 40, u32::MAX as u64, 1 << 32, (7 << 32) | 40, u64::MAX];
    let program = program(profile).unwrap();
    for number in numbers {
        for first in VALUES {
            for second in VALUES {
                let arguments = [first, second, first, 0, 0, second];
                let found = run(&program, &told(ARCHITECTURE, number, arguments));
                assert_eq!(found, judge_by_rules(profile, number, arguments), "{number} {arguments:x?}");
            }
        }
    }
}

fn allow(conditions: Vec<Condition>) -> Rule {
    Rule { conditions, verdict: ALLOW }
}

#[test]
fn every_comparison_of_64_bits() {
    let value = (7 << 32) | 40;
    let comparisons = [
        Comparison::NotEqual(value),
        Comparison::Less(value),
        Comparison::LessOrEqual(value),
        Comparison::Equal(value),
        Comparison::GreaterOrEqual(value),
        Comparison::Greater(value),
        Comparison::Masked { mask: 0xffff_ffff_0000_0001, value: 7 << 32 },
    ];
    for one in comparisons {
        for other in comparisons {
            let conditions = [(0, one), (5, other)].map(|(argument, comparison)| Condition { argument, comparison });
            let rules =
                BTreeMap::from([(3, vec![allow(conditions.to_vec()), Rule { verdict: ABSENT, ..allow(vec![conditions[0]]) }])]);
            check(&Profile { rules, otherwise: DENY, beyond: DENY }, 2..5);
        }
    }
}

#[test]
fn every_number_is_found() {
    let condition = Condition { argument: 1, comparison: Comparison::Equal(40) };
    let some = (0..460).filter(|number| number % 7 != 3 && number % 11 != 5);
    let rules = some.map(|number| (number, if number % 5 == 0 { vec![allow(vec![condition])] } else { vec![allow(Vec::new())] }));
    let profile = Profile { rules: rules.collect(), otherwise: DENY, beyond: ABSENT };
    check(&profile, 0..470);
    check(&Profile::default(), [0, 1, 1000]);
}

#[test]
fn other_architectures_are_no_way_around() {
    let profile = Profile { rules: BTreeMap::from([(1, vec![allow(Vec::new())])]), otherwise: ALLOW, beyond: ALLOW };
    let program = program(&profile).unwrap();
    let i386 = 0x4000_0003;
    assert_eq!(run(&program, &told(i386, 1, [0; 6])), libc::SECCOMP_RET_KILL_PROCESS);
    assert_eq!(run(&program, &told(ARCHITECTURE, 1, [0; 6])), ALLOW);
    if cfg!(target_arch = "x86_64") {
        assert_eq!(run(&program, &told(ARCHITECTURE, FOREIGN_FROM | 1, [0; 6])), libc::SECCOMP_RET_KILL_PROCESS);
    }
    assert_eq!(run(&program, &told(ARCHITECTURE, u32::MAX, [0; 6])), ALLOW, "a call that a tracer skips");
}

#[test]
fn what_the_kernel_does_not_take_is_refused() {
    let condition = Condition { argument: 0, comparison: Comparison::Equal(1) };
    let rules = (0..2000).map(|number| (number, vec![allow(vec![Condition { argument: number % 6, ..condition }])]));
    assert!(program(&Profile { rules: rules.collect(), otherwise: DENY, beyond: DENY }).is_none());
}
