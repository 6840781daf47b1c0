//! The shell of one simulated shard: the order of work of a turn is that of the real one, only the sockets are made of memory.

use ringmq::broker::{Command, ConnId, Origin, OutBatch, Shard, ShardConfig, ShardId};
use ringmq::metrics::{CloseCause, Counters};

use crate::disk::{Left, Log, Report};
use crate::faults::Fault;
use crate::history::{End, Event, History, Sent, SocketIx};
use crate::network::{ClientEnd, Closing, Moved, Network, Parcel};
use crate::rng::Rng;
use crate::settings::Settings;

/// How long a connection that is to be closed gets to take what was queued before, ms.
pub const LAST_WORDS_MS: u64 = 5_000;

/// The time at 0 of the shards' clocks, ms since 1970.
const UNIX_MS: u64 = 1_700_000_000_000;

/// What a turn works with.
pub struct Surroundings<'a> {
    pub network: &'a mut Network,
    pub history: &'a mut History,
    pub rng: &'a mut Rng,
    pub settings: &'a Settings,
}

/// A shard and its sockets.
pub struct Host {
    pub shard: Shard,
    id: ShardId,
    sockets: Vec<(ConnId, SocketIx)>,
    parcels: Vec<(ShardId, Moved)>,
    commands: Vec<Command>,
    /// Counters at the end of the last turn.
    before: Counters,
    /// Whether each client's session was here after the last turn.
    sessions: Vec<bool>,
    /// Where there is a disk.
    pub log: Option<Log>,
}

impl Host {
    pub fn new(id: ShardId, settings: &Settings, now: u64) -> Host {
        let config = ShardConfig {
            id,
            shards: settings.shards,
            limits: settings.limits.clone(),
            sys_interval_s: settings.sys_interval_s,
            // Another one for each run: sessions get names out of it that must not come again.
            seed: now,
        };
        let mut shard = Shard::new(config, now);
        if let Some(disk) = settings.disk {
            shard.keep_journal(UNIX_MS);
            shard.rewrite_journal_after(Some(disk.rewrite_bytes));
        }
        Host {
            shard,
            id,
            sockets: Vec::new(),
            parcels: Vec::new(),
            commands: Vec::new(),
            before: Counters::default(),
            sessions: Vec::new(),
            log: settings.disk.map(|_| Log::new(now)),
        }
    }

    /// Whether the shard has nothing to do by itself.
    pub fn is_quiet(&self) -> bool {
        self.parcels.is_empty()
            && !self.shard.has_work()
            && self.sockets.iter().all(|&(conn, _)| !self.shard.has_output(conn))
            && self.shard.is_durable()
            && self.log.as_ref().is_none_or(Log::is_quiet)
    }

    /// A turn of a shard that restores: clients are not let in yet.
    pub fn restore_turn(&mut self, around: &mut Surroundings<'_>) {
        let now = around.history.now;
        self.hand_over(now, around);
        self.hand_over_records();
        self.take_parcels(now, around);
        self.take_commits(now, around);
    }

    /// What the disk reports.
    fn take_commits(&mut self, now: u64, around: &mut Surroundings<'_>) {
        let (Some(log), Some(disk)) = (&mut self.log, around.settings.disk) else { return };
        let full_until = around.network.disk_full_until;
        while let Some(report) = log.work(now, disk.delay_ms, full_until, &mut around.network.saboteur, around.rng) {
            match report {
                Report::Committed { number, segment } => self.shard.committed(now, number, segment),
                Report::Failing => self.shard.commit_failing(),
            }
        }
    }

    /// Hands over what is to be kept.
    fn hand_over_records(&mut self) {
        let Some(log) = &mut self.log else { return };
        while let Some(job) = self.shard.next_job() {
            log.submit(job);
        }
    }

    /// One turn.
    pub fn turn(&mut self, around: &mut Surroundings<'_>) {
        let now = around.history.now;
        self.turn_sockets(now, around);
        self.accept(now, around);
        self.depart(around);
        self.take_parcels(now, around);
        self.take_commits(now, around);
        self.shard.tick(around.network.saboteur.clock(self.id, now));
        self.collect_commands(now, around);
        self.carry_out_commands(now, around);
        self.send_output(now, around);
        self.hand_over(now, around);
        self.hand_over_records();
        self.observe(around);
    }

    fn turn_sockets(&mut self, now: u64, around: &mut Surroundings<'_>) {
        for index in around.rng.order(self.sockets.len()) {
            let (conn, socket) = self.sockets[index];
            self.finish_sending(now, conn, socket, around);
            self.read(now, conn, socket, around);
            self.notice_end(now, conn, socket, around);
        }
        for (conn, socket) in self.sockets.clone() {
            self.finish_closing(now, conn, socket, around);
        }
    }

    fn finish_sending(&mut self, now: u64, conn: ConnId, socket: SocketIx, around: &mut Surroundings<'_>) {
        let at = now + around.rng.below(around.settings.network_delay_ms + 1);
        let wire = &mut around.network.sockets[socket];
        if wire.sending.is_some() && wire.push_output(around.settings.socket_bytes, at) {
            let batch = wire.sending.take().map(|(batch, ..)| batch).unwrap_or_default();
            self.sent(now, conn, batch, socket, around);
        }
    }

    fn sent(&mut self, now: u64, conn: ConnId, batch: OutBatch, socket: SocketIx, around: &mut Surroundings<'_>) {
        self.shard.sent(now, conn, batch);
        if around.network.sockets[socket].client_end == Some(ClientEnd::Reset) {
            self.end(now, conn, socket, CloseCause::SocketError, around);
        }
    }

    /// Some of the bytes that have come, in one piece or several.
    fn read(&mut self, now: u64, conn: ConnId, socket: SocketIx, around: &mut Surroundings<'_>) {
        for _ in 0..around.rng.pick(&[0, 1, 1, 1, 3]) {
            let wire = &mut around.network.sockets[socket];
            if wire.paused || wire.closing.is_some() || wire.told_end {
                return;
            }
            let max = if around.rng.percent(30) { around.rng.range(1, 20) as usize } else { 100_000 };
            let bytes = wire.up.read(now, max);
            if bytes.is_empty() {
                return;
            }
            if !self.feed(now, conn, socket, &bytes, around) {
                around.network.sockets[socket].paused = true;
            }
        }
    }

    /// Hands bytes to the shard, and notes which packets they complete.
    fn feed(&mut self, now: u64, conn: ConnId, socket: SocketIx, bytes: &[u8], around: &mut Surroundings<'_>) -> bool {
        let client = around.history.client_of(socket);
        let wire = &mut around.network.sockets[socket];
        wire.fed += bytes.len() as u64;
        let mut noted = Vec::new();
        if around.history.clients[client].home == self.id && !wire.ended {
            while let Some(&(_, sent)) = wire.marks.front().filter(|(end, _)| *end <= wire.fed) {
                wire.marks.pop_front();
                // Whole packets are heard, not bytes.
                wire.fed_at = now;
                if matches!(around.history.sent(sent), Sent::Connect) {
                    wire.accepted = true;
                    let existed = self.shard.has_session(&around.history.clients[client].client_id);
                    around.history.push(Event::Accepted { socket, existed });
                } else {
                    noted.push(around.history.push(Event::Processed { sent, socket, certain: true }));
                }
            }
        }
        let more = self.shard.receive(now, conn, bytes);
        self.collect_commands(now, around);
        // Nobody can tell how far the shard came that ends the connection, or pauses it, over these bytes.
        if self.shard.is_paused(conn) || around.network.sockets[socket].ended {
            for seq in noted {
                if let Event::Processed { certain, .. } = &mut around.history.records[seq].event {
                    *certain = false;
                }
            }
        }
        more
    }

    fn notice_end(&mut self, now: u64, conn: ConnId, socket: SocketIx, around: &mut Surroundings<'_>) {
        let wire = &around.network.sockets[socket];
        let cause = match wire.client_end {
            Some(ClientEnd::Eof) if wire.up.len() == 0 && !wire.paused => CloseCause::ClientClosed,
            Some(ClientEnd::Reset) if wire.up.len() == 0 => CloseCause::SocketError,
            _ => return,
        };
        if wire.moving_to.is_none() || around.rng.percent(50) {
            self.end(now, conn, socket, cause, around);
        }
    }

    fn end(&mut self, now: u64, conn: ConnId, socket: SocketIx, cause: CloseCause, around: &mut Surroundings<'_>) {
        let wire = &mut around.network.sockets[socket];
        if wire.told_end {
            return;
        }
        wire.told_end = true;
        wire.moving_to = None;
        self.note_end(now, socket, End::Socket, around);
        self.shard.ended(now, conn, cause);
        self.collect_commands(now, around);
    }

    /// The machine stops: all connections end, and nobody is told. What is left on the disk.
    pub fn crash(mut self, rots: bool, around: &mut Surroundings<'_>) -> Left {
        let now = around.history.now;
        for (_, socket) in std::mem::take(&mut self.sockets) {
            self.note_end(now, socket, End::Crash, around);
        }
        self.log.map_or(Left::default(), |log| log.crash(rots, around.rng))
    }

    fn note_end(&mut self, now: u64, socket: SocketIx, end: End, around: &mut Surroundings<'_>) {
        let wire = &mut around.network.sockets[socket];
        if !wire.ended {
            wire.ended = true;
            let silent_ms = now - wire.fed_at;
            let conn = self.sockets.iter().find(|(_, other)| *other == socket).map(|&(conn, _)| conn);
            let paused = conn.is_some_and(|conn| self.shard.is_paused(conn));
            around.history.push(Event::Ended { socket, end, silent_ms, paused });
        }
    }

    fn finish_closing(&mut self, now: u64, conn: ConnId, socket: SocketIx, around: &mut Surroundings<'_>) {
        let wire = &mut around.network.sockets[socket];
        let finished = match wire.closing {
            None => return,
            Some(Closing::Now) => true,
            Some(Closing::AfterSend { deadline }) => now >= deadline || (wire.sending.is_none() && !self.shard.has_output(conn)),
        };
        if !finished {
            return;
        }
        wire.closing = None;
        wire.broker_end = true;
        wire.attached = None;
        if let Some((batch, ..)) = wire.sending.take()
            && around.rng.percent(50)
        {
            self.shard.sent(now, conn, batch);
        }
        self.note_end(now, socket, End::Socket, around);
        if !around.network.saboteur.strikes(Fault::ForgetClose, false) {
            self.shard.closed(now, conn);
        }
        self.sockets.retain(|&(_, other)| other != socket);
    }

    fn accept(&mut self, now: u64, around: &mut Surroundings<'_>) {
        while let Some(socket) = around.network.arrivals[usize::from(self.id.0)].pop_front() {
            self.open(now, socket, Origin { listener: 0, peer: None }, around);
        }
    }

    fn open(&mut self, now: u64, socket: SocketIx, origin: Origin, around: &mut Surroundings<'_>) -> Option<ConnId> {
        let wire = &mut around.network.sockets[socket];
        let Some(conn) = self.shard.open(now, origin) else {
            wire.broker_end = true;
            return None;
        };
        wire.attached = Some((self.id, conn));
        wire.fed_at = now;
        wire.paused = false;
        self.sockets.push((conn, socket));
        around.history.push(Event::Opened { socket });
        Some(conn)
    }

    /// Connections whose home is another shard leave.
    fn depart(&mut self, around: &mut Surroundings<'_>) {
        for (conn, socket) in self.sockets.clone() {
            let Some(to) = around.network.sockets[socket].moving_to else { continue };
            if around.rng.percent(40) {
                continue;
            }
            around.network.sockets[socket].moving_to = None;
            let Some((origin, received)) = self.shard.release(conn) else { continue };
            assert_eq!(
                received.len() as u64,
                around.network.sockets[socket].fed,
                "a connection that moves takes all that it received along"
            );
            self.sockets.retain(|&(_, other)| other != socket);
            around.network.sockets[socket].attached = None;
            self.parcels.push((to, Moved { socket, origin, received }));
        }
    }

    fn take_parcels(&mut self, now: u64, around: &mut Surroundings<'_>) {
        let own = self.id;
        for from in (0..around.settings.shards).map(ShardId).filter(|&from| from != own) {
            while let Some(parcel) = around.network.ring(from, self.id).pop(now) {
                match parcel {
                    Parcel::Batch(batch) => {
                        self.shard.peer_batch(now, from, batch);
                        self.collect_commands(now, around);
                    }
                    Parcel::Moved(moved) => self.take_moved(now, moved, around),
                }
            }
        }
    }

    fn take_moved(&mut self, now: u64, moved: Moved, around: &mut Surroundings<'_>) {
        let Some(conn) = self.open(now, moved.socket, moved.origin, around) else { return };
        around.network.sockets[moved.socket].fed = 0;
        if !self.feed(now, conn, moved.socket, &moved.received, around) {
            around.network.sockets[moved.socket].paused = true;
        }
    }

    /// Notes at once which connections the shard has ended: nothing that comes from them afterwards counts.
    fn collect_commands(&mut self, now: u64, around: &mut Surroundings<'_>) {
        let mut commands = Vec::new();
        self.shard.take_commands(&mut commands);
        for &command in &commands {
            if let Command::Close { conn, .. } = command
                && let Some(socket) = self.socket_of(conn)
            {
                self.note_end(now, socket, End::Shard, around);
            }
        }
        self.commands.append(&mut commands);
    }

    fn socket_of(&self, conn: ConnId) -> Option<SocketIx> {
        self.sockets.iter().find(|(id, _)| *id == conn).map(|&(_, socket)| socket)
    }

    fn carry_out_commands(&mut self, now: u64, around: &mut Surroundings<'_>) {
        for command in std::mem::take(&mut self.commands) {
            let (Command::Close { conn, .. } | Command::HandOff { conn, .. } | Command::Resume(conn)) = command;
            let Some(socket) = self.socket_of(conn) else { continue };
            let wire = &mut around.network.sockets[socket];
            match command {
                Command::Close { after_send, .. } => {
                    let closing = if after_send { Closing::AfterSend { deadline: now + LAST_WORDS_MS } } else { Closing::Now };
                    wire.moving_to = None;
                    wire.closing = Some(closing);
                }
                Command::HandOff { to, .. } => wire.moving_to = Some(to),
                Command::Resume(_) => wire.paused = false,
            }
        }
    }

    fn send_output(&mut self, now: u64, around: &mut Surroundings<'_>) {
        while let Some((conn, batch)) = self.shard.next_output() {
            let Some(socket) = self.socket_of(conn) else { continue };
            let mut bytes = Vec::with_capacity(batch.len());
            batch.for_each_slice(|slice| bytes.extend_from_slice(slice));
            assert_eq!(bytes.len(), batch.len(), "a batch is as long as its slices");
            let (bytes, stray) = around.network.saboteur.sabotage(bytes);
            around.network.sockets[socket].sending = Some((batch, bytes, 0));
            self.finish_sending(now, conn, socket, around);
            if let Some(stray) = stray {
                self.misdeliver(socket, stray, now, around);
            }
        }
    }

    /// A planted fault: a packet goes to somebody else.
    fn misdeliver(&mut self, socket: SocketIx, stray: Vec<u8>, now: u64, around: &mut Surroundings<'_>) {
        let wires = &mut around.network.sockets;
        let other = self.sockets.iter().map(|&(_, other)| other).find(|&other| other != socket && wires[other].is_open());
        if let Some(other) = other {
            wires[other].down.write(stray, now);
        }
    }

    fn hand_over(&mut self, now: u64, around: &mut Surroundings<'_>) {
        let at = now + around.rng.below(around.settings.ring_delay_ms + 1);
        let own = self.id;
        for to in (0..around.settings.shards).map(ShardId).filter(|&to| to != own) {
            if let Some(mut batch) = self.shard.take_batch(to) {
                let goal = around.network.saboteur.sabotage_batch(&mut batch, own, to, around.settings.shards);
                if let Err(Parcel::Batch(batch)) = around.network.ring(own, goal).push(Parcel::Batch(batch), at) {
                    self.shard.untake_batch(to, batch);
                }
            }
            let ring = around.network.ring(own, to);
            let (for_it, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.parcels).into_iter().partition(|(shard, _)| *shard == to);
            self.parcels = others;
            for (to, moved) in for_it {
                if let Err(Parcel::Moved(moved)) = ring.push(Parcel::Moved(moved), at) {
                    self.parcels.push((to, moved));
                }
            }
        }
    }

    /// Notes what the turn changed: counters that tell of timers, sessions that came and went.
    fn observe(&mut self, around: &mut Surroundings<'_>) {
        let counters = self.shard.snapshot().counters;
        let shard = self.id;
        let wills = counters.wills_published - self.before.wills_published;
        if wills > 0 {
            around.history.push(Event::WillsPublished { shard, count: wills });
        }
        for &cause in CloseCause::ALL {
            let count = counters.connections_closed[cause as usize] - self.before.connections_closed[cause as usize];
            if count > 0 {
                around.history.push(Event::ConnectionsClosed { shard, cause, count });
            }
        }
        self.before = counters;
        for &(conn, socket) in &self.sockets {
            let wire = &mut around.network.sockets[socket];
            let waiting = self.shard.is_paused(conn);
            if wire.waiting && !waiting {
                // Its silence was the shard's.
                wire.fed_at = around.history.now;
            }
            wire.waiting = waiting;
        }
        // Now and then: it walks all sessions.
        if around.rng.percent(10) {
            let (mut owed, accounted) = self.shard.deliveries();
            owed += u64::from(around.network.saboteur.strikes(Fault::Miscount, false));
            if owed != accounted || around.rng.percent(10) {
                around.history.push(Event::Counted { shard, owed, accounted });
            }
        }
        self.sessions.resize(around.history.clients.len(), false);
        for client in 0..around.history.clients.len() {
            let exists = self.shard.has_session(&around.history.clients[client].client_id);
            if exists != self.sessions[client] {
                self.sessions[client] = exists;
                around.history.push(Event::SessionSeen { shard, client, exists });
            }
        }
    }
}
