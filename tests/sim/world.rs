//! A world: shards, network, clients and a clock in one thread, all of it out of one seed.
//!
//! Its life: chaos, in which clients do what they like; calm, in which everybody comes back and finishes what is open; quiet, when nothing is under way
//! any more; probes, which show whether all shards agree; and the end, when everybody leaves for good.

use ringmq::broker::{ShardId, home_of};
use ringmq::mqtt::Version;

use crate::client::Client;
use crate::history::{Event, History, Identity};
use crate::host::{Host, Surroundings};
use crate::network::Network;
use crate::rng::Rng;
use crate::settings::Settings;

/// Steps after which a world that should be quiet is declared stuck.
const CALM_STEPS: u32 = 30_000;
/// A shard runs at least this often, ms.
const LONGEST_TURN_MS: u64 = 100;

/// A running world.
pub struct World {
    pub settings: Settings,
    pub history: History,
    pub network: Network,
    pub rng: Rng,
    pub hosts: Vec<Host>,
    pub clients: Vec<Client>,
    /// Clients do nothing any more.
    pub over: bool,
    /// `$SYS` is published.
    pub sys: bool,
    pub last_turn: Vec<u64>,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let settings = Settings::new(&mut rng);
        let mut history = History { now: rng.below(1 << 40), ..History::default() };
        let mut clients = Vec::new();
        for ix in 0..settings.clients {
            let client_id = format!("client-{ix}-{}", rng.below(1_000));
            let home = home_of(&client_id, settings.shards);
            history.clients.push(Identity { client_id, home });
            clients.push(Client::new(ix, rng.pick(&[Version::V31, Version::V311, Version::V5, Version::V5]), false));
        }
        let ix = clients.len();
        let home = home_of("watcher", settings.shards);
        history.clients.push(Identity { client_id: "watcher".to_owned(), home });
        history.watcher = Some(ix);
        let mut watcher = Client::new(ix, Version::V5, true);
        watcher.watches = Some("w/#");
        clients.push(watcher);
        let hosts = (0..settings.shards).map(|shard| Host::new(ShardId(shard), &settings, history.now)).collect();
        let network = Network::new(settings.shards, settings.ring_capacity);
        let last_turn = vec![history.now; usize::from(settings.shards)];
        let sys = settings.sys_interval_s > 0;
        World { settings, history, network, rng, hosts, clients, over: false, sys, last_turn }
    }

    /// The whole life of the world.
    pub fn run(&mut self) {
        for _ in 0..self.settings.steps {
            if self.rng.permille(self.settings.jump_permille) {
                self.jump();
            }
            self.suffer();
            self.step(true);
        }
        self.history.push(Event::Calm);
        self.settings.socket_bytes = 1_000_000;
        self.settings.step_ms = self.settings.step_ms.max(20);
        if self.settle("everybody finishes") {
            self.history.push(Event::Quiet);
            self.probe();
            self.read_retained();
            self.end();
        }
    }

    /// Nobody runs for seconds, as when a machine is suspended.
    fn jump(&mut self) {
        let from = self.history.now;
        self.history.now += self.rng.pick(&[1_000, 5_000, 20_000]);
        self.history.push(Event::Jumped { from, to: self.history.now });
    }

    /// A moment passes: every client acts, most shards run.
    pub fn step(&mut self, chaos: bool) {
        self.history.now += self.rng.below(self.settings.step_ms + 1);
        let World { settings, history, network, rng, hosts, clients, over, last_turn, .. } = self;
        let mut around = Surroundings { network, history, rng, settings };
        for client in around.rng.order(if *over { 0 } else { clients.len() }) {
            clients[client].act(chaos, &mut around);
        }
        for shard in around.rng.order(hosts.len()) {
            if around.rng.percent(70) || around.history.now > last_turn[shard] + LONGEST_TURN_MS {
                last_turn[shard] = around.history.now;
                hosts[shard].turn(&mut around);
            }
        }
    }

    /// Runs until nothing is under way any more; false if that takes too long.
    pub fn settle(&mut self, doing: &str) -> bool {
        let mut quiet = 0;
        for _ in 0..CALM_STEPS {
            self.step(false);
            quiet = if self.is_quiet() { quiet + 1 } else { 0 };
            // Some steps more: every shard must have had its turn.
            if quiet > 20 {
                return true;
            }
        }
        let what = format!("{doing}: {}", self.what_is_open());
        self.history.push(Event::Broken { rule: "comes to rest", what });
        false
    }

    fn is_quiet(&self) -> bool {
        self.network.is_quiet() && self.hosts.iter().all(Host::is_quiet) && self.clients.iter().all(Client::is_quiet)
    }

    fn what_is_open(&self) -> String {
        let mut text = format!("network quiet: {};", self.network.is_quiet());
        for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| !host.is_quiet()) {
            text += &format!(" shard {index}: {:?};", host.shard.holdings());
        }
        for (index, host) in self.hosts.iter().enumerate() {
            let gauges = host.shard.snapshot().gauges;
            text += &format!(
                " shard {index} has {} queued, {} held, {} in flight;",
                gauges.queued_messages, gauges.held_messages, gauges.inflight_messages
            );
        }
        for client in self.clients.iter().filter(|client| !client.is_quiet()) {
            text += &format!(
                " client {} ({:?}): {} flights, received {:?}, ",
                client.ix,
                client.version,
                client.flights.len(),
                client.received
            );
            text += &match &client.link {
                Some(link) => format!("{link:?} {:?};", self.network.sockets[link.socket]),
                None => "no connection;".to_owned(),
            };
        }
        text
    }
}
