//! A thread of the generator: its connections, one epoll instance, one loop that reads, refills windows and keeps the schedule.
//!
//! One read a wake-up into one large buffer, one write a refill. Nothing is allocated per message and no clock is read per message.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use super::client::{Client, Role, Stage};
use super::latency::Latency;
use super::plan::{Cell, Settings};
use super::publisher::{Acknowledgements, Publisher};
use super::schedule::Schedule;
use super::sequence::Sequence;
use super::shared::{Phase, Shared, Tally};
use super::subscriber::{Delivery, Group, Subscriber};

/// Bytes of the receive buffer that all connections of a thread share.
const BUFFER_BYTES: usize = 1 << 20;
/// Events taken from the kernel at a time.
const EVENTS: usize = 1024;
/// Events after which the schedule and the counters are looked after.
const EVENTS_PER_CHECK: usize = 32;
/// Unwritten bytes of a connection beyond which the open loop falls behind rather than gathering more.
const MAX_BACKLOG_BYTES: usize = 1 << 20;
/// Longest sleep, so that the next phase is noticed.
pub(super) const LONGEST_SLEEP_NS: u64 = 20_000_000;
/// How often slow subscribers read, in nanoseconds, and in a second.
const SLOW_INTERVAL_NS: u64 = 100_000_000;
const SLOW_READS_PER_S: usize = 10;

/// Latencies by stage.
pub struct Stages {
    pub connect: Latency,
    pub connack: Latency,
    pub suback: Latency,
    pub delivery: Latency,
    /// From publish to PUBACK or PUBCOMP.
    pub acknowledgement: Latency,
    /// How late the open loop sent what was due.
    pub lag: Latency,
    /// From the moment in which the whole crowd was cut off until a connection was ready again.
    pub reconnect: Latency,
    /// Until all were.
    pub wave: Latency,
}

impl Stages {
    pub fn new() -> Stages {
        Stages {
            connect: Latency::new(),
            connack: Latency::new(),
            suback: Latency::new(),
            delivery: Latency::new(),
            acknowledgement: Latency::new(),
            lag: Latency::new(),
            reconnect: Latency::new(),
            wave: Latency::new(),
        }
    }

    pub fn add(&mut self, other: &Stages) {
        self.connect.add(&other.connect);
        self.connack.add(&other.connack);
        self.suback.add(&other.suback);
        self.delivery.add(&other.delivery);
        self.acknowledgement.add(&other.acknowledgement);
        self.lag.add(&other.lag);
        self.reconnect.add(&other.reconnect);
        self.wave.add(&other.wave);
    }
}

/// What a worker has found out in the end.
pub struct Findings {
    pub tally: Tally,
    pub lost: u64,
    /// Of those, what was still being delivered when nobody waited any more.
    pub late: u64,
    /// Deliveries that slow subscribers did not get.
    pub slow_missed: u64,
    pub stages: Stages,
}

pub struct Worker {
    pub(super) settings: Arc<Settings>,
    pub(super) shared: Arc<Shared>,
    /// Its place among the workers.
    pub(super) index: usize,
    pub(super) poll: OwnedFd,
    clock: Instant,
    pub(super) clients: Vec<Client>,
    pub(super) publishers: Vec<Publisher>,
    pub(super) subscribers: Vec<Subscriber>,
    groups: Vec<Group>,
    /// Connections of slow subscribers, and when they read next.
    pub(super) slow: Vec<usize>,
    slow_reads_at: u64,
    /// Filters of each subscriber that are still to be subscribed to, last first.
    pub(super) filters: Vec<Vec<String>>,
    pub(super) ready: u64,
    pub(super) stages: Stages,
    with_room: Vec<u32>,
    schedule: Option<Schedule>,
    pub(super) tally: Tally,
    phase: Phase,
    /// Received and acknowledged when there last was progress, and when that was.
    progress: (u64, u64),
    buffer: Vec<u8>,
    pub(super) answers: Vec<u8>,
}

impl Worker {
    /// `clock` is the time zero of all workers; `share` the part of all publishers that is here.
    pub fn new(
        index: usize,
        cells: Vec<Cell>,
        settings: Arc<Settings>,
        shared: Arc<Shared>,
        clock: Instant,
        share: f64,
    ) -> io::Result<Worker> {
        let schedule = settings.rate.map(|rate| Schedule::new(rate as f64 * share));
        let mut worker = Worker {
            settings,
            shared,
            index,
            poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            clock,
            clients: Vec::new(),
            publishers: Vec::new(),
            subscribers: Vec::new(),
            groups: Vec::new(),
            slow: Vec::new(),
            slow_reads_at: 0,
            filters: Vec::new(),
            ready: 0,
            stages: Stages::new(),
            with_room: Vec::new(),
            schedule,
            tally: Tally::default(),
            phase: Phase::SetUp,
            progress: (0, 0),
            buffer: vec![0; BUFFER_BYTES],
            answers: Vec::new(),
        };
        let subscribers: usize = cells.iter().map(|cell| cell.subscribers.len()).sum();
        for cell in cells {
            let first = worker.publishers.len();
            worker.take(cell, subscribers, first);
        }
        Ok(worker)
    }

    /// Takes a cell over; the connections of its publishers come after those of all subscribers.
    fn take(&mut self, cell: Cell, subscribers: usize, first: usize) {
        let group = self.groups.len();
        if cell.subscribers.iter().any(|plan| plan.shares) {
            let sequences = vec![Sequence::default(); cell.publishers.len()];
            self.groups.push(Group { first_publisher: first as u32, sequences });
        }
        for plan in cell.subscribers {
            let place = self.subscribers.len();
            self.subscribers.push(Subscriber::new(first as u32, plan.shares.then_some(group), &plan));
            self.slow.extend(plan.slow.then_some(place));
            self.filters.push(plan.filters.into_iter().rev().collect());
        }
        for plan in &cell.publishers {
            let id = self.publishers.len();
            self.publishers.push(Publisher::new(id as u32, subscribers + id, plan, &self.settings));
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// Publishes, receives and checks until the main thread says that it is done.
    pub fn run(mut self) -> io::Result<Findings> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            self.enter_phase();
            if self.phase == Phase::Done {
                break;
            }
            self.wait(&mut events, LONGEST_SLEEP_NS)?;
            for (index, event) in events.iter().enumerate() {
                self.event(event.data.u64() as usize, event.flags)?;
                self.refill();
                if index % EVENTS_PER_CHECK == 0 {
                    self.publish_due();
                    self.report();
                }
            }
            self.publish_due();
            self.read_slowly();
            self.notice_stall();
            self.report();
        }
        Ok(self.findings())
    }

    pub(super) fn findings(self) -> Findings {
        let lost = |slow| {
            let some = self.subscribers.iter().filter(|subscriber| subscriber.slow == slow);
            some.map(|subscriber| subscriber.lost(&self.publishers)).sum::<u64>()
        };
        let by_groups: u64 = self.groups.iter().map(|group| group.lost(&self.publishers)).sum();
        Findings { lost: lost(false) + by_groups, late: 0, slow_missed: lost(true), tally: self.tally, stages: self.stages }
    }

    fn enter_phase(&mut self) {
        let phase = self.shared.phase();
        if self.phase == phase {
            return;
        }
        if phase.publishes() && !self.phase.publishes() {
            let now = self.now();
            self.progress.1 = now;
            match &mut self.schedule {
                Some(schedule) => schedule.start(now),
                None => {
                    self.with_room.extend(0..self.publishers.len() as u32);
                    self.publishers.iter_mut().for_each(|publisher| publisher.queued = true);
                }
            }
        }
        self.phase = phase;
        self.refill();
    }

    /// Waits for events, at most until something is due, and at most so many nanoseconds.
    pub(super) fn wait(&self, events: &mut Vec<epoll::Event>, most: u64) -> io::Result<()> {
        events.clear();
        let sleep = match &self.schedule {
            _ if self.settings.busy_poll => 0,
            Some(schedule) if self.phase.publishes() => schedule.next_due().saturating_sub(self.now()).min(most),
            _ => most,
        };
        let timeout = Timespec { tv_sec: 0, tv_nsec: sleep as _ };
        match epoll::wait(&self.poll, rustix::buffer::spare_capacity(events), Some(&timeout)) {
            Err(rustix::io::Errno::INTR) | Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn event(&mut self, key: usize, flags: epoll::EventFlags) -> io::Result<()> {
        if self.clients[key].stage == Stage::Closed {
            return Ok(());
        }
        if self.flush_and_read(key, flags).is_err() {
            self.lose(key);
        }
        Ok(())
    }

    /// A connection has ended before the run did.
    fn lose(&mut self, key: usize) {
        self.clients[key].close(&self.poll);
        match self.clients[key].role {
            Role::Subscriber(place) if self.subscribers[place].slow => self.tally.slow_closed += 1,
            _ => self.tally.closed += 1,
        }
    }

    /// Slow subscribers read a little, each a tenth of what it reads in a second.
    fn read_slowly(&mut self) {
        if self.slow.is_empty() || self.now() < self.slow_reads_at {
            return;
        }
        self.slow_reads_at = self.now() + SLOW_INTERVAL_NS;
        let most = self.settings.slow_bytes_per_s.div_ceil(SLOW_READS_PER_S);
        for place in 0..self.slow.len() {
            let key = self.slow[place];
            if self.clients[key].stage != Stage::Closed && self.read(key, most).is_err() {
                self.lose(key);
            }
        }
    }

    fn flush_and_read(&mut self, key: usize, flags: epoll::EventFlags) -> io::Result<()> {
        if flags.contains(epoll::EventFlags::OUT) {
            self.clients[key].flush(&self.poll, key as u64)?;
        }
        if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            self.read(key, usize::MAX)?;
        }
        Ok(())
    }

    /// One read of at most so many bytes, and all that was read.
    pub(super) fn read(&mut self, key: usize, most: usize) -> io::Result<()> {
        let Some(filled) = self.clients[key].receive(&mut self.buffer, most)? else { return Ok(()) };
        let buffer = std::mem::take(&mut self.buffer);
        let used = if self.clients[key].stage == Stage::Ready {
            Ok(self.packets(key, &buffer[..filled]))
        } else {
            self.set_up_packets(key, &buffer[..filled])
        };
        if let Ok(used) = used {
            self.clients[key].keep(&buffer[used..filled]);
        }
        self.buffer = buffer;
        used?;
        if self.answers.is_empty() {
            return Ok(());
        }
        let sent = self.clients[key].send(&self.poll, key as u64, &self.answers);
        self.answers.clear();
        sent
    }

    pub(super) fn packets(&mut self, key: usize, bytes: &[u8]) -> usize {
        match self.clients[key].role {
            Role::Subscriber(place) => {
                let now = self.now();
                let mut delivery = Delivery {
                    settings: &self.settings,
                    publishers: &mut self.publishers,
                    groups: &mut self.groups,
                    with_room: &mut self.with_room,
                    tally: &mut self.tally,
                    latency: (self.phase == Phase::Measure).then_some(&mut self.stages.delivery),
                    answers: &mut self.answers,
                    now,
                };
                self.subscribers[place].receive(bytes, &mut delivery)
            }
            Role::Publisher(place) => {
                let now = self.now();
                let measures = self.phase == Phase::Measure;
                let mut latency = Acknowledgements { latency: measures.then_some(&mut self.stages.acknowledgement), now };
                let publisher = &mut self.publishers[place];
                let used = publisher.receive(bytes, &self.settings, &mut self.tally, &mut latency, &mut self.answers);
                if !publisher.queued && publisher.window.worth_a_write(publisher.sent) {
                    publisher.queued = true;
                    self.with_room.push(place as u32);
                }
                used
            }
        }
    }

    /// Closed loop: fills the windows that have room, one write each.
    fn refill(&mut self) {
        if self.with_room.is_empty() {
            return;
        }
        let refills = self.schedule.is_none() && self.phase.publishes();
        while let Some(place) = self.with_room.pop() {
            let publisher = &mut self.publishers[place as usize];
            publisher.queued = false;
            if refills {
                let count = publisher.window.room(publisher.sent);
                self.publish(place as usize, count);
            }
        }
    }

    fn publish(&mut self, place: usize, count: u32) {
        let time = self.now();
        let publisher = &mut self.publishers[place];
        let key = publisher.client;
        if self.clients[key].stage == Stage::Closed || count == 0 {
            return;
        }
        publisher.publish(count, time, &self.settings, &mut self.tally, &mut self.answers);
        self.send_answers(key);
    }

    /// Sends what was encoded; a connection that fails is closed when its event comes.
    fn send_answers(&mut self, key: usize) {
        if self.clients[key].send(&self.poll, key as u64, &self.answers).is_err() {
            self.lose(key);
        }
        self.answers.clear();
    }

    /// Open loop: sends all that is due, stamped with the time that it was due.
    fn publish_due(&mut self) {
        if self.schedule.is_none() || !self.phase.publishes() || self.publishers.is_empty() {
            return;
        }
        let now = self.now();
        while let Some(schedule) = &mut self.schedule {
            let place = (schedule.sent() % self.publishers.len() as u64) as usize;
            let key = self.publishers[place].client;
            if self.clients[key].backlog() > MAX_BACKLOG_BYTES {
                return;
            }
            let Some(due) = schedule.take_due(now) else { return };
            if self.phase == Phase::Measure {
                self.stages.lag.record(now - due);
            }
            if self.clients[key].stage != Stage::Closed {
                self.publishers[place].publish(1, due, &self.settings, &mut self.tally, &mut self.answers);
                self.send_answers(key);
            }
        }
    }

    /// A closed loop in which nothing moves any more gives up what is in flight, so that a loss does not end the load.
    fn notice_stall(&mut self) {
        if self.schedule.is_some() || !self.phase.publishes() {
            return;
        }
        let arrived = self.tally.received + self.tally.acknowledged;
        let now = self.now();
        if arrived != self.progress.0 || self.tally.outstanding() == 0 {
            self.progress = (arrived, now);
        } else if now - self.progress.1 > self.settings.patience.as_nanos() as u64 {
            self.tally.stalls += 1;
            self.progress.1 = now;
            for place in 0..self.publishers.len() {
                let publisher = &mut self.publishers[place];
                publisher.window.give_up(publisher.sent);
                let count = publisher.window.room(publisher.sent);
                self.publish(place, count);
            }
        }
    }

    pub(super) fn report(&self) {
        let progress = &self.shared.workers[self.index];
        progress.ready.store(self.ready, Ordering::Relaxed);
        progress.sent.store(self.tally.sent, Ordering::Relaxed);
        progress.received.store(self.tally.received, Ordering::Relaxed);
        progress.acknowledged.store(self.tally.acknowledged, Ordering::Relaxed);
        // The run is not over before the last wave of a storm is.
        progress.outstanding.store(self.tally.outstanding() + self.away(), Ordering::Relaxed);
        progress.reconnects.store(self.tally.reconnects, Ordering::Relaxed);
    }
}
