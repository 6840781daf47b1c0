//! The driver for systems that refuse io_uring: level-triggered epoll, one read buffer for all connections.
//!
//! A connection stands in the epoll set only for what it waits for: input unless it is paused, output only after a send would have blocked.
//! A turn is one epoll_wait and one recv per readable connection; a send is tried at once, where it is asked for.
//!
//! What it deliberately does not do: read a connection until it is empty (level triggering reports it again, and no connection keeps the
//! others waiting), or keep a buffer per connection.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::deadlines::{Deadlines, after};
use super::outgoing::{Outgoing, Pool};
use super::token::{MAX_SLOTS, Op, pack, pack_index, unpack};
use super::{
    Bell, Close, ConnId, Driver, EndCause, Events, Options, Phase, ReadMore, Report, Sent, Socket, Wait, accept_again_at_once, sys,
};
use crate::broker::outbox::OutBatch;

const INPUT: u32 = libc::EPOLLIN as u32;
const OUTPUT: u32 = libc::EPOLLOUT as u32;
/// Bytes that are read from one connection at a time.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Connections that one listener brings per turn at most.
const ACCEPTS_PER_TURN: usize = 256;
/// Entries that one epoll_wait brings at most, whatever a turn may handle.
const MAX_READY: usize = 4_096;

/// One connection. `interest` is what the epoll set holds for it; 0 means that it is not in the set.
#[derive(Default)]
struct Conn {
    socket: Option<OwnedFd>,
    generation: u32,
    outgoing: Option<Box<Outgoing>>,
    interest: u32,
    drained: u32,
    phase: Phase,
    paused: bool,
    ended: bool,
}

const _: () = assert!(size_of::<Conn>() <= 64, "the idle cost of a connection");

impl Conn {
    /// Whether input is wanted, be it to be discarded.
    fn reads(&self) -> bool {
        match self.phase {
            Phase::Open => !self.paused && !self.ended,
            Phase::Finishing | Phase::Draining => !self.ended,
            Phase::Detaching | Phase::Moving | Phase::Closing => false,
        }
    }
}

struct Listener {
    id: u32,
    socket: OwnedFd,
    /// Rests until then.
    retry_at: Option<Instant>,
}

/// See the module's documentation.
pub struct EpollDriver {
    epoll: OwnedFd,
    conns: Vec<Conn>,
    listeners: Vec<Listener>,
    reports: VecDeque<Report>,
    deadlines: Deadlines,
    pool: Pool,
    ready: Vec<libc::epoll_event>,
    buffer: Vec<u8>,
    bell: Arc<Bell>,
    options: Options,
}

impl EpollDriver {
    /// Makes a driver that is woken by `bell`.
    ///
    /// # Errors
    /// The process has no file descriptor left.
    pub fn new(options: &Options, bell: Arc<Bell>) -> io::Result<EpollDriver> {
        let epoll = sys::epoll_create()?;
        // By edge: the bell's counter is never read.
        sys::epoll_ctl(&epoll, libc::EPOLL_CTL_ADD, bell.as_fd(), INPUT | libc::EPOLLET as u32, pack_index(Op::Bell, 0))?;
        let ready = (options.max_events_per_turn as usize).clamp(1, MAX_READY);
        Ok(EpollDriver {
            epoll,
            conns: Vec::new(),
            listeners: Vec::new(),
            reports: VecDeque::new(),
            deadlines: Deadlines::new(options),
            pool: Pool::default(),
            ready: vec![libc::epoll_event { events: 0, u64: 0 }; ready],
            buffer: vec![0; READ_BUFFER_BYTES],
            bell,
            options: options.clone(),
        })
    }

    /// The connection of this very id, if it is attached.
    fn find(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.slot as usize).filter(|conn| conn.generation == id.generation && conn.socket.is_some())
    }

    /// Makes the epoll set hold what the connection waits for.
    fn update(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.slot as usize) else { return };
        let Some(socket) = &conn.socket else { return };
        let wanted = if conn.reads() { INPUT } else { 0 } | if conn.outgoing.is_some() { OUTPUT } else { 0 };
        let op = match (conn.interest, wanted) {
            (had, wants) if had == wants => return,
            (0, _) => libc::EPOLL_CTL_ADD,
            (_, 0) => libc::EPOLL_CTL_DEL,
            _ => libc::EPOLL_CTL_MOD,
        };
        match sys::epoll_ctl(&self.epoll, op, socket.as_fd(), wanted, pack(Op::Connection, id)) {
            Ok(()) => conn.interest = wanted,
            // Only for want of memory: a connection that cannot be watched is lost, and its owner learns it by the bytes that end.
            Err(_) => sys::shutdown(socket, Shutdown::Both),
        }
    }

    /// Gives the socket up, and tells so at the end of the turn.
    fn finish(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.slot as usize) else { return };
        let detached = conn.phase == Phase::Detaching;
        if let Some(outgoing) = conn.outgoing.take() {
            self.reports.push_back(Report::Aborted(id, self.pool.unload(outgoing)));
        }
        if detached {
            self.update(id);
        }
        let Some(socket) = self.find(id).and_then(|conn| conn.socket.take()) else { return };
        self.reports.push_back(if detached { Report::Detached(id, socket.into()) } else { Report::Closed(id) });
    }

    /// Goes on from where the connection stands, now that no send is in flight or its input has ended.
    fn advance(&mut self, id: ConnId, send_failed: bool) {
        let Some(conn) = self.find(id) else { return };
        match conn.phase {
            Phase::Detaching if conn.outgoing.is_none() => self.finish(id),
            Phase::Finishing if send_failed => self.finish(id),
            Phase::Finishing if conn.outgoing.is_none() => self.begin_drain(id),
            Phase::Draining if conn.ended => self.finish(id),
            _ => self.update(id),
        }
    }

    fn begin_drain(&mut self, id: ConnId) {
        let Some(conn) = self.find(id) else { return };
        if conn.ended {
            return self.finish(id);
        }
        conn.phase = Phase::Draining;
        if let Some(socket) = &conn.socket {
            sys::shutdown(socket, Shutdown::Write);
        }
        self.deadlines.draining(id);
        self.update(id);
    }

    /// Sends as much as goes without waiting; the end, if it comes to that.
    fn push_out(&mut self, id: ConnId) -> Option<Sent> {
        let conn = self.conns.get_mut(id.slot as usize)?;
        let (Some(socket), Some(outgoing)) = (&conn.socket, &mut conn.outgoing) else { return None };
        let mut result = Ok(());
        while !outgoing.is_done() {
            match sys::send(socket, outgoing) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => outgoing.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
            if result.is_err() {
                break;
            }
        }
        let batch = self.pool.unload(conn.outgoing.take()?);
        Some((batch, result))
    }

    fn on_ready(&mut self, id: ConnId, mask: u32, events: &mut impl Events) {
        if mask & !INPUT != 0
            && let Some((batch, result)) = self.push_out(id)
        {
            let failed = result.is_err();
            events.sent(id, batch, result);
            self.advance(id, failed);
        }
        if mask & !OUTPUT != 0 && self.find(id).is_some_and(|conn| conn.reads()) {
            self.read(id, events);
        }
    }

    fn read(&mut self, id: ConnId, events: &mut impl Events) {
        let Some(conn) = self.conns.get_mut(id.slot as usize) else { return };
        let Some(socket) = &conn.socket else { return };
        match sys::receive(socket, &mut self.buffer) {
            Ok(0) => self.on_end(id, EndCause::Eof, events),
            Ok(count) => match conn.phase {
                Phase::Open => {
                    if events.received(id, &self.buffer[..count]) == ReadMore::Pause {
                        self.pause(id);
                    }
                }
                Phase::Draining => {
                    conn.drained = conn.drained.saturating_add(count as u32);
                    if conn.drained > self.options.drain_bytes {
                        self.finish(id);
                    }
                }
                Phase::Finishing | Phase::Detaching | Phase::Moving | Phase::Closing => {}
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => self.on_end(id, EndCause::Error(error), events),
        }
    }

    fn on_end(&mut self, id: ConnId, cause: EndCause, events: &mut impl Events) {
        let Some(conn) = self.find(id) else { return };
        conn.ended = true;
        if conn.phase == Phase::Open {
            events.ended(id, cause);
        }
        self.advance(id, false);
    }

    fn on_accept(&mut self, index: usize, events: &mut impl Events) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get_mut(index) else { return };
            match sys::accept(&listener.socket) {
                Ok(socket) => {
                    let peer = sys::peer_address(&socket);
                    events.accepted(listener.id, socket.into(), peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if accept_again_at_once(&error) => {}
                Err(error) => {
                    events.accept_failed(listener.id, error);
                    let rest = listener.socket.as_fd();
                    if sys::epoll_ctl(&self.epoll, libc::EPOLL_CTL_DEL, rest, 0, 0).is_ok() {
                        listener.retry_at = Some(after(Instant::now(), self.options.accept_backoff));
                    }
                    return;
                }
            }
        }
    }

    /// Wakes listeners that have rested, and closes connections whose time is over.
    fn on_time(&mut self, now: Instant) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.retry_at.is_some_and(|at| at <= now) {
                let token = pack_index(Op::Accept, index);
                let added = sys::epoll_ctl(&self.epoll, libc::EPOLL_CTL_ADD, listener.socket.as_fd(), INPUT, token);
                listener.retry_at = added.err().map(|_| after(now, self.options.accept_backoff));
            }
        }
        while let Some((id, phase)) = self.deadlines.due(now) {
            if self.find(id).is_some_and(|conn| conn.phase == phase) {
                self.close(id, Close::Now);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let listeners = self.listeners.iter().filter_map(|listener| listener.retry_at);
        listeners.chain(self.deadlines.next()).min()
    }

    /// How long epoll_wait may take; `None` is for ever.
    fn timeout(&self, wait: Wait) -> Option<Duration> {
        if !self.reports.is_empty() {
            return Some(Duration::ZERO);
        }
        let wanted = match wait {
            Wait::Poll => return Some(Duration::ZERO),
            Wait::Forever => None,
            Wait::For(time) => Some(time),
        };
        let due = self.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        wanted.into_iter().chain(due).min()
    }
}

impl Driver for EpollDriver {
    fn listen(&mut self, id: u32, socket: OwnedFd) -> io::Result<()> {
        sys::set_nonblocking(&socket, true)?;
        sys::epoll_ctl(&self.epoll, libc::EPOLL_CTL_ADD, socket.as_fd(), INPUT, pack_index(Op::Accept, self.listeners.len()))?;
        self.listeners.push(Listener { id, socket, retry_at: None });
        Ok(())
    }

    fn stop_listening(&mut self) {
        self.listeners.clear();
    }

    fn attach(&mut self, conn: ConnId, socket: Socket) -> io::Result<()> {
        let Socket::Descriptor(socket) = socket else { return Err(io::ErrorKind::InvalidInput.into()) };
        if conn.slot >= MAX_SLOTS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let slot = conn.slot as usize;
        if slot >= self.conns.len() {
            self.conns.resize_with(slot + 1, Conn::default);
        }
        if self.conns[slot].socket.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        sys::epoll_ctl(&self.epoll, libc::EPOLL_CTL_ADD, socket.as_fd(), INPUT, pack(Op::Connection, conn))?;
        self.conns[slot] = Conn { socket: Some(socket), generation: conn.generation, interest: INPUT, ..Conn::default() };
        Ok(())
    }

    fn discard(&mut self, socket: Socket) {
        drop(socket);
    }

    fn send(&mut self, conn: ConnId, batch: OutBatch) -> Option<Sent> {
        if self.find(conn).is_none_or(|found| found.outgoing.is_some() || found.phase != Phase::Open) {
            return Some((batch, Err(io::ErrorKind::NotConnected.into())));
        }
        let outgoing = self.pool.load(batch);
        self.find(conn)?.outgoing = Some(outgoing);
        let sent = self.push_out(conn);
        if sent.is_none() {
            self.update(conn);
        }
        sent
    }

    fn pause(&mut self, conn: ConnId) {
        if let Some(found) = self.find(conn) {
            found.paused = true;
            self.update(conn);
        }
    }

    fn resume(&mut self, conn: ConnId) {
        if let Some(found) = self.find(conn) {
            found.paused = false;
            self.update(conn);
        }
    }

    fn detach(&mut self, conn: ConnId, _to: &Arc<Bell>) {
        if let Some(found) = self.find(conn)
            && found.phase == Phase::Open
        {
            found.phase = Phase::Detaching;
            self.advance(conn, false);
        }
    }

    fn close(&mut self, conn: ConnId, how: Close) {
        let Some(found) = self.find(conn) else { return };
        match how {
            Close::AfterSend if !matches!(found.phase, Phase::Open | Phase::Detaching) => {}
            Close::AfterSend => {
                found.phase = Phase::Finishing;
                if found.outgoing.is_some() {
                    self.deadlines.finishing(conn);
                }
                self.advance(conn, false);
            }
            Close::Now => {
                found.phase = Phase::Closing;
                self.finish(conn);
            }
        }
    }

    fn has_work(&mut self) -> bool {
        !self.reports.is_empty()
    }

    fn trim(&mut self) {
        // All connections read into one buffer, and what they send belongs to the shard.
    }

    fn turn(&mut self, wait: Wait, events: &mut impl Events) -> io::Result<()> {
        let timeout = self.timeout(wait);
        let count = sys::epoll_wait(&self.epoll, &mut self.ready, timeout)?;
        if wait != Wait::Poll {
            self.bell.awake();
        }
        for index in 0..count {
            let libc::epoll_event { events: mask, u64: token } = self.ready[index];
            match unpack(token) {
                Some((Op::Bell, _)) => events.rung(),
                Some((Op::Accept, conn)) => self.on_accept(conn.slot as usize, events),
                Some((Op::Connection, conn)) => self.on_ready(conn, mask, events),
                _ => {}
            }
        }
        if self.next_deadline().is_some() {
            self.on_time(Instant::now());
        }
        while let Some(report) = self.reports.pop_front() {
            report.deliver(events);
        }
        Ok(())
    }
}
