//! Clients: each connects to a guest, asks for what makes it go over its memory, and leaves.

use super::keep::TOUCHED_KIB;
use crate::client::complete_body;
use crate::latencies::Latencies;
use crate::precedence::Precedence;
use crate::random::Random;
use anyhow::{Context, Result, bail};
use epoll::{ControlOptions, Event, Events};
use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How late the last client may come: if it is later, the others were not as many a second as they should be.
const LATE: Duration = Duration::from_secs(1);

/// How often who receives looks whether there is anything more to come, in ms.
const LOOK_EVERY_MS: i32 = 100;

/// A client that waits for its answer.
struct Client {
    stream: TcpStream,
    begun: Instant,
    answer: Vec<u8>,
}

/// Clients that wait, by numbers, and how many there will have been.
struct Waiting {
    epoll: File,
    clients: Mutex<HashMap<u64, Client>>,
    all: AtomicU64,
}

/// Has `count` clients come, `rate` of them a second on average and each independently of the others and of
/// their answers, to where `next` says. Says how long each took, in ms, from just before it connected to the
/// last byte of its answer.
pub(super) fn come(
    rate: f64,
    count: usize,
    next: impl FnMut() -> Result<SocketAddr> + Send,
) -> Result<Latencies> {
    let epoll = epoll::create(true).context("cannot make an epoll")?;
    // SAFETY: the descriptor was made above and has no other owner.
    let epoll = unsafe { File::from_raw_fd(epoll) };
    let clients = Mutex::new(HashMap::new());
    let waiting = Waiting { epoll, clients, all: AtomicU64::new(u64::MAX) };
    let (sent, received) = thread::scope(|scope| {
        let sender = scope.spawn(|| waiting.send(rate, count, next));
        let receiver = scope.spawn(|| waiting.receive());
        (sender.join(), receiver.join())
    });
    match (sent, received) {
        (Ok(sent), Ok(received)) => sent.and(received),
        _ => bail!("a thread has panicked"),
    }
}

/// Has one client come, and says how long it took, in ms.
pub(super) fn one(address: SocketAddr) -> Result<f64> {
    let latencies = come(f64::INFINITY, 1, || Ok(address))?;
    latencies.percentile(1000).context("nobody came")
}

impl Waiting {
    fn send(
        &self,
        rate: f64,
        count: usize,
        mut next: impl FnMut() -> Result<SocketAddr>,
    ) -> Result<()> {
        let _precedence = Precedence::take();
        let mut random = Random::new();
        let (start, mut due) = (Instant::now(), Duration::ZERO);
        let mut send = |number| {
            due += Duration::from_secs_f64(random.gap(rate));
            sleep(due.saturating_sub(start.elapsed()));
            self.connect(number, next()?)
        };
        let sent = (0..count as u64).try_for_each(&mut send);
        let sent = sent.and_then(|()| in_time(start.elapsed().saturating_sub(due)));
        // Who receives waits for no more than there are.
        self.all.store(if sent.is_ok() { count as u64 } else { 0 }, Ordering::Release);
        sent
    }

    fn connect(&self, number: u64, address: SocketAddr) -> Result<()> {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(address).context("cannot connect")?;
        let request = format!("GET /touch?kib={TOUCHED_KIB} HTTP/1.1\r\nHost: bench\r\n\r\n");
        stream.write_all(request.as_bytes()).context("cannot send a request")?;
        stream.set_nonblocking(true).context("cannot set up a connection")?;
        let descriptor = stream.as_raw_fd();
        self.clients().insert(number, Client { stream, begun, answer: Vec::new() });
        let event = Event::new(Events::EPOLLIN, number);
        epoll::ctl(self.epoll.as_raw_fd(), ControlOptions::EPOLL_CTL_ADD, descriptor, event)
            .context("cannot watch a connection")
    }

    fn receive(&self) -> Result<Latencies> {
        let _precedence = Precedence::take();
        let mut latencies = Latencies::default();
        let mut last = Instant::now();
        while (latencies.len() as u64) < self.all.load(Ordering::Acquire) {
            let mut events = [Event::new(Events::empty(), 0); 64];
            let found = epoll::wait(self.epoll.as_raw_fd(), LOOK_EVERY_MS, &mut events);
            for event in &events[..found.context("cannot wait")?] {
                if let Some(latency) = self.hear(event.data)? {
                    latencies.push(latency.as_secs_f64() * 1000.0);
                    last = Instant::now();
                }
            }
            if last.elapsed() > PATIENCE && !self.clients().is_empty() {
                bail!("a guest does not answer for {} s", PATIENCE.as_secs());
            }
        }
        Ok(latencies)
    }

    /// Takes in what a client hears; says how long it took if that is all. It leaves then.
    fn hear(&self, number: u64) -> Result<Option<Duration>> {
        let mut clients = self.clients();
        let Some(client) = clients.get_mut(&number) else { return Ok(None) };
        let mut buffer = [0; 4096];
        match client.stream.read(&mut buffer) {
            Ok(0) => bail!("a connection ended in the midst of a response"),
            Ok(count) => client.answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("cannot receive a response"),
        }
        if complete_body(&client.answer)?.is_none() {
            return Ok(None);
        }
        let took = client.begun.elapsed();
        clients.remove(&number);
        Ok(Some(took))
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<u64, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn in_time(late: Duration) -> Result<()> {
    if late > LATE {
        bail!("the last client came {late:?} late");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn clients_come_without_waiting_for_each_other() {
        const COUNT: usize = 20;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            // All are there before the first is answered.
            let streams: Vec<_> = (0..COUNT).map(|_| listener.accept().unwrap().0).collect();
            for mut stream in streams {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
        });
        let latencies = come(1000.0, COUNT, || Ok(address)).unwrap();
        server.join().unwrap();
        assert_eq!(latencies.len(), COUNT);
    }

    #[test]
    fn a_rate_that_is_not_kept_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let next = || {
            sleep(LATE + Duration::from_millis(100));
            Ok(address)
        };
        let error = come(1000.0, 1, next).unwrap_err();
        assert!(error.to_string().contains("late"), "{error}");
    }

    #[test]
    fn a_guest_that_is_not_there_is_an_error() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(one(address).is_err());
    }
}
