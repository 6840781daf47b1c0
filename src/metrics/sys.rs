//! The `$SYS/broker` topics: Mosquitto's names and formats, so that its dashboards keep working, and ours for shards and drops below them.
//!
//! Mosquitto's `heap/...` is left out: the allocator is not asked on the way. `clients/active` and `inactive` are kept for old dashboards.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{CloseCause, DropReason, Limit, LoadAverage, RefuseReason, Snapshot};

/// Name below `$SYS/broker/load`, and what to average.
type Load = (&'static str, fn(&Snapshot) -> u64);

/// The counters whose load is published.
const LOADS: [Load; 9] = [
    ("messages/received", |total| total.counters.packets_received),
    ("messages/sent", |total| total.counters.packets_sent),
    ("publish/dropped", |total| total.counters.dropped_total()),
    ("publish/received", |total| total.counters.publishes_received.iter().sum()),
    ("publish/sent", |total| total.counters.publishes_sent.iter().sum()),
    ("bytes/received", |total| total.counters.bytes_received),
    ("bytes/sent", |total| total.counters.bytes_sent),
    ("sockets", |total| total.counters.connections_opened),
    ("connections", |total| total.counters.connects_accepted + total.counters.connects_refused),
];

/// Remembers what was published, so that only what changed is published again.
#[derive(Clone, Debug)]
pub struct SysTree {
    version: String,
    updated: Duration,
    loads: [LoadAverage; LOADS.len()],
    clients_maximum: u64,
    published: BTreeMap<String, String>,
}

impl SysTree {
    /// `version` as in `ringmq version 0.1.0`.
    pub fn new(version: &str) -> SysTree {
        SysTree {
            version: version.to_owned(),
            updated: Duration::ZERO,
            loads: Default::default(),
            clients_maximum: 0,
            published: BTreeMap::new(),
        }
    }

    /// Takes in the shards' values at `uptime` and gives each topic whose value changed, to be published retained; all of them the first time.
    pub fn update(&mut self, uptime: Duration, shards: &[Snapshot]) -> Vec<(String, String)> {
        let total = Snapshot::total(shards);
        let elapsed = uptime.saturating_sub(self.updated);
        self.updated = uptime;
        for (load, (_, counter)) in self.loads.iter_mut().zip(LOADS) {
            load.update(counter(&total), elapsed);
        }
        self.clients_maximum = self.clients_maximum.max(total.gauges.sessions);
        let mut topics = self.render(uptime, &total, shards);
        topics.retain(|(topic, value)| self.published.get(topic) != Some(value));
        self.published.extend(topics.iter().cloned());
        topics
    }

    fn render(&self, uptime: Duration, total: &Snapshot, shards: &[Snapshot]) -> Vec<(String, String)> {
        let mut topics = vec![
            ("$SYS/broker/version".to_owned(), self.version.clone()),
            ("$SYS/broker/uptime".to_owned(), format!("{} seconds", uptime.as_secs())),
        ];
        let mut number = |topic: &str, value: u64| topics.push((format!("$SYS/broker/{topic}"), value.to_string()));
        mosquitto_numbers(total, self.clients_maximum, &mut number);
        for (reason, count) in DropReason::names().zip(total.counters.dropped) {
            number(&format!("dropped/{reason}"), count);
        }
        for (reason, count) in RefuseReason::names().zip(total.counters.refused) {
            number(&format!("refused/{reason}"), count);
        }
        for (cause, count) in CloseCause::names().zip(total.counters.connections_closed) {
            number(&format!("closed/{cause}"), count);
        }
        for (reason, clients) in Limit::names().zip(total.gauges.limited_clients) {
            number(&format!("clients/limited/{reason}"), clients);
        }
        for (index, shard) in shards.iter().enumerate() {
            shard_numbers(index, shard, &mut number);
        }
        for (load, (name, _)) in self.loads.iter().zip(LOADS) {
            for (average, window) in load.per_minute().into_iter().zip(["1min", "5min", "15min"]) {
                topics.push((format!("$SYS/broker/load/{name}/{window}"), format!("{average:.2}")));
            }
        }
        topics
    }
}

fn mosquitto_numbers(total: &Snapshot, clients_maximum: u64, number: &mut impl FnMut(&str, u64)) {
    let Snapshot { counters, gauges } = total;
    let connected = gauges.sessions.saturating_sub(gauges.sessions_offline);
    number("clients/total", gauges.sessions);
    number("clients/maximum", clients_maximum);
    number("clients/connected", connected);
    number("clients/active", connected);
    number("clients/disconnected", gauges.sessions_offline);
    number("clients/inactive", gauges.sessions_offline);
    number("clients/expired", counters.sessions_expired);
    number("bytes/received", counters.bytes_received);
    number("bytes/sent", counters.bytes_sent);
    number("messages/received", counters.packets_received);
    number("messages/sent", counters.packets_sent);
    number("messages/inflight", gauges.inflight_messages);
    let stored = gauges.queued_messages + gauges.retained_messages;
    number("messages/stored", stored);
    number("store/messages/count", stored);
    number("store/messages/bytes", gauges.queued_bytes + gauges.retained_bytes);
    number("publish/messages/dropped", counters.dropped_total());
    number("publish/messages/received", counters.publishes_received.iter().sum());
    number("publish/messages/sent", counters.publishes_sent.iter().sum());
    number("publish/bytes/received", counters.publish_bytes_received);
    number("publish/bytes/sent", counters.publish_bytes_sent);
    number("retained messages/count", gauges.retained_messages);
    number("subscriptions/count", gauges.subscriptions);
    number("shared_subscriptions/count", gauges.shared_subscriptions);
}

fn shard_numbers(index: usize, shard: &Snapshot, number: &mut impl FnMut(&str, u64)) {
    let Snapshot { counters, gauges } = shard;
    let values = [
        ("connections", gauges.connections),
        ("sessions", gauges.sessions),
        ("subscriptions", gauges.subscriptions),
        ("retained messages", gauges.retained_messages),
        ("queued messages", gauges.queued_messages),
        ("out_bytes", gauges.out_bytes),
        ("publish/received", counters.publishes_received.iter().sum()),
        ("publish/sent", counters.publishes_sent.iter().sum()),
        ("publish/dropped", counters.dropped_total()),
        ("bytes/received", counters.bytes_received),
        ("bytes/sent", counters.bytes_sent),
        ("turns", counters.turns),
    ];
    values.into_iter().for_each(|(name, value)| number(&format!("shards/{index}/{name}"), value));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Counters, Gauges};

    /// What Mosquitto 2.0 publishes (`mosquitto_sub -t '$SYS/#' -v`), without its heap; `*` stands for 1min, 5min and 15min.
    const MOSQUITTO: &str = "bytes/received bytes/sent clients/active clients/connected clients/disconnected clients/expired clients/inactive \
        clients/maximum clients/total load/bytes/received/* load/bytes/sent/* load/connections/* load/messages/received/* load/messages/sent/* \
        load/publish/dropped/* load/publish/received/* load/publish/sent/* load/sockets/* messages/received messages/sent messages/stored \
        publish/bytes/received publish/bytes/sent publish/messages/dropped publish/messages/received publish/messages/sent \
        retained_messages/count shared_subscriptions/count store/messages/bytes store/messages/count subscriptions/count uptime version";

    fn shard() -> Snapshot {
        let mut counters = Counters { bytes_received: 120, publishes_received: [1, 2, 3], connections_opened: 2, ..Counters::default() };
        counters.count_dropped(DropReason::OutBufferFull, 7);
        counters.count_refused(RefuseReason::ConnectRate);
        Snapshot { counters, gauges: Gauges { sessions: 3, sessions_offline: 1, ..Gauges::default() } }
    }

    #[test]
    fn every_topic_of_mosquitto_is_there() {
        let topics = SysTree::new("ringmq version 0").update(Duration::ZERO, &[shard()]);
        let names: Vec<_> = topics.iter().map(|(topic, _)| topic.strip_prefix("$SYS/broker/").unwrap()).collect();
        for expected in MOSQUITTO.split_whitespace() {
            // The one name with a space in it.
            let expected = expected.replace("retained_messages", "retained messages");
            let windows = if expected.ends_with('*') { &["1min", "5min", "15min"][..] } else { &[""] };
            for window in windows {
                let name = expected.replace('*', window);
                assert_eq!(names.iter().filter(|have| **have == name).count(), 1, "{name}");
            }
        }
    }

    #[test]
    fn values_are_sums_over_the_shards_in_mosquittos_format() {
        let topics = BTreeMap::from_iter(SysTree::new("ringmq version 0").update(Duration::from_secs(2), &[shard(), shard()]));
        for (topic, value) in [
            ("version", "ringmq version 0"),
            ("uptime", "2 seconds"),
            ("bytes/received", "240"),
            ("clients/total", "6"),
            ("clients/connected", "4"),
            ("clients/disconnected", "2"),
            ("clients/maximum", "6"),
            ("publish/messages/received", "12"),
            ("publish/messages/dropped", "14"),
            ("dropped/out_buffer_full", "14"),
            ("dropped/expired", "0"),
            ("refused/connect_rate", "2"),
            ("refused/retain", "0"),
            ("shards/1/bytes/received", "120"),
            ("shards/0/sessions", "3"),
            ("load/sockets/1min", "3.93"),
        ] {
            assert_eq!(topics.get(&format!("$SYS/broker/{topic}")).map(String::as_str), Some(value), "{topic}");
        }
    }

    #[test]
    fn only_what_changed_is_published_again() {
        let mut tree = SysTree::new("v");
        let all = tree.update(Duration::from_secs(1), &[shard()]).len();
        assert!(all > 70);
        assert!(tree.update(Duration::from_secs(1), &[shard()]).is_empty());
        let mut busier = shard();
        busier.counters.turns = 1;
        assert_eq!(tree.update(Duration::from_secs(1), &[busier]), [("$SYS/broker/shards/0/turns".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn the_maximum_of_clients_stays_when_they_leave() {
        let mut tree = SysTree::new("v");
        tree.update(Duration::from_secs(1), &[shard()]);
        let topics = BTreeMap::from_iter(tree.update(Duration::from_secs(2), &[Snapshot::default()]));
        assert_eq!(topics.get("$SYS/broker/clients/total").map(String::as_str), Some("0"));
        assert_eq!(topics.get("$SYS/broker/clients/maximum"), None);
    }
}
