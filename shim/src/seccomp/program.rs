//! A seccomp profile as a program for the kernel's classic BPF machine. Pure.
//!
//! In: rules for system calls by number. Out: instructions that look at the architecture, find the call's number by
//! halving, compare arguments where rules want it, and return the verdict. What a number means does not change on the way
//! to the next one that has other rules, so neighbours with the same rules are one range.

use std::collections::BTreeMap;

use nix::libc::{self, sock_filter};

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is another value.
    NotEqual(u64),
    /// It is less.
    Less(u64),
    /// It is at most that.
    LessOrEqual(u64),
    /// It is that value.
    Equal(u64),
    /// It is at least that.
    GreaterOrEqual(u64),
    /// It is more.
    Greater(u64),
    /// Its bits under a mask are that value.
    Masked {
        /// The mask.
        mask: u64,
        /// The value.
        value: u64,
    },
}

/// One argument of a call, and what must be true of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, from 0 to 5.
    pub argument: u32,
    /// How it is compared.
    pub comparison: Comparison,
}

/// A verdict under conditions, all of which must be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The conditions.
    pub conditions: Vec<Condition>,
    /// What seccomp returns, in the kernel's terms.
    pub verdict: u32,
}

/// What is done with calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// By number; the first rule that is true counts.
    pub rules: BTreeMap<u32, Vec<Rule>>,
    /// Where no rule is true.
    pub otherwise: u32,
    /// For calls that are newer than all that the profile names.
    pub beyond: u32,
}

/// Calls of the x32 interface have this bit in their number; they are another architecture in all but name.
#[cfg(target_arch = "x86_64")]
const FOREIGN_FROM: u32 = 0x4000_0000;
#[cfg(not(target_arch = "x86_64"))]
const FOREIGN_FROM: u32 = u32::MAX;

/// `AUDIT_ARCH_*` of this architecture: its ELF machine, 64 bits, little-endian.
#[cfg(target_arch = "x86_64")]
pub const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub const ARCHITECTURE: u32 = 0xc000_00b7;

/// Where the kernel puts what it tells of a call: number, architecture, first argument.
const NUMBER: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const JUMP_GREATER_OR_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;

fn instruction(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// Numbers from one on that share rules.
struct Range {
    from: u32,
    rules: Vec<Rule>,
    otherwise: u32,
}

/// The program; none if it is longer than the kernel takes.
pub fn program(profile: &Profile) -> Option<Vec<sock_filter>> {
    let mut program = vec![
        instruction(LOAD, ARCHITECTURE_OFFSET),
        sock_filter { code: JUMP_EQUAL, jt: 1, jf: 0, k: ARCHITECTURE },
        instruction(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        instruction(LOAD, NUMBER),
    ];
    program.extend(search(&ranges(profile))?);
    (program.len() <= libc::BPF_MAXINSNS as usize).then_some(program)
}

/// All numbers, cut where the rules change.
fn ranges(profile: &Profile) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut push = |from, rules: &[Rule], otherwise| {
        let same = ranges.last().is_some_and(|last: &Range| last.rules == rules && last.otherwise == otherwise);
        if !same {
            ranges.push(Range { from, rules: rules.to_vec(), otherwise });
        }
    };
    push(0, &[], profile.otherwise);
    for (number, rules) in profile.rules.range(..FOREIGN_FROM) {
        push(*number, rules, profile.otherwise);
        // The next one takes this back if it has rules too.
        if !profile.rules.contains_key(&(number + 1)) {
            let is_last = profile.rules.range(number + 1..FOREIGN_FROM).next().is_none();
            push(number + 1, &[], if is_last { profile.beyond } else { profile.otherwise });
        }
    }
    push(FOREIGN_FROM, &[], libc::SECCOMP_RET_KILL_PROCESS);
    // What a tracer sets to skip a call is no number of any architecture.
    push(u32::MAX, &[], profile.otherwise);
    // A range that begins with number 0 hides the empty one before it.
    ranges.dedup_by(|next, before| {
        let hidden = next.from == before.from;
        if hidden {
            std::mem::swap(next, before);
        }
        hidden
    });
    ranges
}

/// Finds the range of the number that is loaded by halving.
fn search(ranges: &[Range]) -> Option<Vec<sock_filter>> {
    let [range] = ranges else {
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let (from, low, high) = (high.first()?.from, search(low)?, search(high)?);
        // Conditional jumps reach 255 instructions only.
        let mut code = vec![
            sock_filter { code: JUMP_GREATER_OR_EQUAL, jt: 0, jf: 1, k: from },
            instruction(JUMP, u32::try_from(low.len()).ok()?),
        ];
        code.extend(low);
        code.extend(high);
        return Some(code);
    };
    let mut code = Vec::new();
    for rule in &range.rules {
        code.extend(judge(rule)?);
        if rule.conditions.is_empty() {
            return Some(code);
        }
    }
    code.push(instruction(RETURN, range.otherwise));
    Some(code)
}

/// Where a comparison leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// The instruction that follows.
    Next,
    /// The condition is true.
    True,
    /// It is not, so the rule is not.
    False,
}

/// Returns the verdict where all conditions are true; else goes on behind.
fn judge(rule: &Rule) -> Option<Vec<sock_filter>> {
    let parts: Vec<_> = rule.conditions.iter().map(|condition| compare(*condition)).collect();
    let length = parts.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code = Vec::with_capacity(length);
    for part in parts {
        let end = code.len() + part.len();
        for (mut instruction, true_to, false_to) in part {
            let behind = code.len() + 1;
            let distance = |to: To| match to {
                To::Next => Some(0),
                To::True => u8::try_from(end - behind).ok(),
                To::False => u8::try_from(length - behind).ok(),
            };
            (instruction.jt, instruction.jf) = (distance(true_to)?, distance(false_to)?);
            code.push(instruction);
        }
    }
    code.push(instruction(RETURN, rule.verdict));
    Some(code)
}

/// Compares an argument of 64 bits half by half, for the machine has 32: the high half decides unless it is equal.
fn compare(condition: Condition) -> Vec<(sock_filter, To, To)> {
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let low = ARGUMENTS + 8 * condition.argument;
    let load = |offset| (instruction(LOAD, offset), To::Next, To::Next);
    let jump = |code, k, yes, no| (instruction(code, k), yes, no);
    let equal = |value: u64, yes, no, high_differs| {
        let (high_half, low_half) = halves(value);
        vec![load(low + 4), jump(JUMP_EQUAL, high_half, To::Next, high_differs), load(low), jump(JUMP_EQUAL, low_half, yes, no)]
    };
    let order = |value: u64, code, if_more, if_less| {
        let (high_half, low_half) = halves(value);
        vec![
            load(low + 4),
            jump(JUMP_GREATER, high_half, if_more, To::Next),
            jump(JUMP_EQUAL, high_half, To::Next, if_less),
            load(low),
            jump(code, low_half, if_more, if_less),
        ]
    };
    match condition.comparison {
        Comparison::Equal(value) => equal(value, To::True, To::False, To::False),
        Comparison::NotEqual(value) => equal(value, To::False, To::True, To::True),
        Comparison::Greater(value) => order(value, JUMP_GREATER, To::True, To::False),
        Comparison::GreaterOrEqual(value) => order(value, JUMP_GREATER_OR_EQUAL, To::True, To::False),
        Comparison::Less(value) => order(value, JUMP_GREATER_OR_EQUAL, To::False, To::True),
        Comparison::LessOrEqual(value) => order(value, JUMP_GREATER, To::False, To::True),
        Comparison::Masked { mask, value } => {
            let ((high_mask, low_mask), (high_half, low_half)) = (halves(mask), halves(value));
            let and = |mask| (instruction(AND, mask), To::Next, To::Next);
            vec![
                load(low + 4),
                and(high_mask),
                jump(JUMP_EQUAL, high_half, To::Next, To::False),
                load(low),
                and(low_mask),
                jump(JUMP_EQUAL, low_half, To::True, To::False),
            ]
        }
    }
}

#[cfg(test)]
mod tests;
