//! The loop of one shard: turns its driver, hands what happened to the shard, and carries out what the shard wants.
//!
//! A turn: completions in -> batches of other shards in -> timers -> commands -> output of each dirty connection -> batches out, one bell each ->
//! one system call, which also waits if there is nothing to do. Everything that changes the shard goes through here, in this order.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use hashbrown::HashMap;

use super::driver::{AnyDriver, Bell, Close, Driver, EndCause, Events, ReadMore, Socket, Wait};
use super::gate::Gates;
use super::memory::Held;
use super::socket;
use crate::broker::{Admission, Batch, Command, ConnId, JournalJob, Origin, OutBatch, Shard, ShardId};
use crate::config::Limits;
use crate::metrics::{CloseCause, RefuseReason};
use crate::ring::Ports;
use crate::storage::{Done, Job, Journal, Recovered};

/// How long clients get to take their last bytes when the broker stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection that is to be closed gets to take what was queued before.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a shard says at most that it cannot accept connections, ms.
const SAY_AGAIN_MS: u64 = 10_000;
/// How soon a full ring to another shard is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// What shards send one another.
pub enum Parcel {
    Batch(Batch),
    Socket(MovedSocket),
}

/// A connection that moves to the shard where its session lives.
pub struct MovedSocket {
    socket: Socket,
    origin: Origin,
    /// What was received before it moved.
    received: Vec<u8>,
}

/// What the control thread asks of a shard.
#[derive(Clone, Debug)]
pub enum Request {
    Limits(Arc<Limits>),
    Admission(Arc<Admission>),
    SysInterval(u32),
    /// The state is whole: let clients in.
    Listen,
    /// Say goodbye to the clients and end.
    Stop,
}

/// One shard with everything that it owns.
pub struct Shell {
    pub shard: Shard,
    pub driver: AnyDriver,
    pub ports: Ports<Parcel>,
    /// The bells of all shards.
    pub bells: Vec<Arc<Bell>>,
    pub requests: Receiver<Request>,
    /// The log of what outlives the process.
    pub journal: Option<Journal>,
    /// Sockets to listen on, once the shard is told to.
    pub listeners: Vec<OwnedFd>,
    /// How many connections the listeners take, over all shards.
    pub gates: Arc<Gates>,
    /// Zero of the shard's clock; the same for all shards.
    pub started: Instant,
}

/// Runs `work`; `None` if it panicked. A fault that one client's bytes lead to is to end that client's connection, not everybody's.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok()
}

/// What a turn of the driver left to be done after it.
#[derive(Default)]
struct Aftermath {
    arrivals: Vec<(u32, Socket, Option<SocketAddr>)>,
    departures: Vec<(ConnId, Socket)>,
}

/// The driver's view of the shell during a turn.
struct Turn<'a> {
    shard: &'a mut Shard,
    gates: &'a Gates,
    aftermath: &'a mut Aftermath,
    started: Instant,
    /// The clock, read once a turn, when the first event comes.
    now: Option<u64>,
    congested: bool,
    held_back: &'a mut Vec<ConnId>,
    moving: &'a mut HashMap<ConnId, ShardId>,
    /// Until when the log knows that connections are not accepted.
    said_until: &'a mut u64,
}

impl Turn<'_> {
    fn now(&mut self) -> u64 {
        let started = self.started;
        *self.now.get_or_insert_with(|| started.elapsed().as_millis() as u64)
    }
}

impl Events for Turn<'_> {
    fn accepted(&mut self, listener: u32, socket: Socket, peer: Option<SocketAddr>) {
        self.aftermath.arrivals.push((listener, socket, peer));
    }

    fn accept_failed(&mut self, listener: u32, error: std::io::Error) {
        self.shard.count_refused(RefuseReason::Descriptors);
        let now = self.now();
        if now >= *self.said_until {
            *self.said_until = now + SAY_AGAIN_MS;
            socket::warn_accept_failed(listener, &error);
        }
    }

    #[inline]
    fn received(&mut self, conn: ConnId, bytes: &[u8]) -> ReadMore {
        let now = self.now();
        let shard = &mut *self.shard;
        match guarded(|| shard.receive(now, conn, bytes)) {
            Some(true) => {}
            Some(false) => return ReadMore::Pause,
            None => {
                tracing::error!(slot = conn.slot, "a fault of the broker while it handled what a client sent: that client is disconnected");
                self.shard.abandon(now, conn);
                return ReadMore::Pause;
            }
        }
        if self.congested {
            self.held_back.push(conn);
            return ReadMore::Pause;
        }
        ReadMore::Continue
    }

    fn ended(&mut self, conn: ConnId, cause: EndCause) {
        let now = self.now();
        let cause = match cause {
            EndCause::Eof => CloseCause::ClientClosed,
            EndCause::Error(error) => {
                if let Some(to) = self.moving.remove(&conn) {
                    self.shard.count_refused(RefuseReason::Descriptors);
                    socket::warn_move_failed(to, &error);
                }
                CloseCause::SocketError
            }
        };
        self.shard.ended(now, conn, cause);
    }

    fn sent(&mut self, conn: ConnId, batch: OutBatch, result: std::io::Result<()>) {
        let now = self.now();
        self.shard.sent(now, conn, batch);
        if result.is_err() {
            self.shard.ended(now, conn, CloseCause::SocketError);
        }
    }

    fn detached(&mut self, conn: ConnId, socket: Socket) {
        self.aftermath.departures.push((conn, socket));
    }

    fn closed(&mut self, conn: ConnId) {
        self.moving.remove(&conn);
        let now = self.now();
        if let Some(origin) = self.shard.closed(now, conn) {
            self.gates.leave(&origin);
        }
    }

    fn rung(&mut self) {}
}

/// The state of the loop between turns.
#[derive(Default)]
struct Pending {
    aftermath: Aftermath,
    commands: Vec<Command>,
    /// Where connections that are being taken from the driver go.
    moving: HashMap<ConnId, ShardId>,
    /// Sockets that found the ring to their shard full.
    parcels: Vec<(ShardId, MovedSocket)>,
    /// Connections that came from other shards in this turn. They are read in the next one: what their clients sent before, on connections that live here
    /// already, is then read first. A DISCONNECT is not to be overtaken by the CONNECT that follows it on another connection.
    moved_here: Vec<MovedSocket>,
    /// Connections to be closed once their output has left, and by when at the latest.
    closing: Vec<(ConnId, Instant)>,
    /// Connections not read from because other shards lag.
    held_back: Vec<ConnId>,
    /// A batch found its ring full.
    batches_left: bool,
    /// A job for the log's writer that found its ring full.
    job_left: Option<JournalJob>,
    /// What an earlier run has kept is taken in; timers wait until that is done.
    restoring: bool,
    stopping: Option<Instant>,
    memory: Held,
    /// Until when the log knows that connections are not accepted, ms of the shard's clock.
    said_until: u64,
}

impl Shell {
    /// Runs the shard until it is told to stop.
    ///
    /// # Errors
    /// The driver failed, which only a broken kernel makes it do.
    pub fn run(mut self) -> std::io::Result<()> {
        let mut pending = Pending::default();
        loop {
            self.turn_driver(&mut pending)?;
            let now = self.now();
            self.take_requests(now, &mut pending);
            self.take_arrivals(now, &mut pending);
            pending.moved_here.drain(..).for_each(|moved| self.take_moved(now, moved));
            self.take_parcels(now, &mut pending);
            self.take_commits(now);
            self.shard.tick(now);
            pending.memory.note(now, self.shard.memory_used() + self.shard.waiting_for_others());
            self.carry_out_commands(&mut pending);
            self.send_output(now);
            self.close_finished(&mut pending);
            self.release_held_back(&mut pending);
            self.hand_over(&mut pending);
            self.hand_over_records(&mut pending);
            if let Some(deadline) = pending.stopping
                && (self.shard.connections() == 0 || Instant::now() >= deadline)
            {
                return Ok(());
            }
        }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn turn_driver(&mut self, pending: &mut Pending) -> std::io::Result<()> {
        let mut wait = self.wait(pending);
        let now = self.now();
        if wait != Wait::Poll && pending.memory.due().is_some_and(|due| due <= now) {
            pending.memory.give_back(now, &mut self.shard, &mut self.driver);
            wait = self.wait(pending);
        }
        let own = usize::from(self.shard.id().0);
        let (ports, requests, journal) = (&self.ports, &self.requests, &self.journal);
        if wait != Wait::Poll
            && (self.driver.has_work()
                || !self.bells[own]
                    .prepare_to_sleep(|| ports.any_inbound() || !requests.is_empty() || journal.as_ref().is_some_and(Journal::has_done)))
        {
            wait = Wait::Poll;
        }
        let congested = self.shard.congested();
        let mut turn = Turn {
            shard: &mut self.shard,
            gates: &self.gates,
            aftermath: &mut pending.aftermath,
            started: self.started,
            now: None,
            congested,
            held_back: &mut pending.held_back,
            moving: &mut pending.moving,
            said_until: &mut pending.said_until,
        };
        let outcome = self.driver.turn(wait, &mut turn);
        if let Some(now) = turn.now {
            pending.memory.busy(now);
        }
        self.bells[own].awake();
        outcome
    }

    fn wait(&self, pending: &Pending) -> Wait {
        if self.shard.has_work() || !pending.moved_here.is_empty() {
            return Wait::Poll;
        }
        if pending.batches_left || pending.job_left.is_some() || !pending.parcels.is_empty() {
            return Wait::For(RETRY);
        }
        let now = self.now();
        // What of memory is due is done before this shard sleeps.
        let memory = pending.memory.due().filter(|&due| due > now);
        let timer = self
            .shard
            .next_deadline()
            .filter(|_| !pending.restoring)
            .into_iter()
            .chain(memory)
            .min()
            .map(|at| Duration::from_millis(at.saturating_sub(now)));
        let closing = (!pending.closing.is_empty() || pending.stopping.is_some()).then_some(Duration::from_millis(100));
        match timer.into_iter().chain(closing).min() {
            Some(wait) if wait.is_zero() => Wait::Poll,
            Some(wait) => Wait::For(wait),
            None => Wait::Forever,
        }
    }

    fn take_requests(&mut self, now: u64, pending: &mut Pending) {
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Limits(limits) => self.shard.set_limits(limits),
                Request::Admission(admission) => self.shard.set_admission(admission),
                Request::SysInterval(interval_s) => self.shard.set_sys_interval(interval_s),
                Request::Listen => self.listen(),
                Request::Stop => {
                    self.driver.stop_listening();
                    self.shard.shut_down(now);
                    pending.stopping = Some(Instant::now() + DRAIN_TIMEOUT);
                }
            }
        }
    }

    fn listen(&mut self) {
        for (id, listener) in self.listeners.drain(..).enumerate() {
            if let Err(error) = self.driver.listen(id as u32, listener) {
                tracing::error!("cannot accept connections: {error}");
            }
        }
    }

    /// What the log's writer has to report.
    fn take_commits(&mut self, now: u64) {
        let Some(journal) = &mut self.journal else { return };
        while let Some(done) = journal.poll() {
            match done {
                Done::Committed { number, segment, payloads, .. } => {
                    self.shard.reuse_records(payloads);
                    self.shard.committed(now, number, segment);
                }
                Done::Failing { .. } => self.shard.commit_failing(),
            }
        }
    }

    /// Hands over what is to be kept; all of it is one commit.
    fn hand_over_records(&mut self, pending: &mut Pending) {
        let Some(journal) = &mut self.journal else { return };
        while let Some(job) = pending.job_left.take().or_else(|| self.shard.next_job()) {
            let job = match job {
                JournalJob::Commit { number, records } => Job::Commit { number, payload: records },
                JournalJob::Rotate => Job::Rotate,
                JournalJob::Free { before } => Job::Free { before },
            };
            if let Err(job) = journal.submit(job) {
                pending.job_left = Some(match job {
                    Job::Commit { number, payload } => JournalJob::Commit { number, records: payload },
                    Job::Rotate => JournalJob::Rotate,
                    Job::Free { before } => JournalJob::Free { before },
                });
                return;
            }
        }
    }

    /// Takes in what an earlier run has kept; returns when it is in the new log, so that nothing of the old one is needed any more, and when all shards know
    /// its subscriptions.
    ///
    /// # Errors
    /// The driver failed.
    pub fn restore(&mut self, recovered: &Recovered) -> std::io::Result<()> {
        let now = self.now();
        self.shard.restore(now, &recovered.shards);
        let mut pending = Pending { restoring: true, ..Pending::default() };
        loop {
            self.hand_over(&mut pending);
            self.hand_over_records(&mut pending);
            if self.shard.is_durable() && self.shard.interest_is_known() {
                break;
            }
            self.turn_driver(&mut pending)?;
            let now = self.now();
            self.take_parcels(now, &mut pending);
            self.take_commits(now);
        }
        // What it has said to other shards last goes with the first turn.
        self.bells[usize::from(self.shard.id().0)].ring();
        Ok(())
    }

    /// New connections in, moving ones out.
    fn take_arrivals(&mut self, now: u64, pending: &mut Pending) {
        for (listener, socket, peer) in pending.aftermath.arrivals.drain(..) {
            let origin = Origin { listener: listener as u16, peer };
            if let Err(why) = self.gates.enter(&origin, now) {
                self.shard.count_refused(why);
                self.driver.discard(socket);
                continue;
            }
            let Some(conn) = self.open(now, origin) else {
                self.driver.discard(socket);
                continue;
            };
            if let Err(error) = self.driver.attach(conn, socket) {
                tracing::warn!("cannot read from a new connection: {error}");
                self.closed(now, conn);
            }
        }
        for (conn, socket) in pending.aftermath.departures.drain(..) {
            let Some(to) = pending.moving.remove(&conn) else { continue };
            let Some((origin, received)) = self.shard.release(conn) else { continue };
            pending.parcels.push((to, MovedSocket { socket, origin, received }));
        }
    }

    /// Where the shard has no room, the connection is closed, and does not count any more.
    fn open(&mut self, now: u64, origin: Origin) -> Option<ConnId> {
        let conn = self.shard.open(now, origin.clone());
        if conn.is_none() {
            self.gates.leave(&origin);
        }
        conn
    }

    fn closed(&mut self, now: u64, conn: ConnId) {
        if let Some(origin) = self.shard.closed(now, conn) {
            self.gates.leave(&origin);
        }
    }

    fn take_parcels(&mut self, now: u64, pending: &mut Pending) {
        for from in 0..self.ports.inbound.len() {
            while let Some(parcel) = self.ports.inbound[from].as_mut().and_then(|ring| ring.pop()) {
                match parcel {
                    Parcel::Batch(batch) => self.shard.peer_batch(now, ShardId(from as u16), batch),
                    Parcel::Socket(moved) => pending.moved_here.push(moved),
                }
            }
        }
    }

    fn take_moved(&mut self, now: u64, moved: MovedSocket) {
        let Some(conn) = self.open(now, moved.origin) else { return self.driver.discard(moved.socket) };
        if let Err(error) = self.driver.attach(conn, moved.socket) {
            tracing::warn!("cannot read from a connection of another shard: {error}");
            return self.closed(now, conn);
        }
        if !self.shard.receive(now, conn, &moved.received) {
            self.driver.pause(conn);
        }
    }

    fn carry_out_commands(&mut self, pending: &mut Pending) {
        let mut commands = std::mem::take(&mut pending.commands);
        self.shard.take_commands(&mut commands);
        for &command in &commands {
            match command {
                Command::Close { conn, after_send: false } => self.driver.close(conn, Close::Now),
                Command::Close { conn, after_send: true } => pending.closing.push((conn, Instant::now() + LAST_WORDS_TIMEOUT)),
                Command::HandOff { conn, to } => {
                    pending.moving.insert(conn, to);
                    self.driver.detach(conn, &self.bells[usize::from(to.0)]);
                }
                Command::Resume(conn) => self.driver.resume(conn),
            }
        }
        pending.commands = commands;
    }

    fn send_output(&mut self, now: u64) {
        while let Some((conn, batch)) = self.shard.next_output() {
            let Some((batch, result)) = self.driver.send(conn, batch) else { continue };
            self.shard.sent(now, conn, batch);
            if result.is_err() {
                self.shard.ended(now, conn, CloseCause::SocketError);
            }
        }
    }

    /// Closes connections whose last output is with the driver; it finishes that before it closes.
    fn close_finished(&mut self, pending: &mut Pending) {
        let (shard, driver) = (&self.shard, &mut self.driver);
        pending.closing.retain(|&(conn, deadline)| {
            if !shard.has_output(conn) {
                driver.close(conn, Close::AfterSend);
                return false;
            }
            if Instant::now() >= deadline {
                driver.close(conn, Close::Now);
                return false;
            }
            true
        });
    }

    /// Reads from publishers again once the other shards have caught up.
    fn release_held_back(&mut self, pending: &mut Pending) {
        if !pending.held_back.is_empty() && !self.shard.congested() {
            pending.held_back.drain(..).for_each(|conn| self.driver.resume(conn));
        }
    }

    /// Hands batches and sockets to other shards, and wakes each that got something, once.
    fn hand_over(&mut self, pending: &mut Pending) {
        pending.batches_left = false;
        for shard in self.shard.batch_targets() {
            let to = usize::from(shard.0);
            let Some(ring) = self.ports.outbound[to].as_mut() else { continue };
            let Some(batch) = self.shard.take_batch(shard) else { continue };
            match ring.push(Parcel::Batch(batch)) {
                Err(Parcel::Batch(batch)) => {
                    self.shard.untake_batch(shard, batch);
                    pending.batches_left = true;
                }
                _ => self.bells[to].ring(),
            }
        }
        for (shard, moved) in std::mem::take(&mut pending.parcels) {
            let to = usize::from(shard.0);
            let Some(ring) = self.ports.outbound[to].as_mut() else { continue };
            match ring.push(Parcel::Socket(moved)) {
                Err(Parcel::Socket(moved)) => pending.parcels.push((shard, moved)),
                _ => self.bells[to].ring(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::guarded;

    #[test]
    fn a_panic_stops_at_the_connection_that_caused_it() {
        assert_eq!(guarded(|| 1), Some(1));
        assert_eq!(guarded(|| -> u32 { panic!("a fault planted by this test") }), None);
    }
}
