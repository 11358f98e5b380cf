//! A picture that changes: samples are taken by a thread of their own, so that keys never wait for them.

use super::draw;
use super::keys::press;
use super::model::Model;
use super::sample::{Sample, Sampler};
use super::screen::{Screen, failure};
use crate::output::Failure;
use ratatui::crossterm::event::{self, Event};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{Builder, park_timeout};
use std::time::{Duration, Instant};

/// How long keys are waited for at a time.
const KEYS: Duration = Duration::from_millis(50);

/// Shows one sample after the other until somebody leaves.
pub(super) fn watch(sampler: Sampler, first: Sample, every: Duration) -> Result<(), Failure> {
    let paused = Arc::new(AtomicBool::new(false));
    let (sender, samples) = sync_channel(1);
    let of_thread = Arc::clone(&paused);
    // It ends with the program: nothing of it is to be kept.
    Builder::new()
        .name("samples".into())
        .spawn(move || take(sampler, every, &of_thread, &sender))
        .map_err(|error| failure(&error))?;
    let mut screen = Screen::take()?;
    let mut model = Model::new(first);
    let mut changed = true;
    loop {
        if changed {
            let draw = |frame: &mut ratatui::Frame<'_>| {
                draw::draw(&model, frame.area(), frame.buffer_mut());
            };
            screen.terminal.draw(draw).map_err(|error| failure(&error))?;
        }
        let Some(pressed) = keys(&mut model)? else { return Ok(()) };
        paused.store(model.paused, Ordering::Relaxed);
        changed = news(&mut model, &samples) || pressed;
    }
}

/// Takes samples as often as asked for, but leaves the supervisor alone for most of the time.
fn take(
    mut sampler: Sampler,
    every: Duration,
    paused: &AtomicBool,
    sender: &SyncSender<Result<Sample, Failure>>,
) {
    let mut pause = every;
    loop {
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|l| !l.is_zero())
        {
            park_timeout(left);
        }
        if paused.load(Ordering::Relaxed) {
            pause = KEYS;
            continue;
        }
        let started = Instant::now();
        if sender.send(sampler.sample()).is_err() {
            return;
        }
        let took = started.elapsed();
        pause = every.saturating_sub(took).max(took);
    }
}

/// Does what keys say that were pressed: whether there were any; `None` = to leave.
fn keys(model: &mut Model) -> Result<Option<bool>, Failure> {
    let mut wait = KEYS;
    let mut any = false;
    while event::poll(wait).map_err(|error| failure(&error))? {
        wait = Duration::ZERO;
        any = true;
        if let Event::Key(key) = event::read().map_err(|error| failure(&error))?
            && !press(model, key)
        {
            return Ok(None);
        }
    }
    Ok(Some(any))
}

/// Shows a sample that has come; whether one has.
fn news(model: &mut Model, samples: &Receiver<Result<Sample, Failure>>) -> bool {
    match samples.try_recv() {
        Ok(Ok(sample)) if !model.paused => model.update(sample),
        Ok(Ok(_)) | Err(TryRecvError::Empty) => return false,
        Ok(Err(failure)) => model.trouble = Some(failure.message().to_owned()),
        Err(TryRecvError::Disconnected) => model.trouble = Some("no more samples are taken".into()),
    }
    true
}
