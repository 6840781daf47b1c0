//! The way of a connection to readiness: TCP, CONNECT, SUBSCRIBE; a bounded number at a time.

use std::io;

use ringmq::broker::home_of;
use ringmq::mqtt::{Connect, Packet, PacketType, Properties, QoS, SubscribeEntry, SubscribeOptions, decode, encode};

use super::client::{Client, Role, Stage};
use super::packets;
use super::schedule::Schedule;
use super::worker::{LONGEST_SLEEP_NS, Worker};

/// Filters in one SUBSCRIBE.
const FILTERS_PER_SUBSCRIBE: usize = 500;
/// Events taken from the kernel at a time.
pub(super) const MAX_EVENTS: usize = 1024;
/// Longest sleep where new connections have a timetable.
const PACED_SLEEP_NS: u64 = 1_000_000;

/// A client identifier that begins like this and lives on this shard of a ringmq with so many.
fn at_home(mut client_id: String, home: u16, shards: u16) -> String {
    let begin = client_id.len();
    for attempt in 0_u32.. {
        if home_of(&client_id, shards).0 == home {
            break;
        }
        client_id.truncate(begin);
        client_id.push_str(&format!(".{attempt}"));
    }
    client_id
}

impl Worker {
    /// Opens all connections of the worker, subscribers first, and brings them to readiness. `number` counts those of other workers.
    pub fn set_up(&mut self, number: usize) -> io::Result<()> {
        let mut events = Vec::with_capacity(self.settings.burst.min(MAX_EVENTS));
        // Every worker has its share of the new connections, as it has of all connections.
        let share = self.connections() as f64 / self.shared.connections.max(1) as f64;
        let mut schedule = self.settings.connects_per_s.map(|rate| Schedule::new(rate * share));
        let start = self.now();
        if let Some(schedule) = &mut schedule {
            schedule.start(start);
        }
        while (self.ready as usize) < self.connections() {
            while self.clients.len() < self.connections() && self.clients.len() - (self.ready as usize) < self.settings.burst {
                let now = self.now();
                let due = schedule.as_mut().map_or(Some(now), |schedule| schedule.take_due(now));
                let Some(due) = due else { break };
                let client = self.open(self.clients.len(), number, due)?;
                self.clients.push(client);
            }
            self.wait(&mut events, schedule.as_ref().map_or(LONGEST_SLEEP_NS, |_| PACED_SLEEP_NS))?;
            for event in &events {
                self.set_up_event(event.data.u64() as usize).map_err(|error| self.explain(error))?;
            }
            self.report();
        }
        Ok(())
    }

    /// Connections of this worker.
    pub(super) fn connections(&self) -> usize {
        self.subscribers.len() + self.publishers.len()
    }

    fn explain(&self, error: io::Error) -> io::Error {
        let reason =
            if error.kind() == io::ErrorKind::UnexpectedEof { "the broker closed the connection".to_owned() } else { error.to_string() };
        io::Error::new(error.kind(), format!("{reason} (while connecting to {}, {} connections ready)", self.settings.address, self.ready))
    }

    /// Starts to connect; what it takes counts from `since`.
    pub(super) fn open(&self, key: usize, number: usize, since: u64) -> io::Result<Client> {
        let subscribers = self.subscribers.len();
        let role = if key < subscribers { Role::Subscriber(key) } else { Role::Publisher(key - subscribers) };
        let slow = self.subscribers.get(key).is_some_and(|subscriber| subscriber.slow);
        Client::open(&self.poll, key as u64, self.settings.address, number + key, role, slow, since)
    }

    pub(super) fn set_up_event(&mut self, key: usize) -> io::Result<()> {
        match self.clients[key].stage {
            Stage::Connecting => self.connected(key),
            Stage::Closed => Ok(()),
            Stage::Ready | Stage::AwaitsConnack | Stage::AwaitsSuback => {
                self.clients[key].flush(&self.poll, key as u64)?;
                self.read(key, usize::MAX)
            }
        }
    }

    /// Ends the current stage of a connection and gives how long it took, in nanoseconds.
    fn enter(&mut self, key: usize, stage: Stage) -> u64 {
        let now = self.now();
        let client = &mut self.clients[key];
        let took = now - client.since;
        client.since = now;
        client.stage = stage;
        if stage == Stage::Ready {
            self.ready += 1;
        }
        took
    }

    fn connected(&mut self, key: usize) -> io::Result<()> {
        self.clients[key].connect_error()?;
        let took = self.enter(key, Stage::AwaitsConnack);
        self.stages.connect.record(took);
        let client_id = match self.clients[key].role {
            Role::Publisher(place) => at_home(format!("p{}-{key}", self.index), self.publishers[place].home, self.settings.shards),
            Role::Subscriber(place) => at_home(format!("s{}-{key}", self.index), self.subscribers[place].home, self.settings.shards),
        };
        let connect = Connect {
            version: self.settings.version,
            clean_start: true,
            keep_alive: self.settings.keep_alive,
            client_id: &client_id,
            will: None,
            user_name: None,
            password: None,
            properties: Properties {
                receive_maximum: self.settings.version.is_v5().then_some(u16::MAX),
                topic_alias_maximum: self.settings.topic_aliases.then_some(u16::MAX),
                ..Properties::default()
            },
        };
        let mut bytes = Vec::new();
        encode::connect(&mut bytes, &connect);
        self.clients[key].flush(&self.poll, key as u64)?;
        self.clients[key].send(&self.poll, key as u64, &bytes)
    }

    /// Takes the packets of a connection that is not ready; what follows its last answer waits for the next read.
    pub(super) fn set_up_packets(&mut self, key: usize, bytes: &[u8]) -> io::Result<usize> {
        let mut at = 0;
        while let Some((packet, length)) = packets::next(&bytes[at..]) {
            if self.clients[key].stage == Stage::Ready {
                // A subscriber's first deliveries may come together with its SUBACK.
                return Ok(at + self.packets(key, &bytes[at..]));
            }
            at += length;
            match decode(self.settings.version, packet.first, packet.body).map_err(io::Error::other)? {
                Packet::Connack(connack) if connack.code == 0 => self.accepted(key, &connack.properties)?,
                Packet::Connack(connack) => return Err(io::Error::other(format!("CONNECT was refused with code {}", connack.code))),
                Packet::Suback(suback) if suback.codes.iter().all(|&code| code < 0x80) => self.subscribed(key),
                Packet::Suback(_) => return Err(io::Error::other("SUBSCRIBE was refused")),
                _ => return Err(io::Error::other(format!("unexpected {:?}", PacketType::from_first(packet.first)))),
            }
        }
        Ok(at)
    }

    fn accepted(&mut self, key: usize, properties: &Properties<'_>) -> io::Result<()> {
        let role = self.clients[key].role;
        let took = self.enter(key, if matches!(role, Role::Subscriber(_)) { Stage::AwaitsSuback } else { Stage::Ready });
        self.stages.connack.record(took);
        match role {
            Role::Subscriber(place) => self.subscribe(place),
            Role::Publisher(_) if self.settings.topic_aliases && properties.topic_alias_maximum.unwrap_or(0) == 0 => {
                return Err(io::Error::other("the broker takes no topic aliases"));
            }
            Role::Publisher(place) if self.settings.qos != QoS::AtMostOnce => {
                self.publishers[place].limit_window(u32::from(properties.receive_maximum.unwrap_or(u16::MAX)));
            }
            Role::Publisher(_) => {}
        }
        Ok(())
    }

    fn subscribed(&mut self, key: usize) {
        let Role::Subscriber(place) = self.clients[key].role else { return };
        let left = !self.filters[place].is_empty();
        let took = self.enter(key, if left { Stage::AwaitsSuback } else { Stage::Ready });
        self.stages.suback.record(took);
        if left {
            self.subscribe(place);
        } else if self.subscribers[place].slow {
            // Fails only if the connection has ended, which the next read finds out.
            let _ = self.clients[key].ignore_input(&self.poll, key as u64);
        }
    }

    /// Asks for the next filters of a subscriber, as an answer to what it is just reading.
    fn subscribe(&mut self, place: usize) {
        let filters = &mut self.filters[place];
        let some = filters.split_off(filters.len().saturating_sub(FILTERS_PER_SUBSCRIBE));
        let options = SubscribeOptions { qos: self.settings.qos, ..SubscribeOptions::default() };
        let entries: Vec<SubscribeEntry<'_>> = some.iter().map(|filter| SubscribeEntry { filter, options }).collect();
        encode::subscribe(&mut self.answers, self.settings.version, 1, &entries, &Properties::default());
    }
}
