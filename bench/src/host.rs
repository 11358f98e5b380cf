//! The machine on which figures were measured, as the document names it.

use crate::table::Table;
use denali_http::HttpDate;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The set-up as a table; `more` are rows of the benchmark's own.
pub(crate) fn describe(more: &[(&str, String)]) -> Table {
    let mut table = Table::new(&["set-up", ""]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("date", date());
    row("processor", processor());
    row("memory", memory());
    row("kernel", kernel());
    row("KVM", kvm_kind().to_owned());
    row("Denali", version());
    row("load average when the measurement ended", load_average());
    for (name, value) in more {
        row(name, value.clone());
    }
    table
}

/// The first line that a program says about its version, on whichever stream.
pub(crate) fn version_of(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    Some(String::from_utf8_lossy(&text).lines().next()?.trim().to_owned())
}

fn date() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // "Sun, 06 Nov 1994 08:49:37 GMT"
    String::from_utf8_lossy(&HttpDate::new(now).as_bytes()[5..16]).into_owned()
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |name| field(&text, name).unwrap_or("unknown");
    let count = text.lines().filter(|line| line.starts_with("processor")).count();
    let (model, family, khz) = (value("model name"), value("cpu family"), value("cpu MHz"));
    format!("{count} × {model} (family {family}, model {}), {khz} MHz", value("model\t"))
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = field(&text, "MemTotal").and_then(|value| value.split(' ').next()?.parse().ok());
    kib.map_or("unknown".into(), |kib: f64| format!("{:.1} GiB", kib / f64::from(1 << 20)))
}

fn kernel() -> String {
    let read = |name| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    format!("{} {}", read("ostype").trim(), read("osrelease").trim())
}

/// Of one, five and fifteen minutes: by how much the machine was busy, with the measurement and else.
fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(", ")
}

/// By what means KVM runs guests here.
fn kvm_kind() -> &'static str {
    let loaded = |name: &str| Path::new("/sys/module").join(name).exists();
    if !Path::new("/dev/kvm").exists() {
        "none"
    } else if loaded("kvm_pvm") {
        "PVM (no hardware virtualization: shadow page tables, exits cost several times as much)"
    } else if loaded("kvm_intel") {
        "VMX"
    } else if loaded("kvm_amd") {
        "SVM"
    } else {
        "of an unknown kind"
    }
}

fn version() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let git = Command::new("git").args(["-C", folder, "rev-parse", "--short", "HEAD"]).output();
    let commit = git.ok().filter(|output| output.status.success());
    let commit =
        commit.map(|output| format!(", {}", String::from_utf8_lossy(&output.stdout).trim()));
    format!("{}{}", env!("CARGO_PKG_VERSION"), commit.unwrap_or_default())
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let of_line = |line: &'a str| {
        let rest = line.strip_prefix(name)?.trim_start().strip_prefix(':')?;
        Some(rest.trim())
    };
    text.lines().find_map(of_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_end_where_their_name_does() {
        let text = "model\t\t: 167\nmodel name\t: Xeon\n";
        assert_eq!(field(text, "model name"), Some("Xeon"));
        assert_eq!(field(text, "model\t"), Some("167"));
        assert_eq!(field(text, "family"), None);
    }
}
