//! Answers that are made while they are sent: lines of JSON as things happen, and bytes of files.

use crate::limits::CHUNK_BYTES;
use axum::body::{Body, Bytes, HttpBody};
use denali_keeper::Stream;
use hyper::body::Frame;
use serde::Serialize;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

/// Media type of lines that are JSON each.
pub(crate) const LINES: &str = "application/x-ndjson";

/// The keeper's end of a pipe to a client. When it is full the client gets what `too_slow` makes of the first
/// item that is lost, and nothing more.
pub(crate) struct Teller<T> {
    sender: Option<mpsc::Sender<T>>,
    too_slow: fn(&T) -> T,
}

/// Two ends of a pipe of `capacity` items.
pub(crate) fn pipe<T>(capacity: usize, too_slow: fn(&T) -> T) -> (Teller<T>, mpsc::Receiver<T>) {
    // The last place is for the line that says that there was no more place.
    let (sender, receiver) = mpsc::channel(capacity + 1);
    (Teller { sender: Some(sender), too_slow }, receiver)
}

impl<T> Teller<T> {
    /// Tells something; says whether the client takes more.
    pub(crate) fn tell(&mut self, item: T) -> bool {
        let Some(sender) = &self.sender else { return false };
        let full = sender.capacity() <= 1;
        let item = if full { (self.too_slow)(&item) } else { item };
        let goes_on = sender.try_send(item).is_ok() && !full;
        if !goes_on {
            self.sender = None;
        }
        goes_on
    }

    /// Whether the client is there.
    pub(crate) fn is_heard(&self) -> bool {
        self.sender.as_ref().is_some_and(|sender| !sender.is_closed())
    }

    /// As the keeper takes it.
    pub(crate) fn into_stream(mut self) -> Stream<T>
    where
        T: Send + 'static,
    {
        Box::new(move |item| self.tell(item))
    }
}

/// What comes out of a pipe, a line of JSON each, until the pipe or the server ends.
pub(crate) fn lines<T: Serialize + Send + 'static>(
    mut items: mpsc::Receiver<T>,
    permit: OwnedSemaphorePermit,
    stop: watch::Receiver<bool>,
) -> Body {
    let mut stopped = stopped(stop);
    feed(move |context| {
        let _held = &permit;
        let mut text = Vec::new();
        loop {
            match items.poll_recv(context) {
                Poll::Ready(Some(item)) => line(&mut text, &item),
                Poll::Ready(None) if text.is_empty() => return Poll::Ready(None),
                Poll::Pending if text.is_empty() => {
                    ready!(stopped.as_mut().poll(context));
                    return Poll::Ready(None);
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Ready(Some(text)),
            }
            if text.len() >= CHUNK_BYTES {
                return Poll::Ready(Some(text));
            }
        }
    })
}

/// A list, a line of JSON each.
pub(crate) fn list<T: Serialize + Send + 'static>(
    items: impl Iterator<Item = T> + Send + Unpin + 'static,
    permit: OwnedSemaphorePermit,
) -> Body {
    let mut items = items;
    feed(move |_| {
        let _held = &permit;
        let mut text = Vec::new();
        while text.len() < CHUNK_BYTES
            && let Some(item) = items.next()
        {
            line(&mut text, &item);
        }
        Poll::Ready((!text.is_empty()).then_some(text))
    })
}

/// Bytes as they come.
pub(crate) fn bytes(mut chunks: mpsc::Receiver<Vec<u8>>, permit: OwnedSemaphorePermit) -> Body {
    feed(move |context| {
        let _held = &permit;
        chunks.poll_recv(context)
    })
}

fn line<T: Serialize>(text: &mut Vec<u8>, item: &T) {
    let start = text.len();
    match serde_json::to_writer(&mut *text, item) {
        Ok(()) => text.push(b'\n'),
        Err(_) => text.truncate(start),
    }
}

/// Is ready when the server is asked to end.
pub(crate) fn stopped(mut stop: watch::Receiver<bool>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let _ = stop.wait_for(|stop| *stop).await;
    })
}

/// A body that is what a function says, until it says nothing.
struct Feed<F>(F);

fn feed<F>(next: F) -> Body
where
    F: FnMut(&mut Context<'_>) -> Poll<Option<Vec<u8>>> + Send + Unpin + 'static,
{
    Body::new(Feed(next))
}

impl<F> HttpBody for Feed<F>
where
    F: FnMut(&mut Context<'_>) -> Poll<Option<Vec<u8>>> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = ready!((self.0)(context));
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk.into()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_client_is_told_that_it_was_and_given_up() {
        let (mut teller, mut items) = pipe(2, |lost: &u32| 1000 + lost);
        assert!(teller.tell(1));
        assert!(teller.tell(2));
        assert!(!teller.tell(3), "there is no place");
        assert!(!teller.tell(4), "and there will be none");
        assert!(!teller.is_heard());
        let got: Vec<_> = std::iter::from_fn(|| items.blocking_recv()).collect();
        assert_eq!(got, [1, 2, 1003]);
    }

    #[test]
    fn a_client_that_goes_ends_the_stream() {
        let (teller, items) = pipe(2, |lost: &u32| *lost);
        assert!(teller.is_heard());
        let mut stream = teller.into_stream();
        assert!(stream(1));
        drop(items);
        assert!(!stream(2));
    }

    #[test]
    fn a_client_that_keeps_up_gets_all() {
        let (mut teller, mut items) = pipe(2, |_: &u32| 0);
        for number in 1..100 {
            assert!(teller.tell(number));
            assert_eq!(items.blocking_recv(), Some(number));
        }
    }
}
