//! The behaviour of all drivers, over real loopback sockets. Each test is written once and runs on epoll, on io_uring, and on io_uring with direct
//! descriptors; it waits for conditions only.

mod closing;
mod direct;
mod listening;
mod reading;
mod writing;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Instant;

use super::*;

/// Makes a test for each driver out of a function that is generic over it.
macro_rules! on_every_driver {
    ($($name:ident),* $(,)?) => {
        mod uring {
            $(#[test] fn $name() { super::$name::<crate::server::driver::tests::Uring>(); })*
        }
        mod direct {
            $(#[test] fn $name() { super::$name::<crate::server::driver::tests::Direct>(); })*
        }
        mod epoll {
            $(#[test] fn $name() { super::$name::<crate::server::driver::tests::Epoll>(); })*
        }
    };
}
use on_every_driver;

/// A kind of driver to be tested.
trait Make {
    type Driver: Driver;
    /// What sockets may move to, and from.
    type Neighbour: Make;
    /// Whether its sockets are descriptors of the process.
    const DESCRIPTORS: bool = true;

    fn make(options: &Options, bell: Arc<Bell>) -> Self::Driver;

    /// A socket as the driver takes it, the `nth` of the test.
    fn socket(_driver: &mut Self::Driver, socket: OwnedFd, _nth: u32) -> Socket {
        socket.into()
    }
}

struct Uring;
struct Direct;
struct Epoll;

impl Make for Uring {
    type Driver = UringDriver;
    type Neighbour = Epoll;

    fn make(options: &Options, bell: Arc<Bell>) -> UringDriver {
        UringDriver::new(options, bell).expect("these tests take a kernel that lets us use io_uring")
    }
}

/// Entries of a table, unless a test wants others.
const ENTRIES: u32 = 1_024;

impl Make for Direct {
    type Driver = UringDriver;
    type Neighbour = Direct;
    const DESCRIPTORS: bool = false;

    fn make(options: &Options, bell: Arc<Bell>) -> UringDriver {
        let direct_descriptors = if options.direct_descriptors == 0 { ENTRIES } else { options.direct_descriptors };
        Uring::make(&Options { direct_descriptors, ..options.clone() }, bell)
    }

    fn socket(driver: &mut UringDriver, socket: OwnedFd, nth: u32) -> Socket {
        // From the end: the kernel begins at the other one.
        driver.adopt(socket, ENTRIES - 1 - nth).expect("a free entry")
    }
}

impl Make for Epoll {
    type Driver = EpollDriver;
    type Neighbour = Uring;

    fn make(options: &Options, bell: Arc<Bell>) -> EpollDriver {
        EpollDriver::new(options, bell).expect("epoll")
    }
}

/// Everything that a driver has told.
#[derive(Default)]
struct Log {
    accepted: Vec<(u32, Socket, Option<SocketAddr>)>,
    accept_failures: Vec<(u32, Option<i32>)>,
    received: HashMap<ConnId, Vec<u8>>,
    /// Number of calls of `received`.
    reads: usize,
    /// Answer `received` with a pause.
    pauses: bool,
    ended: Vec<(ConnId, Option<io::ErrorKind>)>,
    sent: Vec<(ConnId, usize, Result<(), io::ErrorKind>)>,
    detached: Vec<(ConnId, Socket)>,
    closed: Vec<ConnId>,
    rung: usize,
}

impl Events for Log {
    fn accepted(&mut self, listener: u32, socket: Socket, peer: Option<SocketAddr>) {
        self.accepted.push((listener, socket, peer));
    }

    fn accept_failed(&mut self, listener: u32, error: io::Error) {
        self.accept_failures.push((listener, error.raw_os_error()));
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8]) -> ReadMore {
        assert!(!bytes.is_empty());
        assert!(!self.closed.contains(&conn) && !self.ended.iter().any(|ended| ended.0 == conn));
        self.received.entry(conn).or_default().extend_from_slice(bytes);
        self.reads += 1;
        if self.pauses { ReadMore::Pause } else { ReadMore::Continue }
    }

    fn ended(&mut self, conn: ConnId, cause: EndCause) {
        assert!(!self.ended.iter().any(|ended| ended.0 == conn), "the end is told once");
        self.ended.push((conn, if let EndCause::Error(error) = cause { Some(error.kind()) } else { None }));
    }

    fn sent(&mut self, conn: ConnId, batch: OutBatch, result: io::Result<()>) {
        assert!(!self.closed.contains(&conn), "a batch comes back before its connection is closed");
        self.sent.push((conn, batch.len(), result.map_err(|error| error.kind())));
    }

    fn detached(&mut self, conn: ConnId, socket: Socket) {
        self.detached.push((conn, socket));
    }

    fn closed(&mut self, conn: ConnId) {
        assert!(!self.closed.contains(&conn), "a close is told once");
        self.closed.push(conn);
    }

    fn rung(&mut self) {
        self.rung += 1;
    }
}

impl Log {
    fn bytes_of(&self, conn: ConnId) -> &[u8] {
        self.received.get(&conn).map_or(&[], Vec::as_slice)
    }
}

/// A driver, what it has told, and a bell.
struct World<D: Make> {
    driver: D::Driver,
    log: Log,
    bell: Arc<Bell>,
    /// Sockets that the test has brought.
    sockets: u32,
}

const PATIENCE: Duration = Duration::from_secs(20);

impl<D: Make> World<D> {
    fn new() -> World<D> {
        World::with(&Options::default())
    }

    fn with(options: &Options) -> World<D> {
        let bell = Arc::new(Bell::new().expect("bell"));
        World { driver: D::make(options, Arc::clone(&bell)), log: Log::default(), bell, sockets: 0 }
    }

    fn turn(&mut self, wait: Wait) {
        self.driver.turn(wait, &mut self.log).expect("turn");
    }

    /// Turns until the condition holds.
    fn until(&mut self, what: &str, mut condition: impl FnMut(&Log) -> bool) {
        let start = Instant::now();
        while !condition(&self.log) {
            assert!(start.elapsed() < PATIENCE, "still waiting for: {what}");
            self.turn(Wait::For(Duration::from_millis(20)));
        }
    }

    /// Until these connections, and no others, are closed, and their peers can see it.
    fn until_closed(&mut self, conns: &[ConnId]) {
        self.until("closed", |log| log.closed == conns);
        self.turn(Wait::Poll);
    }

    /// A connected pair: the other end, and ours attached under `slot`.
    fn connect(&mut self, slot: u32) -> (TcpStream, ConnId) {
        let (client, socket) = pair();
        let conn = ConnId { slot, generation: 1 };
        self.attach(conn, socket).expect("attach");
        (client, conn)
    }

    fn attach(&mut self, conn: ConnId, socket: OwnedFd) -> io::Result<()> {
        let socket = D::socket(&mut self.driver, socket, self.sockets);
        self.sockets += 1;
        self.driver.attach(conn, socket)
    }

    /// Sends, and logs the answer if it comes at once.
    fn send(&mut self, conn: ConnId, batch: OutBatch) {
        if let Some((batch, result)) = self.driver.send(conn, batch) {
            self.log.sent(conn, batch, result);
        }
    }
}

/// Two ends of a TCP connection; the other end gives up waiting after a while instead of hanging a test.
fn pair() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    client.set_read_timeout(Some(PATIENCE)).expect("time-out");
    client.set_write_timeout(Some(PATIENCE)).expect("time-out");
    (client, listener.accept().expect("accept").0.into())
}

fn batch(bytes: &[u8]) -> OutBatch {
    let mut batch = OutBatch::default();
    batch.own().extend_from_slice(bytes);
    batch
}

/// Bytes in which every position is different from its neighbours and repeats late.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 7).to_le_bytes()).take(len).collect()
}

/// Asserts equality without printing megabytes.
fn assert_same(got: &[u8], expected: &[u8]) {
    let common = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
    assert!(got == expected, "{} bytes instead of {}, different from {common} on", got.len(), expected.len());
}
