//! Linux in QEMU: a front end and a driver that nobody here wrote.

use crate::daemon::{PATIENCE, kill};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const QEMU: &str = "qemu-system-x86_64";

/// Where `resources/kernel/build.sh` leaves what it builds.
fn kernel_folder() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folder) = variable("DENALI_KERNEL_DIR") {
        return folder.into();
    }
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(variable("HOME").unwrap_or_default()).join(".cache");
    cache.unwrap_or_else(home).join("denali/kernel")
}

/// Why Linux cannot be run here, if it cannot.
pub fn missing() -> Option<String> {
    let folder = kernel_folder();
    if !folder.join("vmlinux").exists() || !folder.join("initrd.cpio").exists() {
        return Some("no kernel; build it with resources/kernel/build.sh".into());
    }
    for program in [QEMU, "mke2fs", "e2fsck", "debugfs"] {
        if !starts(program) {
            return Some(format!("no {program}"));
        }
    }
    None
}

/// Why networks cannot be made here, if they cannot.
pub fn no_network() -> Option<String> {
    // SAFETY: a plain call.
    if unsafe { libc::geteuid() } != 0 {
        return Some("not root".into());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("no /dev/net/tun".into());
    }
    (!starts("ip")).then(|| "no ip".into())
}

fn starts(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Whatever it makes of the option: it is there.
    command.status().is_ok()
}

/// A machine that runs `resources/kernel/init.sh`.
pub struct Linux {
    child: Child,
    folder: TempDir,
}

impl Linux {
    /// Starts a machine with these words for `init.sh` and these devices.
    pub fn start(words: &str, devices: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let kernel = kernel_folder();
        let console = File::create(folder.path().join("console")).expect("a file");
        let errors = File::create(folder.path().join("errors")).expect("a file");
        let mut command = Command::new(QEMU);
        command
            .args(["-M", "microvm,acpi=off,pit=on,pic=on,rtc=off,accel=tcg,memory-backend=ram"])
            .args(["-object", "memory-backend-memfd,id=ram,size=128M,share=on", "-m", "128M"])
            .args(["-cpu", "max", "-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-serial", "stdio", "-no-reboot", "-global", "virtio-mmio.force-legacy=false"])
            .arg("-kernel")
            .arg(kernel.join("vmlinux"))
            .arg("-initrd")
            .arg(kernel.join("initrd.cpio"))
            .arg("-append")
            .arg(format!("console=ttyS0 quiet panic=-1 reboot=t {words}"))
            .args(devices.iter().flat_map(|device| device.split(' ')))
            .stdin(Stdio::null())
            .stdout(console)
            .stderr(errors);
        let child = command.spawn().expect("QEMU starts");
        Self { child, folder }
    }

    /// What the guest and QEMU have said.
    pub fn said(&self) -> String {
        let read = |name| {
            let bytes = std::fs::read(self.folder.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        read("console") + &read("errors")
    }

    /// Waits until the guest has said this.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.wait(text, |linux| linux.said().contains(text));
    }

    /// Waits for the machine's end, which must be as `init.sh` ends it; what was said.
    #[track_caller]
    pub fn finish(mut self) -> String {
        self.wait("the end", |linux| linux.child.try_wait().expect("wait").is_some());
        let said = self.said();
        assert!(said.contains("guest: end") && !said.contains("guest: failed"), "{said}");
        said
    }

    #[track_caller]
    fn wait(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(self) {
            let said = self.said();
            assert!(Instant::now() < until, "not in {PATIENCE:?}: {what}: {said}");
            assert!(!said.contains("guest: failed"), "{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            kill(self.child.id(), libc::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// The value in a line like `guest: NAME VALUE`.
#[track_caller]
pub fn told<'a>(said: &'a str, name: &str) -> &'a str {
    let start = format!("guest: {name} ");
    let line = said.lines().find_map(|line| line.trim_end().strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {name:?} in {said}"))
}
