//! Says who the guest is: what tells copies of it apart.

use crate::{Checked, lines};
use alloc::format;
use alloc::string::String;
use core::fmt::Write;
use ilwaco::clock::{Instant, realtime_ns};
use ilwaco::{entropy, generation, generation_changed, net, println, stop};

/// The port on which it says so.
const PORT: u16 = 80;

/// Answers each line on TCP port 80 with `mac=… ipv4=… generation=… random=… monotonic=… realtime=…`: addresses as the
/// network stack uses them, 8 random bytes in hexadecimal digits, times in ns.
pub fn serve() -> Checked {
    lines::serve(PORT, |_| {
        let mac = net::hardware_address().map_or("none".into(), |mac| hex(&mac, ":"));
        let ipv4 = net::address().map_or("none".into(), |address| format!("{address}"));
        format!(
            "mac={mac} ipv4={ipv4} generation={} random={} monotonic={} realtime={}",
            generation(),
            random::<8>(),
            Instant::now().as_ns(),
            realtime_ns()
        )
    })
}

/// Prints `generation=… random=…`, with 16 random bytes, and again whenever the generation has changed, until asked to
/// stop.
pub fn entropy_once() -> Checked {
    ilwaco::block_on(async {
        ilwaco::spawn(async {
            let mut known = generation();
            loop {
                println!("generation={known} random={}", random::<16>());
                known = generation_changed(known).await;
            }
        });
        stop::requested().await;
        Ok(())
    })
}

fn random<const COUNT: usize>() -> String {
    let mut bytes = [0; COUNT];
    entropy::fill(&mut bytes);
    hex(&bytes, "")
}

fn hex(bytes: &[u8], between: &str) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        let between = if index == 0 { "" } else { between };
        // Writing to a string cannot fail.
        let _ = write!(text, "{between}{byte:02x}");
    }
    text
}
