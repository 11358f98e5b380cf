//! Image files that are changed under guests that use them.

use super::again::{assert_refused, check, park, resume};
use crate::backend::Backend;
use crate::guest::Run;
use crate::home::Home;
use crate::registry::Case;
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::path::Path;

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("an_image_that_is_overwritten_is_nothing_to_a_guest_that_runs", |it| {
            running(it, false);
        }),
        Case::each("an_image_that_is_cut_is_nothing_to_a_guest_that_runs", |it| running(it, true)),
        Case::each("a_parked_guest_goes_on_with_its_own_image_alone", parked),
    ]
}

/// Changes a file in place: everything in it, or its length.
pub fn spoil(path: &Path, cut: bool) {
    let length = fs::metadata(path).expect("a file").len();
    let file = OpenOptions::new().write(true).open(path).expect("the file can be written");
    if cut {
        file.set_len(0).expect("the file can be cut");
    } else {
        use std::os::unix::fs::FileExt;
        file.write_all_at(&vec![0xcc; length as usize], 0).expect("the file can be written");
    }
}

fn running(backend: Backend, cut: bool) {
    let home = Home::new(1);
    let image = home.path("own.elf");
    fs::copy(denali_images::PROBE_PATH, &image).expect("room for an image");
    let mut configuration = home.probe("memory-hash 1");
    configuration["image"] = json!(image);
    let (guest, _) = home.start_as(backend, &configuration);
    let before = check(&guest);
    let control = home.control();
    // Once while it is in memory, once while it is out.
    for out in [false, true] {
        if out {
            control.out();
        }
        spoil(&image, cut);
        assert_eq!(check(&guest).sum, before.sum);
        control.out();
        assert_eq!(check(&guest).sum, before.sum);
        fs::copy(denali_images::PROBE_PATH, &image).expect("room for an image");
    }
    guest.signal(libc::SIGTERM);
    assert_eq!(guest.finish().status, 0);
}

fn parked(backend: Backend) {
    let home = Home::new(1);
    let image = home.path("own.elf");
    fs::copy(denali_images::PROBE_PATH, &image).expect("room for an image");
    let mut configuration = home.parkable("memory-hash 1");
    configuration["image"] = json!(image);
    let (guest, _) = home.start_as(backend, &configuration);
    let before = check(&guest);
    let record = park(&home, guest, "record");
    let run = || Run::resume(backend, &home.path("vm.json"), &record);
    let hello = denali_images::find("hello").expect("a built-in image").bytes;
    fs::write(&image, hello).expect("room for an image");
    assert_refused(run(), 124, "another image");
    for cut in [false, true] {
        spoil(&image, cut);
        assert_refused(run(), 123, "image");
    }
    fs::copy(denali_images::PROBE_PATH, &image).expect("room for an image");
    let guest = resume(&home, backend, &record);
    assert_eq!(check(&guest).sum, before.sum);
}
