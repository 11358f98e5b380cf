//! A server in front of a scripted keeper, and clients of it.
#![allow(dead_code, reason = "each test program uses some of it")]

mod http;
mod keeper;
pub mod schema;

pub use http::{Answer, Client, request};
pub use keeper::Script;

use denali_supervisor::{Handle, Patience, Settings, listen, serve};
use std::path::PathBuf;
use std::time::Duration;

/// A server that ends with its test.
pub struct Server {
    pub folder: tempfile::TempDir,
    pub script: Script,
    handle: Option<Handle>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(Settings { patience: patience(), ..Settings::default() })
    }

    pub fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (script, desk) = Script::start();
        let listener = listen(&folder.path().join("api"), &settings).unwrap();
        let handle = Some(serve(desk, listener, settings).unwrap());
        Self { folder, script, handle }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("api")
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket())
    }

    /// The answer to one request on a connection of its own.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.client().ask(&request(method, path, body))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    pub fn stop(&mut self) {
        self.handle.take().unwrap().stop();
    }
}

/// So much that a busy machine needs no more, but for what tests wait for.
pub fn patience() -> Patience {
    Patience {
        end: Duration::from_secs(20),
        health: Duration::from_secs(20),
        ..Patience::default()
    }
}
