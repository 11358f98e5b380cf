//! The same with the back ends of this project, which keep a record of requests in flight.

use super::{Daemon, counter, pattern};
use crate::backend::Backend;
use crate::guest::{Finished, Run, program, wait_until};
use crate::namespace::{isolated, make_tap, run};
use crate::registry::{Case, Need};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

const BLK: &str = "denali-vhost-user-blk";
const NET: &str = "denali-vhost-user-net";

pub fn cases() -> Vec<Case> {
    vec![
        Case::each("our_disk_is_killed_in_the_middle_of_writes", disk).needs(Need::Beside(BLK)),
        Case::each("our_network_card_is_killed_between_transfers", card)
            .needs(Need::Beside(NET))
            .needs(Need::Namespaces)
            .needs(Need::Program("iperf3")),
    ]
}

/// Starts one of our back ends on `socket`.
fn serve(name: &str, socket: &Path, option: String) -> Daemon {
    let child = Command::new(program().with_file_name(name))
        .arg(format!("--socket-path={}", socket.display()))
        .arg(option)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Daemon(child.expect("the back end starts"))
}

/// Kills the process that serves the front end: the back end makes another.
fn kill_server(daemon: &Daemon) {
    let pid = daemon.0.id();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.expect("the back end runs");
    let child = children.split_whitespace().next().expect("a process that serves");
    // SAFETY: a plain system call; the child is not reaped before its parent hears of its end.
    assert_eq!(unsafe { libc::kill(child.parse().expect("a number"), libc::SIGKILL) }, 0);
}

fn assert_reconnected(finished: &Finished, device: &str, times: u64) {
    assert_eq!(finished.status, 0, "{finished:#?}");
    assert_eq!(counter(finished, device, "reconnects"), times, "{finished:#?}");
}

fn disk(backend: Backend) {
    const MIB: u64 = 96;
    let folder = tempfile::tempdir().expect("a folder");
    let (image, socket) = (folder.path().join("disk"), folder.path().join("socket"));
    std::fs::File::create(&image).expect("a file").set_len(MIB << 20).expect("room");
    let daemon = serve(BLK, &socket, format!("--blk-file={}", image.display()));
    let configured =
        format!(r#"block=[{{"name":"disk","backend":{{"vhost-user":"{}"}}}}]"#, socket.display());
    let guest = Run::new(backend, denali_images::DISK_PATH).set(configured);
    let guest = guest.option("--arg").option("write 3").json().start();
    for part in [4, 12, 20] {
        wait_until("a part of the disk is written", || {
            512 * std::fs::metadata(&image).expect("the disk").blocks() > part << 20
        });
        kill_server(&daemon);
    }
    let finished = guest.finish();
    assert_reconnected(&finished, "disk", 3);
    assert_eq!(counter(&finished, "disk", "requests"), counter(&finished, "disk", "completed"));
    assert!(std::fs::read(&image).expect("the disk") == pattern(3, MIB), "requests were lost");
}

fn card(backend: Backend) {
    const BYTES: &str = "40000000";
    isolated(|| {
        make_tap("tap0", "10.78.0.1/24");
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let daemon = serve(NET, &socket, "--tap=tap0".to_owned());
        let configured = format!(
            r#"net=[{{"address":"10.78.0.2/24","backend":{{"vhost-user":"{}"}}}}]"#,
            socket.display()
        );
        let guest = Run::new(backend, "iperf").memory("64MiB").set(configured).json().start();
        guest.wait_for("listening");
        for (number, options) in [&[][..], &["-R"], &["--bidir"]].into_iter().enumerate() {
            if number > 0 {
                // What is sent before the next one serves is sent again.
                kill_server(&daemon);
            }
            let output = run("iperf3", &[&["-c", "10.78.0.2", "-n", BYTES], options].concat());
            assert!(output.status.success(), "{options:?}: {output:?}");
        }
        guest.signal(libc::SIGTERM);
        let finished = guest.finish();
        assert_reconnected(&finished, "net0", 2);
    });
}
