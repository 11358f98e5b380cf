//! The host's key.

use super::*;
use std::fs::{File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

#[test]
fn the_hosts_key_is_bytes_or_digits_in_a_private_file() {
    let disks = Disks::new();
    let document = disks.document(r#", "key": {"file": "key"}"#);
    let read = || host_key(&document, &document.guest().unwrap());
    let message = refusal(&disks, read());
    assert!(
        message.starts_with("vm.json: swap.key.file: there is no key; make a key: (umask"),
        "{message}"
    );

    let path = disks.path("key");
    let write = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    };
    let digits = "0aF1".repeat(16);
    let bytes: Vec<u8> = [0x0a, 0xf1].repeat(16);
    let lines = [format!("{digits}\n"), format!("{digits}\r\n")];
    for good in [&bytes[..], digits.as_bytes(), lines[0].as_bytes(), lines[1].as_bytes()] {
        write(good);
        let key = through_pipe(&read().unwrap().unwrap()).unwrap();
        let mut found = Vec::new();
        File::from(key).read_to_end(&mut found).unwrap();
        assert_eq!(found, bytes);
    }
    let (long, not_digits) = (format!("{digits}\n\n\n"), "0aG1".repeat(16));
    for wrong in ["", "0a", &digits[1..], &long, &not_digits, &format!("{digits}0")] {
        write(wrong.as_bytes());
        let message = refusal(&disks, read());
        assert_eq!(
            message,
            "vm.json: swap.key.file: key is no key: write 32 bytes, or 64 hexadecimal digits",
            "{wrong:?}"
        );
    }
    write(&bytes);
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let message = refusal(&disks, read());
    assert!(
        message.contains("others have rights to key; take them away (chmod 600 key)"),
        "{message}"
    );
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(refusal(&disks, read()).contains("key is not a regular file"));

    let none = disks.document("");
    assert!(host_key(&none, &none.guest().unwrap()).unwrap().is_none());
}

#[test]
fn a_credential_needs_the_folder_of_credentials() {
    if std::env::var_os("CREDENTIALS_DIRECTORY").is_some() {
        println!("skipped: this is a service with credentials");
        return;
    }
    let disks = Disks::new();
    let document = disks.document(r#", "key": {"credential": "denali-host-key"}"#);
    let message = refusal(&disks, host_key(&document, &document.guest().unwrap()));
    assert!(
        message.starts_with("vm.json: swap.key.credential: no credentials were passed")
            && message.contains("LoadCredentialEncrypted=denali-host-key"),
        "{message}"
    );
}
