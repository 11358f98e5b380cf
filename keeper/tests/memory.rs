//! What a guest without a monitor costs its keeper: memory and descriptors.

use denali_config::Document;
use denali_keeper::{Keeper, Settings};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are allocated, with what an allocator adds to each piece.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

/// Most bytes of its own that a guest may have in memory.
const BYTES_MAX: usize = 4096;

struct Counting;

fn taken(layout: &Layout) -> usize {
    layout.size().next_multiple_of(16) + 16
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(taken(&layout), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(taken(&layout), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// An ELF image with a page of text and one of data.
fn elf() -> Vec<u8> {
    let mut bytes = vec![0; 3 << 12];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"\x7fELF\x02\x01\x01");
    for (at, value) in [(16, 2_u16), (18, 62), (54, 56), (56, 3)] {
        put(at, &value.to_le_bytes());
    }
    put(24, &0x20_0000_u64.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    // Kind, flags, offset, address and size of text, data and note.
    let parts: [(u32, u32, u64, u64, u64); 3] = [
        (1, 5, 0x1000, 0x20_0000, 0x1000),
        (1, 6, 0x2000, 0x20_1000, 0x1000),
        (4, 4, 0x800, 0, 340),
    ];
    for (at, (kind, flags, offset, address, size)) in (64..).step_by(56).zip(parts) {
        put(at, &kind.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        for (place, value) in [(8, offset), (16, address), (32, size), (40, size)] {
            put(at + place, &value.to_le_bytes());
        }
    }
    for (at, value) in [(0x800, 7_u32), (0x804, 320), (0x808, 1), (0x814, 1)] {
        put(at, &value.to_le_bytes());
    }
    put(0x80c, b"Denali\0\0");
    bytes
}

/// An ordinary guest: reached at a port, with arguments, a console, a control socket and swapping.
fn document(folder: &Path, number: usize) -> Document {
    let text = format!(
        r#"{{"name": "a guest with a name, number {number}", "image": "elf", "hypervisor": "process",
            "memory": "4MiB", "args": "serve --root /srv/www --verbose", "control": "{number}.sock",
            "net": [{{"backend": {{"user": {{"publish": ["0:80"]}}}}}}],
            "console": [{{"backend": {{"file": {{"output": "log"}}}}}}], "entropy": [{{}}],
            "swap": {{"stripes": ["."], "limit": "64KiB", "after": "1s", "park_after": "1s"}}}}"#
    );
    Document::parse(text.as_bytes(), "vm.json", folder.into()).unwrap()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_guest_without_a_monitor_takes_less_than_a_page_and_its_sockets() {
    const COUNT: usize = 64;
    let folder = tempfile::tempdir().unwrap();
    let elf = elf();
    let built_in: &[(&str, &[u8])] = &[("elf", &elf)];
    let settings = Settings {
        built_in,
        monitor: "denali-vmm".into(),
        broker: Path::new("denali-broker"),
        pool: 0,
        state: None,
        logs: None,
        go_back: false,
    };
    let mut keeper = Keeper::new(settings, |_| {}).unwrap();
    // What is made for the first ones is for all.
    let first = 2 * COUNT;
    for number in 0..first {
        keeper.add(&document(folder.path(), number)).unwrap();
    }
    let (bytes, open) = (ALLOCATED.load(Ordering::Relaxed), descriptors());
    for number in first..first + COUNT {
        keeper.add(&document(folder.path(), number)).unwrap();
    }
    let bytes = (ALLOCATED.load(Ordering::Relaxed) - bytes) / COUNT;
    println!("{bytes} bytes for each guest");
    // Beside that it has a place on the wheel of deadlines, of 32 bytes.
    assert!(bytes + 32 <= BYTES_MAX, "{bytes} bytes for each guest");
    // The port, the log, and the control socket.
    assert_eq!(descriptors() - open, 3 * COUNT);
    drop(keeper);
    let left = std::fs::read_dir(folder.path()).unwrap();
    let regions =
        left.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().ends_with(".swap"));
    assert_eq!(regions.count(), 0, "nothing is left of guests that never ran");
}
