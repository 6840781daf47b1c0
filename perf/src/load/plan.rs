//! What a scenario consists of: cells of clients that talk to one another and to nobody else.
//!
//! A cell is the unit that a thread owns whole, so a publisher always learns of its deliveries without crossing a thread.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ringmq::mqtt::{QoS, Version};

/// Bytes of a payload that carry publisher, sequence number and time; no payload is smaller.
pub const STAMP_BYTES: usize = 16;

/// Clients that share topics.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    pub subscribers: Vec<SubscriberPlan>,
    pub publishers: Vec<PublisherPlan>,
}

/// One connection that subscribes.
#[derive(Clone, Debug)]
pub struct SubscriberPlan {
    pub filters: Vec<String>,
    /// Whose messages it gets, as places in the cell.
    pub publishers: Range<usize>,
    /// Gets only its share of them: the subscribers of the cell are members of one group.
    pub shares: bool,
    /// Hardly reads.
    pub slow: bool,
    /// The shard that it is to live on.
    pub home: u16,
}

/// One connection that publishes.
#[derive(Clone, Debug)]
pub struct PublisherPlan {
    /// Where it publishes; one of them at random each time if there are several.
    pub topics: Arc<[String]>,
    /// Subscribers that get each of its messages; 0 if nobody does.
    pub fan: u32,
    /// The shard that it is to live on.
    pub home: u16,
}

/// How all clients of a run behave.
#[derive(Clone, Debug)]
pub struct Settings {
    pub address: SocketAddr,
    pub version: Version,
    pub qos: QoS,
    pub payload_bytes: usize,
    /// Messages in flight per publisher (closed loop).
    pub window: u32,
    /// Messages per second of all publishers together (open loop); closed loop if none.
    pub rate: Option<u64>,
    /// Shards of a ringmq, on which clients are to live where their plans say; with 1 there is no choice.
    pub shards: u16,
    /// Seconds.
    pub keep_alive: u16,
    /// Connections that may be on their way through CONNECT and SUBSCRIBE at a time, per thread.
    pub burst: usize,
    /// New connections per second, of all threads together; as fast as they go if none.
    pub connects_per_s: Option<f64>,
    /// Publishers send aliases instead of topics.
    pub topic_aliases: bool,
    /// Bytes per second that a slow subscriber reads.
    pub slow_bytes_per_s: usize,
    /// Never sleep: ask the kernel for events without waiting.
    pub busy_poll: bool,
    /// Go before everything else on the core, the crowd excepted.
    pub realtime: bool,
    pub warm_up: Duration,
    pub time: Duration,
    /// Time without any progress after which a message in flight counts as lost.
    pub patience: Duration,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub settings: Settings,
    pub cells: Vec<Cell>,
    /// Connections that all reconnect at once, again and again.
    pub crowd: Vec<Cell>,
}

impl Plan {
    pub fn publishers(&self) -> usize {
        self.cells.iter().map(|cell| cell.publishers.len()).sum()
    }

    pub fn subscribers(&self) -> usize {
        self.cells.iter().map(|cell| cell.subscribers.len()).sum()
    }

    pub fn connections(&self) -> usize {
        self.publishers() + self.subscribers() + self.crowd.len()
    }

    pub fn filters(&self) -> usize {
        self.cells.iter().chain(&self.crowd).flat_map(|cell| &cell.subscribers).map(|subscriber| subscriber.filters.len()).sum()
    }
}
