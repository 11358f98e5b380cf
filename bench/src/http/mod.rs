//! `bench http`: requests per second of a guest, beside a native server and nginx.

mod load;
pub(crate) mod native;
mod nginx;
mod rounds;
mod server;
mod text;

use crate::backend::Backend;
use crate::document;
use crate::figures::Figures;
use crate::guest;
use crate::options::HttpOptions;
use crate::programs::Programs;
use anyhow::{Context, Result};
use rounds::Rounds;
use server::Server;

/// Measures, prints, and writes the document.
pub(crate) fn run(options: &HttpOptions) -> Result<()> {
    let programs = Programs::find()?;
    let mut figures = Figures::default();
    figures.declare(&options.common.backends(), text::names());
    for (name, _) in text::NGINX {
        figures.set(name, None);
    }
    if let Some(problem) = load::problem() {
        figures.skip("http", &problem);
    } else {
        measure(options, &programs, &mut figures)?;
    }
    document::finish(&options.common, &figures, &[("http", text::document(&figures, options))])
}

fn measure(options: &HttpOptions, programs: &Programs, figures: &mut Figures) -> Result<()> {
    let mut guests = Vec::new();
    for backend in guest::usable(&options.common, programs, figures)? {
        guests.push((backend, Server::guest(backend, programs)?));
    }
    let Some((_, first)) = guests.first() else { return Ok(()) };
    let page = first.page().context("cannot get the guest's page")?;
    let native = Server::native(&page, programs)?;
    let nginx = match Server::nginx(&page, programs) {
        Ok(server) => Some(server),
        Err(error) => {
            figures.skip("nginx", &format!("{error:#}"));
            None
        }
    };
    let rounds = Rounds::measure(&native, &guests, nginx.as_ref(), options)?;
    rounds.fill(figures);
    Ok(())
}

/// The back end of a guest and the server in it.
type GuestServer = (Backend, Server);
