//! The clients of one ring: a thread, a driver with a file table, and two bytes for each client beside the driver's own.
//!
//! A client connects, is told so (CONNACK), subscribes, is told so (SUBACK), and waits. Later the thread publishes, on the connection of its first
//! client, one message to each client of another thread. All packets of this are shorter than 128 bytes and come whole, one send each.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringmq::broker::outbox::OutBatch;
use ringmq::mqtt::{Connect, Properties, PublishOut, QoS, SubscribeEntry, SubscribeOptions, Version, encode};
use ringmq::server::driver::{Bell, ConnId, Driver, EndCause, Events, Options, ReadMore, Socket, UringDriver, Wait};
use socket2::{Domain, Socket as TcpSocket, Type};

/// Connections that share a source address of 127.0.0.0/8; beyond, the kernel's search for a free port costs more than the connection.
const PER_SOURCE: u32 = 4_000;
/// Seconds; no run takes as long, so that nobody has to be heard of.
const KEEP_ALIVE_S: u16 = 3_600;
/// Messages that all threads together have under way.
const UNDER_WAY: u64 = 8_192;
/// Messages that a thread publishes in one go.
const PUBLISH_BURST: u32 = 64;
/// Connections that a thread opens before it sends what the earlier ones have to say.
const OPEN_BURST: usize = 16;
/// How long a thread waits for the broker before it looks at the phase again.
const LOOK: Duration = Duration::from_millis(50);

/// What the threads do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    Connect = 0,
    Silence = 1,
    Publish = 2,
    End = 3,
}

/// What the threads tell, and are told.
#[derive(Default)]
pub struct Shared {
    phase: AtomicU32,
    /// Clients that have their SUBACK.
    pub ready: AtomicU64,
    published: AtomicU64,
    /// Clients that have got their message.
    pub delivered: AtomicU64,
    /// Messages that were another's, or came twice.
    pub wrong: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Shared {
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u32, Relaxed);
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Relaxed) == phase as u32
    }

    /// What has gone wrong first.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail(&self, why: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }
}

/// The work of one thread.
pub struct Plan {
    pub address: SocketAddrV4,
    /// The number of its first client, over all threads.
    pub first: u32,
    pub count: u32,
    /// The first client that it publishes to, and how many.
    pub publishes_from: u32,
    pub publishes: u32,
    /// Clients that are on their way to SUBACK at a time.
    pub burst: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Subscribing,
    Ready,
}

/// What a thread knows of its clients, by slot.
struct Clients<'a> {
    first: u32,
    stages: Vec<Stage>,
    got: Vec<bool>,
    ready: u32,
    connected: Vec<u32>,
    shared: &'a Shared,
}

impl Clients<'_> {
    fn packet(&mut self, slot: u32, kind: u8, body: &[u8]) -> Result<(), &'static str> {
        let stage = &mut self.stages[slot as usize];
        match (kind, body, *stage) {
            (2, [_, 0], Stage::Connecting) => {
                *stage = Stage::Subscribing;
                self.connected.push(slot);
            }
            (9, [_, _, 0..=2], Stage::Subscribing) => {
                *stage = Stage::Ready;
                self.ready += 1;
                self.shared.ready.fetch_add(1, Relaxed);
            }
            (3, [high, low, rest @ ..], Stage::Ready) => {
                let topic = usize::from(u16::from_be_bytes([*high, *low]));
                let is_mine = rest.get(topic..) == Some(&(self.first + slot).to_le_bytes());
                let counter = if is_mine && !self.got[slot as usize] { &self.shared.delivered } else { &self.shared.wrong };
                counter.fetch_add(1, Relaxed);
                self.got[slot as usize] = true;
            }
            _ => return Err("the broker sent something that was not expected"),
        }
        Ok(())
    }

    fn packets(&mut self, slot: u32, mut bytes: &[u8]) -> Result<(), &'static str> {
        while let [first, length, rest @ ..] = bytes {
            let (body, others) = rest.split_at_checked(usize::from(*length)).ok_or("a packet came in parts")?;
            self.packet(slot, first >> 4, body)?;
            bytes = others;
        }
        if bytes.is_empty() { Ok(()) } else { Err("a packet came in parts") }
    }
}

impl Events for Clients<'_> {
    fn accepted(&mut self, _: u32, _: Socket, _: Option<SocketAddr>) {}

    fn accept_failed(&mut self, _: u32, _: io::Error) {}

    fn received(&mut self, conn: ConnId, bytes: &[u8]) -> ReadMore {
        if let Err(why) = self.packets(conn.slot, bytes) {
            self.shared.fail(format!("client {}: {why}", self.first + conn.slot));
        }
        ReadMore::Continue
    }

    fn ended(&mut self, conn: ConnId, cause: EndCause) {
        self.shared.fail(format!("the broker has closed client {}: {cause:?}", self.first + conn.slot));
    }

    fn sent(&mut self, conn: ConnId, _: OutBatch, result: io::Result<()>) {
        if let Err(error) = result {
            self.shared.fail(format!("client {} cannot send: {error}", self.first + conn.slot));
        }
    }

    fn detached(&mut self, _: ConnId, _: Socket) {}

    fn closed(&mut self, _: ConnId) {}

    fn rung(&mut self) {}
}

/// Runs the clients until the end; what goes wrong is told in `shared`.
pub fn run(plan: &Plan, shared: &Shared) {
    if let Err(error) = try_run(plan, shared) {
        shared.fail(format!("clients {} to {}: {error}", plan.first, plan.first + plan.count - 1));
    }
}

fn try_run(plan: &Plan, shared: &Shared) -> io::Result<()> {
    let options = Options {
        direct_descriptors: plan.count,
        completion_entries: 4_096,
        receive_buffers: 256,
        receive_buffer_bytes: 256,
        ..Options::default()
    };
    let mut driver = UringDriver::new(&options, Arc::new(Bell::new()?))?;
    let mut clients = Clients {
        first: plan.first,
        stages: Vec::with_capacity(plan.count as usize),
        got: vec![false; plan.count as usize],
        ready: 0,
        connected: Vec::new(),
        shared,
    };
    let mut published = 0;
    while !shared.is(Phase::End) {
        let mut wait = LOOK;
        if shared.is(Phase::Connect) && shared.failure().is_none() {
            let room = (plan.count.min(clients.ready + plan.burst) as usize).saturating_sub(clients.stages.len());
            for _ in 0..room.min(OPEN_BURST) {
                open(plan, &mut driver, &mut clients)?;
            }
            if room > OPEN_BURST {
                wait = Duration::ZERO;
            }
        }
        for slot in std::mem::take(&mut clients.connected) {
            send(&mut driver, slot, |out| subscribe(out, plan.first + slot));
        }
        if shared.is(Phase::Publish) && published < plan.publishes {
            published += publish_some(plan, &mut driver, published, shared);
            wait = Duration::from_millis(1);
        }
        driver.turn(Wait::For(wait), &mut clients)?;
    }
    Ok(())
}

fn id(slot: u32) -> ConnId {
    ConnId { slot, generation: 0 }
}

fn open(plan: &Plan, driver: &mut UringDriver, clients: &mut Clients<'_>) -> io::Result<()> {
    let slot = clients.stages.len() as u32;
    let number = plan.first + slot;
    let socket = TcpSocket::new(Domain::IPV4, Type::STREAM, None)?;
    let source = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + number / PER_SOURCE);
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.set_tcp_nodelay(true)?;
    // Leaves no TIME_WAIT behind for the next run.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.connect(&SocketAddr::from(plan.address).into())?;
    let socket = driver.adopt(socket.into(), slot)?;
    driver.attach(id(slot), socket)?;
    clients.stages.push(Stage::Connecting);
    send(driver, slot, |out| {
        let client_id = format!("client-{number:07}");
        let connect = Connect {
            version: Version::V311,
            clean_start: true,
            keep_alive: KEEP_ALIVE_S,
            client_id: &client_id,
            will: None,
            user_name: None,
            password: None,
            properties: Properties::default(),
        };
        encode::connect(out, &connect);
    });
    Ok(())
}

fn topic(number: u32) -> String {
    format!("fleet/{number:07}/command")
}

fn subscribe(out: &mut Vec<u8>, number: u32) {
    let filter = topic(number);
    let entry = SubscribeEntry { filter: &filter, options: SubscribeOptions::default() };
    encode::subscribe(out, Version::V311, 1, &[entry], &Properties::default());
}

/// Publishes some messages, if not too many are under way; gives how many.
fn publish_some(plan: &Plan, driver: &mut UringDriver, published: u32, shared: &Shared) -> u32 {
    let arrived = shared.delivered.load(Relaxed) + shared.wrong.load(Relaxed);
    if shared.published.load(Relaxed).saturating_sub(arrived) > UNDER_WAY {
        return 0;
    }
    let some = PUBLISH_BURST.min(plan.publishes - published);
    let sent = send(driver, 0, |out| {
        for number in (plan.publishes_from + published..).take(some as usize) {
            let payload = number.to_le_bytes();
            encode::publish(out, Version::V311, &PublishOut { qos: QoS::AtMostOnce, ..PublishOut::new(&topic(number), &payload) });
        }
    });
    if !sent {
        return 0;
    }
    shared.published.fetch_add(u64::from(some), Relaxed);
    some
}

/// Sends what `fill` makes; `false` if something is still under way on that connection.
fn send(driver: &mut UringDriver, slot: u32, fill: impl FnOnce(&mut Vec<u8>)) -> bool {
    let mut batch = OutBatch::default();
    fill(batch.own());
    driver.send(id(slot), batch).is_none()
}
