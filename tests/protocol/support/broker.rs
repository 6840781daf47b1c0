//! The real program on a free port, killed when nobody uses it any more.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::Duration;

use ringmq::broker::{ShardId, home_of};

use super::client::Client;
use super::packets::Connect;

/// The kernel interface of the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    Uring,
    /// io_uring with direct descriptors.
    Direct,
    Epoll,
}

impl Io {
    fn settings(self) -> &'static [&'static str] {
        match self {
            Io::Uring => &["io.backend=uring", "io.direct_descriptors=off"],
            Io::Direct => &["io.backend=uring", "io.direct_descriptors=on"],
            Io::Epoll => &["io.backend=epoll"],
        }
    }

    /// Whether this kernel offers it; says so on the terminal where it does not.
    pub fn is_available(self) -> bool {
        static SAID: Once = Once::new();
        match (self, ringmq::server::driver::probe()) {
            (Io::Uring | Io::Direct, Err(why)) => {
                // Past the capture of the test's output: nobody is to believe that io_uring was tested.
                SAID.call_once(|| _ = writeln!(std::io::stderr(), "SKIPPED: every test over io_uring, which cannot be had here: {why}"));
                false
            }
            _ => true,
        }
    }
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    process: Child,
    address: SocketAddr,
    pub shards: u16,
}

/// Makes names unique in this process.
static NAMES: AtomicU64 = AtomicU64::new(0);

impl Broker {
    /// Starts a broker with settings of the form `limits.max_inflight=4`.
    pub fn start(io: Io, shards: u16, settings: &[&str]) -> Broker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        command.args(["--listen", "127.0.0.1:0", "--log", "warn", "--shards", &shards.to_string()]);
        for setting in [&["sys.interval_s=0"], io.settings(), settings].concat() {
            command.args(["--set", setting]);
        }
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the broker starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("stdout is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the broker says where it listens");
        let port = line
            .split("127.0.0.1:")
            .nth(1)
            .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
            .unwrap_or_else(|| panic!("no port in the broker's first line: {line:?}"));
        Broker { process, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), shards }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A TCP connection on which nothing has been said.
    pub fn open(&self) -> Client {
        Client::open(self.address)
    }

    /// A client whose CONNECT was accepted.
    pub fn connect(&self, connect: &Connect) -> Client {
        let mut client = self.open();
        client.connect(connect);
        client
    }

    /// Waits until more than a second has passed on the broker's clock: until it misses a client that promised to be heard of each second.
    pub fn let_a_second_pass(&self) {
        self.connect(&Connect::new(super::V311, &self.client_id("clock", 0)).keep_alive(1)).drain_to_close();
    }

    /// The places of two clients: on one shard, and where there are two, on both.
    pub fn places(&self) -> &'static [(u16, u16)] {
        if self.shards == 1 { &[(0, 0)] } else { &[(0, 0), (0, 1)] }
    }

    /// A client identifier that nobody has used, of a session that lives on `shard`.
    pub fn client_id(&self, name: &str, shard: u16) -> String {
        self.unique(name, "-", shard)
    }

    /// A topic that nobody has used, whose retained message lives on `shard`.
    pub fn topic(&self, name: &str, shard: u16) -> String {
        self.unique(name, "/", shard)
    }

    fn unique(&self, name: &str, separator: &str, shard: u16) -> String {
        loop {
            let unique = format!("{name}{separator}{}", NAMES.fetch_add(1, Ordering::Relaxed));
            if home_of(&unique, self.shards) == ShardId(shard) {
                return unique;
            }
        }
    }

    /// Time of the processors that the broker's threads have used.
    pub fn cpu_time(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("the broker runs");
        let nanoseconds = threads.flatten().map(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            stat.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Memory that the broker holds, bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("the broker runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line VmRSS");
        let kilobytes: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of kilobytes");
        kilobytes * 1_024
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let already = self.process.try_wait();
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let (Ok(Some(status)), false) = (already, std::thread::panicking()) {
            panic!("the broker ended by itself: {status}");
        }
    }
}

/// The broker of one configuration, shared by the tests that run at the same time.
pub struct SharedBroker {
    io: Io,
    shards: u16,
    settings: &'static [&'static str],
    running: Mutex<Weak<Broker>>,
}

impl SharedBroker {
    pub const fn new(io: Io, shards: u16, settings: &'static [&'static str]) -> SharedBroker {
        SharedBroker { io, shards, settings, running: Mutex::new(Weak::new()) }
    }

    /// The broker, started if need be; `None` where the kernel does not offer what it needs.
    pub fn get(&self) -> Option<Arc<Broker>> {
        if !self.io.is_available() {
            return None;
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        Some(running.upgrade().unwrap_or_else(|| {
            let broker = Arc::new(Broker::start(self.io, self.shards, self.settings));
            *running = Arc::downgrade(&broker);
            broker
        }))
    }
}
