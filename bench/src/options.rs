//! The command line.

use crate::backend::Backend;
use clap::{Args, Parser, Subcommand};

/// Measure Denali; the tables in docs/performance.md are written by these commands.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Time to the first byte, to the first HTTP response and to the end; memory and wake-ups of
    /// idle guests.
    Startup(StartupOptions),
    /// HTTP requests per second of a guest, beside a native server and nginx.
    Http(HttpOptions),
    /// Bulk TCP between host and guest over a tap, beside the same over veth; takes root.
    Net(NetOptions),
    /// Reads of a guest from its disk, beside fio on the same file.
    Block(BlockOptions),
    /// Game servers that bots play on, alone and beside guests that take all they can get.
    Game(GameOptions),
    /// HTTP requests of many guests at once, with and without batched interrupts and idling.
    Scale(ScaleOptions),
    /// From an event to a guest that idles or computes; how exact timers are; what a thousand idle guests
    /// do.
    Wake(WakeOptions),
    /// What a thousand idle guests do, alone.
    Idle(IdleOptions),
    /// Guests that leave memory and come back: how soon they answer, how fast that goes, what a parked
    /// one costs; partly takes root.
    Swap(SwapOptions),
    /// The gatekeeper's policy with very many guests, in simulated time, beside what else could decide who is in memory.
    Gatekeeper(GatekeeperOptions),
    /// Very many guests under one supervisor: how soon all answer, what each costs, the most requests that they can take,
    /// and how long requests take at half of that; takes root.
    ///
    /// Requests are an open loop: they come by chance, independently of each other (a Poisson process), each to a guest
    /// drawn by Zipf's law, and count from when they were due, even where this program was late to send them. Each has a
    /// connection of its own. The most is looked for by asking for twice as much again and again until less than 95 % is
    /// answered or one in a hundred takes more than a second, and half-way between from there on.
    Fleet(FleetOptions),
    /// The same load on any servers, or on this program's own to see what the driver itself can do.
    ///
    /// What cannot be sent because too many requests are out is counted as an error (crowded), as are requests without an
    /// answer in time (late), connections that are refused, broken, or end too early (cut), other statuses than 200,
    /// other pages than those that show what they are to (page), and a lack of ports or descriptors here (host). A
    /// connection is closed with a reset as soon as all of its answer is there (SO_LINGER of 0), so that neither side
    /// keeps it for a minute (TIME_WAIT) and 28,000 ports to each address are enough; the server's own end of a
    /// connection is then cheaper than with clients that wait for its FIN.
    Load(LoadOptions),
    /// The native server that guests are compared with that are woken.
    #[command(hide = true)]
    NativeSleeper,
    /// The native server that the guest is compared with: serves what it reads from standard input.
    #[command(hide = true)]
    NativeServer {
        /// Where it listens; port 0 is any that is free.
        #[arg(default_value = "127.0.0.1:0")]
        address: std::net::SocketAddr,
    },
}

/// Options of both.
#[derive(Args, Clone, Debug)]
pub(crate) struct CommonOptions {
    /// Print one JSON object of figures, and do not write docs/performance.md.
    #[arg(long)]
    pub(crate) json: bool,
    /// Do not write docs/performance.md.
    #[arg(long)]
    pub(crate) no_write: bool,
    /// Measure this back end only.
    #[arg(long, value_enum)]
    pub(crate) hypervisor: Option<Backend>,
}

/// Options of `bench startup`.
#[derive(Args, Debug)]
pub(crate) struct StartupOptions {
    #[command(flatten)]
    pub(crate) common: CommonOptions,
    /// Starts of each kind that are timed.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Most guests at once, by which memory is measured; also at a quarter and a half of them. 0 leaves
    /// out memory.
    #[arg(long, default_value_t = 2000)]
    pub(crate) guests: u32,
    /// How long idle guests are watched, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
}

/// Options of `bench http`.
#[derive(Args, Debug)]
pub(crate) struct HttpOptions {
    #[command(flatten)]
    pub(crate) common: CommonOptions,
    /// Rounds; in each, every server is measured once.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// How long each server is measured in a round, in seconds.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
}

/// Options of `bench net`.
#[derive(Args, Debug)]
pub(crate) struct NetOptions {
    #[command(flatten)]
    pub(crate) common: CommonOptions,
    /// Rounds; in each, every server is measured once in each direction, unshaped and shaped.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// How long each server is measured at a time, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
}

/// Options of `bench block`.
#[derive(Args, Debug)]
pub(crate) struct BlockOptions {
    #[command(flatten)]
    pub(crate) common: CommonOptions,
    /// Rounds; in each, everybody reads once for each load.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// How long each reads at a time, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
    /// MiB of the file that is read.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u64).range(64..))]
    pub(crate) mib: u64,
}

/// Options of `bench scale`.
#[derive(Args, Debug)]
pub(crate) struct ScaleOptions {
    #[command(flatten)]
    pub(crate) common: CommonOptions,
    /// Guests that serve at once, one count after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 400],
        value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) guests: Vec<u32>,
    /// Connections to each guest.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) connections: u32,
    /// Rounds; in each, every variant is measured once.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// How long each variant is measured in a round, in seconds.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
}

/// Options of `bench wake`.
#[derive(Args, Debug)]
pub(crate) struct WakeOptions {
    #[command(flatten)]
    pub(crate) common: CommonOptions,
    /// Rounds; in each, every server is woken so often, one server after the other.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Events for each server in each round.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub(crate) events: u32,
    /// How long timers are watched, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timer_seconds: u32,
    #[command(flatten)]
    pub(crate) crowd: CrowdOptions,
}

/// Options of `bench idle`.
#[derive(Args, Debug)]
pub(crate) struct IdleOptions {
    #[command(flatten)]
    pub(crate) common: CommonOptions,
    #[command(flatten)]
    pub(crate) crowd: CrowdOptions,
}

/// Options of what many idle guests do.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct CrowdOptions {
    /// Guests at once; 0 leaves them out.
    #[arg(long, default_value_t = 1000)]
    pub(crate) guests: u32,
    /// How long idle guests are watched, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
}

/// Options of `bench game`.
#[derive(Args, Debug)]
pub(crate) struct GameOptions {
    #[command(flatten)]
    pub(crate) common: CommonOptions,
    /// Servers at once, one count after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32, 64, 128],
        value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) servers: Vec<u32>,
    /// Servers that are measured beside hogs too.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub(crate) beside: u32,
    /// How long each count is measured, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
}

/// Options of `bench swap`.
#[derive(Args, Debug)]
pub(crate) struct SwapOptions {
    #[command(flatten)]
    pub(crate) common: CommonOptions,
    /// Measure these parts alone, and do not write docs/performance.md.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<SwapPart>,
    /// Parked guests at once; a twentieth as many, but not less than 40, where monitors stay and of each variant.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(8..=8000))]
    pub(crate) guests: u32,
    /// How long parked guests are woken at the slowest rate, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
    /// Rounds of what is compared by turns.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// MiB of memory of a large guest.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=2048))]
    pub(crate) mib: u32,
}

/// Options of `bench gatekeeper`.
#[derive(Args, Debug)]
pub(crate) struct GatekeeperOptions {
    #[command(flatten)]
    pub(crate) common: CommonOptions,
    /// Registered guests.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(2..=50_000_000))]
    pub(crate) guests: u32,
    /// Guests that may be in memory at a time.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) awake: u32,
    /// How unequally guests are wanted: the one of rank r in proportion to 1/r^alpha; 0 = all alike.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.8, 1.0, 1.2], value_parser = exponent)]
    pub(crate) alpha: Vec<f64>,
    /// Requests in a simulated second, on average.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// Simulated seconds that are measured, after as many that are not.
    #[arg(long, default_value_t = 1200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
}

/// How requests are sent.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct DriverOptions {
    /// Threads that send requests.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) threads: u8,
    /// When a request is given up, in ms.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout: u32,
    /// Requests that may be out at a time; those that come on top are errors.
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) in_flight: u32,
    /// Use connections again; otherwise each request has one of its own.
    #[arg(long)]
    pub(crate) keep_alive: bool,
}

/// Options of `bench load`.
#[derive(Args, Debug)]
pub(crate) struct LoadOptions {
    /// File of whom to ask: in each line an IPv4 address and a port, such as 10.96.0.2:80, and after a space what the page
    /// at / shows. Without it, this program asks a thread of its own at loopback addresses.
    #[arg(long)]
    pub(crate) targets: Option<std::path::PathBuf>,
    /// Loopback addresses, where there is no file.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) local: u32,
    /// Requests a second on average; by default the most is looked for, and half of it asked.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// How unequally servers are wanted: the one of rank r in proportion to 1/r^alpha; 0 = all alike.
    #[arg(long, default_value_t = 0.8, value_parser = exponent)]
    pub(crate) alpha: f64,
    /// How long requests are counted, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
    /// How long requests come before that, in seconds.
    #[arg(long, default_value_t = 2)]
    pub(crate) warm: u32,
    #[command(flatten)]
    pub(crate) driver: DriverOptions,
    /// Print one JSON object of figures.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `bench fleet`.
#[derive(Args, Debug)]
pub(crate) struct FleetOptions {
    #[command(flatten)]
    pub(crate) common: CommonOptions,
    /// Guests that live at a time.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) guests: u32,
    /// Guests that are registered, more than may be in memory; by default as many as live.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) registered: Option<u32>,
    /// Guests that may be in memory at a time, where more are registered; by default `--guests`.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) awake: Option<u32>,
    /// How unequally guests are wanted, one load after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.8, 1.2], value_parser = exponent)]
    pub(crate) alpha: Vec<f64>,
    /// Guests of the fleet that throughput is compared with, at an exponent of 0.8; 0 leaves it out.
    #[arg(long, default_value_t = 100)]
    pub(crate) few: u32,
    /// How long latency is measured for each exponent, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
    /// After how long guests that idle are parked although nobody needs their memory; 0ms = never.
    #[arg(long, default_value = "0ms")]
    pub(crate) park_after: String,
    /// Configuration of each guest, as of `denali create`; by default the image `web` on the switch.
    #[arg(long)]
    pub(crate) configuration: Option<std::path::PathBuf>,
    /// Make guests as copies of this snapshot; otherwise one is made of a first guest that has answered.
    #[arg(long)]
    pub(crate) template: Option<std::path::PathBuf>,
    /// Start each guest from its image, and not as a copy.
    #[arg(long, conflicts_with = "template")]
    pub(crate) from_image: bool,
    /// What the page of a guest shows: {name} and {address} stand for the guest's.
    #[arg(long, default_value = "{address}")]
    pub(crate) shows: String,
    #[command(flatten)]
    pub(crate) driver: DriverOptions,
}

impl FleetOptions {
    /// Guests that there are.
    pub(crate) fn count(&self) -> u32 {
        self.registered.unwrap_or(self.guests)
    }

    /// Guests that may be in memory.
    pub(crate) fn awake(&self) -> u32 {
        self.awake.unwrap_or(self.guests).min(self.count())
    }
}

/// An exponent of Zipf's law.
fn exponent(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=4.0).contains(value));
    value.ok_or_else(|| "a number from 0 to 4 is wanted".into())
}

/// What `bench swap` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SwapPart {
    /// Waking parked guests, and what they cost in memory.
    Parked,
    /// Waking guests that are swapped out.
    Out,
    /// Reading ahead and encryption.
    Variants,
    /// A large guest beside its disk and the kernel's swap.
    Throughput,
    /// One, two and four disks.
    Striping,
    /// Paging within a guest.
    Paging,
}

impl SwapPart {
    /// What people read.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Parked => "parked guests",
            Self::Out => "guests that are swapped out",
            Self::Variants => "variants",
            Self::Throughput => "a large guest",
            Self::Striping => "more disks",
            Self::Paging => "paging",
        }
    }
}

impl CommonOptions {
    /// The back ends to measure.
    pub(crate) fn backends(&self) -> Vec<Backend> {
        self.hypervisor.map_or_else(|| Backend::ALL.to_vec(), |one| vec![one])
    }

    /// The same, but that nothing is written if `writes` is false.
    pub(crate) fn writing(self, writes: bool) -> Self {
        Self { no_write: self.no_write || !writes, ..self }
    }

    /// Whether the document is to be written.
    pub(crate) fn writes(&self) -> bool {
        !self.json && !self.no_write
    }
}
