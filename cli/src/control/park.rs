//! `denali park`: a guest is written into its region, and its monitor ends.

use super::{ask, refused, size};
use crate::arguments::ParkArguments;
use crate::fleet::{NamesOrSocket, act, names_or_socket};
use crate::output::{Failure, Format, print, print_json, say};
use denali_abi::status::{BAD_ARGUMENTS, HOST_LACKS};
use denali_client::Action;
use denali_control::{Parked, Request, Told};
use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Parks guests of the supervisor, or one that runs by itself.
pub(crate) fn park(arguments: &ParkArguments) -> Result<(), Failure> {
    let names = match names_or_socket(&arguments.targets, &arguments.supervisor)? {
        NamesOrSocket::Socket(socket) => return park_one(socket, arguments),
        NamesOrSocket::Names(names) => names,
    };
    let option = if arguments.cut { Some("--cut") } else { None };
    if let Some(option) = option.or(arguments.record.as_ref().map(|_| "--record")) {
        let text = format!(
            "{option}: is for guests that run by themselves; the supervisor keeps the records of its own, and cuts no \
             connections (name a control socket, or leave it out)"
        );
        return Err(Failure::new(BAD_ARGUMENTS, text));
    }
    act(Action::Park, &names, &arguments.supervisor)
}

/// Parks a guest that runs by itself, and writes or prints what it takes to continue it.
fn park_one(socket: &Path, arguments: &ParkArguments) -> Result<(), Failure> {
    // Made before anything is asked: what is parked cannot be undone.
    let made = |path| create(path).map(|file| (path, file));
    let record = arguments.record.as_deref().map(made).transpose()?;
    let parked =
        ask(socket, &Request::Park { cut: arguments.cut }, None).and_then(|told| match told {
            Told::Parked(parked) => Ok(parked),
            other => Err(refused(socket, other)),
        });
    match (parked, record) {
        (Err(failure), None) => Err(failure),
        (Err(failure), Some((path, _))) => {
            // What failed tells more than that this did too.
            let _ = remove_file(path);
            Err(failure)
        }
        (Ok(parked), None) => print_json(&as_json(&parked)),
        (Ok(parked), Some((path, file))) => {
            if let Err(error) = write(file, &parked) {
                say(&format!(
                    "{}: cannot be written: {error}; this is the record:",
                    path.display()
                ));
                return print_json(&as_json(&parked));
            }
            match arguments.supervisor.format.format() {
                Format::Json => print_json(&as_json(&parked)),
                Format::Human => {
                    let (pages, path) = (size(parked.pages), path.display());
                    print(&format_args!("parked: {pages} in its region; its record is {path}"))
                }
            }
        }
    }
}

fn create(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AlreadyExists => "exists; choose another file, or remove it".to_owned(),
            _ => format!("cannot be made: {error}"),
        };
        Failure::new(HOST_LACKS, format!("--record {}: {why}", path.display()))
    })
}

fn write(mut file: File, parked: &Parked) -> io::Result<()> {
    file.write_all(format!("{:#}\n", as_json(parked)).as_bytes())?;
    file.sync_all()
}

fn as_json(parked: &Parked) -> serde_json::Value {
    // A record is plain data: turning it into JSON cannot fail.
    serde_json::to_value(parked).unwrap_or_default()
}
