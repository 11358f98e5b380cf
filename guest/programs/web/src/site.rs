//! What the server serves where there are no files: pages about this guest.

use crate::Server;
use crate::touch::Memory;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::sync::atomic::Ordering::Relaxed;
use denali_http::{
    Connection, HttpDate, Method, Request, Responder, Route, Sent, Service, Source, route,
};
use ilwaco::net::Ipv4Address;
use ilwaco::{clock, memory, registers};

/// Most bytes of `/bytes/N`.
const BYTES_MAX: u64 = 1 << 30;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The pages, and what was counted.
pub struct Site {
    index: Index,
    memory: Memory,
    requests: u64,
    connections: u64,
    connections_open: u64,
}

const ROUTES: &[Route<Site>] = &[
    Route { methods: &[Method::Get], path: "/", handler: index },
    Route { methods: &[Method::Get], path: "/stats", handler: stats },
    Route { methods: &[Method::Get], path: "/time", handler: time },
    Route { methods: &[Method::Get], path: "/touch", handler: touch },
    Route { methods: &[Method::Get], path: "/hello/*", handler: hello },
    Route { methods: &[Method::Get], path: "/bytes/*", handler: bytes },
    Route { methods: &[Method::Get, Method::Post, Method::Put], path: "/echo", handler: echo },
    Route { methods: &[Method::Post, Method::Put], path: "/digest", handler: digest },
];

impl Site {
    /// The site of this guest. Fails if its arguments ask for memory there is not.
    pub fn new() -> Result<Self, String> {
        Ok(Self {
            index: Index::default(),
            memory: Memory::of(registers::arguments())?,
            requests: 0,
            connections: 0,
            connections_open: 0,
        })
    }

    /// Counts a connection, and sees to it that the first page is this guest's, who may have become a copy of itself.
    pub fn opened(&mut self) {
        let address = ilwaco::net::address().ok();
        if self.index.page.is_empty() || self.index.address != address {
            let page = index_page(registers::arguments(), address);
            self.index = Index { address, page };
        }
        self.connections += 1;
        self.connections_open += 1;
    }

    /// Counts a connection that ended.
    pub fn closed(&mut self) {
        self.connections_open -= 1;
    }
}

/// The pages as one connection gets them.
pub struct Pages<'a> {
    site: &'a RefCell<Site>,
    date: HttpDate,
}

impl<'a> Pages<'a> {
    /// The pages of `site`.
    pub fn new(site: &'a RefCell<Site>) -> Self {
        Self { site, date: HttpDate::new(0) }
    }
}

impl Server for Pages<'_> {
    async fn prepare(&mut self, _: &mut Connection) {}
}

impl Service for Pages<'_> {
    fn respond(&mut self, request: &Request<'_>, responder: Responder<'_>) -> Sent {
        let site = &mut *self.site.borrow_mut();
        site.requests += 1;
        route(ROUTES, site, request, responder)
    }

    fn date(&mut self) -> Option<&HttpDate> {
        self.date.update(clock::realtime_ns() / 1_000_000_000);
        Some(&self.date)
    }
}

/// The first page, and the address that it names: a copy of a guest has one of its own.
#[derive(Default)]
struct Index {
    address: Option<Ipv4Address>,
    page: String,
}

fn index_page(arguments: &str, address: Option<Ipv4Address>) -> String {
    let name = if arguments.is_empty() { "without a name" } else { arguments };
    let address = address.map(|address| format!("{address}")).unwrap_or_default();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <title>A Denali guest</title></head>\n<body>\n\
         <h1>Answered from inside a Denali guest</h1>\n\
         <p>This page comes from a virtual machine of its own: a web server on the library OS \
         Ilwaco, without a kernel beneath it.</p>\n\
         <p>This guest: <strong>{}</strong>, at {address}</p>\n\
         <ul>\n<li><a href=\"/stats\">/stats</a>: virtual registers and counters</li>\n\
         <li><a href=\"/time\">/time</a>: the guest's clock</li>\n\
         <li><a href=\"/hello/you\">/hello/you</a>: a page made for you</li>\n\
         <li><a href=\"/bytes/1000\">/bytes/N</a>: so many bytes</li>\n\
         <li>/echo and /digest: post something</li>\n</ul>\n</body>\n</html>\n",
        escaped(name)
    )
}

/// Text as HTML shows it.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            _ => html.push(character),
        }
    }
    html
}

fn index(site: &mut Site, _: &Request<'_>, responder: Responder<'_>) -> Sent {
    responder.send(200, "text/html; charset=utf-8", site.index.page.as_bytes())
}

fn stats(site: &mut Site, _: &Request<'_>, responder: Responder<'_>) -> Sent {
    let registers = registers::virtual_registers();
    let body = format!(
        "{{\"abi_version\":{},\"cpu_khz\":{},\"memory_size\":{},\"memory_untouched\":{},\
         \"generation\":{},\"monotonic_ns\":{},\"realtime_ns\":{},\"exits\":{},\
         \"interrupts_raised\":{},\"interrupts_delivered\":{},\"batches\":{},\
         \"requests\":{},\"connections\":{},\"connections_open\":{}}}\n",
        registers.abi_version.load(Relaxed),
        registers.cpu_khz.load(Relaxed),
        registers.memory_size.load(Relaxed),
        memory::untouched(),
        registers.generation.load(Relaxed),
        clock::Instant::now().as_ns(),
        clock::realtime_ns(),
        registers.exits.load(Relaxed),
        registers.interrupts_raised.load(Relaxed),
        registers.interrupts_delivered.load(Relaxed),
        registers.batches.load(Relaxed),
        site.requests,
        site.connections,
        site.connections_open,
    );
    responder.send(200, JSON, body.as_bytes())
}

fn time(_: &mut Site, _: &Request<'_>, responder: Responder<'_>) -> Sent {
    let ns = clock::realtime_ns();
    let date = HttpDate::new(ns / 1_000_000_000);
    let mut body = Vec::with_capacity(64);
    body.extend_from_slice(date.as_bytes());
    body.extend_from_slice(format!("\n{ns} ns since 1970\n").as_bytes());
    responder.send(200, TEXT, &body)
}

/// Goes over memory, `?kib=N` of what the guest has for that; all of it otherwise.
fn touch(site: &mut Site, request: &Request<'_>, responder: Responder<'_>) -> Sent {
    let wanted = request.query.and_then(|query| query.strip_prefix("kib="));
    let kib = wanted.map_or(Ok(site.memory.kib()), str::parse);
    match kib {
        Ok(kib) if kib <= site.memory.kib() => match site.memory.visit(kib) {
            Some((kib, visits)) => {
                responder.send(200, TEXT, format!("touched {kib} KiB, visit {visits}\n").as_bytes())
            }
            None => responder.send(500, TEXT, b"a page does not hold what it held before\n"),
        },
        _ => {
            let kib = site.memory.kib();
            let body = format!(
                "expected ?kib=N with N at most {kib}; start the guest with the argument \
                 touch-kib=N for more\n"
            );
            responder.send(400, TEXT, body.as_bytes())
        }
    }
}

fn hello(_: &mut Site, request: &Request<'_>, responder: Responder<'_>) -> Sent {
    let name = request.path.strip_prefix("/hello/").unwrap_or_default();
    responder.send(200, TEXT, format!("hello {name}, from inside a Denali guest\n").as_bytes())
}

/// The numbers 0 to 255 again and again.
struct Counting {
    next: u8,
}

impl Source for Counting {
    fn fill(&mut self, output: &mut Vec<u8>, room: usize) {
        let start = self.next;
        output.extend((0..room).map(|offset| start.wrapping_add(offset as u8)));
        self.next = start.wrapping_add(room as u8);
    }
}

fn bytes(_: &mut Site, request: &Request<'_>, responder: Responder<'_>) -> Sent {
    let number = request.path.strip_prefix("/bytes/").unwrap_or_default();
    match number.parse::<u64>() {
        Ok(length) if length <= BYTES_MAX => {
            responder.stream(200, "application/octet-stream", length, Counting { next: 0 })
        }
        _ => responder.send(400, TEXT, b"expected /bytes/N with N at most 1073741824\n"),
    }
}

/// The body back, or the query where there is no body.
fn echo(_: &mut Site, request: &Request<'_>, responder: Responder<'_>) -> Sent {
    if request.method == Method::Get || request.method == Method::Head {
        return responder.send(200, TEXT, request.query.unwrap_or_default().as_bytes());
    }
    responder.send(200, "application/octet-stream", request.body)
}

fn digest(_: &mut Site, request: &Request<'_>, responder: Responder<'_>) -> Sent {
    let body =
        format!("{{\"bytes\":{},\"crc32\":\"{:08x}\"}}\n", request.body.len(), crc32(request.body));
    responder.send(200, JSON, body.as_bytes())
}

/// The CRC-32 of IEEE 802.3, as zip and gzip use it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
