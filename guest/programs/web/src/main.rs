//! A web server in a Denali guest, on port 80. With a block device it serves the files on that (`files`),
//! without one the pages of `site`.
#![cfg_attr(guest_image, no_std, no_main)]

extern crate alloc;

mod files;
mod site;
mod touch;

use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use core::cell::RefCell;
use core::time::Duration;
use denali_http::{Connection, Limits, Service};
use files::{Files, Session};
use ilwaco::abi::boot::KIND_BLOCK;
use ilwaco::block::Block;
use ilwaco::net::{Error, TcpListener, TcpStream};
use ilwaco::registers;
use ilwaco::store::Store;
use ilwaco::time::timeout;
use site::{Pages, Site};

ilwaco::program!(async start, devices = [net]);

/// How long a client may take to send the next bytes, or to take some.
const PATIENCE: Duration = Duration::from_secs(60);

/// Accepts connections, for good.
async fn start() -> Result<(), String> {
    let store = open_store().await?;
    let listener = TcpListener::bind(80).map_err(|error| error.to_string())?;
    let address = ilwaco::net::address().map_err(|error| error.to_string())?;
    if let Some((name, store)) = store {
        let files = Rc::new(Files::new(store));
        ilwaco::println!("web: serving the files on {name}, http://{address}/");
        loop {
            let stream = listener.accept().await;
            if files::has_room() {
                ilwaco::spawn(serve_files(stream, Rc::clone(&files)));
            } else {
                stream.abort();
            }
        }
    }
    let site = Rc::new(RefCell::new(Site::new()?));
    ilwaco::println!("web: serving http://{address}/");
    loop {
        let stream = listener.accept().await;
        ilwaco::spawn(serve(stream, Rc::clone(&site)));
    }
}

/// The files on the first block device, if there is one, and the device's name.
async fn open_store() -> Result<Option<(&'static str, Store)>, String> {
    let Some(device) = registers::devices(KIND_BLOCK).next() else { return Ok(None) };
    let name = device.name();
    let block = Block::first().map_err(|error| format!("{name}: {error}"))?;
    let store = Store::open(block).await.map_err(|error| format!("{name}: {error}"))?;
    Ok(Some((name, store)))
}

/// Serves one connection until one side closes it. What goes wrong with it is its own affair.
async fn serve(mut stream: TcpStream, site: Rc<RefCell<Site>>) {
    site.borrow_mut().opened();
    // The connection broke or its client is gone: nothing is left to be done for it.
    let _ = exchange(&mut stream, &mut Pages::new(&site)).await;
    site.borrow_mut().closed();
}

async fn serve_files(mut stream: TcpStream, files: Rc<Files>) {
    // As above.
    let _ = exchange(&mut stream, &mut Session::new(files)).await;
}

/// Answers the requests of one connection.
trait Server: Service {
    /// Has everything ready that the connection needs for its next output.
    async fn prepare(&mut self, connection: &mut Connection);
}

async fn exchange(stream: &mut TcpStream, server: &mut impl Server) -> Result<(), Error> {
    let mut connection = Connection::new(Limits::default());
    loop {
        loop {
            server.prepare(&mut connection).await;
            let output = connection.output(server);
            if output.is_empty() {
                if connection.is_deferred() {
                    continue;
                }
                break;
            }
            let Ok(sent) = timeout(PATIENCE, stream.write(output)).await else {
                return Ok(());
            };
            connection.sent(sent?);
        }
        if connection.is_done() {
            return Ok(());
        }
        let receive = |bytes: &[u8]| {
            connection.receive(bytes, server);
            (bytes.len(), bytes.len())
        };
        match timeout(PATIENCE, stream.read_with(receive)).await {
            Ok(Ok(0)) => connection.end_of_input(),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => connection.time_out(server),
        }
    }
}
