//! Retained messages: one client stores many, another fetches those that its filter matches, again and again; a third one only pings.
//!
//! Blocking sockets, one thread for the pings: what is timed here takes milliseconds. The pings have a timetable, so that one that had to wait
//! counts from when it was due, and they say what everybody else waits for while a large answer is made.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringmq::mqtt::topic::{TopicFilter, TopicName};
use ringmq::mqtt::{Connect, PacketType, Properties, PublishOut, QoS, SubscribeEntry, SubscribeOptions, Version, encode};

use super::latency::Latency;
use super::outcome::{Checks, Generator, Latencies, Outcome, Retained};
use super::packets::{self, Packet, Stamp};
use super::plan::Settings;
use super::run::{self, Observer, Reading};
use super::scenario::Scenario;
use super::schedule::Schedule;
use super::shared::{Phase, Totals};

/// Messages stored between two looks at the acknowledgements; every broker allows as many in flight.
const STORE_BATCH: u32 = 20;
/// Retained messages under one second level.
const PER_LEVEL: usize = 100;
const PINGS_PER_S: f64 = 1_000.0;
const BUFFER_BYTES: usize = 1 << 20;

/// A blocking connection.
struct Client {
    stream: TcpStream,
    version: Version,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Client {
    fn connect(settings: &Settings, client_id: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(settings.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(settings.patience))?;
        let mut client = Client { stream, version: settings.version, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0 };
        let connect = Connect {
            version: settings.version,
            clean_start: true,
            keep_alive: settings.keep_alive,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: Properties { receive_maximum: settings.version.is_v5().then_some(u16::MAX), ..Properties::default() },
        };
        client.write(|_, out| encode::connect(out, &connect))?;
        client.wait_for(PacketType::Connack)?;
        Ok(client)
    }

    fn write(&mut self, encode: impl FnOnce(Version, &mut Vec<u8>)) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode(self.version, &mut bytes);
        self.stream.write_all(&bytes)
    }

    /// Hands over packets until `done` says that this was the last one.
    fn read_until(&mut self, mut done: impl FnMut(Packet<'_>) -> bool) -> io::Result<()> {
        loop {
            while let Some((packet, length)) = packets::next(&self.buffer[self.start..self.end]) {
                self.start += length;
                if done(packet) {
                    return Ok(());
                }
            }
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            match self.stream.read(&mut self.buffer[self.end..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.end += count,
            }
        }
    }

    fn wait_for(&mut self, kind: PacketType) -> io::Result<()> {
        self.read_until(|packet| PacketType::from_first(packet.first) == Some(kind))
    }
}

fn topic(number: usize) -> String {
    format!("retained/{}/{}", number / PER_LEVEL, number % PER_LEVEL)
}

/// Stores all messages, each acknowledged.
fn store(client: &mut Client, count: usize, payload_bytes: usize, progress: &dyn Fn(u64)) -> io::Result<()> {
    let mut payload = vec![b'.'; payload_bytes];
    let mut stored = 0;
    while stored < count {
        let batch = (count - stored).min(STORE_BATCH as usize);
        client.write(|version, out| {
            for number in stored..stored + batch {
                Stamp { publisher: 0, number: number as u32, time: 0 }.put(&mut payload);
                let packet_id = (number % usize::from(u16::MAX)) as u16 + 1;
                let topic = topic(number);
                let message = PublishOut { qos: QoS::AtLeastOnce, retain: true, packet_id, ..PublishOut::new(&topic, &payload) };
                encode::publish(out, version, &message);
            }
        })?;
        let mut left = batch;
        client.read_until(|packet| {
            left -= usize::from(PacketType::from_first(packet.first) == Some(PacketType::Puback));
            left == 0
        })?;
        stored += batch;
        progress(stored as u64);
    }
    Ok(())
}

/// What the fetching client has seen.
struct Fetches {
    /// By message: the last fetch that it came with.
    seen: Vec<u64>,
    count: u64,
    checks: Checks,
    suback: Latency,
    complete: Latency,
}

impl Fetches {
    /// Subscribes, takes what matches, unsubscribes.
    fn fetch(&mut self, client: &mut Client, filter: &str, matching: u64) -> io::Result<()> {
        let start = Instant::now();
        self.count += 1;
        let entry = SubscribeEntry { filter, options: SubscribeOptions::default() };
        client.write(|version, out| encode::subscribe(out, version, 1, &[entry], &Properties::default()))?;
        let v5 = client.version.is_v5();
        let (mut acknowledged, mut left) = (false, matching);
        let result = client.read_until(|packet| {
            if packet.first >> 4 == PacketType::Publish as u8 {
                left = left.saturating_sub(self.delivered(packet.first, packet.body, v5));
            } else if PacketType::from_first(packet.first) == Some(PacketType::Suback) {
                self.suback.record(start.elapsed().as_nanos() as u64);
                acknowledged = true;
            }
            acknowledged && left == 0
        });
        self.checks.sent += matching;
        self.checks.received += matching - left;
        self.checks.lost += left;
        match result {
            Ok(()) => self.complete.record(start.elapsed().as_nanos() as u64),
            // Some are missing for good: the next fetch may tell more.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => self.checks.stalls += 1,
            Err(error) => return Err(error),
        }
        client.write(|version, out| encode::unsubscribe(out, version, 2, [filter], &Properties::default()))?;
        client.wait_for(PacketType::Unsuback)
    }

    /// One message; gives how many of those that are waited for it is.
    fn delivered(&mut self, first: u8, body: &[u8], v5: bool) -> u64 {
        let stamp = packets::publish(first, body, v5).and_then(|(_, payload)| Stamp::get(payload));
        let Some(seen) = stamp.and_then(|stamp| self.seen.get_mut(stamp.number as usize)) else {
            self.checks.foreign += 1;
            return 0;
        };
        let again = std::mem::replace(seen, self.count) == self.count;
        self.checks.duplicated += u64::from(again);
        u64::from(!again)
    }
}

/// Pings by a timetable until told to stop.
fn ping(settings: &Settings, stop: &AtomicBool) -> io::Result<Latency> {
    let mut client = Client::connect(settings, "bystander")?;
    let clock = Instant::now();
    let now = || clock.elapsed().as_nanos() as u64;
    let (mut schedule, mut latency) = (Schedule::new(PINGS_PER_S), Latency::new());
    while !stop.load(Ordering::Relaxed) {
        let Some(due) = schedule.take_due(now()) else {
            thread::sleep(Duration::from_nanos(schedule.next_due().saturating_sub(now())));
            continue;
        };
        client.write(|_, out| encode::pingreq(out))?;
        client.wait_for(PacketType::Pingresp)?;
        latency.record(now() - due);
    }
    Ok(latency)
}

/// Runs the scenario. Errors: the broker cannot be reached, closes a connection, or its process cannot be read.
pub fn run(name: &str, scenario: &Scenario, settings: &Settings, observer: &Observer<'_>) -> Result<Outcome, Box<dyn Error>> {
    let count = scenario.retained;
    let filter = TopicFilter::new(&scenario.retained_filter).map_err(|_| "retained_filter is no topic filter")?;
    let matches = |number: &usize| TopicName::new(&topic(*number)).is_ok_and(|topic| filter.matches(topic));
    let matching = (0..count).filter(matches).count() as u64;
    let show = |stored| (observer.show)(Phase::SetUp, &Totals { acknowledged: stored, ..Totals::default() });
    let before = Reading::take(Totals::default(), observer)?;
    store(&mut Client::connect(settings, "store")?, count, settings.payload_bytes, &show)?;
    let stored = Reading::take(Totals::default(), observer)?;

    let stop = Arc::new(AtomicBool::new(false));
    let (told, of_pings) = (Arc::clone(&stop), settings.clone());
    let pinging = thread::spawn(move || ping(&of_pings, &told));
    let mut fetches =
        Fetches { seen: vec![0; count], count: 0, checks: Checks::default(), suback: Latency::new(), complete: Latency::new() };
    let mut client = Client::connect(settings, "fetch")?;
    // The first one is not typical: what it needs may not be there yet.
    fetches.fetch(&mut client, &scenario.retained_filter, matching)?;
    (fetches.suback, fetches.complete) = (Latency::new(), Latency::new());
    let first = Reading::take(Totals::default(), observer)?;
    let already = (fetches.count, fetches.checks.received);
    let end = Instant::now() + settings.time;
    while Instant::now() < end {
        fetches.fetch(&mut client, &scenario.retained_filter, matching)?;
        (observer.show)(Phase::Measure, &Totals { received: fetches.checks.received, ..Totals::default() });
    }
    let last = Reading::take(Totals::default(), observer)?;
    stop.store(true, Ordering::Relaxed);
    let bystander = pinging.join().map_err(|_| "the thread of the pings panicked")??;

    let (fetched, received) = (fetches.count - already.0, fetches.checks.received - already.1);
    let cost = |first: &Reading, last: &Reading, each: u64| run::broker_cpu_us(first, last).map(|cpu| cpu / each.max(1) as f64);
    let rss = before.broker.zip(stored.broker).map(|(before, after)| after.rss.saturating_sub(before.rss) as f64);
    let seconds = first.seconds_to(&last);
    Ok(Outcome {
        name: name.to_owned(),
        set_up: run::set_up(&before, &stored, &stored, 3, 0),
        seconds,
        ingress: 0,
        ingress_per_s: 0.0,
        egress: received,
        egress_per_s: received as f64 / seconds,
        broker: run::broker(&first, &last, received),
        generator: Generator { threads: 2, busy: Some(first.generator_seconds_to(&last) / seconds), bound: false },
        other_cores: run::other_cores(&first, &last),
        storm: None,
        retained: Some(Retained {
            stored: count as u64,
            stores_per_s: count as f64 / before.seconds_to(&stored),
            cpu_us_per_store: cost(&before, &stored, count as u64),
            rss_bytes_each: rss.map(|rss| rss / count as f64),
            matching,
            fetches: fetched,
            cpu_us_per_fetch: cost(&first, &last, fetched),
        }),
        checks: fetches.checks,
        latency_us: Latencies {
            suback: fetches.suback.percentiles(),
            fetch: fetches.complete.percentiles(),
            bystander: bystander.percentiles(),
            ..Latencies::default()
        },
    })
}
