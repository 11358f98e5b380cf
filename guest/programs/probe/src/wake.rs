//! Says when the guest ran for what arrived: a TCP server that answers bytes with times. And wakes for nothing but
//! a timer.

use crate::{Checked, Failed};
use core::time::Duration;
use ilwaco::clock::time_stamp;
use ilwaco::net::{Error, TcpListener, TcpStream};
use ilwaco::{println, stop, task, thread, time};

/// Serves as [`serve`] does, beside a thread that computes for ever: the guest never idles, and the first of the two
/// times is of no use.
pub fn serve_computing(port: u16) -> Checked {
    drop(thread::spawn(|| {
        let mut number = 1_u64;
        loop {
            number = core::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005) ^ 1);
        }
    }));
    serve(port)
}

/// Has a timer every so many milliseconds, until asked to stop.
pub fn tick(milliseconds: u64) -> Checked {
    ilwaco::block_on(async move {
        ilwaco::spawn(async move {
            let mut ticks = time::interval(Duration::from_millis(milliseconds.max(1)));
            loop {
                ticks.tick().await;
            }
        });
        println!("ready");
        stop::requested().await;
        Ok(())
    })
}

/// Sends back what comes on TCP connections to a port, until asked to stop. Nobody is left for being silent.
pub fn echo(port: u16) -> Checked {
    serve_by(port, |mut stream| async move {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes).await {
            if stream.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    })
}

/// Serves TCP connections to a port, until asked to stop. Each byte that arrives is answered by 16: the
/// time-stamp counter when the guest ran first after its IDLE, and when it answers, both
/// little-endian.
pub fn serve(port: u16) -> Checked {
    serve_by(port, answer)
}

fn serve_by<F>(port: u16, answer: fn(TcpStream) -> F) -> Checked
where
    F: Future<Output = ()> + 'static,
{
    ilwaco::block_on(async move {
        let listener = TcpListener::bind(port).map_err(|_| Failed("the port cannot be bound"))?;
        ilwaco::spawn(async move {
            loop {
                ilwaco::spawn(answer(listener.accept().await));
            }
        });
        println!("ready");
        stop::requested().await;
        Ok(())
    })
}

/// Answers until the other side ends or breaks the connection.
async fn answer(mut stream: TcpStream) {
    while let Ok(count @ 1..) = take(&mut stream).await {
        for _ in 0..count {
            let mut times = [0; 16];
            times[..8].copy_from_slice(&task::turn_began().to_le_bytes());
            times[8..].copy_from_slice(&time_stamp().to_le_bytes());
            if stream.write_all(&times).await.is_err() {
                return;
            }
        }
    }
}

/// How many bytes arrived; 0 at the end.
async fn take(stream: &mut TcpStream) -> Result<usize, Error> {
    stream.read(&mut [0; 64]).await
}
