//! The later life of a world, when nothing is under way any more: probes, a look at the retained messages, and the end of everything.

use std::collections::BTreeSet;
use std::sync::Arc;

use ringmq::broker::{ShardId, home_of};
use ringmq::config::Limits;
use ringmq::mqtt::{QoS, ReasonCode, SubscribeOptions, Version};

use crate::client::Client;
use crate::client::behaviour::{ConnectWish, new_message};
use crate::history::{ClientIx, Entry, Event, Identity, Purpose};
use crate::host::Surroundings;
use crate::topics;
use crate::world::World;

/// Messages that one probe publishes.
const PROBES: usize = 12;
/// Messages published at once.
const BURST: usize = 10;
/// Nothing that still ends by itself takes longer, ms.
const LAST_TIMERS_MS: u64 = 100_000;

impl World {
    /// From every shard messages to random topics: whoever subscribes must get them, and nobody else.
    pub fn probe(&mut self) {
        for host in &mut self.hosts {
            host.shard.set_limits(Arc::new(Limits::default()));
        }
        let probes: Vec<ClientIx> =
            (0..self.settings.shards).map(|shard| self.newcomer(&format!("probe-{shard}"), Some(ShardId(shard)))).collect();
        self.settle("probes connect");
        for probe in probes {
            let topics: Vec<String> = (0..PROBES).map(|_| topics::random_topic(&mut self.rng)).collect();
            self.publish_all(probe, Purpose::Probe, topics, false);
        }
    }

    /// A new client asks for everything that is retained.
    pub fn read_retained(&mut self) {
        let reader = self.newcomer("reader", None);
        self.history.reader = Some(reader);
        self.settle("the reader connects");
        self.with(reader, |client, around| {
            for filter in ["#", "$x/#"] {
                let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
                client.subscribe(vec![Entry { filter: filter.to_owned(), options, subscription_id: 0 }], around);
            }
        });
        self.settle("the reader reads");
    }

    /// Everybody ends their session and leaves, and what was retained is cleared.
    pub fn end(&mut self) {
        self.history.push(Event::Ending);
        for client in 0..self.clients.len() {
            self.with(client, |client, around| {
                client.abandon();
                client.connect(ConnectWish { clean_start: true, ..ConnectWish::default() }, around);
            });
        }
        self.settle("everybody starts anew");
        let retained: BTreeSet<String> =
            self.history.messages.iter().filter(|message| message.retain).map(|message| message.topic.clone()).collect();
        self.publish_all(0, Purpose::Cleaning, retained.into_iter().collect(), true);
        for client in 0..self.clients.len() {
            self.with(client, |client, around| client.disconnect(ReasonCode::SUCCESS, None, around));
        }
        self.settings.sys_interval_s = 0;
        for host in &mut self.hosts {
            host.shard.set_sys_interval(0);
        }
        self.over = true;
        self.run_shards();
        self.history.now += LAST_TIMERS_MS;
        self.run_shards();
        for (shard, host) in self.hosts.iter().enumerate() {
            let mut holdings = host.shard.holdings();
            if self.sys {
                (holdings.retained, holdings.retained_bytes) = (0, 0);
            }
            self.history.push(Event::Left { shard: ShardId(shard as u16), holdings });
        }
    }

    fn run_shards(&mut self) {
        for _ in 0..200 {
            self.step(false);
        }
    }

    /// Publishes to each of the topics, a few at a time, and waits until all is acknowledged and delivered.
    fn publish_all(&mut self, client: ClientIx, purpose: Purpose, topics: Vec<String>, clear: bool) {
        for burst in topics.chunks(BURST) {
            self.with(client, |client, around| {
                for topic in burst {
                    let qos =
                        if clear { QoS::AtLeastOnce } else { around.rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]) };
                    let message = new_message(client, purpose, topic.clone(), qos, clear, 20, around);
                    around.history.messages[message].expiry_s = None;
                    if clear {
                        around.history.messages[message].payload.clear();
                    }
                    client.publish(message, around);
                }
            });
            self.settle("a burst is delivered");
        }
    }

    fn newcomer(&mut self, name: &str, home: Option<ShardId>) -> ClientIx {
        let shards = self.settings.shards;
        let mut names = (0..).map(|number| format!("{name}-{number}"));
        let client_id = names.find(|name| home.is_none_or(|home| home_of(name, shards) == home)).unwrap_or_default();
        let home = home_of(&client_id, shards);
        self.history.clients.push(Identity { client_id, home });
        let ix = self.clients.len();
        self.clients.push(Client::new(ix, Version::V5, true));
        ix
    }

    /// Lets a client do something.
    fn with(&mut self, client: ClientIx, act: impl FnOnce(&mut Client, &mut Surroundings<'_>)) {
        let World { settings, history, network, rng, clients, .. } = self;
        act(&mut clients[client], &mut Surroundings { network, history, rng, settings });
    }
}
