//! Images from files: what happens to the file after the start is nothing to the guest.

use super::web::assert_counting;
use crate::backend::Backend;
use crate::guest::Run;
use crate::http::get;
use crate::registry::{Case, Suite};
use std::fs;

pub fn suite() -> Suite {
    Suite {
        name: "image",
        cases: vec![
            Case::each("a_truncated_file_changes_nothing", |it| spoil(it, &[])),
            Case::each("an_overwritten_file_changes_nothing", |it| spoil(it, &[0xcc; 1 << 20])),
            Case::each("from_a_configuration_beside_it", configuration),
        ],
    }
}

/// Replaces the content of the image's file, in place, while the guest runs.
fn spoil(backend: Backend, content: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder for the image");
    let path = folder.path().join("web.elf");
    let image = denali_images::find("web").expect("a built-in image").bytes;
    fs::write(&path, image).expect("the image can be written");
    let guest = Run::new(backend, &path).option("--publish").option("0:80").start();
    let address = guest.address();
    // Most of its code has not run yet when the file changes.
    fs::write(&path, content).expect("the file can be changed");
    guest.wait_for("serving");
    assert_eq!(get(address, "/").status, 200);
    assert_eq!(get(address, "/stats").status, 200);
    assert_counting(&get(address, "/bytes/100000"), 100_000);
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.finish().status, 0);
}

fn configuration(backend: Backend) {
    let folder = tempfile::tempdir().expect("a folder for the image");
    let image = denali_images::find("hello").expect("a built-in image").bytes;
    fs::write(folder.path().join("greeter.elf"), image).expect("the image can be written");
    let path = folder.path().join("vm.json");
    let json =
        r#"{"name": "greeter", "image": "./greeter.elf", "memory": "4MiB", "args": "world"}"#;
    fs::write(&path, json).expect("the configuration can be written");
    assert_eq!(Run::new(backend, &path).expect(0), "hello from a Denali guest: world\n");
}
