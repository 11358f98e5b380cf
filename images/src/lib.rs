//! The guest images and the monitor that belong to this build of Denali.
//!
//! Images that people run by name are embedded in the program; `build.rs` makes them and the monitor.

/// A guest image that is part of the program.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// What `"image"` calls it.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The ELF file.
    pub bytes: &'static [u8],
}

/// Every built-in image, by name.
pub const BUILT_IN: &[BuiltIn] = &[
    BuiltIn {
        name: "game",
        summary: "a game server on UDP port 27910; needs a network device",
        bytes: include_bytes!(env!("DENALI_GAME")),
    },
    BuiltIn {
        name: "hello",
        summary: "greets on its console and ends",
        bytes: include_bytes!(env!("DENALI_HELLO")),
    },
    BuiltIn {
        name: "iperf",
        summary: "a server for iperf3's TCP tests on port 5201; needs a network device",
        bytes: include_bytes!(env!("DENALI_IPERF")),
    },
    BuiltIn {
        name: "web",
        summary: "a web server on port 80; needs a network device",
        bytes: include_bytes!(env!("DENALI_WEB")),
    },
];

/// The monitor that this build made; on another machine it lies beside `denali` instead.
pub const MONITOR_PATH: &str = env!("DENALI_MONITOR");

/// The broker that this build made; on another machine it lies beside `denali` instead.
pub const BROKER_PATH: &str = env!("DENALI_BROKER");

/// The switch that this build made; on another machine it lies beside `denali` instead.
pub const SWITCH_PATH: &str = env!("DENALI_SWITCH");

/// The image of the guest that the end-to-end tests drive.
pub const PROBE_PATH: &str = env!("DENALI_PROBE");

/// The image of the guest that exercises block devices, for tests and measurements.
pub const DISK_PATH: &str = env!("DENALI_DISK");

/// The built-in image called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|image| image.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_images_are_elf_files_found_by_name() {
        for image in BUILT_IN {
            assert!(image.bytes.starts_with(b"\x7fELF"), "{}", image.name);
            assert_eq!(find(image.name).map(|found| found.summary), Some(image.summary));
        }
        assert!(find("no-such-image").is_none());
    }

    #[test]
    fn programs_are_where_the_constants_say() {
        for path in [PROBE_PATH, DISK_PATH, MONITOR_PATH, BROKER_PATH, SWITCH_PATH] {
            let bytes = std::fs::read(path).expect(path);
            assert!(bytes.starts_with(b"\x7fELF"), "{path}");
        }
    }
}
