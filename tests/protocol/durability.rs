//! What a data directory keeps over kill -9: retained messages, as far as they were acknowledged. The harness ends every broker with SIGKILL.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::support::{Broker, Connect, Io, Publish, V5, V311, packets, property};

/// A data directory that goes with the test.
pub struct DataDir {
    path: PathBuf,
    engine: &'static str,
}

/// What can keep it.
const ENGINES: &[&str] = if cfg!(feature = "engine-fjall") { &["log", "fjall"] } else { &["log"] };

impl DataDir {
    fn new(name: &str, engine: &'static str) -> DataDir {
        let path = std::env::temp_dir().join(format!("ringmq-durability-{engine}-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        DataDir { path, engine }
    }

    pub fn start(&self, io: Io, shards: u16) -> Broker {
        let (data_dir, engine) = (format!("storage.data_dir={}", self.path.display()), format!("storage.engine={}", self.engine));
        Broker::start(io, shards, &[&data_dir, &engine, "limits.will_grace_after_crash_s=1"])
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Kernel interface, and numbers of shards before and after; with every engine.
pub fn for_each_restart(name: &str, test: impl Fn(&DataDir, Io, u16, u16)) {
    for io in [Io::Uring, Io::Epoll].into_iter().filter(|io| io.is_available()) {
        for &engine in ENGINES {
            for (before, after) in [(1, 1), (2, 2), (1, 3), (3, 2)] {
                let data = DataDir::new(&format!("{name}-{io:?}-{before}-{after}"), engine);
                test(&data, io, before, after);
            }
        }
    }
}

/// The retained messages below `kept/`, by topic.
fn retained(broker: &Broker) -> BTreeMap<String, String> {
    let mut client = broker.connect(&Connect::new(V311, &broker.client_id("reader", 0)));
    // What is fetched for the second filter comes after everything that the first one brings.
    client.retain("end/of/it", "end");
    client.subscribe("kept/#", 0);
    client.send(&packets::subscribe(V311, 100, &[], &[("end/+/it", 0)]));
    let mut found = BTreeMap::new();
    loop {
        let packet = client.packet();
        if packet == packets::suback(V311, 100, &[0]) {
            continue;
        }
        let publish = Publish::parse(V311, &packet);
        if publish.topic == "end/of/it" {
            return found;
        }
        found.insert(publish.topic.clone(), String::from_utf8_lossy(&publish.payload).into_owned());
    }
}

fn pairs(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    expected.iter().map(|(topic, payload)| ((*topic).to_owned(), (*payload).to_owned())).collect()
}

#[test]
fn the_last_acknowledged_retained_messages_are_there_after_a_kill() {
    for_each_restart("kill", |data, io, before, after| {
        let broker = data.start(io, before);
        let mut client = broker.connect(&Connect::new(V311, "publisher"));
        for (topic, payload) in [("kept/a", "1"), ("kept/b", "1"), ("kept/c", "1"), ("kept/a", "2"), ("kept/$x", "1")] {
            client.retain(topic, payload);
        }
        client.send_publish(&Publish::new(V311, "kept/b", "").qos(2, 100).retain());
        drop(broker);
        let broker = data.start(io, after);
        assert_eq!(retained(&broker), pairs(&[("kept/a", "2"), ("kept/c", "1"), ("kept/$x", "1")]));
        // Also what was taken over from the first run outlives the second.
        drop(broker);
        assert_eq!(retained(&data.start(io, before)).len(), 3);
    });
}

#[test]
fn properties_and_expiry_are_kept_with_the_message() {
    for_each_restart("properties", |data, io, before, after| {
        let broker = data.start(io, before);
        let mut client = broker.connect(&Connect::new(V5, "publisher"));
        let properties = [property::message_expiry(1_000), property::user("k", "v"), property::user("k", "w")];
        client.send_publish(&Publish::new(V5, "kept/p", "x").qos(1, 1).retain().properties(&properties));
        drop(broker);
        let broker = data.start(io, after);
        let mut reader = broker.connect(&Connect::new(V5, "reader"));
        reader.subscribe("kept/p", 0);
        let publish = reader.publish();
        assert_eq!((&publish.topic[..], publish.retain), ("kept/p", true));
        assert!(publish.properties.ends_with(&[property::user("k", "v"), property::user("k", "w")].concat()), "{publish:?}");
    });
}

/// Publishes ever higher numbers to a few topics, and notes the highest that was sent and acknowledged for each, until the broker is gone.
struct Flood {
    acknowledged: Arc<AtomicU64>,
    highest: Arc<Mutex<BTreeMap<String, (u64, u64)>>>,
    thread: std::thread::JoinHandle<()>,
}

const TOPICS: u64 = 7;
const WINDOW: u64 = 32;

impl Flood {
    fn start(broker: &Broker) -> Flood {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let highest = Arc::new(Mutex::new(BTreeMap::new()));
        let mut stream = TcpStream::connect(broker.address()).expect("the broker listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out can be set");
        stream.write_all(&Connect::new(V311, "flood").bytes()).expect("the broker reads");
        stream.read_exact(&mut [0; 4]).expect("CONNACK");
        let (count, notes) = (Arc::clone(&acknowledged), Arc::clone(&highest));
        let thread = std::thread::spawn(move || {
            for number in 1.. {
                if number > WINDOW && read_ack(&mut stream, number - WINDOW, &notes, &count).is_none() {
                    return;
                }
                let topic = format!("kept/{}", number % TOPICS);
                notes.lock().expect("notes").entry(topic.clone()).or_insert((0, 0)).0 = number;
                let publish = Publish::new(V311, &topic, &number.to_string()).qos(1, packet_id(number)).retain();
                if stream.write_all(&publish.bytes()).is_err() {
                    return;
                }
            }
        });
        Flood { acknowledged, highest, thread }
    }
}

fn packet_id(number: u64) -> u16 {
    (number % 65_535) as u16 + 1
}

/// The acknowledgement of this number; `None` when the broker is gone.
fn read_ack(stream: &mut TcpStream, number: u64, notes: &Mutex<BTreeMap<String, (u64, u64)>>, count: &AtomicU64) -> Option<()> {
    let mut ack = [0; 4];
    stream.read_exact(&mut ack).ok()?;
    assert_eq!((ack[0], u16::from_be_bytes([ack[2], ack[3]])), (0x40, packet_id(number)));
    notes.lock().expect("notes").entry(format!("kept/{}", number % TOPICS)).or_insert((0, 0)).1 = number;
    count.fetch_add(1, Ordering::Release);
    Some(())
}

#[test]
fn nothing_acknowledged_is_lost_when_the_broker_is_killed_under_load() {
    for_each_restart("load", |data, io, before, after| {
        for round in 0..3 {
            let broker = data.start(io, if round % 2 == 0 { before } else { after });
            let flood = Flood::start(&broker);
            // Killed in the middle of whatever it is doing then.
            while flood.acknowledged.load(Ordering::Acquire) < 200 + 37 * round && !flood.thread.is_finished() {
                std::thread::yield_now();
            }
            drop(broker);
            flood.thread.join().expect("the publisher ends when the broker does");
            let found = retained(&data.start(io, after));
            for (topic, (sent, acknowledged)) in flood.highest.lock().expect("notes").iter() {
                let kept: u64 = found.get(topic).and_then(|payload| payload.parse().ok()).unwrap_or(0);
                assert!((*acknowledged..=*sent).contains(&kept), "{topic}: {kept} is kept, {acknowledged} was acknowledged, {sent} sent");
            }
        }
    });
}
