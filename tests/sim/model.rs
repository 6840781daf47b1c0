//! What follows from a history: which session each connection belonged to, how its subscriptions changed, what became of each published message.
//!
//! Naive on purpose: lists that are searched from the front. "Possible" and "certain" are about a stretch of the history, because what two clients do at
//! the same time has no order.

use std::collections::BTreeMap;

use ringmq::mqtt::QoS;

use crate::history::{ClientIx, Entry, Event, Got, History, MessageIx, Purpose, Receipt, Sent, Seq, SocketIx};
use crate::topics;

/// One change of a subscription.
#[derive(Clone, Debug)]
pub struct Change {
    socket: SocketIx,
    packet_id: u16,
    /// The packet reached the shard at `from` and was worked off at `by` at the latest.
    pub from: Seq,
    pub by: Seq,
    /// When the client read the acknowledgement.
    pub acked: Option<Seq>,
    /// `None`: UNSUBSCRIBE.
    pub entry: Option<Entry>,
}

/// One life of a session: from the CONNECT that made it to its end.
#[derive(Clone, Debug)]
pub struct Session {
    pub client: ClientIx,
    pub sockets: Vec<SocketIx>,
    /// By filter, in order.
    pub changes: BTreeMap<String, Vec<Change>>,
    /// It lived when the world had become quiet.
    pub alive: bool,
}

/// What the options of a filter were during a stretch of the history.
pub struct Coverage<'a> {
    /// It was subscribed all the time.
    pub certain: bool,
    pub entries: Vec<&'a Entry>,
}

/// What became of a published message.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// When the home of the publisher had the PUBLISH; more than once where it was sent again.
    pub processed: Vec<Seq>,
    /// One of them was worked off at once.
    pub certain: bool,
    /// PUBACK or PUBREC, and its reason code.
    pub answered: Option<(Seq, u8)>,
    /// The broker closed the connection instead of answering.
    pub refused: u32,
    /// The connection that it was last sent on.
    pub socket: Option<SocketIx>,
}

/// Everything that follows.
#[derive(Debug)]
pub struct Model<'a> {
    pub history: &'a History,
    pub sessions: Vec<Session>,
    pub session_of: Vec<Option<usize>>,
    pub publications: Vec<Publication>,
    /// When CONNECT was worked off, by connection.
    pub accepted: Vec<Option<Seq>>,
    /// What each session received.
    pub receipts: Vec<Vec<(Seq, SocketIx, &'a Receipt)>>,
    /// Packet identifiers to messages, by connection.
    published: BTreeMap<(SocketIx, u16), MessageIx>,
}

impl<'a> Model<'a> {
    pub fn new(history: &'a History) -> Model<'a> {
        let mut model = Model {
            history,
            sessions: Vec::new(),
            session_of: vec![None; history.connections.len()],
            publications: vec![Publication::default(); history.messages.len()],
            accepted: vec![None; history.connections.len()],
            receipts: Vec::new(),
            published: BTreeMap::new(),
        };
        for (seq, _, event) in history.iter() {
            model.replay(seq, event);
        }
        model.receipts = vec![Vec::new(); model.sessions.len()];
        for (seq, _, event) in history.iter() {
            if let Event::Received { socket, packet: Got::Publish(receipt) } = event
                && let Some(session) = model.session_of[*socket]
            {
                model.receipts[session].push((seq, *socket, receipt));
            }
        }
        model
    }

    fn replay(&mut self, seq: Seq, event: &Event) {
        match event {
            Event::Sent { socket, packet: Sent::Publish { message, packet_id, .. } } => {
                self.publications[*message].socket = Some(*socket);
                if *packet_id != 0 {
                    self.published.insert((*socket, *packet_id), *message);
                }
            }
            Event::Accepted { socket, .. } => self.accept(seq, *socket),
            Event::Processed { sent, socket, certain } => self.processed(seq, *sent, *socket, *certain),
            Event::Received { socket, packet } => self.received(seq, *socket, packet),
            Event::Ended { socket, end: crate::history::End::Shard, .. } => self.ended(*socket),
            // What was not acknowledged may not have happened.
            Event::Crashed => {
                let changes = self.sessions.iter_mut().flat_map(|session| session.changes.values_mut().flatten());
                changes.filter(|change| change.acked.is_none()).for_each(|change| change.by = Seq::MAX);
            }
            Event::Quiet => {
                for client in 0..self.history.clients.len() {
                    if let Some(last) = self.sessions.iter_mut().rfind(|session| session.client == client) {
                        last.alive = true;
                    }
                }
            }
            _ => {}
        }
    }

    fn accept(&mut self, seq: Seq, socket: SocketIx) {
        self.accepted[socket] = Some(seq);
        let client = self.history.client_of(socket);
        let known = self.sessions.iter().rposition(|session| session.client == client);
        let session = match known {
            Some(known) if self.history.resumes(socket) => known,
            _ => {
                self.sessions.push(Session { client, sockets: Vec::new(), changes: BTreeMap::new(), alive: false });
                self.sessions.len() - 1
            }
        };
        self.sessions[session].sockets.push(socket);
        self.session_of[socket] = Some(session);
    }

    fn processed(&mut self, seq: Seq, sent: Seq, socket: SocketIx, certain: bool) {
        let by = if certain { seq } else { Seq::MAX };
        let Some(session) = self.session_of[socket] else { return };
        let changes = &mut self.sessions[session].changes;
        match self.history.sent(sent) {
            Sent::Publish { message, .. } => {
                self.publications[*message].processed.push(seq);
                self.publications[*message].certain |= certain;
            }
            Sent::Subscribe { packet_id, entries } => {
                for entry in entries {
                    let change = Change { socket, packet_id: *packet_id, from: seq, by, acked: None, entry: Some(entry.clone()) };
                    changes.entry(entry.filter.clone()).or_default().push(change);
                }
            }
            Sent::Unsubscribe { packet_id, filters } => {
                for filter in filters {
                    let change = Change { socket, packet_id: *packet_id, from: seq, by, acked: None, entry: None };
                    changes.entry(filter.clone()).or_default().push(change);
                }
            }
            _ => {}
        }
    }

    fn received(&mut self, seq: Seq, socket: SocketIx, packet: &Got) {
        match packet {
            Got::Puback { packet_id, code } | Got::Pubrec { packet_id, code } => {
                if let Some(message) = self.published.get(&(socket, *packet_id)) {
                    self.publications[*message].answered.get_or_insert((seq, *code));
                }
            }
            Got::Suback { packet_id, .. } | Got::Unsuback { packet_id } => self.acknowledged(seq, socket, *packet_id),
            _ => {}
        }
    }

    fn acknowledged(&mut self, seq: Seq, socket: SocketIx, packet_id: u16) {
        let Some(session) = self.session_of[socket] else { return };
        for change in self.sessions[session].changes.values_mut().flatten() {
            if change.socket == socket && change.packet_id == packet_id && change.acked.is_none() {
                change.acked = Some(seq);
                change.by = change.by.min(seq);
            }
        }
    }

    fn ended(&mut self, socket: SocketIx) {
        for publication in self.publications.iter_mut().filter(|publication| publication.socket == Some(socket)) {
            publication.refused += u32::from(publication.answered.is_none() && !publication.processed.is_empty());
        }
    }

    /// The stretch in which a message may have been routed to whoever received it at `until`.
    pub fn routed(&self, message: MessageIx, until: Seq) -> Option<(Seq, Seq)> {
        let publication = &self.publications[message];
        if self.history.messages[message].purpose == Purpose::Will {
            let socket = self.history.connections.iter().position(|c| c.will.as_ref().is_some_and(|will| will.message == message))?;
            return Some((self.accepted[socket]?, until));
        }
        // Where it was sent more than once, the answer does not say where the first one is.
        let answered = publication.answered.filter(|_| publication.processed.len() == 1);
        let until = answered.map_or(until, |(seq, _)| seq.min(until));
        publication.processed.first().map(|&first| (first, until.max(first)))
    }

    /// How a message may have been answered: with success, or `None`.
    pub fn acknowledged_at(&self, message: MessageIx) -> Option<Seq> {
        self.publications[message].answered.filter(|&(_, code)| code < 0x80).map(|(seq, _)| seq)
    }
}

impl Session {
    /// The filters that were or may have been subscribed between two events and match a topic, with their group if they are shared.
    pub fn matching<'a>(&'a self, topic: &'a str, from: Seq, to: Seq) -> impl Iterator<Item = (Option<&'a str>, Coverage<'a>)> + 'a {
        self.matching_named(topic, from, to).map(|(_, matching)| matching)
    }

    /// The same with the text of the subscription.
    pub fn matching_named<'a>(
        &'a self,
        topic: &'a str,
        from: Seq,
        to: Seq,
    ) -> impl Iterator<Item = (&'a str, (Option<&'a str>, Coverage<'a>))> + 'a {
        self.changes.iter().filter_map(move |(text, changes)| {
            let (group, filter) = topics::split_shared(text);
            if !topics::matches(filter, topic) {
                return None;
            }
            coverage(changes, from, to).map(|coverage| (text.as_str(), (group, coverage)))
        })
    }
}

/// What was subscribed between two events; `None` if certainly nothing.
fn coverage(changes: &[Change], from: Seq, to: Seq) -> Option<Coverage<'_>> {
    let mut entries = Vec::new();
    let mut certain = false;
    for (index, change) in changes.iter().enumerate() {
        let gone = changes[index + 1..].iter().map(|later| later.by).min().unwrap_or(Seq::MAX);
        if change.from > to || gone < from {
            continue;
        }
        match &change.entry {
            Some(entry) => {
                certain |= change.acked.is_some_and(|acked| acked <= from);
                entries.push(entry);
            }
            None => certain = false,
        }
    }
    (!entries.is_empty()).then_some(Coverage { certain, entries })
}

impl Coverage<'_> {
    /// The lowest QoS that was granted.
    pub fn lowest(&self) -> QoS {
        self.entries.iter().map(|entry| entry.options.qos).min().unwrap_or_default()
    }

    /// Without the entries that do not want what the client itself publishes [MQTT-3.8.3-3].
    pub fn without_no_local(mut self) -> Option<Self> {
        let before = self.entries.len();
        self.entries.retain(|entry| !entry.options.no_local);
        self.certain &= self.entries.len() == before;
        (!self.entries.is_empty()).then_some(self)
    }
}
