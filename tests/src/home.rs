//! A folder with all that a guest needs whose memory can leave: its configuration, swap folders, a control socket.

use crate::backend::Backend;
use crate::control::Control;
use crate::guest::{Guest, Run};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The folder, removed when dropped.
pub struct Home {
    folder: tempfile::TempDir,
    stripes: Vec<PathBuf>,
}

impl Home {
    /// A folder with so many swap folders in it.
    pub fn new(stripes: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let stripes = (0..stripes).map(|number| folder.path().join(format!("stripe{number}")));
        let stripes: Vec<PathBuf> = stripes.collect();
        stripes.iter().for_each(|stripe| fs::create_dir(stripe).expect("a folder can be made"));
        Self { folder, stripes }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The configuration of a guest with a network card, port 80 of which is published, that is swapped out when it is
    /// told to.
    pub fn guest(&self, image: impl AsRef<Path>, arguments: &str) -> Value {
        json!({
            "image": image.as_ref(),
            "args": arguments,
            "net": [{ "backend": { "user": { "publish": ["0:80"] } } }],
            "swap": { "stripes": self.stripes, "after": 0 },
            "control": self.path("control"),
        })
    }

    /// The same, of the probe.
    pub fn probe(&self, arguments: &str) -> Value {
        self.guest(denali_images::PROBE_PATH, arguments)
    }

    /// The same, of a probe that can be parked, and continued after everything has started anew.
    pub fn parkable(&self, arguments: &str) -> Value {
        let key = self.path("host.key");
        if !key.exists() {
            write_key(&key, 7);
        }
        let mut configuration = self.probe(arguments);
        configuration["swap"]["key"] = json!({ "file": key });
        configuration
    }

    /// Writes a configuration down.
    pub fn write(&self, name: &str, configuration: &Value) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, configuration.to_string()).expect("room for a configuration");
        path
    }

    /// A run of this configuration.
    pub fn run(&self, backend: Backend, configuration: &Value) -> Run {
        Run::new(backend, self.write("vm.json", configuration))
    }

    /// Starts a probe, and waits until it is ready.
    #[track_caller]
    pub fn start(&self, backend: Backend, arguments: &str) -> (Guest, SocketAddr) {
        self.start_as(backend, &self.probe(arguments))
    }

    /// Starts a probe as configured, and waits until it is ready.
    #[track_caller]
    pub fn start_as(&self, backend: Backend, configuration: &Value) -> (Guest, SocketAddr) {
        let guest = self.run(backend, configuration).json().start();
        guest.wait_for("ready");
        let address = guest.address();
        (guest, address)
    }

    /// A connection to the monitor.
    #[track_caller]
    pub fn control(&self) -> Control {
        Control::connect(&self.path("control"))
    }

    /// The files in the swap folders.
    pub fn regions(&self) -> Vec<PathBuf> {
        let entries =
            self.stripes.iter().flat_map(|stripe| fs::read_dir(stripe).expect("a folder"));
        let mut found: Vec<PathBuf> =
            entries.map(|entry| entry.expect("an entry").path()).collect();
        found.sort();
        found
    }
}

/// Writes a host's key that only this user can read.
pub fn write_key(path: &Path, byte: u8) {
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    made.and_then(|mut file| file.write_all(&[byte; 32])).expect("room for a key");
}
