//! What commands are for that serve both guests that run by themselves and guests of a supervisor.

use super::connect;
use crate::arguments::SupervisorArguments;
use crate::output::Failure;
use denali_abi::status::{BAD_ARGUMENTS, BAD_CONFIG};
use denali_client::{Client, GuestView};
use std::fs::metadata;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What an argument names.
#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    /// A guest that runs by itself, by its control socket.
    Socket(&'a Path),
    /// Guests of the supervisor, by a name or a pattern.
    Name(&'a str),
}

impl<'a> Target<'a> {
    /// What `argument` names: where a supervisor was named, its guests.
    fn of(argument: &'a Path, arguments: &SupervisorArguments) -> Result<Self, Failure> {
        let text = argument.to_str();
        if arguments.socket.is_some() || !is_socket(argument) {
            let name = text.ok_or_else(|| {
                let text = format!("{}: is no name of a guest", argument.display());
                Failure::new(BAD_ARGUMENTS, text)
            })?;
            return Ok(Self::Name(name));
        }
        Ok(Self::Socket(argument))
    }
}

/// Whether an argument is the path of a control socket rather than a name.
fn is_socket(argument: &Path) -> bool {
    argument.as_os_str().as_encoded_bytes().contains(&b'/')
        || argument.extension().is_some_and(|extension| extension == "sock")
        || metadata(argument).is_ok_and(|found| found.file_type().is_socket())
}

/// What `denali park` is for.
pub(crate) enum NamesOrSocket<'a> {
    /// Guests of the supervisor.
    Names(Vec<String>),
    /// One guest that runs by itself.
    Socket(&'a Path),
}

/// Names, or one control socket: both together make no sense.
pub(crate) fn names_or_socket<'a>(
    targets: &'a [PathBuf],
    arguments: &SupervisorArguments,
) -> Result<NamesOrSocket<'a>, Failure> {
    let mut names = Vec::new();
    for target in targets {
        match Target::of(target, arguments)? {
            Target::Name(name) => names.push(name.to_owned()),
            Target::Socket(path) if targets.len() == 1 => return Ok(NamesOrSocket::Socket(path)),
            Target::Socket(path) => {
                let text = format!(
                    "{}: is a control socket, whose guest is asked alone; for a guest of the supervisor with \
                     that name add --socket PATH",
                    path.display()
                );
                return Err(Failure::new(BAD_ARGUMENTS, text));
            }
        }
    }
    Ok(NamesOrSocket::Names(names))
}

/// The control socket of the one guest that an argument names.
pub(crate) fn control_socket(
    target: &Path,
    arguments: &SupervisorArguments,
) -> Result<PathBuf, Failure> {
    match Target::of(target, arguments)? {
        Target::Socket(path) => Ok(path.into()),
        Target::Name(name) => of_guest(&connect(arguments)?, name),
    }
}

/// The control sockets of all guests that an argument names, or for each why not.
pub(crate) fn control_sockets(
    target: &Path,
    arguments: &SupervisorArguments,
) -> Result<Vec<Result<PathBuf, Failure>>, Failure> {
    let name = match Target::of(target, arguments)? {
        Target::Socket(path) => return Ok(vec![Ok(path.into())]),
        Target::Name(name) => name,
    };
    let client = connect(arguments)?;
    let guests: Result<Vec<GuestView>, _> = client.list(&[name])?.collect();
    let guests = guests?;
    if guests.is_empty() {
        return Err(nobody(&[name]));
    }
    Ok(guests.iter().map(|guest| of_guest(&client, &guest.name)).collect())
}

fn of_guest(client: &Client, name: &str) -> Result<PathBuf, Failure> {
    let control = client.inspect(name)?.control;
    control.map(PathBuf::from).ok_or_else(|| {
        let text = format!(
            "{name}: has no control socket (\"control\" in its configuration); denali inspect {name} says what is \
             known of it"
        );
        Failure::new(BAD_CONFIG, text)
    })
}

/// The failure of a command for guests that there are not.
pub(super) fn nobody<S: AsRef<str>>(patterns: &[S]) -> Failure {
    let patterns: Vec<&str> = patterns.iter().map(AsRef::as_ref).collect();
    let text = format!("there is no guest {}; denali list shows all", patterns.join(" or "));
    Failure::new(BAD_CONFIG, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn sockets_are_told_from_names() {
        let folder = std::env::temp_dir().join(format!("denali-cli-target-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("file"), "").unwrap();
        let _listener = UnixListener::bind(folder.join("bare")).unwrap();
        for (argument, socket) in [
            ("./web", true),
            ("run/web", true),
            ("web.sock", true),
            ("web-1", false),
            ("web-*", false),
        ] {
            assert_eq!(is_socket(Path::new(argument)), socket, "{argument}");
        }
        // A socket is one without any of that, too; a file is not.
        let found = |name| metadata(folder.join(name)).unwrap().file_type().is_socket();
        assert!(found("bare") && !found("file"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
