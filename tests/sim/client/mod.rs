//! A client: its identity, its part of the session, its connection. It follows the standard to the letter; only its timing is wild.
//!
//! `inbound` works off what it receives, `outbound` writes packets; what it does of its own accord is in `behaviour`.

pub mod behaviour;
mod inbound;
mod outbound;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringmq::mqtt::{QoS, Version};

use crate::history::{ClientIx, Event, MessageIx, SocketIx};
use crate::host::Surroundings;
use crate::network::ClientEnd;

/// How far the exchange of a message that the client published has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// PUBACK or PUBREC is outstanding.
    Published,
    /// PUBREC has come, PUBCOMP is outstanding.
    Released,
}

/// A message that the client published and that is not acknowledged.
#[derive(Clone, Debug)]
pub struct Flight {
    pub packet_id: u16,
    pub message: MessageIx,
    pub qos: QoS,
    pub stage: Stage,
}

/// Acknowledgements that the client owes, each kind in its order [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4].
#[derive(Clone, Debug, Default)]
pub struct Due {
    pub puback: VecDeque<u16>,
    pub pubrec: VecDeque<u16>,
    pub pubrel: VecDeque<u16>,
    pub pubcomp: VecDeque<u16>,
}

impl Due {
    pub fn is_empty(&self) -> bool {
        self.puback.is_empty() && self.pubrec.is_empty() && self.pubrel.is_empty() && self.pubcomp.is_empty()
    }
}

/// The connection that a client uses now.
#[derive(Debug)]
pub struct Link {
    pub socket: SocketIx,
    pub connected: bool,
    pub opened_at: u64,
    /// Received bytes that are no whole packet yet.
    pub inbox: Vec<u8>,
    pub last_sent: u64,
    pub keep_alive_s: u16,
    /// Until then the client does not read.
    pub stalled_until: u64,
    /// Until then the client sends nothing, not even a ping.
    pub silent_until: u64,
    pub due: Due,
    /// Packet identifiers of SUBSCRIBE and UNSUBSCRIBE that are not acknowledged.
    pub asked: BTreeSet<u16>,
    pub pings: u32,
    /// Exchanges that the broker began and the client has not finished on this connection.
    pub open: BTreeMap<u16, QoS>,
    pub server_receive_maximum: u16,
    /// Topic aliases: how many the broker takes, what was set towards it, and what it set.
    pub alias_maximum: u16,
    pub aliases: Vec<String>,
    pub broker_aliases: BTreeMap<u16, String>,
    /// DISCONNECT was sent; the client waits for the end.
    pub leaving: bool,
}

/// A connection that the client has given up by taking over its own session: it is still read to its end.
#[derive(Debug)]
struct Ghost {
    socket: SocketIx,
    inbox: Vec<u8>,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    pub ix: ClientIx,
    pub version: Version,
    pub link: Option<Link>,
    pub flights: Vec<Flight>,
    /// QoS 2 packet identifiers that the broker has not released.
    pub received: BTreeSet<u16>,
    next_id: u16,
    ghosts: Vec<Ghost>,
    /// A clean start was asked for and never confirmed: it is asked for until it is.
    forgetting: bool,
    /// The last connection that was answered by CONNACK.
    last_connected: Option<SocketIx>,
    /// Filters that it asked for once, to be unsubscribed some day.
    pub filters: Vec<String>,
    /// Never stalls, drops or leaves: what it sees, anybody could have seen.
    pub steady: bool,
    /// A filter that it subscribes to before all else, in each session.
    pub watches: Option<&'static str>,
    /// Its session has no such subscription yet.
    unwatched: bool,
}

impl Client {
    pub fn new(ix: ClientIx, version: Version, steady: bool) -> Client {
        Client {
            ix,
            version,
            link: None,
            flights: Vec::new(),
            received: BTreeSet::new(),
            next_id: 0,
            ghosts: Vec::new(),
            forgetting: false,
            last_connected: None,
            filters: Vec::new(),
            steady,
            watches: None,
            unwatched: true,
        }
    }

    /// Whether nothing is outstanding in either direction.
    pub fn is_quiet(&self) -> bool {
        let link = self.link.as_ref().is_some_and(|link| {
            link.connected && !link.leaving && link.asked.is_empty() && link.pings == 0 && link.due.is_empty() && link.open.is_empty()
        });
        link && self.flights.is_empty() && self.ghosts.is_empty()
    }

    /// Leaves the connection in some way that the broker may or may not notice.
    pub fn leave(&mut self, end: ClientEnd, around: &mut Surroundings<'_>) {
        let Some(link) = self.link.take() else { return };
        around.network.sockets[link.socket].client_leaves(end, around.rng);
        around.history.push(Event::Dropped { socket: link.socket });
    }

    /// Leaves the connection open, as somebody does who connects again from elsewhere.
    pub fn abandon(&mut self) {
        if let Some(link) = self.link.take() {
            self.ghosts.push(Ghost { socket: link.socket, inbox: link.inbox });
        }
    }

    /// A packet identifier that is not in use [MQTT-2.2.1-3]. There are few, so that they are used again soon.
    fn fresh_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % 60 + 1;
            let asked = self.link.as_ref().is_some_and(|link| link.asked.contains(&self.next_id));
            if !asked && self.flights.iter().all(|flight| flight.packet_id != self.next_id) {
                return self.next_id;
            }
        }
    }
}
