//! Well-behaved clients that must not notice what others do.

use std::time::Duration;

use super::packets::{PINGREQ, PINGRESP};
use super::{Broker, Client, Connect, V5, V311};

/// A subscriber and a publisher on every shard, connected all the time.
pub struct Canary {
    pairs: Vec<(Client, Client, String)>,
    sung: u32,
}

impl Canary {
    pub fn new(broker: &Broker) -> Canary {
        let pair = |shard| {
            let topic = broker.topic("canary", 0);
            let mut subscriber = broker.connect(&Connect::new(V5, &broker.client_id("canary", shard)).keep_alive(60));
            subscriber.subscribe(&topic, 1);
            let other = (shard + 1) % broker.shards;
            (subscriber, broker.connect(&Connect::new(V311, &broker.client_id("canary", other))), topic)
        };
        Canary { pairs: (0..broker.shards).map(pair).collect(), sung: 0 }
    }

    /// Nobody bothers them, and they nobody, for a while: time in which the broker may do what it does when it has nothing to do.
    #[track_caller]
    pub fn rest(&mut self) {
        self.pairs[0].0.expect_quiet(Duration::from_millis(200));
    }

    /// Each of them still has its connection, gets what it should, and nothing else.
    #[track_caller]
    pub fn check(&mut self) {
        for (subscriber, publisher, topic) in &mut self.pairs {
            for _ in 0..3 {
                self.sung += 1;
                publisher.publish_to(topic, &self.sung.to_string(), 1);
                assert_eq!(subscriber.publish_acknowledged().text(), self.sung.to_string());
            }
            for client in [subscriber, publisher] {
                client.send(&PINGREQ);
                client.expect(&PINGRESP);
            }
        }
    }
}
