//! A forwarder on one of our drivers, in the shape that a shard really has: bell, park protocol, inbound rings looked at in every turn,
//! bounded waits, connections that end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use ringmq::broker::outbox::OutBatch;
use ringmq::ring::mesh;
use ringmq::server::driver::{AnyDriver, Backend, Bell, Close, ConnId, Driver, EndCause, Events, Options, ReadMore, Socket, Wait};

use super::outputs::Forward;

/// The next deadline of the timer wheel, as far as this server has one.
const TICK: Duration = Duration::from_millis(100);
/// Entries of a table; no scenario has more connections.
pub const DIRECT_DESCRIPTORS: u32 = 20_000;

struct Shard<F> {
    forwarder: F,
    accepted: Vec<Socket>,
    ended: Vec<ConnId>,
    free: Vec<ConnId>,
    slots: u32,
}

impl<F: Forward> Events for Shard<F> {
    fn accepted(&mut self, _listener: u32, socket: Socket, _peer: Option<SocketAddr>) {
        self.accepted.push(socket);
    }

    fn accept_failed(&mut self, _listener: u32, error: io::Error) {
        eprintln!("accept: {error}");
    }

    fn received(&mut self, conn: ConnId, bytes: &[u8]) -> ReadMore {
        self.forwarder.receive(conn.slot, bytes);
        ReadMore::Continue
    }

    fn ended(&mut self, conn: ConnId, _cause: EndCause) {
        self.ended.push(conn);
    }

    fn sent(&mut self, conn: ConnId, batch: OutBatch, _result: io::Result<()>) {
        self.forwarder.outputs().sent(conn.slot, batch);
    }

    fn detached(&mut self, _conn: ConnId, _socket: Socket) {}

    fn closed(&mut self, conn: ConnId) {
        self.free.push(ConnId { generation: conn.generation.wrapping_add(1), ..conn });
    }

    fn rung(&mut self) {}
}

impl<F> Shard<F> {
    fn next_id(&mut self) -> ConnId {
        self.free.pop().unwrap_or_else(|| {
            self.slots += 1;
            ConnId { slot: self.slots - 1, generation: 0 }
        })
    }
}

/// Lets a forwarder serve for ever; sockets stand in a table of `direct_descriptors` entries unless that is 0.
pub fn serve(listener: TcpListener, backend: Backend, direct_descriptors: u32, forwarder: impl Forward) -> io::Result<()> {
    let bell = Arc::new(Bell::new()?);
    let (mut driver, _) = AnyDriver::open(backend, &Options { direct_descriptors, ..Options::default() }, Arc::clone(&bell))?;
    driver.listen(0, listener.into())?;
    let mut ports = mesh::<[u64; 8]>(2, 1_024);
    let _peer = ports.pop();
    let mut inbound = ports.pop().ok_or_else(|| io::Error::other("a mesh of two"))?;
    let mut shard = Shard { forwarder, accepted: Vec::new(), ended: Vec::new(), free: Vec::new(), slots: 0 };
    // What a slot's connection is, for sends.
    let mut conns: Vec<ConnId> = Vec::new();
    loop {
        for consumer in inbound.inbound.iter_mut().flatten() {
            for message in consumer.drain(usize::MAX) {
                std::hint::black_box(message);
            }
        }
        while let Some((slot, batch)) = shard.forwarder.outputs().next_batch() {
            if let Some((batch, _)) = driver.send(conns[slot as usize], batch) {
                shard.forwarder.outputs().sent(slot, batch);
            }
        }
        let sleeps = !driver.has_work() && bell.prepare_to_sleep(|| inbound.any_inbound());
        driver.turn(if sleeps { Wait::For(TICK) } else { Wait::Poll }, &mut shard)?;
        while let Some(socket) = shard.accepted.pop() {
            let conn = shard.next_id();
            shard.forwarder.open(conn.slot);
            conns.resize(conns.len().max(conn.slot as usize + 1), conn);
            conns[conn.slot as usize] = conn;
            driver.attach(conn, socket)?;
        }
        while let Some(conn) = shard.ended.pop() {
            driver.close(conn, Close::Now);
        }
        inbound.outbound.iter_mut().flatten().for_each(|producer| {
            std::hint::black_box(producer.vacant());
        });
    }
}
