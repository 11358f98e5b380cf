//! Guests in C and assembly, built with the system's compiler as the documents say, are images.

use denali_arch::image::Image;
use denali_arch::space::Access;
use denali_arch::symbols::Symbols;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest/c")
}

/// Runs the compiler in `guest/c`; the image it makes, or `None` where there is no compiler.
fn build(name: &str, command: &[&str]) -> Option<Vec<u8>> {
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut gcc = Command::new("gcc");
    gcc.args(command).arg("-o").arg(&output).current_dir(folder());
    match gcc.output() {
        Ok(result) => {
            let errors = String::from_utf8_lossy(&result.stderr);
            assert!(result.status.success() && errors.is_empty(), "{gcc:?}:\n{errors}");
            Some(std::fs::read(output).expect("gcc has written its output"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: no gcc");
            None
        }
        Err(error) => panic!("gcc does not start: {error}"),
    }
}

/// The command the example gives at its head, without the compiler's name and the output.
fn documented_command(source: &str) -> Vec<&str> {
    let command = source.split_once("    gcc ").expect("a command").1;
    let command = command.split_once("\n *\n").expect("its end").0;
    let words = command.split([' ', '\n', '*', '\\']).filter(|word| !word.is_empty());
    let words: Vec<_> = words.collect();
    let output = words.iter().position(|word| *word == "-o").expect("its output");
    [&words[..output], &words[output + 2..]].concat()
}

#[test]
fn the_example_in_c_is_an_image() {
    let source = std::fs::read_to_string(folder().join("example.c")).unwrap();
    let mut command = documented_command(&source);
    command.extend(["-Wall", "-Wextra", "-Wpedantic"]);
    let Some(file) = build("c-example", &command) else { return };
    let image = Image::parse(&file).unwrap();
    assert_eq!(image.note.memory_min, 4 << 20);
    let accesses: Vec<_> = image.segments.iter().map(|segment| segment.access).collect();
    assert_eq!(accesses, [Access::Read, Access::ReadExecute]);
    assert_eq!(image.copies(), [], "nothing of it needs a copy of its own");
    let entry = Symbols::new(&file).lookup(image.entry).map(|place| place.name);
    assert_eq!(entry.as_deref(), Some("_start"));
}

#[test]
fn the_smallest_guest_of_the_document_is_an_image() {
    let document = folder().join("../../docs/abi.md");
    let document = std::fs::read_to_string(document).unwrap();
    let section = document.split_once("## The smallest guest").expect("the section").1;
    let code = section.split_once("```asm\n").expect("its code").1.split("```").next();
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hello.s");
    std::fs::write(&source, code.expect("its end")).unwrap();
    let source = source.to_str().expect("a target folder in UTF-8");
    let command = ["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-T,denali.ld"];
    let Some(file) = build("hello-in-assembly", &[&command[..], &[source]].concat()) else {
        return;
    };
    let image = Image::parse(&file).unwrap();
    assert_eq!((image.start(), image.stack()), (0x20_0000, 0x1c_0000..0x20_0000));
}
