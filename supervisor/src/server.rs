//! The thread that answers, its socket, and their end.

use crate::connection;
use crate::engine::Engine;
use crate::failure::{Failure, LACKING};
use crate::feed::stopped;
use crate::limits::{LISTENERS, LISTS, TURNED_AWAY, WORKS};
use crate::metrics::Counters;
use crate::routes::router;
use crate::settings::{Patience, Settings};
use crate::visitors::{Refusal, Visitors};
use axum::Router;
use axum::http::StatusCode;
use denali_keeper::Desk;
use nix::sys::signal::SigSet;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::{socket, stat};
use std::fs::Permissions;
use std::future::poll_fn;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fs, io, thread};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Pause when nothing can be accepted: there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Shortest time between notices.
const NOTICES: Duration = Duration::from_secs(1);

/// What all requests have.
pub(crate) struct Api {
    pub(crate) engine: Engine,
    pub(crate) patience: Patience,
    pub(crate) counters: Counters,
    /// Says when the server is to end.
    pub(crate) stop: watch::Receiver<bool>,
    works: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
    lists: Arc<Semaphore>,
}

impl Api {
    /// A place for a request that has guests do something.
    pub(crate) fn work(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.works.clone().try_acquire_owned().map_err(|_| {
            Failure::unavailable(&format!("{WORKS} requests are worked on already; try later"))
        })
    }

    /// A place for a client that listens.
    pub(crate) fn listener(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.listeners.clone().try_acquire_owned().map_err(|_| {
            Failure::unavailable(&format!("{LISTENERS} clients listen already; try later"))
        })
    }

    /// A place for a list, when there is one.
    pub(crate) async fn list(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let place = self.lists.clone().acquire_owned();
        match tokio::time::timeout(self.patience.answer, place).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Failure::unavailable("too many lists are asked for; try later")),
        }
    }
}

/// Makes the socket at this path, for its owner alone or, if there are other users that may ask, for
/// everybody: who connects is told by the kernel, and strangers are refused. A socket that nobody listens at any
/// more is replaced.
///
/// # Errors
/// When somebody listens there, when there is something else at the path, or the socket cannot be made.
pub fn listen(path: &Path, settings: &Settings) -> io::Result<UnixListener> {
    remove_stale(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The mode that the socket's file is made with, less what the umask takes: at no time is it open to more.
    stat::fchmod(&listener, stat::Mode::S_IRUSR | stat::Mode::S_IWUSR)?;
    socket::bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    let alone = settings.admins.is_empty() && settings.readers.is_empty();
    fs::set_permissions(path, Permissions::from_mode(if alone { 0o600 } else { 0o666 }))?;
    socket::listen(&listener, Backlog::new(BACKLOG)?)?;
    Ok(listener.into())
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            let message = format!("{}: there is something that is no socket", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => {
            let message = format!("{}: another supervisor listens there", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, message))
        }
    }
}

/// A server that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Handle {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Ends the server: no connection is accepted any more, what is under way may go on for a moment. Waits for it.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has ended, too.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

/// Answers at this socket what the keeper behind this desk says, on a thread of its own, named `api`, which takes no
/// signals.
///
/// # Errors
/// When the host has no descriptor or thread left.
pub fn serve(desk: Desk, listener: UnixListener, settings: Settings) -> io::Result<Handle> {
    let (stop, stopping) = watch::channel(false);
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .thread_name("api")
        .max_blocking_threads(2)
        .build()?;
    listener.set_nonblocking(true)?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::UnixListener::from_std(listener)?
    };
    let api = Arc::new(Api {
        engine: Engine::new(desk),
        patience: settings.patience.clone(),
        counters: Counters::default(),
        stop: stopping,
        works: Arc::new(Semaphore::new(WORKS)),
        listeners: Arc::new(Semaphore::new(LISTENERS)),
        lists: Arc::new(Semaphore::new(LISTS)),
    });
    let server = Server {
        router: router(api.clone()),
        api,
        visitors: Arc::new(Visitors::new(nix::unistd::geteuid().as_raw(), &settings)),
        outside: Arc::new(Semaphore::new(TURNED_AWAY)),
        settings,
        noticed: None,
    };
    let thread =
        thread::Builder::new().name("api".into()).spawn(move || run(runtime, server, listener))?;
    Ok(Handle { stop, thread: Some(thread) })
}

fn run(runtime: Runtime, server: Server, listener: tokio::net::UnixListener) {
    // Signals are for the threads that expect them.
    let _ = SigSet::all().thread_block();
    runtime.block_on(server.run(listener));
    runtime.shutdown_timeout(PAUSE);
}

/// What accepts connections.
struct Server {
    api: Arc<Api>,
    router: Router,
    visitors: Arc<Visitors>,
    /// Places for those who cannot come in, and are told so.
    outside: Arc<Semaphore>,
    settings: Settings,
    /// When the last notice was given.
    noticed: Option<Instant>,
}

impl Server {
    async fn run(mut self, listener: tokio::net::UnixListener) {
        let mut stopped = stopped(self.api.stop.clone());
        let mut connections = JoinSet::new();
        loop {
            let accepted = poll_fn(|context| match stopped.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => listener.poll_accept(context).map(Some),
            });
            let Some(accepted) = accepted.await else { break };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) => self.receive(stream, &mut connections),
                Err(error) => {
                    self.notice(&format!("connections cannot be accepted: {error}"));
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        drop(listener);
        let all = async { while connections.join_next().await.is_some() {} };
        // Those that are not done by then are cut.
        let _ = tokio::time::timeout(self.api.patience.end, all).await;
    }

    /// Lets somebody in, or tells them why not.
    fn receive(&mut self, stream: tokio::net::UnixStream, connections: &mut JoinSet<()>) {
        let Ok(peer) = stream.peer_cred() else { return };
        let refusal = match self.visitors.admit(peer.uid()) {
            Ok(visit) => {
                let (api, router) = (self.api.clone(), self.router.clone());
                connections.spawn(connection::serve(stream, visit, api, router));
                return;
            }
            Err(refusal) => refusal,
        };
        let failure = match refusal {
            Refusal::Stranger => {
                self.api.counters.strangers.fetch_add(1, Ordering::Relaxed);
                let process = peer.pid().map_or("?".into(), |pid| pid.to_string());
                self.notice(&format!("refused user {} (process {process})", peer.uid()));
                let message = format!(
                    "user {} may not ask this supervisor: its owner and root may, and those that its \
                     settings name",
                    peer.uid()
                );
                Failure::new(StatusCode::FORBIDDEN, LACKING, &message)
            }
            Refusal::Full => {
                self.api.counters.crowded_out.fetch_add(1, Ordering::Relaxed);
                self.notice(&format!("no place for a connection of user {}", peer.uid()));
                Failure::unavailable("there are too many connections; try later")
            }
        };
        // Where even these are too many, a connection is closed without a word.
        if let Ok(place) = self.outside.clone().try_acquire_owned() {
            connections.spawn(async move {
                connection::turn_away(stream, failure).await;
                drop(place);
            });
        }
    }

    /// Tells whoever runs the supervisor, if that was not done just now.
    fn notice(&mut self, line: &str) {
        let now = Instant::now();
        if self.noticed.is_none_or(|last| now.duration_since(last) >= NOTICES) {
            self.noticed = Some(now);
            (self.settings.notice)(line);
        }
    }
}
