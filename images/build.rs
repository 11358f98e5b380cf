//! Builds what the `denali` program starts: the guest images, the monitor `denali-vmm`, the broker, and the switch.
//!
//! Guests are freestanding programs, monitor, broker and switch are linked statically, which one `cargo run`
//! cannot express, so they are built by nested cargo invocations in target directories of their
//! own. The sources they were built from are watched, so that a change to one rebuilds it.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// The triple of guests and monitor. It is named even where it is the host's own, so that the flags
/// below reach neither build scripts nor procedural macros.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Packages of the guest images.
const GUESTS: [&str; 6] = ["hello", "web", "iperf", "game", "disk", "probe"];

/// Compiler flags of guest images: freestanding, not relocated, with frames for backtraces.
const GUEST_FLAGS: &str = "--cfg guest_image -Crelocation-model=static -Cforce-frame-pointers=yes";

/// Compiler flags of the monitor, the broker and the switch: linked statically, which saves memory for each guest,
/// and inlined a little less than usual, which keeps them small.
const MONITOR_FLAGS: &str = "-Ctarget-feature=+crt-static -Cllvm-args=--inline-threshold=80";

/// A linker flag that takes 60 KiB off them: relative relocations are packed.
const PACKED: &str = " -Clink-arg=-Wl,-z,pack-relative-relocs";

/// The first C library that understands packed relocations.
const PACKED_SINCE: (u32, u32) = (2, 36);

/// Beginnings of the names of variables with which the outer cargo describes this build script's own
/// compilation; a nested cargo must not take them for its own settings. The job server
/// (`CARGO_MAKEFLAGS`) stays: both cargos then share one set of job tokens.
const OUTER_BUILD: [&str; 20] = [
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_ENCODED_",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_PROFILE_",
    "CARGO_TARGET_DIR",
    "DEBUG",
    "DEP_",
    "HOST",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC",
    "RUSTDOC",
    "RUSTFLAGS",
    "TARGET",
];

fn main() {
    let out = PathBuf::from(variable("OUT_DIR"));
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let Some(root) = manifest.parent() else {
        fail("images/ is not inside the workspace");
    };
    let mut watched = BTreeSet::from([root.join("Cargo.toml"), root.join("Cargo.lock")]);
    watched.insert(manifest.join("build.rs"));

    let guests = Build {
        root,
        packages: &GUESTS,
        profile: "guest",
        flags: GUEST_FLAGS,
        target_dir: &out.join("guest-target"),
    };
    for (name, path) in GUESTS.iter().zip(guests.run(&mut watched)) {
        export(&name.to_uppercase(), &path);
    }

    let release = variable("PROFILE") == "release";
    let monitor = Build {
        root,
        packages: &["denali-vmm", "denali-broker", "denali-switch"],
        profile: if release { "monitor" } else { "monitor-checked" },
        flags: &monitor_flags(),
        target_dir: &out.join("monitor-target"),
    };
    for (name, path) in ["MONITOR", "BROKER", "SWITCH"].iter().zip(monitor.run(&mut watched)) {
        export(name, &path);
    }

    for path in watched {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

/// [`MONITOR_FLAGS`], and [`PACKED`] where the C library that is linked in understands it.
fn monitor_flags() -> String {
    let packed = c_library().is_some_and(|version| version >= PACKED_SINCE);
    format!("{MONITOR_FLAGS}{}", if packed { PACKED } else { "" })
}

/// The version of this machine's C library, if it is the GNU one.
fn c_library() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// One nested cargo invocation.
struct Build<'a> {
    root: &'a Path,
    packages: &'a [&'a str],
    profile: &'a str,
    flags: &'a str,
    target_dir: &'a Path,
}

impl Build<'_> {
    /// Builds the packages, adds their sources to `watched`, and returns the binaries in order.
    fn run(&self, watched: &mut BTreeSet<PathBuf>) -> Vec<PathBuf> {
        let mut cargo = Command::new(variable("CARGO"));
        for (name, _) in env::vars_os() {
            if is_of_outer_build(&name) {
                cargo.env_remove(name);
            }
        }
        cargo
            .current_dir(self.root)
            .env("RUSTFLAGS", self.flags)
            .args(["build", "--quiet", "--profile", self.profile, "--target", TARGET])
            .arg("--target-dir")
            .arg(self.target_dir);
        for package in self.packages {
            cargo.args(["-p", package]);
        }
        match cargo.output() {
            Err(error) => fail(&format!("cannot start cargo for {:?}: {error}", self.packages)),
            Ok(output) if !output.status.success() => fail(&format!(
                "building {:?} failed ({}):\n{}",
                self.packages,
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )),
            Ok(_) => self.packages.iter().map(|package| self.product(package, watched)).collect(),
        }
    }

    /// The binary of `package`; what it was built from is added to `watched`.
    fn product(&self, package: &str, watched: &mut BTreeSet<PathBuf>) -> PathBuf {
        let binary = self.target_dir.join(TARGET).join(self.profile).join(package);
        let list = binary.with_extension("d");
        let rules = match fs::read_to_string(&list) {
            Ok(rules) => rules,
            Err(error) => fail(&format!("cannot read {}: {error}", list.display())),
        };
        for source in sources(&rules) {
            watched.extend(manifest_of(&source));
            watched.insert(source);
        }
        binary
    }
}

/// The files on the right-hand side of a dependency rule (`target: file file …`), in which spaces
/// inside names are escaped with a backslash.
fn sources(rules: &str) -> Vec<PathBuf> {
    let Some((_, list)) = rules.split_once(": ") else {
        return Vec::new();
    };
    list.replace("\\ ", "\0")
        .split_whitespace()
        .map(|name| PathBuf::from(name.replace('\0', " ")))
        .collect()
}

/// The manifest of the package that `source` belongs to.
fn manifest_of(source: &Path) -> Option<PathBuf> {
    source.ancestors().skip(1).map(|folder| folder.join("Cargo.toml")).find(|path| path.exists())
}

/// Whether the variable describes this build script's own compilation.
fn is_of_outer_build(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    OUTER_BUILD.iter().any(|start| name.starts_with(start))
}

/// Makes a path known to the crate at compile time, as `DENALI_<name>`.
fn export(name: &str, path: &Path) {
    println!("cargo::rustc-env=DENALI_{name}={}", path.display());
}

/// A variable that cargo sets for every build script.
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| fail(&format!("{name}: {error}")))
}

/// Ends the build with a message, which cargo shows.
fn fail(message: &str) -> ! {
    eprintln!("{message}");
    exit(1)
}
