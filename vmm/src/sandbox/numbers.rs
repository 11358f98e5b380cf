//! The first part of the filter, which looks at the number of a system call alone.
//!
//! The kernel runs a new filter once for each number there is, to know those that are always allowed; with one
//! comparison after the other that took most of the time of setting it up. So here is a tree of comparisons.

use seccompiler::sock_filter;
use std::collections::BTreeMap;

/// What the number of a system call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not on the list: the process ends.
    Kill,
    /// It is not there, as far as this process can tell.
    Missing,
    /// It is allowed whatever its arguments are.
    Allow,
    /// Its arguments decide, at which the next part looks.
    Arguments,
}

/// Numbers from this one up to the next range's have one verdict.
type Range = (u32, Verdict);

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_NOT_BELOW: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Where the number of a system call is in what a filter is shown, and the architecture, in bytes.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// Instructions that decide by the number; what is not in `verdicts` kills. Those of which the arguments decide
/// arrive behind the last one. `None` if there are more than jumps can span, some hundreds.
pub(super) fn decide(verdicts: &BTreeMap<u32, Verdict>) -> Option<Vec<sock_filter>> {
    /// AUDIT_ARCH_X86_64.
    const X86_64: u32 = 0xc000_003e;
    let tree = tree(&ranges(verdicts))?;
    let mut program = vec![
        step(LOAD, ARCHITECTURE),
        branch(IF_EQUAL, X86_64, 1, 0),
        step(ANSWER, libc::SECCOMP_RET_KILL_PROCESS),
        step(LOAD, NUMBER),
    ];
    let end = program.len() + tree.len();
    for instruction in tree {
        let place = program.len();
        program.push(match instruction {
            Instruction::Verdict(verdict) => answer(verdict, (end - place - 1) as u32),
            Instruction::Compare { least, below } => branch(IF_NOT_BELOW, least, below, 0),
        });
    }
    Some(program)
}

/// The verdicts of all numbers, in ascending order.
fn ranges(verdicts: &BTreeMap<u32, Verdict>) -> Vec<Range> {
    let mut ranges = vec![(0, Verdict::Kill)];
    let mut turn = |from: u32, verdict: Verdict| {
        if ranges.last().is_some_and(|last| last.0 == from) {
            ranges.pop();
        }
        if ranges.last().is_none_or(|last| last.1 != verdict) {
            ranges.push((from, verdict));
        }
    };
    for (&number, &verdict) in verdicts {
        turn(number, verdict);
        turn(number.saturating_add(1), Verdict::Kill);
    }
    ranges
}

/// An instruction of the tree, before its place is known.
enum Instruction {
    Verdict(Verdict),
    /// Numbers from `least` on go on behind the next `below` instructions, which are for those below.
    Compare {
        least: u32,
        below: u8,
    },
}

fn tree(ranges: &[Range]) -> Option<Vec<Instruction>> {
    if let [(_, verdict)] = ranges {
        return Some(vec![Instruction::Verdict(*verdict)]);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (below, least) = (tree(low)?, high.first()?.0);
    let compare = Instruction::Compare { least, below: u8::try_from(below.len()).ok()? };
    Some([compare].into_iter().chain(below).chain(tree(high)?).collect())
}

fn answer(verdict: Verdict, to_end: u32) -> sock_filter {
    match verdict {
        Verdict::Kill => step(ANSWER, libc::SECCOMP_RET_KILL_PROCESS),
        Verdict::Missing => step(ANSWER, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        Verdict::Allow => step(ANSWER, libc::SECCOMP_RET_ALLOW),
        Verdict::Arguments => step(JUMP, to_end),
    }
}

const fn step(code: u16, k: u32) -> sock_filter {
    branch(code, k, 0, 0)
}

const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the program answers; `None` if it comes to its end.
    fn run(program: &[sock_filter], number: u32, architecture: u32) -> Option<u32> {
        let (mut at, mut loaded) = (0, 0);
        while let Some(&sock_filter { code, jt, jf, k }) = program.get(at) {
            at += 1;
            match code {
                LOAD => loaded = if k == NUMBER { number } else { architecture },
                IF_EQUAL => at += usize::from(if loaded == k { jt } else { jf }),
                IF_NOT_BELOW => at += usize::from(if loaded >= k { jt } else { jf }),
                JUMP => at += k as usize,
                ANSWER => return Some(k),
                other => panic!("instruction {other:#x}"),
            }
        }
        assert_eq!(at, program.len());
        None
    }

    fn expected(verdict: Verdict) -> Option<u32> {
        match verdict {
            Verdict::Kill => Some(libc::SECCOMP_RET_KILL_PROCESS),
            Verdict::Missing => Some(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
            Verdict::Allow => Some(libc::SECCOMP_RET_ALLOW),
            Verdict::Arguments => None,
        }
    }

    fn verdict() -> impl Strategy<Value = Verdict> {
        prop_oneof![
            Just(Verdict::Kill),
            Just(Verdict::Missing),
            Just(Verdict::Allow),
            Just(Verdict::Arguments)
        ]
    }

    proptest! {
        #[test]
        fn every_number_gets_its_verdict(
            verdicts in proptest::collection::btree_map(0_u32..500, verdict(), 0..90),
        ) {
            let program = decide(&verdicts).unwrap();
            let others = [0x4000_0000, 0x4000_0001, u32::MAX];
            for number in (0..520).chain(others) {
                let verdict = verdicts.get(&number).copied().unwrap_or(Verdict::Kill);
                prop_assert_eq!(run(&program, number, 0xc000_003e), expected(verdict), "{}", number);
                // The 32-bit architecture's numbers are others.
                let killed = Some(libc::SECCOMP_RET_KILL_PROCESS);
                prop_assert_eq!(run(&program, number, 0x4000_0003), killed);
            }
        }
    }

    #[test]
    fn few_comparisons_decide() {
        let verdicts: BTreeMap<u32, Verdict> =
            (0..60).map(|index| (index * 7, Verdict::Allow)).collect();
        let program = decide(&verdicts).unwrap();
        let comparisons = program.iter().filter(|step| step.code == IF_NOT_BELOW).count();
        assert_eq!(comparisons, 119, "one for each border between ranges");
        assert!(decide(&(0..1000).map(|index| (index * 2, Verdict::Allow)).collect()).is_none());
    }
}
