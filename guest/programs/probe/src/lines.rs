//! A TCP server that answers line by line.

use crate::{Checked, Failed};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use ilwaco::net::{Error, TcpListener, TcpStream};
use ilwaco::{println, stop};

/// Most bytes of a line; who sends a longer one is left.
const LINE_MAX: usize = 256;

/// Serves TCP connections to a port, until asked to stop; prints `ready` first. Each line that arrives is answered by
/// one. Connections stay as long as the other side wants.
pub fn serve(port: u16, answer: impl FnMut(&str) -> String + 'static) -> Checked {
    ilwaco::block_on(async move {
        let listener = TcpListener::bind(port).map_err(|_| Failed("the port cannot be bound"))?;
        let answer = Rc::new(RefCell::new(answer));
        ilwaco::spawn(async move {
            loop {
                let (stream, answer) = (listener.accept().await, Rc::clone(&answer));
                ilwaco::spawn(async move {
                    // A connection that breaks is its own affair.
                    let _ = converse(stream, &answer).await;
                });
            }
        });
        println!("ready");
        stop::requested().await;
        Ok(())
    })
}

async fn converse(
    mut stream: TcpStream,
    answer: &RefCell<impl FnMut(&str) -> String>,
) -> Result<(), Error> {
    let mut line = Vec::new();
    loop {
        let mut bytes = [0; LINE_MAX];
        let count = stream.read(&mut bytes).await?;
        if count == 0 || line.len() > LINE_MAX {
            return Ok(());
        }
        line.extend_from_slice(&bytes[..count]);
        while let Some(end) = line.iter().position(|&byte| byte == b'\n') {
            let rest = line.split_off(end + 1);
            let mut text = (*answer.borrow_mut())(String::from_utf8_lossy(&line).trim());
            text.push('\n');
            stream.write_all(text.as_bytes()).await?;
            line = rest;
        }
    }
}
