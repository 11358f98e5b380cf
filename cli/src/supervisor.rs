//! `denali supervisor`: looks after all guests of a host, and takes what people ask of them.

use crate::arguments::SupervisorOptions;
use crate::keep::{raise_limit, tell};
use crate::output::{Failure, Format, say};
use crate::run::built_in;
use denali_abi::status::HOST_LACKS;
use denali_config::HostConfig;
use denali_keeper::{Event, Keeper, Settings, Supervision, desk};
use denali_launcher::{find_monitor, find_switch};
use denali_supervisor::{Settings as Interface, listen, serve};
use std::cell::RefCell;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Looks after the host's guests until it is asked to stop.
pub(crate) fn supervisor(options: &SupervisorOptions) -> Result<(), Failure> {
    raise_limit();
    let host = match &options.config {
        Some(path) => HostConfig::read(path)?,
        None => HostConfig::of_nothing(),
    };
    let superuser = nix::unistd::geteuid().is_root();
    let state = folder("state", host.state.as_deref(), usual_state(superuser))?;
    let run = folder("run", host.run.as_deref(), usual_run(superuser))?;
    let logs = host.logs.as_deref().map(|logs| folder("logs", Some(logs), None)).transpose()?;
    let socket = options
        .socket
        .clone()
        .or_else(|| std::env::var_os(denali_client::SOCKET_VARIABLE).map(PathBuf::from))
        .unwrap_or_else(|| run.join("supervisor.sock"));

    let built_in = built_in();
    let settings = Settings {
        built_in: &built_in,
        monitor: find_monitor(Path::new(denali_images::MONITOR_PATH))?,
        broker: Path::new(denali_images::BROKER_PATH),
        pool: usize::try_from(host.pool).unwrap_or(0),
        state: Some(&state),
        logs: logs.as_deref(),
        go_back: false,
    };
    let interface = Interface {
        admins: host.admins.clone(),
        readers: host.readers.clone(),
        notice: Arc::new(say),
        ..Interface::default()
    };
    let told = Supervision {
        run,
        switch: find_switch(Path::new(denali_images::SWITCH_PATH))?,
        version: env!("CARGO_PKG_VERSION").into(),
        host,
    };
    let lacks =
        |what: &str, error: std::io::Error| Failure::new(HOST_LACKS, format!("{what}: {error}"));
    let (desk, orders) = desk().map_err(|error| lacks("cannot take requests", error))?;
    let format = options.format.format();
    let unprinted = RefCell::new(None);
    let tell = |event: &Event<'_>| {
        if let Err(failure) = tell_notable(event, format) {
            *unprinted.borrow_mut() = Some(failure);
        }
    };
    // The keeper blocks signals first, so that the interface's thread has them blocked too.
    let keeper = Keeper::of_fleet(settings, told, orders, tell)?;
    let listener = listen(&socket, &interface)
        .map_err(|error| lacks(&format!("cannot listen at {}", socket.display()), error))?;
    let server =
        serve(desk, listener, interface).map_err(|error| lacks("cannot serve requests", error))?;
    say(&format!("listens at {}", socket.display()));
    let ended = keeper.run();
    server.stop();
    let _ = std::fs::remove_file(&socket);
    ended?;
    unprinted.take().map_or(Ok(()), Err)
}

/// Tells of an event: programs of every one, people of what they should know.
fn tell_notable(event: &Event<'_>, format: Format) -> Result<(), Failure> {
    match (format, event) {
        (Format::Human, Event::Notice { .. } | Event::Ended { .. }) | (Format::Json, _) => {
            tell(event, format)
        }
        _ => Ok(()),
    }
}

/// A folder of the supervisor's own, which is made if it is missing.
fn folder(field: &str, named: Option<&str>, usual: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let fail = |why: String| Failure::new(HOST_LACKS, format!("{field}: {why}"));
    let path = named.map(PathBuf::from).or(usual);
    let path = path.ok_or_else(|| fail("no folder is usual here; name one".into()))?;
    let shown = path.display();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)
        .map_err(|error| fail(format!("cannot make {shown}: {error}")))?;
    let status = std::fs::metadata(&path)
        .map_err(|error| fail(format!("cannot look at {shown}: {error}")))?;
    let own = status.uid() == nix::unistd::geteuid().as_raw();
    if !own || status.mode() & 0o022 != 0 {
        let why = format!("others may exchange what is in {shown}; chmod go-w it, or name another");
        return Err(fail(why));
    }
    std::path::absolute(&path).map_err(|error| fail(format!("{shown}: {error}")))
}

fn usual_state(superuser: bool) -> Option<PathBuf> {
    let home = |name: &str, rest: &str| Some(PathBuf::from(std::env::var_os(name)?).join(rest));
    match superuser {
        true => Some("/var/lib/denali".into()),
        false => home("XDG_STATE_HOME", "denali").or_else(|| home("HOME", ".local/state/denali")),
    }
}

fn usual_run(superuser: bool) -> Option<PathBuf> {
    match superuser {
        true => Some("/run/denali".into()),
        false => Some(PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?).join("denali")),
    }
}
