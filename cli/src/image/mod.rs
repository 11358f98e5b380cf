//! `denali image`: file stores for guests, made of folders.

mod contents;
mod mke2fs;
mod target;

use crate::arguments::PackArguments;
use crate::output::{Failure, print, print_json};
use contents::Contents;
use denali_abi::status;
use serde_json::json;
use std::path::Path;
use target::Target;

/// Packs a folder into an ext4 image, which guests read as a store of files.
pub(crate) fn pack(arguments: &PackArguments) -> Result<(), Failure> {
    let program = mke2fs::find()?;
    let contents = Contents::of(&arguments.folder)?;
    let target = Target::new(&arguments.image, &arguments.folder, arguments.force)?;
    let bytes = mke2fs::make(&program, &arguments.folder, &contents, &target)?;
    target.finish()?;
    let image = arguments.image.display().to_string();
    if arguments.format.is_json() {
        return print_json(&json!({
            "image": image,
            "bytes": bytes,
            "files": contents.files,
            "folders": contents.folders,
            "content_bytes": contents.bytes,
            "uuid": contents.uuid(),
        }));
    }
    print(&format_args!(
        "{image}: {}, {} of contents in {}",
        counted(contents.files, "file"),
        size(contents.bytes),
        size(bytes),
    ))
}

/// A failure that names the path it is about.
fn failure(status: u8, path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::new(status, format_args!("{}: {what}", path.display()))
}

/// A failure of the host to do what was asked.
fn host(path: &Path) -> impl Fn(std::io::Error) -> Failure + '_ {
    move |error| failure(status::HOST_LACKS, path, error)
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A number of bytes for people: three digits and a unit.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value < 10.0 { 1 } else { 0 };
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (20 << 10, "20 KiB"),
            (1020 << 10, "1.0 MiB"),
            (3 << 40, "3.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
