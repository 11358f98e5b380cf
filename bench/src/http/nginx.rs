//! nginx as a sanity check of the native server: one worker, no log, connections kept alive.

use anyhow::{Context, Result};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// nginx in a folder of its own, and where it listens.
pub(super) fn command(page: &[u8]) -> Result<(Command, TempDir, SocketAddr)> {
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let address = free_address()?;
    fs::write(folder.path().join("index.html"), page).context("cannot write a file")?;
    let file = folder.path().join("nginx.conf");
    fs::write(&file, configuration(address)).context("cannot write a file")?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path()).arg("-c").arg(file).args(["-e", "stderr"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Ok((command, folder, address))
}

/// An address that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    listener.local_addr().context("cannot listen")
}

fn configuration(address: SocketAddr) -> String {
    format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid nginx.pid;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n  access_log off;\n  keepalive_timeout 1h;\n  keepalive_requests 1000000000;\n\
           default_type \"text/html; charset=utf-8\";\n  open_file_cache max=16;\n\
           client_body_temp_path body;\n  proxy_temp_path proxy;\n  fastcgi_temp_path fastcgi;\n\
           uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n\
           server {{ listen {address}; root .; index index.html; }}\n}}\n"
    )
}
