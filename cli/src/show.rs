//! `denali schema`, `denali images`, `denali version`: what this program knows.

use crate::output::{Failure, Format, print, print_json};
use crate::table::Table;
use denali_images::BUILT_IN;
use serde_json::{Value, json};

/// Prints the JSON Schema of configurations.
pub(crate) fn schema() -> Result<(), Failure> {
    print_json(&denali_config::schema())
}

/// Lists the built-in images.
pub(crate) fn images(format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        let list: Vec<Value> = BUILT_IN
            .iter()
            .map(|image| {
                json!({"name": image.name, "summary": image.summary, "bytes": image.bytes.len()})
            })
            .collect();
        return print_json(&Value::Array(list));
    }
    let mut table = Table::default();
    table.row(["NAME", "SIZE", "WHAT IT DOES"]);
    for image in BUILT_IN {
        let size = format!("{} KiB", image.bytes.len().div_ceil(1024));
        table.row([image.name, &size, image.summary]);
    }
    print(&table)
}

/// Prints the version of the program and of the guest contract.
pub(crate) fn version(format: Format) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let abi = denali_abi::ABI_VERSION;
    match format {
        Format::Human => print(&format_args!("denali {version} (guest ABI {abi})")),
        Format::Json => print_json(&json!({"version": version, "abi_version": abi})),
    }
}
