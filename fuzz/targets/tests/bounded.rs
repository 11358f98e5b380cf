//! Every target over its corpus, and over a bounded number of mutations of that, always the same.

use denali_fuzz_targets::mutate::{Numbers, mutated};
use denali_fuzz_targets::{TARGETS, Target};
use std::fs::{read, read_dir};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// Mutations of all inputs of a target together.
const MUTATIONS: usize = 1500;
/// Bytes that the files of a corpus have together, at most: corpora are in git.
const CORPUS_MAX: usize = 32 << 10;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name)
}

/// The files of a target's corpus, in the order of their names.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let entries = read_dir(folder(target.name)).expect("every target has a corpus");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| read(path).unwrap()).collect()
}

/// Feeds a target; if that fails, says with what.
fn feed(target: &Target, input: &[u8]) {
    if catch_unwind(|| (target.feed)(input)).is_err() {
        panic!("{} fails with {:?}", target.name, input.escape_ascii().to_string());
    }
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("there is such a target");
    let mut inputs = corpus(target);
    inputs.push(Vec::new());
    inputs.iter().for_each(|input| feed(target, input));
    let mut numbers = Numbers(name.len() as u64);
    for _ in 0..MUTATIONS {
        let [one, other] = [0, 1].map(|_| numbers.below(inputs.len()));
        feed(target, &mutated(&inputs[one], &inputs[other], &mut numbers));
    }
}

/// A test for each target.
macro_rules! tests {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_tested_and_has_a_program_and_a_small_corpus() {
            let tested = [$(stringify!($name)),*];
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, tested);
            for target in TARGETS {
                let program = folder("../fuzz_targets").join(format!("{}.rs", target.name));
                assert!(program.exists(), "{}", program.display());
                let size: usize = corpus(target).iter().map(Vec::len).sum();
                assert!(size <= CORPUS_MAX, "the corpus of {} has {size} bytes", target.name);
            }
        }
    };
}

tests! { region manifest snapshot control record saved queues config image frames broker back_end switch requests }
