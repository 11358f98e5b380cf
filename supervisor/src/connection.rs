//! One connection: what is sent to it, and the patience with it.

use crate::failure::Failure;
use crate::feed::stopped;
use crate::limits::{HEAD_BYTES, HEADERS};
use crate::server::Api;
use crate::visitors::{Power, Visit};
use axum::Router;
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Sleep, sleep, timeout};

/// Most bytes that are read of somebody who is turned away.
const READ_OF_OTHERS: usize = 64 << 10;

/// How long somebody who is turned away is listened to.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(1);

/// Answers what comes from a connection, until it ends, is idle for too long, or the server ends.
pub(crate) async fn serve(stream: UnixStream, visit: Visit, api: Arc<Api>, router: Router) {
    api.counters.connections.fetch_add(1, Ordering::Relaxed);
    let io = Patient { stream, within: api.patience.write, stalled: None };
    let power = visit.power;
    let router = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(api.patience.head)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(io), Guarded { router, power, api: api.clone() });
    let mut connection = pin!(connection);
    let mut stopped = stopped(api.stop.clone());
    let mut asked = false;
    // How it ended is the client's business.
    let _ = poll_fn(|context| {
        if !asked && stopped.as_mut().poll(context).is_ready() {
            asked = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(context)
    })
    .await;
    api.counters.connections.fetch_sub(1, Ordering::Relaxed);
    drop(visit);
}

/// What answers requests, for those who may ask.
struct Guarded {
    router: TowerToHyperService<Router>,
    power: Power,
    api: Arc<Api>,
}

impl Service<Request<Incoming>> for Guarded {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let looks = matches!(*request.method(), Method::GET | Method::HEAD);
        let answer = (self.power == Power::All || looks).then(|| self.router.call(request));
        let api = self.api.clone();
        Box::pin(async move {
            let response = match answer {
                Some(answer) => answer.await?,
                None => only_looks().into_response(),
            };
            api.counters.answered(response.status().as_u16());
            Ok(response)
        })
    }
}

fn only_looks() -> Failure {
    let message =
        "this user may look and change nothing; \"admins\" of the supervisor's settings may";
    Failure::new(StatusCode::FORBIDDEN, crate::failure::LACKING, message)
}

/// Tells somebody who cannot come in why, without a look at what they say.
pub(crate) async fn turn_away(mut stream: UnixStream, failure: Failure) {
    let body = serde_json::to_string(&failure.problem).unwrap_or_default();
    let reason = failure.code.canonical_reason().unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        failure.code.as_u16(),
        body.len()
    );
    let told = async {
        stream.readable().await?;
        stream.try_write(answer.as_bytes())?;
        poll_fn(|context| Pin::new(&mut stream).poll_shutdown(context)).await?;
        // What is not read when a socket is closed reaches its sender as an error, maybe before the answer.
        discard(&stream).await
    };
    // They have been told, or do not listen.
    let _ = timeout(PATIENCE_WITH_OTHERS, told).await;
}

/// Reads until the end, or for as much as is read of somebody who is turned away.
async fn discard(stream: &UnixStream) -> io::Result<()> {
    let mut bytes = [0; 4096];
    let mut left = READ_OF_OTHERS;
    while left > 0 {
        stream.readable().await?;
        match stream.try_read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => left = left.saturating_sub(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A stream whose other end must go on reading.
struct Patient {
    stream: UnixStream,
    within: Duration,
    /// Goes off when a write has waited for too long.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    /// What a write has come to: one that waits may not do so for ever.
    fn written<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let within = self.within;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(within)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
