//! A proof that no retained message is on its way to a client any more.
//!
//! A PINGREQ does not prove it: the broker answers that at once, while retained messages come from whatever shard owns them. But each shard answers in
//! order, so the retained message of a topic that is subscribed to later comes after all that it had to send before.

use super::{Broker, Client, Connect, V5};

/// A retained message on each shard, on topics that begin with `$` and so stay out of the way of wildcards.
pub struct Markers(Vec<String>);

impl Markers {
    pub fn new(broker: &Broker) -> Markers {
        let mut publisher = broker.connect(&Connect::new(V5, &broker.client_id("markers", 0)));
        let topics: Vec<_> = (0..broker.shards).map(|shard| broker.topic("$marker", shard)).collect();
        topics.iter().for_each(|topic| publisher.retain(topic, "marker"));
        Markers(topics)
    }

    /// The topics, by the shard that owns them.
    pub fn topics(&self) -> &[String] {
        &self.0
    }

    /// Nothing waits for this client, retained messages included.
    #[track_caller]
    pub fn expect_silence(&self, client: &mut Client) {
        for topic in &self.0 {
            client.subscribe(topic, 0);
            assert_eq!(&client.publish().topic, topic);
        }
        client.expect_silence();
    }
}
