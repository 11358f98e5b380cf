//! Tests of consoles on pipes, files and sockets.

use super::*;
use denali_devices::console::ConsoleBackend;
use denali_devices::entropy::EntropySource;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// A pipe whose ends do not wait: what is read, what is written.
fn pipe() -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: the array has room for both ends.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) }, 0);
    // SAFETY: the descriptors were just made and belong to nobody else.
    ends.map(|end| unsafe { File::from_raw_fd(end) }).into()
}

/// Whether the back end would wake the monitor.
fn wakes(console: &impl AsRawFd) -> bool {
    // SAFETY: the descriptor is open during the call.
    let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(console.as_raw_fd()) };
    stream::poll(&descriptor.as_fd(), libc::POLLIN) != 0
}

fn attached(input: Option<File>, output: Option<File>) -> Duplex {
    let mut console = Duplex::files(input.map(OwnedFd::from), output.map(OwnedFd::from)).unwrap();
    console.attach(true);
    console
}

#[test]
fn output_that_finds_no_room_wakes_when_there_is_some() {
    let (mut reader, writer) = pipe();
    let mut console = attached(None, Some(writer));
    let bytes: Vec<u8> = (0..1 << 20).map(|n| (n % 251) as u8).collect();
    let mut done = console.write(&bytes);
    assert!(done > 0 && done < bytes.len() && !wakes(&console));
    assert_eq!(console.write(&bytes[done..]), 0);
    let mut got = Vec::new();
    let mut room = vec![0; 100_000];
    while got.len() < bytes.len() {
        let length = reader.read(&mut room).unwrap();
        got.extend_from_slice(&room[..length]);
        if done < bytes.len() {
            assert!(wakes(&console));
            done += console.write(&bytes[done..]);
        }
    }
    assert_eq!(got, bytes);
    assert!(!wakes(&console), "nothing waits any more");
}

#[test]
fn input_wakes_only_while_it_is_wanted_and_driven() {
    let (reader, mut writer) = pipe();
    let mut console = attached(Some(reader), None);
    writer.write_all(b"line\n").unwrap();
    assert!(!wakes(&console));
    console.want_input(true);
    assert!(wakes(&console));
    console.want_input(false);
    assert!(!wakes(&console));
    console.want_input(true);
    console.attach(false);
    assert!(!wakes(&console));
    console.attach(true);
    let mut room = [0; 100];
    assert_eq!(console.read(&mut room[..2]), 2);
    assert_eq!(console.read(&mut room[2..]), 3);
    assert_eq!(&room[..5], b"line\n");
    assert_eq!(console.read(&mut room), 0);
}

#[test]
fn the_end_of_input_wakes_once() {
    let (reader, writer) = pipe();
    let mut console = attached(Some(reader), None);
    console.want_input(true);
    drop(writer);
    assert!(wakes(&console));
    assert_eq!(console.read(&mut [0; 10]), 0);
    console.want_input(true);
    assert!(!wakes(&console));
    assert!(console.counters().contains(&("input_ended", 1)));
}

#[test]
fn output_that_nobody_can_read_is_dropped_and_counted() {
    let (reader, writer) = pipe();
    let mut console = attached(None, Some(writer));
    drop(reader);
    assert_eq!(console.write(b"lost"), 4);
    assert!(console.counters().contains(&("lost_bytes", 4)));
    assert_eq!(attached(None, None).write(b"unwanted"), 8);
}

/// Descriptors that wait by themselves, such as an inherited pipe or socket, are used without waiting too.
#[test]
fn descriptors_that_block_do_not_block_the_monitor() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut pipe = Duplex::files(None, Some(writer.into())).unwrap();
    let input = near.try_clone().unwrap();
    let mut socket = Duplex::files(Some(input.into()), Some(near.into())).unwrap();
    let bytes = vec![1; 1 << 20];
    for console in [&mut pipe, &mut socket] {
        console.attach(true);
        let taken = console.write(&bytes);
        assert!(taken > 0 && taken < bytes.len());
        assert_eq!(console.read(&mut [0; 10]), 0);
    }
    reader.read_exact(&mut [0; 8192]).unwrap();
    assert_eq!(pipe.write(&bytes[..100_000]), 8192);
    far.write_all(b"in").unwrap();
    assert_eq!(socket.read(&mut [0; 10]), 2);
    drop(far);
    assert_eq!(socket.write(b"lost"), 4, "nobody is there, and no signal says so");
}

#[test]
fn regular_files_work_though_they_wake_nobody() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"from a file").unwrap();
    file.rewind().unwrap();
    let mut output = tempfile::tempfile().unwrap();
    let mut console = attached(Some(file), Some(output.try_clone().unwrap()));
    console.want_input(true);
    let mut room = [0; 100];
    assert_eq!(console.read(&mut room), 11);
    assert_eq!(console.write(&room[..11]), 11);
    output.rewind().unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from a file");
}

#[test]
fn encoded_output_is_whole_lines_and_whole_characters() {
    let (mut reader, writer) = pipe();
    let mut console = attached(None, Some(writer));
    console.encode_with(Box::new(|bytes: &[u8]| {
        format!("[{}]\n", std::str::from_utf8(bytes).unwrap()).into_bytes()
    }));
    let text = "ä€😀".repeat(30_000);
    let (mut done, mut got) = (0, Vec::new());
    let mut room = vec![0; 10_000];
    while done < text.len() || got.last() != Some(&b'\n') {
        done += console.write(&text.as_bytes()[done..]);
        let length = reader.read(&mut room).unwrap();
        got.extend_from_slice(&room[..length]);
    }
    let got = String::from_utf8(got).unwrap();
    let pieces: Vec<_> = got
        .lines()
        .map(|line| line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).unwrap())
        .collect();
    assert_eq!(pieces.concat(), text);
    assert!(pieces.iter().all(|piece| piece.len() <= 512));
}

fn listening() -> (tempfile::TempDir, std::path::PathBuf, SocketConsole) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("console");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut console = SocketConsole::new(listener.into()).unwrap();
    console.attach(true);
    (folder, path, console)
}

#[test]
fn output_waits_until_someone_connects() {
    let (_folder, path, mut console) = listening();
    assert_eq!(console.write(b"hello"), 0);
    assert!(!wakes(&console));
    let mut peer = UnixStream::connect(&path).unwrap();
    assert!(wakes(&console));
    assert_eq!(console.write(b"hello"), 5);
    let mut room = [0; 5];
    peer.read_exact(&mut room).unwrap();
    assert_eq!(&room, b"hello");
    assert!(!wakes(&console));
}

#[test]
fn one_connection_follows_the_other() {
    let (_folder, path, mut console) = listening();
    let mut room = [0; 100];
    console.want_input(true);
    let mut first = UnixStream::connect(&path).unwrap();
    let mut second = UnixStream::connect(&path).unwrap();
    first.write_all(b"first").unwrap();
    second.write_all(b"second").unwrap();
    assert!(wakes(&console));
    assert_eq!(console.read(&mut room), 5);
    assert_eq!(console.read(&mut room), 0, "the second waits");
    assert!(!wakes(&console));
    // Who has said everything still gets answers.
    first.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(wakes(&console));
    assert_eq!(console.read(&mut room), 0);
    assert!(!wakes(&console));
    assert_eq!(console.write(b"answer"), 6);
    first.read_exact(&mut room[..6]).unwrap();
    assert_eq!(&room[..6], b"answer");
    drop(first);
    assert!(wakes(&console), "whoever is gone makes place");
    assert_eq!(console.read(&mut room), 6);
    assert_eq!(&room[..6], b"second");
    drop(second);
    assert_eq!(console.write(b"too late"), 0);
    assert!(console.counters().contains(&("connections", 2)));
    assert!(!wakes(&console));
}

#[test]
fn whoever_is_connected_is_not_left_alone() {
    let (_folder, path, mut console) = listening();
    let connected = Some("is connected to somebody");
    assert_eq!(console.busy(), None);
    let mut peer = UnixStream::connect(&path).unwrap();
    assert_eq!(console.busy(), None, "who only waits will wait for the next monitor too");
    assert_eq!(console.write(b"hello"), 5);
    assert_eq!(console.busy(), connected);
    peer.write_all(b"something").unwrap();
    drop(peer);
    assert_eq!(console.busy(), connected, "something is left to be read");
    assert_eq!(console.read(&mut [0; 100]), 9);
    assert_eq!(console.busy(), None);
    let peer = UnixStream::connect(&path).unwrap();
    assert_eq!(console.write(b"hello"), 5);
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(console.busy(), connected, "it may still read");
    drop(peer);
    assert_eq!(console.busy(), None, "nobody has to look for that");
}

#[test]
fn a_line_that_is_half_written_is_finished() {
    let (mut reader, writer) = pipe();
    let mut console = attached(None, Some(writer));
    assert_eq!(console.busy(), None);
    console.encode_with(Box::new(|bytes: &[u8]| bytes.repeat(8)));
    let mut bytes = &[7; 50_000][..];
    bytes = &bytes[console.write(bytes)..];
    assert_eq!(console.busy(), Some("has output that its reader has not taken"));
    while console.busy().is_some() {
        assert!(reader.read(&mut [0; 8192]).unwrap() > 0);
        bytes = &bytes[console.write(bytes)..];
    }
    assert!(bytes.is_empty());
}

#[test]
fn random_bytes_are_random() {
    let (mut one, mut other) = ([0; 5000], [0; 5000]);
    assert!(HostEntropy.fill(&mut one) && HostEntropy.fill(&mut other));
    assert_ne!(one, other);
    assert!(one[4900..].iter().any(|&byte| byte != 0));
}
