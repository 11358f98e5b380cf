//! Tests of the block driver against a device in memory.

use super::disk::{Disk, Limits};
use super::*;
use crate::virtio::request_queue::tests::{FakeDevice, Found};
use crate::virtio::request_queue::{Memory, RequestQueue};
use core::future::Future;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};
use std::boxed::Box;
use std::sync::Arc;
use std::task::Wake;
use std::vec::Vec;

const SECTORS: u64 = 64;

/// A device whose sectors are memory.
struct Fixture {
    block: Block,
    device: FakeDevice,
    bytes: Vec<u8>,
}

fn fixture(entries: usize, indirect: bool) -> Fixture {
    let memory = Memory::fresh().unwrap();
    let queue = RequestQueue::new(memory, entries, indirect, 4096);
    let limits = Limits {
        sectors: SECTORS,
        block_size: 512,
        read_only: false,
        flushes: true,
        transfer_max: queue.data_max(),
        discard_max: 8,
        zeroes_max: 0,
    };
    let disk = Box::leak(Box::new(Disk::new(0, limits, queue)));
    let device = FakeDevice::new(memory, entries);
    Fixture {
        block: Block { disk },
        device,
        bytes: (0..SECTORS * SECTOR).map(|n| (n / 8) as u8).collect(),
    }
}

impl Fixture {
    /// Does one request, and returns it to the driver.
    fn work(&mut self) -> bool {
        let Some(found) = self.device.next() else { return false };
        let status = self.perform(&found);
        self.device.finish(&found, status);
        self.block.disk.receive();
        true
    }

    fn perform(&mut self, found: &Found) -> u8 {
        let word = |at: usize| u64::from_le_bytes(found.header[at..at + 8].try_into().unwrap());
        let from = (word(8) * SECTOR) as usize;
        match word(0) {
            0 => found.bytes().zip(&self.bytes[from..]).for_each(|(to, from)| *to = *from),
            1 => found.bytes().zip(&mut self.bytes[from..]).for_each(|(from, to)| *to = *from),
            4 => assert!(found.data.is_empty()),
            8 => found.bytes().zip(b"name").for_each(|(to, from)| *to = *from),
            11 => {
                let (from, count) = ((word(16) * SECTOR) as usize, word(24) as u32 as usize);
                self.bytes[from..from + count * SECTOR as usize].fill(0);
            }
            _ => return 2,
        }
        0
    }

    fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(value) = poll(&mut future) {
                return value;
            }
            assert!(self.work(), "nothing to wait for");
        }
    }
}

fn poll<F: Future>(future: &mut Pin<&mut F>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn what_was_written_is_read_and_the_buffer_comes_back() {
    for indirect in [true, false] {
        let mut fixture = fixture(16, indirect);
        let block = fixture.block;
        let len = 4096;
        fixture.run(async {
            let mut buffer = Buffer::zeroed(len).unwrap();
            buffer.fill(0xa5);
            let address = buffer.address();
            let buffer = block.write(512, buffer).await.unwrap();
            assert_eq!(buffer.address(), address);
            block.flush().await.unwrap();
            let mut buffer = Buffer::zeroed(len).unwrap();
            buffer.set_len(1024);
            let buffer = block.read(0, buffer).await.unwrap();
            assert_eq!((buffer.len(), buffer.capacity(), buffer[511]), (1024, len, 63));
            assert!(buffer[512..].iter().all(|&byte| byte == 0xa5));
            assert_eq!(&block.id().await.unwrap()[..6], b"name\0\0");
        });
    }
}

#[test]
fn what_cannot_be_done_is_refused_before_the_device_sees_it() {
    let mut fixture = fixture(16, true);
    let block = fixture.block;
    fixture.run(async {
        let buffer = |len| Buffer::zeroed(len).unwrap();
        for (position, len) in [(1, 512), (0, 100), (SECTORS * 512, 512), (u64::MAX - 511, 512)] {
            assert_eq!(block.read(position, buffer(len)).await.err(), Some(Error::OutOfRange));
        }
        assert_eq!(block.read(0, buffer(28_672)).await.err(), Some(Error::TooLarge));
        assert_eq!(block.write_zeroes(0, 512, true).await, Err(Error::Unsupported));
        assert_eq!(block.discard(0, 512 * (SECTORS + 1)).await, Err(Error::OutOfRange));
    });
    assert!(fixture.device.next().is_none());
}

#[test]
fn a_long_range_is_cut_into_what_the_device_takes() {
    let mut fixture = fixture(16, true);
    let block = fixture.block;
    fixture.run(async move { block.discard(1024, 512 * 20).await.unwrap() });
    assert!(fixture.bytes[1024..1024 + 512 * 20].iter().all(|&byte| byte == 0));
    assert_ne!(fixture.bytes[1024 + 512 * 20], 0);
}

#[test]
fn a_failure_is_told_as_what_it_is() {
    let mut fixture = fixture(16, true);
    for (status, error) in [(1, Error::Failed), (2, Error::Unsupported), (255, Error::Failed)] {
        let mut flush = pin!(fixture.block.flush());
        assert!(poll(&mut flush).is_pending());
        let found = fixture.device.next().unwrap();
        fixture.device.finish(&found, status);
        fixture.block.disk.receive();
        assert_eq!(poll(&mut flush), Poll::Ready(Err(error)));
    }
}

#[test]
fn a_buffer_stays_with_the_device_though_nobody_waits_for_it() {
    let mut fixture = fixture(16, true);
    {
        let read = fixture.block.read(0, Buffer::zeroed(512).unwrap());
        assert!(poll(&mut pin!(read)).is_pending());
    }
    assert!(fixture.block.disk.busy());
    assert!(fixture.work(), "the device writes into the abandoned buffer");
    assert!(!fixture.block.disk.busy());
}

#[test]
fn a_device_that_returns_what_it_does_not_have_is_ignored() {
    let mut fixture = fixture(16, true);
    let block = fixture.block;
    fixture.device.finish_head(3);
    block.disk.receive();
    assert_eq!(fixture.run(async move { block.flush().await }), Ok(()));
    assert!(!block.disk.busy());
}

type Flush = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn those_who_wait_for_a_place_get_one_in_turn_though_some_leave() {
    let mut fixture = fixture(4, true);
    let block = fixture.block;
    let mut running: Vec<_> = (0..4).map(|_| Box::pin(block.flush())).collect();
    assert!(running.iter_mut().all(|flush| poll(&mut flush.as_mut()).is_pending()));
    let counts: Vec<_> = (0..3).map(|_| Arc::new(Count(AtomicUsize::new(0)))).collect();
    let mut waiting: Vec<_> = (0..3).map(|_| Some(Box::pin(block.flush()) as Flush)).collect();
    let poll_waiting = |index: usize, waiting: &mut Vec<Option<Flush>>| {
        let waker = Waker::from(Arc::clone(&counts[index]));
        waiting[index].as_mut().unwrap().as_mut().poll(&mut Context::from_waker(&waker))
    };
    for index in [0, 1, 2, 2, 2] {
        assert!(poll_waiting(index, &mut waiting).is_pending());
    }
    waiting[0] = None;
    assert!(fixture.work());
    assert!(poll(&mut running[0].as_mut()).is_ready());
    // The second has been woken, and leaves without taking its place: the third is next.
    assert_eq!(
        counts.iter().map(|count| count.0.load(Ordering::Relaxed)).collect::<Vec<_>>(),
        [0, 1, 0]
    );
    waiting[1] = None;
    assert_eq!(counts[2].0.load(Ordering::Relaxed), 1);
    let mut late = pin!(block.flush());
    assert!(poll(&mut late).is_pending(), "who comes late does not overtake");
    assert!(poll_waiting(2, &mut waiting).is_pending());
    while fixture.work() {}
    assert!(poll_waiting(2, &mut waiting).is_ready());
    assert!(running[1..].iter_mut().all(|flush| poll(&mut flush.as_mut()).is_ready()));
    assert!(poll(&mut late).is_pending());
    assert!(fixture.work());
    assert_eq!(poll(&mut late), Poll::Ready(Ok(())));
    assert!(!block.disk.busy());
}

#[test]
fn many_requests_are_outstanding_at_a_time() {
    let mut fixture = fixture(256, true);
    let block = fixture.block;
    let read = |n: u64| Box::pin(block.read(n % SECTORS * 512, Buffer::zeroed(512).unwrap()));
    let mut reads: Vec<_> = (0..300).map(read).collect();
    assert!(reads.iter_mut().all(|read| poll(&mut read.as_mut()).is_pending()));
    let mut found: Vec<_> = core::iter::from_fn(|| fixture.device.next()).collect();
    assert_eq!(found.len(), 256);
    found.reverse();
    for found in &found {
        let status = fixture.perform(found);
        fixture.device.finish(found, status);
    }
    block.disk.receive();
    let mut done = 0;
    let mut rounds = 0;
    while done < 300 {
        rounds += 1;
        assert!(rounds < 10);
        let mut left = Vec::new();
        for mut read in reads {
            match poll(&mut read.as_mut()) {
                Poll::Ready(buffer) => {
                    assert_eq!(buffer.unwrap().len(), 512);
                    done += 1;
                }
                Poll::Pending => left.push(read),
            }
        }
        reads = left;
        while fixture.work() {}
    }
}
