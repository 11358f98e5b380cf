//! A web server in a Denali guest, on port 80. `site` says what it serves.
#![cfg_attr(guest_image, no_std, no_main)]

extern crate alloc;

mod site;

use alloc::rc::Rc;
use core::cell::RefCell;
use core::time::Duration;
use denali_http::{Connection, Limits};
use ilwaco::net::{Error, TcpListener, TcpStream};
use ilwaco::time::timeout;
use site::Site;

ilwaco::program!(async start, devices = [net]);

/// How long a client may take to send the next bytes, or to take some.
const PATIENCE: Duration = Duration::from_secs(60);

/// Accepts connections, for good.
async fn start() -> Result<(), Error> {
    let listener = TcpListener::bind(80)?;
    let site = Rc::new(RefCell::new(Site::new()));
    ilwaco::println!("web: serving http://{}/", ilwaco::net::address()?);
    loop {
        let stream = listener.accept().await;
        ilwaco::spawn(serve(stream, Rc::clone(&site)));
    }
}

/// Serves one connection until one side closes it. What goes wrong with it is its own affair.
async fn serve(mut stream: TcpStream, site: Rc<RefCell<Site>>) {
    site.borrow_mut().opened();
    // The connection broke or its client is gone: nothing is left to be done for it.
    let _ = exchange(&mut stream, &site).await;
    site.borrow_mut().closed();
}

async fn exchange(stream: &mut TcpStream, site: &RefCell<Site>) -> Result<(), Error> {
    let mut connection = Connection::new(Limits::default());
    loop {
        loop {
            let output = connection.output(&mut *site.borrow_mut());
            if output.is_empty() {
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
            connection.receive(bytes, &mut *site.borrow_mut());
            (bytes.len(), bytes.len())
        };
        match timeout(PATIENCE, stream.read_with(receive)).await {
            Ok(Ok(0)) => connection.end_of_input(),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => connection.time_out(&mut *site.borrow_mut()),
        }
    }
}
