//! What goes out of the guest: connections, datagrams, questions about names, and floods of them.

use crate::Checked;
use alloc::string::String;
use core::time::Duration;
use ilwaco::net::{Error, IpEndpoint, Ipv4Address, TcpStream, UdpSocket, resolve};
use ilwaco::println;
use ilwaco::time::timeout;

/// How long an answer to a datagram is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Most bytes of an answer that are printed.
const ANSWER_MAX: usize = 1024;

/// Does what the words say, one after the other, and prints what came of each, as `WORD -> RESULT`:
///
/// - `tcp=TO:PORT/TEXT` connects, sends TEXT and ends; the result is what the other side sends;
/// - `udp=TO:PORT/TEXT` sends a datagram; the result is the one that comes back;
/// - `name=NAME`: the result is the first address;
/// - `flood=COUNT` sends datagrams to and connects to COUNT addresses all over the world.
///
/// TO is an address or a name; in TEXT, `_` is a blank and `|` ends a line.
pub fn run(words: &'static str) -> Checked {
    ilwaco::block_on(async move {
        for word in words.split_ascii_whitespace() {
            let result = match word.split_once('=') {
                Some(("tcp", what)) => tcp(what).await,
                Some(("udp", what)) => udp(what).await,
                Some(("name", name)) => {
                    resolve(name).await.map(|found| alloc::format!("{}", found[0]))
                }
                Some(("flood", count)) => flood(count.parse().unwrap_or(1)).await,
                _ => Ok("what is that?".into()),
            };
            match result {
                Ok(text) => println!("{word} -> {text}"),
                Err(error) => println!("{word} -> error: {error}"),
            }
        }
    });
    Ok(())
}

/// Where a word says that something goes, and what.
async fn destination(what: &str) -> Result<(IpEndpoint, String), Error> {
    let (to, text) = what.split_once('/').unwrap_or((what, ""));
    let (host, port) = to.rsplit_once(':').unwrap_or((to, "80"));
    let address = resolve(host).await?[0];
    let text = text.replace('_', " ").replace('|', "\r\n");
    Ok((IpEndpoint::new(address.into(), port.parse().unwrap_or(80)), text))
}

async fn tcp(what: &str) -> Result<String, Error> {
    let (to, text) = destination(what).await?;
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.finish();
    let mut answer = [0; ANSWER_MAX];
    let mut length = 0;
    while length < answer.len() {
        match stream.read(&mut answer[length..]).await? {
            0 => break,
            count => length += count,
        }
    }
    Ok(String::from_utf8_lossy(&answer[..length]).trim_end().into())
}

async fn udp(what: &str) -> Result<String, Error> {
    let (to, text) = destination(what).await?;
    let socket = UdpSocket::open()?;
    socket.send_to(text.as_bytes(), to).await?;
    let mut answer = [0; ANSWER_MAX];
    let received = timeout(PATIENCE, async {
        loop {
            let (length, from) = socket.receive_from(&mut answer).await;
            if from == to {
                return length;
            }
        }
    });
    match received.await {
        Ok(length) => Ok(String::from_utf8_lossy(&answer[..length]).into()),
        Err(_) => Ok("silence".into()),
    }
}

async fn flood(count: u32) -> Result<String, Error> {
    let mut refused = 0;
    for number in 0..count {
        let [_, b, c, d] = number.wrapping_mul(0x9e37_79b9).to_be_bytes();
        let address = Ipv4Address::new(11 + (number % 100) as u8, b, c, d);
        let to = IpEndpoint::new(address.into(), 9);
        let socket = UdpSocket::open()?;
        for port in 1..20 {
            socket.send_to(b"flood", IpEndpoint::new(to.addr, port)).await?;
        }
        if TcpStream::connect(to).await.is_err() {
            refused += 1;
        }
    }
    Ok(alloc::format!("{refused} refused"))
}
