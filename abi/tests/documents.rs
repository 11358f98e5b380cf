//! The contract in prose (`docs/abi.md`) and in C (`guest/c/denali.h`) says what this crate says.

use core::mem::offset_of;
use denali_abi::boot::{self, BootInformation, DeviceEntry};
use denali_abi::doorbell as bell;
use denali_abi::frame::{Frame, UPCALL_VECTOR};
use denali_abi::note::{ImageNote, NOTE_TYPE, WANTED_MAX, WantedDevice};
use denali_abi::registers::{self, Clock, VirtualRegisters};
use denali_abi::{ABI_VERSION, layout, virtio};

const DOCUMENT: &str = include_str!("../../docs/abi.md");
const HEADER: &str = include_str!("../../guest/c/denali.h");

/// Bytes of the field that a structure's accessor leads to.
fn size_of_field<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// `(offset, size, name)` of fields of a structure, each `shift` bytes further on.
macro_rules! fields {
    ($shift:expr, $structure:ty: $($field:ident),* $(,)?) => {
        vec![$((
            $shift + offset_of!($structure, $field),
            size_of_field(|structure: &$structure| &structure.$field),
            stringify!($field),
        )),*]
    };
}

type Fields = Vec<(usize, usize, &'static str)>;

fn virtual_registers() -> Fields {
    let mut all = fields!(0, VirtualRegisters: abi_version, cpu_khz, memory_size, generation,
        entropy, pending, idle_deadline_ns, console_addr, console_len, upcall_entry,
        upcall_enabled, fault_entry, run_deadline_ns, exits, interrupts_raised, interrupts_delivered, batches);
    let clock = offset_of!(VirtualRegisters, clock);
    all.extend(fields!(clock, Clock: seq, shift, tsc_base, mult, monotonic_base_ns,
        realtime_offset_ns));
    all
}

fn boot_information() -> Fields {
    fields!(0, BootInformation: magic, abi_version, device_count, memory_size, image_start,
        image_end, stack_bottom, stack_top, arguments, arguments_len, devices)
}

fn device_entry() -> Fields {
    fields!(0, DeviceEntry: kind, number, name, ipv4, gateway, name_server, prefix_len, mac)
}

fn frame() -> Fields {
    fields!(0, Frame: vector, error_code, address, resume_rsp, gpr, rip, rflags)
}

fn note() -> Fields {
    fields!(0, ImageNote: abi_version, device_count, memory_min, stack_size, stack_top, devices)
}

fn wanted() -> Fields {
    fields!(0, WantedDevice: kind, name)
}

/// The rows of the tables under a heading of the document, as trimmed cells.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let after = DOCUMENT.split_once(&format!("\n{heading}\n")).map(|(_, after)| after);
    let after = after.unwrap_or_else(|| panic!("no heading {heading}"));
    let depth = heading.split(' ').next().map_or(0, str::len);
    let ends = |line: &&str| {
        line.starts_with('#') && line.split(' ').next().is_some_and(|mark| mark.len() <= depth)
    };
    let lines = after.lines().take_while(|line| !ends(line));
    let tables = lines.filter(|line| line.starts_with("| "));
    tables.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Every field stands in a row of the section, with its offset and size; and every row that names an
/// offset is a field or reserved.
fn check_fields(heading: &str, fields: &[(usize, usize, &str)]) {
    let found: Vec<_> = rows(heading)
        .iter()
        .filter(|row| row.len() >= 4 && row[2].starts_with('`'))
        .filter_map(|row| Some((number(row[0])? as usize, number(row[1])? as usize, row[2])))
        .filter(|(_, _, name)| *name != "`reserved`")
        .map(|(offset, size, name)| (offset, size, name.trim_matches('`')))
        .collect();
    for field in fields {
        assert!(found.contains(field), "{heading}: {field:x?} is not in {found:x?}");
    }
    assert_eq!(found.len(), fields.len(), "{heading}: {found:x?}");
}

#[test]
fn the_document_has_every_field() {
    check_fields("## Virtual registers", &virtual_registers());
    check_fields("## Boot information", &[boot_information(), device_entry()].concat());
    check_fields("### The frame", &frame());
    check_fields("### The note", &[note(), wanted()].concat());
}

#[test]
fn the_document_has_every_doorbell_and_register() {
    let doorbells = rows("## Doorbells");
    for (port, name) in [
        (bell::IDLE, "IDLE"),
        (bell::TERMINATE, "TERMINATE"),
        (bell::CONSOLE, "CONSOLE"),
        (bell::FLUSH, "FLUSH"),
    ] {
        let row = [format!("{port:#06x}"), name.to_owned()];
        assert!(doorbells.iter().any(|found| found[..2] == row), "{row:?}");
    }
    let stride = format!("{:#x} + n × {:#x}", bell::DEVICE_REGISTERS, bell::DEVICE_STRIDE);
    assert!(doorbells.iter().any(|row| row[0] == stride));
    assert!(doorbells.iter().any(|row| row[0] == format!("{:#06x} + n", bell::NOTIFY)));

    let registers = rows("## Devices");
    for (offset, name) in [
        (virtio::MAGIC_VALUE, "MAGIC_VALUE"),
        (virtio::VERSION, "VERSION"),
        (virtio::DEVICE_ID, "DEVICE_ID"),
        (virtio::VENDOR_ID, "VENDOR_ID"),
        (virtio::DEVICE_FEATURES, "DEVICE_FEATURES"),
        (virtio::DEVICE_FEATURES_SEL, "DEVICE_FEATURES_SEL"),
        (virtio::DRIVER_FEATURES, "DRIVER_FEATURES"),
        (virtio::DRIVER_FEATURES_SEL, "DRIVER_FEATURES_SEL"),
        (virtio::QUEUE_SEL, "QUEUE_SEL"),
        (virtio::QUEUE_SIZE_MAX, "QUEUE_SIZE_MAX"),
        (virtio::QUEUE_SIZE, "QUEUE_SIZE"),
        (virtio::QUEUE_READY, "QUEUE_READY"),
        (virtio::QUEUE_NOTIFY, "QUEUE_NOTIFY"),
        (virtio::INTERRUPT_STATUS, "INTERRUPT_STATUS"),
        (virtio::INTERRUPT_ACK, "INTERRUPT_ACK"),
        (virtio::STATUS, "STATUS"),
        (virtio::QUEUE_DESC_LOW, "QUEUE_DESC_LOW"),
        (virtio::QUEUE_DESC_HIGH, "QUEUE_DESC_HIGH"),
        (virtio::QUEUE_DRIVER_LOW, "QUEUE_DRIVER_LOW"),
        (virtio::QUEUE_DRIVER_HIGH, "QUEUE_DRIVER_HIGH"),
        (virtio::QUEUE_DEVICE_LOW, "QUEUE_DEVICE_LOW"),
        (virtio::QUEUE_DEVICE_HIGH, "QUEUE_DEVICE_HIGH"),
        (virtio::CONFIG_GENERATION, "CONFIG_GENERATION"),
        (virtio::CONFIG, "CONFIG"),
    ] {
        let offset = format!("{offset:#05x}");
        let there = |row: &Vec<&str>| row[0] == offset && row.get(2) == Some(&name);
        assert!(registers.iter().any(there), "{offset} {name}");
    }
    for (bit, name) in [
        (virtio::FEATURE_INDIRECT_DESC, "FEATURE_INDIRECT_DESC"),
        (virtio::FEATURE_EVENT_IDX, "FEATURE_EVENT_IDX"),
        (virtio::FEATURE_VERSION_1, "FEATURE_VERSION_1"),
        (virtio::NET_FEATURE_CSUM, "NET_FEATURE_CSUM"),
        (virtio::NET_FEATURE_GUEST_CSUM, "NET_FEATURE_GUEST_CSUM"),
        (virtio::NET_FEATURE_MTU, "NET_FEATURE_MTU"),
        (virtio::NET_FEATURE_MAC, "NET_FEATURE_MAC"),
    ] {
        let row = [format!("`{name}`"), bit.trailing_zeros().to_string()];
        assert!(registers.iter().any(|found| found[..2] == row), "{row:?}");
    }
}

#[test]
fn the_document_has_the_address_map() {
    let map = rows("## The address map");
    for (start, end) in [
        (0, layout::RAM_START),
        (layout::VIRTUAL_REGISTERS, layout::BOOT_INFORMATION),
        (layout::BOOT_INFORMATION, layout::ARGUMENTS),
        (layout::ARGUMENTS, layout::RAM_FREE_START),
    ] {
        let start = if start == 0 { "0".to_owned() } else { format!("{start:#x}") };
        let range = format!("`{start} .. {end:#x}`");
        assert!(map.iter().any(|row| row[0] == range), "{range}");
    }
}

#[test]
fn the_header_has_every_constant() {
    for (name, value) in [
        ("ABI_VERSION", u64::from(ABI_VERSION)),
        ("PAGE_SIZE", layout::PAGE_SIZE),
        ("VIRTUAL_REGISTERS", layout::VIRTUAL_REGISTERS),
        ("BOOT_INFORMATION", layout::BOOT_INFORMATION),
        ("ARGUMENTS", layout::ARGUMENTS),
        ("ARGUMENTS_MAX", layout::ARGUMENTS_MAX),
        ("RAM_FREE_START", layout::RAM_FREE_START),
        ("IMAGE_START", layout::IMAGE_START),
        ("STACK_TOP_DEFAULT", layout::STACK_TOP_DEFAULT),
        ("STACK_SIZE_DEFAULT", layout::STACK_SIZE_DEFAULT),
        ("RED_ZONE", layout::RED_ZONE),
        ("IDLE", bell::IDLE.into()),
        ("TERMINATE", bell::TERMINATE.into()),
        ("CONSOLE", bell::CONSOLE.into()),
        ("FLUSH", bell::FLUSH.into()),
        ("NOTIFY", bell::NOTIFY.into()),
        ("DEVICE_REGISTERS", bell::DEVICE_REGISTERS.into()),
        ("DEVICE_STRIDE", bell::DEVICE_STRIDE.into()),
        ("DEVICES_MAX", bell::DEVICES_MAX as u64),
        ("PENDING_STOP", registers::PENDING_STOP.into()),
        ("PENDING_TIMER", registers::PENDING_TIMER.into()),
        ("CONSOLE_MAX", registers::CONSOLE_MAX),
        ("UPCALL_VECTOR", UPCALL_VECTOR),
        ("WANTED_MAX", WANTED_MAX as u64),
        ("NOTE_TYPE", NOTE_TYPE.into()),
        ("KIND_NET", boot::KIND_NET.into()),
        ("KIND_BLOCK", boot::KIND_BLOCK.into()),
        ("KIND_CONSOLE", boot::KIND_CONSOLE.into()),
        ("KIND_ENTROPY", boot::KIND_ENTROPY.into()),
    ] {
        let prefix = format!("#define DENALI_{name} ");
        let defined = HEADER.lines().find_map(|line| line.strip_prefix(&prefix));
        assert_eq!(defined.and_then(number), Some(value), "{name}");
    }
}

/// Offsets of the members of a C structure whose members are naturally aligned, as all of ours are.
fn c_members(name: &str) -> Fields {
    let body = HEADER.split_once(&format!("struct {name} {{\n")).map(|(_, after)| after);
    let body = body.and_then(|after| after.split_once("\n}")).expect("the structure is there").0;
    let mut at = 0;
    let mut members = Vec::new();
    for line in body.lines() {
        let declaration = line.trim().split(';').next().unwrap_or("");
        let (kind, member) = declaration.rsplit_once(' ').expect("a type and a name");
        let (member, count) = match member.split_once('[') {
            None => (member, 1),
            Some((member, count)) => (member, count_of(count.trim_end_matches(']'))),
        };
        let size = count * size_of_type(kind);
        members.push((at, size, member));
        at += size;
    }
    members
}

fn count_of(text: &str) -> usize {
    match text {
        "DENALI_DEVICES_MAX" => bell::DEVICES_MAX,
        "DENALI_WANTED_MAX" => WANTED_MAX,
        digits => digits.parse().expect("a number of elements"),
    }
}

fn size_of_type(kind: &str) -> usize {
    match kind {
        "char" | "uint8_t" => 1,
        "uint32_t" => 4,
        "uint64_t" => 8,
        "struct denali_device" => size_of::<DeviceEntry>(),
        "struct denali_wanted" => size_of::<WantedDevice>(),
        other => panic!("a type nobody knows: {other}"),
    }
}

#[test]
fn the_header_has_every_field() {
    let check = |name, fields: Fields, before: usize| {
        let members = c_members(name);
        for (offset, size, field) in fields {
            let wanted = (offset + before, size, field);
            assert!(members.contains(&wanted), "{name}: {wanted:?} is not in {members:?}");
        }
    };
    check("denali_registers", virtual_registers(), 0);
    check("denali_boot", boot_information(), 0);
    check("denali_device", device_entry(), 0);
    check("denali_frame", frame(), 0);
    check("denali_wanted", wanted(), 0);
    // The C structure is the whole ELF note: 20 bytes of it come before the description.
    check("denali_note", note(), 20);
}
