//! The host's key, from a file or a credential that only its owner can read.

use crate::devices::Place;
use crate::error::LaunchError;
use crate::folder::check_private;
use denali_config::{Document, Guest, HostKey};
use denali_swap::{Key, wipe};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where systemd puts the credentials of a service.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Most bytes of a key's file: hexadecimal digits, and the end of a line.
const TEXT_MAX: usize = 66;

/// The host's key that a guest's configuration names, if it names one.
///
/// # Errors
/// When it is missing, malformed, or not its owner's alone.
pub fn host_key(document: &Document, guest: &Guest) -> Result<Option<Key>, LaunchError> {
    let Some(key) = guest.swap.as_ref().and_then(|swap| swap.key.as_ref()) else {
        return Ok(None);
    };
    let (field, found) = match key {
        HostKey::File(path) => ("swap.key.file", read(path)),
        HostKey::Credential(name) => ("swap.key.credential", credential(name)),
    };
    let place = Place::new(document, field.into());
    found.map(Some).map_err(|why| place.unavailable(why))
}

fn credential(name: &str) -> Result<Key, String> {
    match env::var_os(CREDENTIALS) {
        Some(folder) => read(&PathBuf::from(folder).join(name)),
        None => Err(format!(
            "no credentials were passed ({CREDENTIALS} is not set); add LoadCredentialEncrypted={name} to \
             the systemd unit, or name a file"
        )),
    }
}

fn read(path: &Path) -> Result<Key, String> {
    let shown = path.display().to_string();
    // Without O_NONBLOCK, opening a named pipe waits for its writer.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let file = open(path, flags, Mode::empty()).map_err(|error| match error {
        Errno::ENOENT => format!(
            "there is no {shown}; make a key: (umask 077; head -c 32 /dev/urandom > {shown})"
        ),
        error => format!("cannot open {shown}: {}; give this user access", error.desc()),
    })?;
    check_private(&file, &shown)?;
    let mut text = [0; TEXT_MAX + 1];
    let key = parse(&mut File::from(file), &mut text).map_err(|why| format!("{shown} {why}"));
    wipe(&mut text);
    key
}

/// The key in a file, read into `text`, which the caller wipes.
fn parse(file: &mut File, text: &mut [u8; TEXT_MAX + 1]) -> Result<Key, String> {
    let mut length = 0;
    while length < text.len() {
        match file.read(&mut text[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("cannot be read: {error}")),
        }
    }
    let mut bytes = [0; 32];
    let known = match length {
        32 => {
            bytes.copy_from_slice(&text[..32]);
            true
        }
        64..=TEXT_MAX => unhex(&text[..length], &mut bytes),
        _ => false,
    };
    let key = match known {
        true => Key::from_bytes(&bytes).map_err(|error| format!("cannot be kept: {error}")),
        false => Err("is no key: write 32 bytes, or 64 hexadecimal digits".into()),
    };
    wipe(&mut bytes);
    key
}

/// Reads 64 hexadecimal digits, after which a line may end.
fn unhex(text: &[u8], bytes: &mut [u8; 32]) -> bool {
    let (digits, rest) = text.split_at(64);
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return false };
        *byte = high << 4 | low;
    }
    matches!(rest, b"" | b"\n" | b"\r\n")
}
