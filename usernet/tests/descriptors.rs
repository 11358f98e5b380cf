//! A host that runs out of descriptors: accepting rests and resumes, and nobody spins. Alone in its
//! process, because the limit is the whole process's.

mod common;

use common::{Rig, config, echo};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

fn limit_descriptors(limit: u64) -> u64 {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a structure that outlives the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut now) }, 0);
    let changed = libc::rlimit { rlim_cur: limit, ..now };
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const changed) }, 0);
    now.rlim_cur
}

#[test]
fn a_client_waits_until_the_host_has_descriptors_again() {
    let mut rig = Rig::new(config());
    rig.guest.listen(1);
    let mut stream = TcpStream::connect(rig.address).unwrap();
    // The next descriptor would be the lowest number that is free: none may be as high as that.
    let lowest_free = stream.try_clone().unwrap().as_raw_fd();
    let before = limit_descriptors(lowest_free as u64);
    rig.turns(20);
    let counters = rig.gateway.counters();
    assert_eq!((counters.accepted, counters.accept_failures), (0, 1), "it rests after a failure");
    let deadline = rig.gateway.deadline().expect("it will try again");
    assert!(deadline > rig.now_ns());
    rig.skip(1);
    rig.turns(20);
    assert_eq!(rig.gateway.counters().accept_failures, 2);

    limit_descriptors(before);
    stream.write_all(b"still here").unwrap();
    rig.skip(1);
    let answer = std::thread::spawn(move || {
        let mut answer = [0; 10];
        stream.read_exact(&mut answer).unwrap();
        answer
    });
    rig.until("an answer", |rig| {
        echo(&mut rig.guest);
        answer.is_finished()
    });
    assert_eq!(answer.join().unwrap(), *b"still here");
}
