//! What happened in a world, in order: all that the checkers see.
//!
//! Two kinds of events: what a client sent and received, and what the world, which is the shell of the shards, saw at the broker's side: when the bytes of
//! a packet had been handed to the session's home shard, when a connection ended there, what a shard counted.

use ringmq::broker::{Holdings, ShardId};
use ringmq::metrics::CloseCause;
use ringmq::mqtt::{QoS, SubscribeOptions, Version};

/// Index of an event.
pub type Seq = usize;
/// Index of a network connection, over the whole life of a world.
pub type SocketIx = usize;
/// Index of a client.
pub type ClientIx = usize;
/// Index of a published message.
pub type MessageIx = usize;

/// One filter of a SUBSCRIBE.
#[derive(Clone, Debug)]
pub struct Entry {
    pub filter: String,
    pub options: SubscribeOptions,
    pub subscription_id: u32,
}

/// A packet of a client.
#[derive(Clone, Debug)]
pub enum Sent {
    Connect,
    Publish { message: MessageIx, packet_id: u16, dup: bool },
    Subscribe { packet_id: u16, entries: Vec<Entry> },
    Unsubscribe { packet_id: u16, filters: Vec<String> },
    Puback(u16),
    Pubrec(u16),
    Pubrel(u16),
    Pubcomp(u16),
    Pingreq,
    Disconnect { reason: u8, expiry_s: Option<u32> },
}

/// A PUBLISH as a client received it.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// `None`: an empty payload, which does not say which message it is.
    pub message: Option<MessageIx>,
    pub topic: String,
    pub packet_id: u16,
    pub qos: QoS,
    pub dup: bool,
    pub retain: bool,
    pub subscription_ids: Vec<u32>,
    pub expiry_s: Option<u32>,
    /// Not a repetition that the client recognised by its packet identifier (QoS 2).
    pub fresh: bool,
    /// What is wrong with payload or properties.
    pub damage: Option<String>,
}

/// A packet of the broker.
#[derive(Clone, Debug)]
pub enum Got {
    Connack { present: bool, code: u8 },
    Publish(Box<Receipt>),
    Puback { packet_id: u16, code: u8 },
    Pubrec { packet_id: u16, code: u8 },
    Pubrel { packet_id: u16 },
    Pubcomp { packet_id: u16, code: u8 },
    Suback { packet_id: u16, codes: Vec<u8> },
    Unsuback { packet_id: u16 },
    Pingresp,
    Disconnect { reason: u8 },
}

/// How a connection ended at the broker's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The shell told the shard that the socket ended.
    Socket,
    /// The shard closed it.
    Shard,
    /// The broker is gone.
    Crash,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client wrote a packet.
    Sent {
        socket: SocketIx,
        packet: Sent,
    },
    /// The packet of that event was handed to the home shard as a whole. `certain`: it was also worked off at once.
    Processed {
        sent: Seq,
        socket: SocketIx,
        certain: bool,
    },
    /// A shard took a connection over from a listener or from another shard.
    Opened {
        socket: SocketIx,
    },
    /// CONNECT reached the home shard; `existed`: a session was there just before.
    Accepted {
        socket: SocketIx,
        existed: bool,
    },
    /// A client read a packet.
    Received {
        socket: SocketIx,
        packet: Got,
    },
    /// A client breaks off without a word; perhaps not even the network notices.
    Dropped {
        socket: SocketIx,
    },
    /// The connection ended at the broker, after this much silence of the client.
    Ended {
        socket: SocketIx,
        end: End,
        silent_ms: u64,
        paused: bool,
    },
    /// The client reached the end of what the broker sent.
    Closed {
        socket: SocketIx,
    },
    /// What a shard counted in one turn.
    WillsPublished {
        shard: ShardId,
        count: u64,
    },
    ConnectionsClosed {
        shard: ShardId,
        cause: CloseCause,
        count: u64,
    },
    /// A session came into being, or is gone, as seen after a turn of its home.
    SessionSeen {
        shard: ShardId,
        client: ClientIx,
        exists: bool,
    },
    /// Deliveries that a shard owed so far, and those that it accounts for.
    Counted {
        shard: ShardId,
        owed: u64,
        accounted: u64,
    },
    /// What a shard holds when everybody has gone for good.
    Left {
        shard: ShardId,
        holdings: Holdings,
    },
    /// No shard ran between these times.
    Jumped {
        from: u64,
        to: u64,
    },
    /// The machine stopped at once; what comes after is another run of the broker.
    Crashed,
    /// The disk takes nothing for a while.
    DiskFull,
    /// So many bytes that the disk had are not what they were; so many were said to be damaged.
    Rotten {
        bytes: usize,
        damaged: usize,
    },
    /// From here on clients only finish what they began.
    Calm,
    /// Nothing is under way any more.
    Quiet,
    /// Everybody begins to leave for good.
    Ending,
    /// A rule that a client can check by itself was broken.
    Broken {
        rule: &'static str,
        what: String,
    },
}

/// An event and its time, milliseconds.
#[derive(Clone, Debug)]
pub struct Record {
    pub at: u64,
    pub event: Event,
}

/// The will of a connection.
#[derive(Clone, Debug)]
pub struct WillPlan {
    pub message: MessageIx,
    pub delay_s: u32,
}

/// One network connection as its client made it.
#[derive(Clone, Debug)]
pub struct Connection {
    pub client: ClientIx,
    pub version: Version,
    pub clean_start: bool,
    pub keep_alive_s: u16,
    /// Of the session, as it is in force: 0 to `u32::MAX`, which is for ever.
    pub expiry_s: u32,
    pub receive_maximum: u16,
    pub max_packet_bytes: u32,
    pub will: Option<WillPlan>,
    /// Topic aliases that the broker may set.
    pub alias_maximum: u16,
    /// The client never sends all of CONNECT.
    pub half: bool,
}

/// Why a message was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Ordinary,
    Will,
    /// In a quiet world, to see whether all shards agree on who gets it.
    Probe,
    /// Clears what is retained, at the end.
    Cleaning,
}

/// One published message.
#[derive(Clone, Debug)]
pub struct Message {
    pub publisher: ClientIx,
    pub purpose: Purpose,
    pub topic: String,
    pub qos: QoS,
    pub retain: bool,
    pub payload: Vec<u8>,
    /// The encoded properties that every subscriber of 5.0 gets unchanged.
    pub forward: Vec<u8>,
    pub expiry_s: Option<u32>,
}

/// One client.
#[derive(Clone, Debug)]
pub struct Identity {
    pub client_id: String,
    pub home: ShardId,
}

/// Everything that happened.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub now: u64,
    pub records: Vec<Record>,
    pub connections: Vec<Connection>,
    pub messages: Vec<Message>,
    pub clients: Vec<Identity>,
    /// The client that subscribes to all wills, all the time.
    pub watcher: Option<ClientIx>,
    /// The client that asked for all retained messages.
    pub reader: Option<ClientIx>,
}

impl History {
    pub fn push(&mut self, event: Event) -> Seq {
        self.records.push(Record { at: self.now, event });
        self.records.len() - 1
    }

    /// The packet that a `Sent` event is about.
    pub fn sent(&self, seq: Seq) -> &Sent {
        match &self.records[seq].event {
            Event::Sent { packet, .. } => packet,
            other => panic!("event {seq} is no Sent but {other:?}"),
        }
    }

    /// All events with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Seq, u64, &Event)> {
        self.records.iter().enumerate().map(|(seq, record)| (seq, record.at, &record.event))
    }

    /// Whether an accepted connection goes on with the session that was there before [MQTT-3.2.2-2].
    pub fn resumes(&self, socket: SocketIx) -> bool {
        let connection = &self.connections[socket];
        let mut ended = Vec::new();
        let mut let_in = Vec::new();
        let mut existed = None;
        let mut told = None;
        for record in self.records.iter().rev() {
            match record.event {
                Event::Received { socket: own, packet: Got::Connack { present, .. } } if own == socket => told = Some(present),
                Event::Accepted { socket: other, existed: known } if other == socket => existed = Some(known),
                Event::Ended { socket: other, .. } if existed.is_some() => ended.push(other),
                Event::Received { socket: other, packet: Got::Connack { code: 0, .. } } if existed.is_some() => let_in.push(other),
                Event::Accepted { socket: other, .. } if existed.is_some() && self.client_of(other) == connection.client => {
                    // A session without expiry ends with its connection, also when that is taken over. Whether it ever became one without expiry where a
                    // crash was near, its CONNACK says; or, where that was lost, the next one.
                    let unclear = ended.contains(&other) && !let_in.contains(&other);
                    let told = told.filter(|_| connection.version != Version::V31);
                    let ends = self.connections[other].expiry_s == 0 && !(unclear && told.unwrap_or(true));
                    return existed == Some(true) && !connection.clean_start && !ends;
                }
                _ => {}
            }
        }
        false
    }

    /// Whether all connections of a client after `earlier` (`None`: the first one), up to an accepted one, went on with one session. The client itself
    /// cannot know, where a CONNACK got lost: it would take a session that it never saw for its own.
    pub fn continues(&self, earlier: Option<SocketIx>, socket: SocketIx) -> bool {
        let client = self.client_of(socket);
        let accepted = self.records.iter().filter_map(|record| match record.event {
            Event::Accepted { socket: other, .. } if self.client_of(other) == client => Some(other),
            _ => None,
        });
        let mut after = earlier.is_none();
        let mut resumed = true;
        for other in accepted {
            if after {
                resumed &= self.resumes(other);
            }
            after |= earlier == Some(other);
            if other == socket {
                break;
            }
        }
        resumed
    }

    /// The client of a connection.
    pub fn client_of(&self, socket: SocketIx) -> ClientIx {
        self.connections[socket].client
    }
}
