//! The driver against servers on loopback: that all is asked, counted, and told apart.

use super::*;
use crate::fleet::local::Local;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread::{JoinHandle, sleep};

fn load(rate: f64, ms: u64) -> Load {
    Load {
        rate,
        warm: Duration::ZERO,
        length: Duration::from_millis(ms),
        timeout: Duration::from_secs(5),
        in_flight: 1000,
        keep_alive: false,
        threads: 1,
    }
}

/// A server of one address that has each connection in the hands of `serve`.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> (Target, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!() };
    let thread = std::thread::spawn(move || {
        listener.incoming().for_each(|stream| serve(stream.unwrap()));
    });
    (Target { address, shows: "right".into() }, thread)
}

fn page(body: &str, more: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{more}\r\n{body}", body.len())
}

fn ask(mut stream: &TcpStream) -> usize {
    stream.read(&mut [0; 1024]).unwrap_or(0)
}

#[test]
fn hundreds_of_addresses_are_asked_and_each_answers_for_itself() {
    let local = Local::start().unwrap();
    let targets = Targets::new(local.targets(300), 0.0).unwrap();
    let tally = run(&targets, load(2000.0, 1500)).unwrap();
    assert_eq!(tally.failed(), 0, "{}", tally.describe_troubles());
    assert_eq!(tally.asked, tally.latencies.count());
    assert!((2500..3500).contains(&tally.asked), "{}", tally.asked);
    assert!(tally.distinct() > 290, "{}", tally.distinct());
    assert!(tally.lateness.count() == tally.asked && tally.processor > Duration::ZERO);
}

#[test]
fn each_is_asked_once_in_turn_by_several_threads() {
    let local = Local::start().unwrap();
    let targets = Targets::in_turn(local.targets(500));
    let tally = run(&targets, Load { threads: 2, ..load(20_000.0, 1) }).unwrap();
    assert_eq!((tally.asked, tally.distinct(), tally.failed()), (500, 500, 0));
    assert!(targets.silent(&tally).is_empty());
}

#[test]
fn unequal_wants_are_unequal() {
    let local = Local::start().unwrap();
    let targets = Targets::new(local.targets(1000), 1.2).unwrap();
    let tally = run(&targets, load(1000.0, 1000)).unwrap();
    assert_eq!(tally.failed(), 0, "{}", tally.describe_troubles());
    assert!(tally.distinct() < 400, "{}", tally.distinct());
}

#[test]
fn a_server_that_stalls_makes_all_wait_that_come_meanwhile() {
    let (target, _server) = server(|stream| {
        ask(&stream);
        sleep(Duration::from_millis(100));
        (&stream).write_all(page("right", "").as_bytes()).unwrap();
    });
    let load = Load { timeout: Duration::from_secs(60), ..load(60.0, 400) };
    let tally = run(&Targets::new(vec![target], 0.0).unwrap(), load).unwrap();
    assert_eq!(tally.failed(), 0, "{}", tally.describe_troubles());
    // Some twenty-four come while it can answer four; in a closed loop each would take 100 ms.
    assert!(tally.latencies.count() >= 8, "{}", tally.latencies.count());
    assert!(tally.latency_ms(1000) > Some(400.0), "{:?}", tally.latency_ms(1000));
    assert!(tally.most_out >= 4 && tally.answered_in_time <= 4);
}

#[test]
fn troubles_are_told_apart() {
    let of = |target: Target, load: Load| {
        let tally = run(&Targets::new(vec![target], 0.0).unwrap(), load).unwrap();
        assert_eq!(tally.asked, tally.failed() + tally.latencies.count());
        tally
    };
    let all_are = |trouble, serve: fn(&TcpStream)| {
        let (target, _) = server(move |stream| serve(&stream));
        let tally = of(target, load(200.0, 200));
        assert!(tally.failed() > 10);
        assert_eq!(tally.troubles(trouble), tally.failed(), "{}", tally.describe_troubles());
    };
    all_are(Trouble::Page, |mut stream| {
        ask(stream);
        stream.write_all(page("wrong", "").as_bytes()).unwrap();
    });
    all_are(Trouble::Status, |mut stream| {
        ask(stream);
        stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    all_are(Trouble::Cut, |mut stream| {
        ask(stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").unwrap();
    });
    all_are(Trouble::Malformed, |mut stream| {
        ask(stream);
        stream.write_all(b"nonsense\r\n\r\n").unwrap();
    });
    let nobody = Target {
        address: {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else {
                panic!()
            };
            address
        },
        shows: "x".into(),
    };
    let tally = of(nobody, load(200.0, 200));
    assert_eq!(tally.troubles(Trouble::Refused), tally.failed(), "{}", tally.describe_troubles());
}

#[test]
fn who_says_nothing_is_given_up_and_crowds_are_not_sent() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let std::net::SocketAddr::V4(address) = silent.local_addr().unwrap() else { panic!() };
    let targets = Targets::new(vec![Target { address, shows: "x".into() }], 0.0).unwrap();
    let timeout = Duration::from_millis(300);
    let tally = run(&targets, Load { timeout, in_flight: 10, ..load(200.0, 250) }).unwrap();
    let (late, crowded) = (tally.troubles(Trouble::Late), tally.troubles(Trouble::Crowded));
    assert_eq!((late, late + crowded), (10, tally.asked), "{}", tally.describe_troubles());
    assert!(crowded > 10 && tally.most_out == 10);
}

#[test]
fn connections_are_used_again_where_they_can_be() {
    let serve = |answers: usize| {
        move |stream: TcpStream| {
            std::thread::spawn(move || {
                for _ in 0..answers {
                    if ask(&stream) == 0
                        || (&stream).write_all(page("right", "").as_bytes()).is_err()
                    {
                        return;
                    }
                }
            });
        }
    };
    let kept = |answers| {
        let (target, _server) = server(serve(answers));
        let load = Load { keep_alive: true, in_flight: 100, ..load(300.0, 500) };
        run(&Targets::new(vec![target], 0.0).unwrap(), load).unwrap()
    };
    let tally = kept(usize::MAX);
    assert_eq!((tally.failed(), tally.reconnects), (0, 0), "{}", tally.describe_troubles());
    assert!(tally.latencies.count() > 80);
    // One that ends its connections now and then is asked over others.
    let tally = kept(5);
    assert_eq!(tally.failed(), 0, "{}", tally.describe_troubles());
}

#[test]
fn what_comes_before_is_not_counted() {
    let local = Local::start().unwrap();
    let targets = Targets::new(local.targets(10), 0.0).unwrap();
    let warm = Duration::from_millis(500);
    let tally = run(&targets, Load { warm, ..load(400.0, 500) }).unwrap();
    assert!((100..300).contains(&tally.asked), "{}", tally.asked);
    assert!(tally.ran >= Duration::from_millis(900));
}
