//! What happens between tasks: taking in interrupts, packets and timers before, and afterwards
//! sending, and idling until there is something to do.

use crate::clock::{Instant, time_stamp};
use crate::registers::virtual_registers;
use crate::{console, exit, generation, leap, ports, stop, time, virtio};
use core::cell::Cell;
use core::sync::atomic::Ordering;
use core::time::Duration;
use denali_abi::doorbell;
use denali_abi::registers::{NO_DEADLINE, PENDING_STOP};

/// What the network has to do at each turn. Programs that do not use it do not contain it.
pub(crate) trait Network {
    /// Takes in the frames that arrived, waking tasks. True if there were any.
    fn receive(&self, now: Instant) -> bool;
    /// Sends what is overdue after a leap, and gives others as much longer as it took to answer.
    fn catch_up(&self, now: Instant, leap: Duration);
    /// Sends what tasks and protocols have to send. True if there is more to do at once.
    fn send(&self, now: Instant) -> bool;
    /// When a protocol's timer wants `send` called.
    fn deadline(&self, now: Instant) -> Option<Instant>;
}

vcpu_local! {
    static TURN_BEGAN: Cell<u64> = Cell::new(0);
}

/// The time-stamp counter as it was when the last IDLE returned; 0 before the first.
pub(crate) fn turn_began() -> u64 {
    TURN_BEGAN.with(Cell::get)
}

vcpu_local! {
    static NETWORK: Cell<Option<&'static dyn Network>> = Cell::new(None);
}

/// What any other device has to do at each turn. What tasks give it goes out when the guest idles.
pub(crate) trait Device {
    /// Takes in what the device has done, waking tasks.
    fn receive(&self);
}

/// Kinds of devices that take part in turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Block,
    Console,
    Entropy,
}

const PARTS: usize = Part::Entropy as usize + 1;

/// What threads do at each turn. Programs without them do not contain it.
pub(crate) trait Threads {
    /// Whether one has something to do.
    fn are_ready(&self) -> bool;
    /// Runs one until it waits, its time is over, something is pending, or `nearest`, a timer, is due.
    fn run(&self, nearest: Option<Instant>);
}

vcpu_local! {
    static THREADS: Cell<Option<&'static dyn Threads>> = Cell::new(None);
}

/// Has threads run when no task is ready.
pub(crate) fn set_threads(threads: &'static dyn Threads) {
    THREADS.with(|cell| cell.set(Some(threads)));
}

vcpu_local! {
    static DEVICES: Cell<[Option<&'static dyn Device>; PARTS]> = Cell::new([None; PARTS]);
}

/// Has the devices of one kind take part in every turn.
pub(crate) fn add_device(part: Part, device: &'static dyn Device) {
    DEVICES.with(|cell| {
        let mut devices = cell.get();
        devices[part as usize] = Some(device);
        cell.set(devices);
    });
}

fn devices() -> impl Iterator<Item = &'static dyn Device> {
    DEVICES.with(Cell::get).into_iter().flatten()
}

/// Has the network take part in every turn.
pub(crate) fn set_network(network: &'static dyn Network) {
    NETWORK.with(|cell| cell.set(Some(network)));
}

fn network() -> Option<&'static dyn Network> {
    NETWORK.with(Cell::get)
}

/// Takes in what happened: interrupts, packets, timers. Tasks it concerns become ready.
pub(crate) fn before_tasks() {
    take_interrupts();
    generation::notice();
    let now = Instant::now();
    if let Some(length) = leap::length(now) {
        leap::end(now);
        catch_up(now, length);
    }
    let arrived = network().is_some_and(|network| network.receive(now));
    devices().for_each(Device::receive);
    if !leap::timers_wait(arrived) {
        time::fire(now);
    }
    leap::expect(now);
}

fn take_interrupts() {
    let pending = &virtual_registers().pending;
    if pending.load(Ordering::Relaxed) != 0 {
        let bits = pending.swap(0, Ordering::Acquire);
        if bits & (1 << PENDING_STOP) != 0 {
            stop::request();
        }
    }
}

/// After a leap: has all that arrived meanwhile be there before anything counts as too late.
fn catch_up(now: Instant, leap: Duration) {
    let network = network();
    if let Some(network) = network {
        network.catch_up(now, leap);
    }
    if network.is_some() || devices().next().is_some() {
        ports::out32(doorbell::FLUSH, 0);
    }
}

/// Sends what is to be sent and, if no task is ready, has a thread run, or idles.
pub(crate) fn after_tasks(are_tasks_ready: fn() -> bool) {
    let now = Instant::now();
    // Tasks may have computed for long, or it was then that the guest was parked.
    if let Some(length) = leap::length(now) {
        if generation::has_changed() {
            leap::end(now);
        }
        catch_up(now, length);
        if let Some(network) = network() {
            network.receive(now);
        }
    }
    leap::expect(now);
    let more = network().is_some_and(|network| network.send(now));
    // Asked only here: what has been sent made room, for which tasks may have waited.
    if more || are_tasks_ready() {
        return;
    }
    if stop::ends_program() {
        at_end();
        exit::terminate(0);
    }
    let timer = time::nearest();
    let protocol = network().and_then(|network| network.deadline(now));
    let deadline = [timer, protocol].into_iter().flatten().min();
    leap::expect(deadline.unwrap_or(Instant::from_ns(u64::MAX)));
    console::flush();
    match THREADS.with(Cell::get) {
        Some(threads) if threads.are_ready() => {
            if virtio::take_given() {
                ports::out32(doorbell::FLUSH, 0);
            }
            threads.run(deadline);
        }
        _ => idle(deadline),
    }
}

/// Sends what is still to be sent, once the program is done.
pub(crate) fn at_end() {
    let network = network();
    if let Some(network) = network {
        // What arrives concerns nobody any more, however much of it there is to be taken in.
        network.send(Instant::now());
    }
    if network.is_some() || devices().next().is_some() {
        ports::out32(doorbell::FLUSH, 0);
    }
}

/// Idles until something is pending or `deadline` passes.
fn idle(deadline: Option<Instant>) {
    let ns = deadline.map_or(NO_DEADLINE, Instant::as_ns);
    virtual_registers().idle_deadline_ns.store(ns, Ordering::Relaxed);
    virtio::take_given();
    ports::out32(doorbell::IDLE, 0);
    TURN_BEGAN.with(|began| began.set(time_stamp()));
}
