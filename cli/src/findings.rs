//! What `denali check` found out about a guest, as a table and as JSON.

use crate::devices;
use crate::table::Table;
use denali_abi::boot::kind_name;
use denali_arch::image::Image;
use denali_arch::space::Access;
use denali_config::{Guest, MemorySize};
use serde_json::{Value, json};

/// A guest that would run.
#[derive(Debug)]
pub(crate) struct Findings<'a> {
    /// The guest.
    pub(crate) guest: &'a Guest,
    /// Its image.
    pub(crate) image: &'a Image,
    /// What messages call the image.
    pub(crate) image_name: &'a str,
    /// Bytes of the image file.
    pub(crate) image_bytes: usize,
    /// What would run it.
    pub(crate) hypervisor: &'a str,
}

impl Findings<'_> {
    /// For people.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::default();
        table.row(["name", &self.guest.name]);
        table.row(["image", &format!("{} ({} KiB)", self.image_name, self.image_kib())]);
        table.row(["abi", &self.image.note.abi_version.to_string()]);
        table.row(["entry", &format!("{:#x}", self.image.entry)]);
        for segment in &self.image.segments {
            let range = format!("{:#x}..{:#x}", segment.address, segment.end());
            table.row(["segment", &format!("{range} {}", access_name(segment.access))]);
        }
        for wanted in self.image.note.wanted() {
            let kind = kind_name(wanted.kind);
            table.row(["needs", format!("{kind} device {}", wanted.name()).trim_end()]);
        }
        let (memory, needed) = (self.guest.memory_size, self.image.memory_needed());
        table.row([
            "memory",
            &format!("{} (the image needs {})", MemorySize(memory), MemorySize(needed)),
        ]);
        if !self.guest.arguments.is_empty() {
            table.row(["arguments", &format!("{:?}", self.guest.arguments)]);
        }
        table.row(["hypervisor", self.hypervisor]);
        devices::describe(&mut table, self.guest);
        table
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let segments: Vec<Value> = self.image.segments.iter().map(segment_json).collect();
        let needs: Vec<Value> = self
            .image
            .note
            .wanted()
            .iter()
            .map(|wanted| json!({"kind": kind_name(wanted.kind), "name": wanted.name()}))
            .collect();
        json!({
            "name": self.guest.name,
            "image": {
                "name": self.image_name,
                "bytes": self.image_bytes,
                "abi_version": self.image.note.abi_version,
                "entry": self.image.entry,
                "memory_needed": self.image.memory_needed(),
                "segments": segments,
                "needs": needs,
            },
            "memory_size": self.guest.memory_size,
            "arguments": self.guest.arguments,
            "hypervisor": self.hypervisor,
            "net": devices::net_json(&self.guest.net),
            "block": devices::block_json(&self.guest.block),
            "console": devices::console_json(&self.guest.console),
            "entropy": devices::entropy_json(&self.guest.entropy),
        })
    }

    fn image_kib(&self) -> usize {
        self.image_bytes.div_ceil(1024)
    }
}

fn segment_json(segment: &denali_arch::image::Segment) -> Value {
    json!({
        "address": segment.address,
        "bytes": segment.memory_size,
        "access": access_name(segment.access),
    })
}

fn access_name(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::ReadWrite => "read, write",
        Access::ReadExecute => "read, execute",
    }
}
