//! A server for iperf3's TCP tests in a Denali guest, on port 5201; one test at a time.
#![cfg_attr(guest_image, no_std, no_main)]

extern crate alloc;

mod control;
mod json;
mod load;
mod results;

use control::{Control, State};
use core::time::Duration;
use ilwaco::net::{Error, TcpListener, TcpStream};
use ilwaco::time::timeout;
use load::Load;

ilwaco::program!(async start, devices = [net]);

/// The port of iperf3.
const PORT: u16 = 5201;
/// Bytes of the text by which a client's connections know each other.
const COOKIE: usize = 37;
/// How long a client may take to say the next thing while no test runs.
const PATIENCE: Duration = Duration::from_secs(20);

type Cookie = [u8; COOKIE];

/// Serves one client after the other, for good.
async fn start() -> Result<(), Error> {
    let listener = TcpListener::bind_for_bulk(PORT)?;
    ilwaco::println!("iperf: listening on {}:{PORT}", ilwaco::net::address()?);
    loop {
        let stream = listener.accept().await;
        // What goes wrong with a test is told to its client, as far as there still is one.
        let _ = serve(&listener, stream).await;
    }
}

async fn serve(listener: &TcpListener, mut stream: TcpStream) -> Result<(), Error> {
    let Some(cookie) = read_cookie(&mut stream).await else { return Ok(()) };
    let mut control = Control::new(stream);
    control.say(State::ParamExchange).await?;
    let Ok(parameters) = timeout(PATIENCE, control.read_json()).await else { return Ok(()) };
    let parameters = parameters?;
    let Some(mut load) = Load::new(&parameters) else {
        return control.refuse().await;
    };
    control.say(State::CreateStreams).await?;
    while load.wants_stream() {
        let Ok(mut stream) = timeout(PATIENCE, listener.accept()).await else { return Ok(()) };
        if read_cookie(&mut stream).await == Some(cookie) {
            load.add(stream);
        } else {
            Control::new(stream).say(State::AccessDenied).await?;
        }
    }
    control.say(State::TestStart).await?;
    load.start();
    control.say(State::TestRunning).await?;
    let ended = control.hear().await;
    load.stop();
    if ended? != State::TestEnd as i8 {
        return Ok(());
    }
    exchange_results(&mut control, &load).await
}

async fn exchange_results(control: &mut Control, load: &Load) -> Result<(), Error> {
    control.say(State::ExchangeResults).await?;
    let Ok(theirs) = timeout(PATIENCE, control.read_json()).await else { return Ok(()) };
    theirs?;
    control.write_json(&results::describe(load)).await?;
    control.say(State::DisplayResults).await?;
    // The client says that it is done, or just leaves.
    let _ = timeout(PATIENCE, control.hear()).await;
    Ok(())
}

async fn read_cookie(stream: &mut TcpStream) -> Option<Cookie> {
    let mut cookie = [0; COOKIE];
    let read = timeout(PATIENCE, control::read_exact(stream, &mut cookie)).await;
    matches!(read, Ok(Ok(()))).then_some(cookie)
}
