//! Checks of threads: that they are preempted, share what there is, and disturb nobody.

use crate::state::avx;
use crate::{Checked, Failed, check, crashes};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use ilwaco::clock::Instant;
use ilwaco::net::{TcpListener, TcpStream};
use ilwaco::thread::{self, JoinHandle, Shared};
use ilwaco::{println, stop, time};

/// Does what a word says; `count` is how often or how many.
pub fn run(what: &str, count: u64) -> Checked {
    match what {
        "turns" => turns(count),
        "exact" => exact(count),
        "heap" => heap(count),
        "print" => print(count),
        "ring" => ring(count),
        "sleep" => sleep(count),
        "wake" => wake(count),
        "serve" => ilwaco::block_on(serve(count as u16)),
        "panic" => thread::spawn(|| panic!("as asked, in a thread")).join(),
        "overflow" => {
            thread::spawn(|| crashes::run("stack-overflow", "")).join();
            Ok(())
        }
        _ => Err(Failed("what is that?")),
    }
}

/// Threads that compute until all others have got on, and until a task has ticked as often, so that it would never
/// end without preemption.
fn turns(count: u64) -> Checked {
    const THREADS: usize = 3;
    let progress = Arc::new([const { AtomicU64::new(0) }; THREADS]);
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..THREADS)
        .map(|this| {
            let (progress, done) = (Arc::clone(&progress), Arc::clone(&done));
            thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    progress[this].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    ilwaco::block_on(async move {
        let mut ticks = time::interval(Duration::from_millis(5));
        let mut seen = [0; THREADS];
        let mut rounds = 0;
        while rounds < count {
            ticks.tick().await;
            let now = progress.each_ref().map(|count| count.load(Ordering::Relaxed));
            if (0..THREADS).all(|this| now[this] > seen[this]) {
                (seen, rounds) = (now, rounds + 1);
            }
        }
        done.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.await;
        }
        println!("progress={seen:?}");
    });
    check(thread::count() == 0, "a thread that has ended is still there")
}

/// Computes with all kinds of registers, with other control words for each `seed`; what comes of it.
fn compute(seed: u64, rounds: u64) -> [u64; 3] {
    // Rounding to nearest, down, up, and towards zero; all exceptions masked.
    let mxcsr = 0x1f80 | (seed as u32 & 3) << 13;
    let fcw = 0x037f | (seed as u16 & 3) << 10;
    let (mut integer, vector, x87): (u64, u64, u64);
    let mut number = 1.0 + seed as f64;
    let words = [f64::to_bits(1.0 / 3.0), 0];
    // SAFETY: uses the registers it names and the stack below the red zone, and gives the control words their
    // usual values at the end.
    unsafe {
        asm!(
            "sub rsp, 160",
            "mov [rsp], {mxcsr:e}",
            "ldmxcsr [rsp]",
            "mov [rsp], {fcw:x}",
            "fninit",
            "fldcw [rsp]",
            "fld qword ptr [{number}]",
            "movq xmm0, qword ptr [{number}]",
            "movq xmm1, {third}",
            "movapd xmm2, xmm0",
            "2:",
            "imul {integer}, {integer}, 69069",
            "add {integer}, {rounds}",
            "rol {integer}, 9",
            "addsd xmm0, xmm1",
            "mulsd xmm0, xmm1",
            "addsd xmm2, xmm0",
            "xorpd xmm3, xmm2",
            "fld1",
            "faddp st(1), st",
            "fld qword ptr [{number}]",
            "fdivp st(1), st",
            "dec {rounds}",
            "jnz 2b",
            "fstp qword ptr [{number}]",
            "movq {vector}, xmm3",
            "fninit",
            "mov dword ptr [rsp], 0x1f80",
            "ldmxcsr [rsp]",
            "add rsp, 160",
            mxcsr = in(reg) u64::from(mxcsr),
            fcw = in(reg) u64::from(fcw),
            number = in(reg) &raw mut number,
            third = in(reg) words[0],
            integer = inout(reg) seed => integer,
            rounds = inout(reg) rounds.max(1) => _,
            vector = out(reg) vector,
            inout("xmm3") 0.0_f64 => _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
        );
    }
    x87 = number.to_bits();
    if avx() {
        integer ^= wide(seed, rounds);
    }
    [integer, vector, x87]
}

/// The same with the upper halves of vector registers.
fn wide(seed: u64, rounds: u64) -> u64 {
    let words = [seed | 1, seed << 8 | 3, seed << 16 | 5, seed << 24 | 7];
    let mut result = [0_u64; 4];
    // SAFETY: only called where there is AVX; uses the registers it names.
    unsafe {
        asm!(
            "vmovupd ymm4, [{words}]",
            "vmovupd ymm5, [{words}]",
            "2:",
            "vperm2f128 ymm6, ymm4, ymm5, 0x21",
            "vxorpd ymm5, ymm5, ymm6",
            "vpermilpd ymm4, ymm4, 0x5",
            "vxorpd ymm4, ymm4, ymm5",
            "dec {rounds}",
            "jnz 2b",
            "vmovupd [{result}], ymm4",
            "vzeroupper",
            words = in(reg) &raw const words,
            result = in(reg) &raw mut result,
            rounds = inout(reg) rounds.max(1) => _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _,
        );
    }
    result.iter().fold(0, |sum, word| sum.rotate_left(7) ^ word)
}

/// Threads that compute the same as without others, `count` rounds each.
fn exact(count: u64) -> Checked {
    let alone: Vec<_> = (0..4).map(|seed| compute(seed, count)).collect();
    check(alone[0] != alone[1], "the computation does nothing")?;
    let threads: Vec<_> = (0..4).map(|seed| thread::spawn(move || compute(seed, count))).collect();
    let beside: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
    check(alone == beside, "a thread computes something else than without others")
}

/// Threads and a task that use the heap all the time.
fn heap(count: u64) -> Checked {
    fn churn(seed: u64, count: u64) -> bool {
        let mut kept: Vec<Vec<u64>> = Vec::new();
        for round in 0..count {
            let value = seed << 32 | round;
            let len = 1 + (value.wrapping_mul(0x9e37_79b9) >> 7) as usize % 200;
            kept.push(alloc::vec![value; len]);
            if kept.len() > 20 {
                let old = kept.swap_remove((round % 20) as usize);
                if old.iter().any(|word| *word != old[0] || word >> 32 != seed) {
                    return false;
                }
            }
        }
        true
    }
    let threads: Vec<_> = (0..4).map(|seed| thread::spawn(move || churn(seed, count))).collect();
    let task = async move {
        for _ in 0..count / 1000 {
            time::sleep(Duration::from_millis(1)).await;
            if !churn(9, 100) {
                return false;
            }
        }
        true
    };
    check(ilwaco::block_on(task), "the heap of a task changed")?;
    let whole = threads.into_iter().all(JoinHandle::join);
    check(whole, "the heap of a thread changed")
}

/// Threads that print `count` lines each.
fn print(count: u64) -> Checked {
    let threads = ["a", "b", "c"].map(|name| {
        thread::spawn(move || {
            for line in 0..count {
                println!("{name} {line} {name}{name}{name}{name}{name}{name}{name}{name}");
            }
        })
    });
    threads.into_iter().for_each(JoinHandle::join);
    Ok(())
}

/// `count` threads of which each is unparked by the one before it, three times round.
fn ring(count: u64) -> Checked {
    const ROUNDS: u64 = 3;
    let next: Arc<Shared<Vec<thread::Thread>>> = Arc::new(Shared::new(Vec::new()));
    let order = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..count)
        .map(|this| {
            let (next, order) = (Arc::clone(&next), Arc::clone(&order));
            thread::spawn(move || {
                let mut in_turn = true;
                for round in 0..ROUNDS {
                    while order.load(Ordering::Relaxed) < round * count + this {
                        thread::park();
                    }
                    in_turn &= order.fetch_add(1, Ordering::Relaxed) == round * count + this;
                    next.with(|all| all[((this + 1) % count) as usize]).unpark();
                }
                in_turn
            })
        })
        .collect();
    next.with(|all| all.extend(threads.iter().map(JoinHandle::thread)));
    check(thread::count() as u64 == count, "the number of threads")?;
    let in_turn = threads.into_iter().all(JoinHandle::join);
    check(in_turn, "a thread ran out of turn")
}

/// Threads that sleep: none too short.
fn sleep(count: u64) -> Checked {
    let threads: Vec<_> = (1..=count)
        .map(|ms| {
            thread::spawn(move || {
                let (start, time) = (Instant::now(), Duration::from_millis(ms));
                thread::sleep(time);
                start.elapsed() >= time
            })
        })
        .collect();
    let slept = threads.into_iter().all(JoinHandle::join);
    check(slept, "a thread woke too early")
}

/// A task and a thread that wake each other, beside one that computes all the time.
fn wake(count: u64) -> Checked {
    let done = Arc::new(AtomicBool::new(false));
    let busy = {
        let done = Arc::clone(&done);
        thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        })
    };
    let sum = ilwaco::block_on(async move {
        let mut sum = 0;
        for number in 0..count {
            sum += thread::spawn(move || number).await;
        }
        done.store(true, Ordering::Relaxed);
        busy.await;
        sum
    });
    check(sum == count * count.saturating_sub(1) / 2, "a result was lost")
}

/// Echoes what comes to a TCP port, beside two threads that compute for ever.
async fn serve(port: u16) -> Checked {
    let listener = TcpListener::bind(port).map_err(|_| Failed("the port cannot be bound"))?;
    for seed in 0..2 {
        drop(thread::spawn(move || {
            loop {
                core::hint::black_box(compute(seed, 1_000));
            }
        }));
    }
    ilwaco::spawn(async move {
        loop {
            ilwaco::spawn(echo(listener.accept().await));
        }
    });
    println!("ready");
    stop::requested().await;
    Ok(())
}

async fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 512];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        if stream.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
