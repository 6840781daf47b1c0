//! A message to everyone who wants it: local sessions, shared subscriptions, other shards, the owner of the topic's retained message.

use super::acks::{AnswerTo, Ticket, TicketId, Tickets, worse};
use super::connection::NONE;
use super::ids::{ShardId, ShardSet};
use super::journal::exchange::{Part, Taken};
use super::message::{Delivery, Incoming, Message};
use super::peer::{Batch, Exchange, PeerMessage, PeerOptions, PeerPublish};
use super::publish::is_sys;
use super::session::{Kept, delivered_qos, owner_of};
use super::shard::Shard;
use super::timers::TimerKey;
use super::topics::{Matches, Subscriber, Topics, Warmth};
use crate::config::Durability;
use crate::metrics::DropReason;
use crate::mqtt::{QoS, ReasonCode};

/// A shard with more than this waiting for it gets no QoS 0 message; QoS 1 and 2 are refused.
pub(super) const PEER_LIMIT_BYTES: usize = 64 * 1024 * 1024;
/// From this size on, a payload is copied once for all who get it one by one, and not once for each.
const LARGE_PAYLOAD_BYTES: usize = 64 * 1024;

/// Buffers that routing uses again and again.
#[derive(Default)]
pub struct Scratch {
    /// Boxed, and `None` while in use: taking one moves a pointer, not the buffers.
    pub matches: Option<Box<Matches>>,
    pub targets: Option<Box<Targets>>,
    pub forward: Vec<u8>,
    pub timers: Vec<TimerKey>,
    pub shares: Vec<(ShardId, u64)>,
    fingerprints: Vec<u64>,
    pub warmth: Warmth,
}

/// Who published, and who is to be told the outcome.
#[derive(Clone, Copy, Debug)]
pub struct Publisher {
    /// The publisher's session if it lives here, for No Local; or [`NONE`].
    pub session: u32,
    /// A full queue cannot be told to it: its messages are held instead.
    pub hold: bool,
    pub answer: AnswerTo,
    /// The QoS 2 exchange of the message, where it is to outlive the process.
    pub exchange: Option<Exchange>,
    /// What the answer promises.
    pub durability: Durability,
}

impl Publisher {
    /// Nobody who waits for an answer: `session` has sent the message, or nobody has ([`NONE`]).
    pub fn unanswered(session: u32) -> Publisher {
        Publisher { session, hold: false, answer: AnswerTo::Nobody, exchange: None, durability: Durability::Memory }
    }
}

/// The outcome of routing a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Now(ReasonCode),
    /// The answer comes through this ticket.
    Later(TicketId),
}

/// One message being routed: its ticket, opened when the first part of it has to wait.
#[derive(Debug)]
pub struct Job {
    publisher: Publisher,
    ticket: Option<TicketId>,
    /// Where the message belongs to an exchange that is to outlive the process.
    pub(super) part: Option<Part>,
}

impl Job {
    pub fn new(publisher: Publisher) -> Job {
        Job { publisher, ticket: None, part: publisher.exchange.map(|_| Part::default()) }
    }

    /// Whether an answer of another part is still due.
    pub fn is_open(&self) -> bool {
        self.ticket.is_some()
    }

    /// Whether a message for a full queue is to be held.
    pub fn holds(&self) -> bool {
        self.publisher.hold
    }

    /// Whether what is held under this ticket is this message.
    pub fn has_held(&self, ticket: Option<TicketId>) -> bool {
        self.ticket.is_some() && self.ticket == ticket
    }

    /// One more part has to answer.
    pub fn wait(&mut self, tickets: &mut Tickets) -> TicketId {
        // The first wait is that of the routing itself, settled at its end: so no answer can leave while parts are still being added.
        let ticket = *self.ticket.get_or_insert_with(|| {
            tickets.open(Ticket::new(self.publisher.answer, ReasonCode::NO_MATCHING_SUBSCRIBERS, self.publisher.durability))
        });
        tickets.wait(ticket);
        ticket
    }
}

/// One session that a message goes to, with what its matching subscriptions ask for together.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub session: u32,
    pub qos: QoS,
    pub retain_as_published: bool,
    ids_start: u32,
    ids_len: u32,
}

/// What a session is to get a message as.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    pub session: u32,
    /// As granted.
    pub qos: QoS,
    pub retain_as_published: bool,
    pub subscription_ids: &'a [u32],
    /// Fingerprint of the shared subscription that the session was chosen for, or 0.
    pub share: u64,
}

/// The sessions that a message goes to, each once.
#[derive(Debug, Default)]
pub struct Targets {
    pub list: Vec<Target>,
    subscription_ids: Vec<u32>,
    subscribers: Vec<Subscriber>,
}

impl Targets {
    /// Resolves matching filters to sessions: overlapping subscriptions of one session become one delivery with the highest QoS and all identifiers
    /// [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4] [MQTT-3.3.5-1]; the publisher is left out where No Local says so [MQTT-3.8.3-3].
    pub fn resolve(&mut self, topics: &Topics, matches: &Matches, publisher: u32) {
        self.list.clear();
        self.subscription_ids.clear();
        if let [filter] = matches.filters[..] {
            for subscriber in topics.subscribers(filter) {
                self.add(subscriber, publisher, false);
            }
            return;
        }
        let mut subscribers = std::mem::take(&mut self.subscribers);
        subscribers.clear();
        for &filter in &matches.filters {
            subscribers.extend_from_slice(topics.subscribers(filter));
        }
        subscribers.sort_unstable_by_key(|subscriber| (subscriber.session, subscriber.subscription_id));
        for subscriber in &subscribers {
            self.add(subscriber, publisher, true);
        }
        self.subscribers = subscribers;
    }

    #[inline]
    fn add(&mut self, subscriber: &Subscriber, publisher: u32, merge: bool) {
        if subscriber.session == publisher && subscriber.options.no_local() {
            return;
        }
        let ids_start = self.subscription_ids.len() as u32;
        let ids_len = u32::from(subscriber.subscription_id != 0);
        if ids_len != 0 {
            self.subscription_ids.push(subscriber.subscription_id);
        }
        if merge
            && let Some(last) = self.list.last_mut()
            && last.session == subscriber.session
        {
            last.qos = last.qos.max(subscriber.options.qos());
            last.retain_as_published |= subscriber.options.retain_as_published();
            last.ids_len += ids_len;
            return;
        }
        self.list.push(Target {
            session: subscriber.session,
            qos: subscriber.options.qos(),
            retain_as_published: subscriber.options.retain_as_published(),
            ids_start,
            ids_len,
        });
    }

    fn recipient(&self, target: &Target) -> Recipient<'_> {
        Recipient {
            session: target.session,
            qos: target.qos,
            retain_as_published: target.retain_as_published,
            subscription_ids: &self.subscription_ids[target.ids_start as usize..(target.ids_start + target.ids_len) as usize],
            share: 0,
        }
    }

    /// Whether no target has a subscription identifier.
    pub fn plain(&self) -> bool {
        self.subscription_ids.is_empty()
    }
}

impl Shard {
    /// Routes a message that came in on this shard.
    pub(super) fn publish(&mut self, incoming: &Incoming<'_>, publisher: Publisher) -> Settled {
        if is_sys(incoming.topic) && publisher.session != NONE {
            // [MQTT-3.3.5-2]
            self.counters.count_dropped(DropReason::NotAuthorized, 1);
            return Settled::Now(if publisher.hold { ReasonCode::SUCCESS } else { ReasonCode::NOT_AUTHORIZED });
        }
        let mut matches = self.scratch.matches.take().unwrap_or_default();
        let mut shares = std::mem::take(&mut self.scratch.shares);
        // [MQTT-3.3.2-3]
        self.topics.matches(incoming.topic, &mut matches);
        let mut job = Job::new(publisher);
        let mark = self.journal_mark();
        shares.clear();
        let taken = self.taken_before(publisher.exchange, incoming);
        let mut code = self.deliver_local(incoming, &matches, &mut job, taken.as_ref());
        for &group in &matches.groups {
            code = worse(code, self.deliver_share(group, incoming, &mut shares, &mut job, taken.as_ref()));
        }
        let mut remote = matches.remote;
        let mut owner = None;
        // What is kept for a topic stays as it is without RETAIN [MQTT-3.3.1-8] [MQTT-3.3.1-12].
        if incoming.retain {
            let shard = owner_of(incoming.topic, self.shards);
            if shard == self.id {
                code = worse(code, self.store_retained(incoming));
            } else {
                owner = Some(shard);
                remote.insert(shard);
            }
        }
        for &(shard, _) in &shares {
            remote.insert(shard);
        }
        code = worse(code, self.send_to_shards(incoming, remote, matches.remote, owner, &shares, &mut job));
        self.scratch.matches = Some(matches);
        self.scratch.shares = shares;
        let part = job.part.take().filter(|part| if code.is_error() { part.took() } else { job.is_open() && self.recorded_since(mark) });
        if let (Some(exchange), Some(part)) = (publisher.exchange, part) {
            self.note_taken(exchange, incoming, part);
        }
        self.finish_job(job, code, mark)
    }

    /// The routing is done; `mark` is that of its beginning.
    pub(super) fn finish_job(&mut self, job: Job, code: ReasonCode, mark: usize) -> Settled {
        let Some(ticket) = job.ticket else { return Settled::Now(code) };
        self.wait_for_commit(ticket, self.commit_since(mark));
        match self.tickets.settle(ticket, code) {
            Some(done) => Settled::Now(done.code),
            None => Settled::Later(ticket),
        }
    }

    pub(super) fn send_to_shards(
        &mut self,
        incoming: &Incoming<'_>,
        remote: ShardSet,
        interested: ShardSet,
        owner: Option<ShardId>,
        shares: &[(ShardId, u64)],
        job: &mut Job,
    ) -> ReasonCode {
        let mut code = ReasonCode::NO_MATCHING_SUBSCRIBERS;
        let mut fingerprints = std::mem::take(&mut self.scratch.fingerprints);
        for shard in remote.iter() {
            if self.peers.waiting_bytes(shard) > PEER_LIMIT_BYTES {
                self.counters.count_dropped(DropReason::PeerRingFull, u64::from(incoming.qos == QoS::AtMostOnce));
                code = ReasonCode::QUOTA_EXCEEDED;
                continue;
            }
            fingerprints.clear();
            fingerprints.extend(shares.iter().filter(|(to, _)| *to == shard).map(|&(_, fingerprint)| fingerprint));
            let options = PeerOptions {
                deliver: interested.contains(shard),
                store: owner == Some(shard),
                hold: job.holds(),
                durability: job.publisher.durability,
                exchange: job.publisher.exchange,
                ticket: (incoming.qos != QoS::AtMostOnce).then(|| job.wait(&mut self.tickets)),
            };
            let batch = self.peers.to(shard);
            let publish = batch.copy(incoming, options, &fingerprints);
            batch.messages.push(PeerMessage::Publish(publish));
        }
        self.scratch.fingerprints = fingerprints;
        code
    }

    /// A publish that came in on another shard.
    pub(super) fn on_peer_publish(&mut self, from: ShardId, publish: &PeerPublish, batch: &Batch) {
        let incoming = batch.view(publish);
        // Its life may have ended on the way [MQTT-3.3.2-5].
        let alive = incoming.expires_at >= self.now;
        let plain = alive && publish.ticket.is_none() && publish.deliver && !publish.store && !publish.has_shares() && !incoming.retain;
        if plain && self.run_publish(NONE, None, &incoming) {
            return;
        }
        self.finish_run();
        let exchange = batch.exchange(publish);
        let taken = self.taken_before(exchange, &incoming);
        let answer = |kept| publish.ticket.map_or(AnswerTo::Nobody, |ticket| AnswerTo::Peer { shard: from, ticket, kept });
        let mut job = Job::new(Publisher {
            session: NONE,
            hold: publish.hold,
            answer: answer(exchange.is_some()),
            exchange,
            durability: publish.durability,
        });
        let mark = self.journal_mark();
        let mut code = ReasonCode::NO_MATCHING_SUBSCRIBERS;
        if !alive && taken.is_none() {
            // How many it would have matched does not matter any more: one for all.
            self.counters.deliveries_matched += 1;
            self.counters.count_dropped(DropReason::Expired, 1);
        } else if publish.deliver {
            let mut matches = self.scratch.matches.take().unwrap_or_default();
            self.topics.matches(incoming.topic, &mut matches);
            code = self.deliver_local(&incoming, &matches, &mut job, taken.as_ref());
            self.scratch.matches = Some(matches);
        }
        for fingerprint in batch.shares(publish).filter(|_| alive) {
            code = worse(code, self.deliver_share_here(fingerprint, &incoming, &mut job, taken.as_ref()));
        }
        if publish.store {
            code = worse(code, self.store_retained(&incoming));
        }
        let open = job.is_open() || self.recorded_since(mark);
        let part = job.part.take().filter(|part| if code.is_error() { part.took() } else { open });
        let noted = exchange.zip(part).is_some_and(|(exchange, part)| self.note_taken(exchange, &incoming, part));
        let kept = taken.is_some() || noted;
        let commit = if publish.durability == Durability::Commit { self.commit_since(mark) } else { 0 };
        if let Settled::Now(code) = self.finish_job(job, code, mark) {
            self.answer(answer(kept), code, Kept::Nowhere, commit);
        }
    }

    /// A message of a run of another shard whose subscribers do not all get the same bytes.
    pub(super) fn deliver_here(&mut self, incoming: &Incoming<'_>) {
        let mut matches = self.scratch.matches.take().unwrap_or_default();
        self.topics.matches(incoming.topic, &mut matches);
        self.deliver_local(incoming, &matches, &mut Job::new(Publisher::unanswered(NONE)), None);
        self.scratch.matches = Some(matches);
    }

    /// Delivers to the subscribers of this shard, but to those that have the message.
    fn deliver_local(&mut self, incoming: &Incoming<'_>, matches: &Matches, job: &mut Job, taken: Option<&Taken>) -> ReasonCode {
        let mut code = ReasonCode::NO_MATCHING_SUBSCRIBERS;
        if matches.filters.is_empty() {
            return code;
        }
        let mut targets = self.scratch.targets.take().unwrap_or_default();
        targets.resolve(&self.topics, matches, job.publisher.session);
        let mut message = None;
        for target in &targets.list {
            if taken.is_some_and(|taken| self.sessions.get(target.session).is_none_or(|session| taken.covers(&session.client_id))) {
                code = worse(code, ReasonCode::SUCCESS);
                continue;
            }
            if incoming.retain {
                self.note_live_retained(target.session, incoming.topic);
            }
            code = worse(code, self.deliver_to(targets.recipient(target), incoming, &mut message, job));
        }
        self.scratch.targets = Some(targets);
        code
    }

    /// Delivers to one session, as its subscriptions ask for.
    pub(super) fn deliver_to(
        &mut self,
        to: Recipient<'_>,
        incoming: &Incoming<'_>,
        message: &mut Option<Message>,
        job: &mut Job,
    ) -> ReasonCode {
        // RETAIN tells a subscriber "from the store" unless it asked for the publisher's flag [MQTT-3.3.1-9] [MQTT-3.3.1-12] [MQTT-3.3.1-13].
        let retain = incoming.retain && to.retain_as_published;
        let qos = delivered_qos(incoming.qos, to.qos);
        if qos == QoS::AtMostOnce {
            let large = incoming.payload.len() >= LARGE_PAYLOAD_BYTES;
            let owned = large.then(|| &*message.get_or_insert_with(|| incoming.to_message()));
            self.deliver_at_most_once(to.session, incoming, owned, retain, to.subscription_ids);
            self.note_outcome(&to, ReasonCode::SUCCESS, job);
            return ReasonCode::SUCCESS;
        }
        let message = message.get_or_insert_with(|| incoming.to_message()).clone();
        let delivery = Delivery { message, qos, retain, subscription_ids: to.subscription_ids.into(), share: to.share };
        let code = self.deliver_acknowledged(to.session, delivery, Some(job));
        self.note_outcome(&to, code, job);
        code
    }

    /// What a session said to the message of an exchange; what comes by a shared subscription is noted with that.
    fn note_outcome(&self, to: &Recipient<'_>, code: ReasonCode, job: &mut Job) {
        if let Some(part) = job.part.as_mut().filter(|_| to.share == 0)
            && let Some(session) = self.sessions.get(to.session)
        {
            part.add(&session.client_id, code.is_error());
        }
    }
}
