//! One image, two back ends: what the contract specifies is the same to the byte.

use super::faults::crash;
use crate::backend::Backend;
use crate::registry::{Case, Suite};
use serde_json::Value;

pub fn suite() -> Suite {
    Suite {
        name: "equality",
        cases: vec![
            Case::both("output_and_status", output),
            Case::both("crash_reports", reports),
            Case::both("crash_reports_of_what_is_partly_unspecified", partly_unspecified),
        ],
    }
}

fn output() {
    for command in [
        "exit 77",
        "print the same",
        "panic",
        "console-flood 2000",
        "console-empty",
        "fault-resume",
        "fault-many 50",
        "fpu 200",
        "protection",
        "edge-of-memory",
        "no-device",
        "upcall-idle",
        "idle-pending",
        "no such command",
    ] {
        let [one, other] = Backend::ALL.map(|backend| backend.probe(command).finish());
        assert_eq!(one.status, other.status, "{command}: {one:#?} {other:#?}");
        assert_eq!(one.stdout, other.stdout, "{command}");
        assert_eq!(one.stderr, other.stderr, "{command}");
    }
}

/// A report without what differs by nature: names, times and counts.
fn comparable(backend: Backend, command: &str) -> Value {
    let mut report = crash(backend, command);
    for field in ["hypervisor", "uptime_ms", "counters"] {
        report.as_object_mut().expect("an object").remove(field);
    }
    report
}

fn reports() {
    for command in [
        "read-null",
        "write-null",
        "write-text",
        "write-rodata",
        "write-boot",
        "exec-data",
        "exec-stack",
        "jump 0",
        "read 0x1000000",
        "write 0xfffff000",
        "stack-overflow",
        "wild-rsp-fault",
        "wild-rsp-handled",
        "unknown-port",
        "in-unknown-port",
        "in-doorbell",
        "div0",
        "ud2",
        "int3",
        "console-bad-address",
    ] {
        let [one, other] = Backend::ALL.map(|backend| comparable(backend, command));
        assert_eq!(one, other, "{command}");
    }
}

/// Error codes of vector 13 may differ; nothing else may.
fn partly_unspecified() {
    for command in ["hlt", "cli", "read-cr3", "rdmsr", "noncanonical", "misaligned-sse"] {
        let [one, other] = Backend::ALL.map(|backend| {
            let mut report = comparable(backend, command);
            report["cause"]["error_code"] = Value::Null;
            report["cause"]["text"] = Value::Null;
            report
        });
        assert_eq!(one, other, "{command}");
    }
}
