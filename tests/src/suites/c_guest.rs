//! Guests in C and assembly, built with the system's compiler by the documented commands, run.

use crate::backend::Backend;
use crate::guest::Run;
use crate::registry::{Case, Need, Suite};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn suite() -> Suite {
    Suite {
        name: "c_guest",
        cases: vec![
            Case::each("the_example_runs", example).needs(Need::Program("gcc")),
            Case::each("the_example_stops_when_asked", stopped).needs(Need::Program("gcc")),
            Case::each("the_smallest_guest_of_the_contract_runs", smallest)
                .needs(Need::Program("gcc")),
        ],
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest/c")
}

/// Runs gcc in `guest/c`, without a word of complaint.
#[track_caller]
fn compile(words: &[&str], output: &Path) {
    let mut gcc = Command::new("gcc");
    gcc.args(words).arg("-o").arg(output).current_dir(folder());
    let result = gcc.output().expect("gcc starts");
    let said = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success() && said.is_empty(), "{gcc:?}:\n{said}");
}

/// Builds the example by the command at its head.
#[track_caller]
fn build_example(output: &Path) {
    let source = fs::read_to_string(folder().join("example.c")).expect("the example is there");
    let command = source.split_once("    gcc ").expect("its head has a command").1;
    let command = command.split_once("\n *\n").expect("the command ends").0;
    let words = command.split([' ', '\n', '*', '\\']).filter(|word| !word.is_empty());
    let words: Vec<_> = words.collect();
    let at = words.iter().position(|word| *word == "-o").expect("the command has an output");
    compile(&[&words[..at], &words[at + 2..]].concat(), output);
}

fn example(backend: Backend) {
    let folder = tempfile::tempdir().expect("a folder for the image");
    let image = folder.path().join("example");
    build_example(&image);
    let run = Run::new(backend, &image).memory("8MiB").option("--arg").option("one two");
    let output = run.option("--publish").option("0:80").expect(0);
    let start = "hello from C\nmemory: 8 MiB\narguments: \"one two\"\ndevice 0: kind 1\nslept ";
    let rest = output.strip_prefix(start).unwrap_or_else(|| panic!("{output}"));
    let slept = rest.strip_suffix(" ms\n").and_then(|ms| ms.parse().ok());
    assert!(slept.is_some_and(|ms: u64| ms >= 100), "{output}");
}

/// It looks at the request to stop, and ends with 1.
fn stopped(backend: Backend) {
    let folder = tempfile::tempdir().expect("a folder for the image");
    let image = folder.path().join("example");
    build_example(&image);
    let guest = Run::new(backend, &image).start();
    guest.wait_for("arguments");
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.finish().status, 1);
}

fn smallest(backend: Backend) {
    let document = folder().join("../../docs/abi.md");
    let document = fs::read_to_string(document).expect("the document is there");
    let section = document.split_once("## The smallest guest").expect("the section").1;
    let code = section.split_once("```asm\n").expect("its code").1.split("```").next();
    let folder = tempfile::tempdir().expect("a folder for the image");
    let source = folder.path().join("hello.s");
    fs::write(&source, code.expect("the code ends")).expect("the source can be written");
    let image = folder.path().join("hello");
    let options = ["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-T,denali.ld"];
    compile(&[&options[..], &[source.to_str().expect("a path in UTF-8")]].concat(), &image);
    assert_eq!(Run::new(backend, &image).expect(0), "hello\n");
}
