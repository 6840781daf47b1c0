//! What happens to a machine: its disk is full for a while; it stops at once and starts again, perhaps with another number of shards.

use ringmq::broker::{ShardId, home_of};

use crate::disk::Left;
use crate::faults::Fault;
use crate::history::Event;
use crate::host::{Host, Surroundings};
use crate::world::World;

/// Turns that a restore may take.
const RESTORE_TURNS: u32 = 10_000;

impl World {
    /// A step of a machine's life.
    pub fn suffer(&mut self) {
        let Some(disk) = self.settings.disk else { return };
        if self.rng.permille(disk.full_permille) {
            self.network.disk_full_until = self.history.now + self.rng.range(10, 3_000);
            self.history.push(Event::DiskFull);
        }
        if self.rng.permille(disk.crash_permille) {
            self.crash();
        }
    }

    /// The machine stops, and starts again some time later.
    pub fn crash(&mut self) {
        let hosts = std::mem::take(&mut self.hosts);
        let rots = self.settings.disk.is_some_and(|disk| self.rng.percent(disk.rot_percent));
        let World { settings, history, network, rng, .. } = self;
        let mut around = Surroundings { network, history, rng, settings };
        let left: Vec<Left> = hosts.into_iter().map(|host| host.crash(rots, &mut around)).collect();
        if rots {
            let bytes = left.iter().map(|left| left.rotten).sum();
            let hidden = self.network.saboteur.strikes(Fault::HideDamage, true);
            let damaged = if hidden { 0 } else { left.iter().map(|left| left.damaged).sum() };
            self.history.push(Event::Rotten { bytes, damaged });
        }
        let logs: Vec<Vec<Vec<u8>>> = left.into_iter().map(|left| left.commits).collect();
        let shards = self.rng.pick(&[1, 2, 2, 3, 4]);
        self.history.push(Event::Crashed);
        for socket in &mut self.network.sockets {
            socket.broker_dies(&mut self.rng);
        }
        self.settings.shards = shards;
        for client in &mut self.history.clients {
            client.home = home_of(&client.client_id, shards);
        }
        self.history.now += self.rng.pick(&[1, 100, 3_000]);
        // It may stop again while it starts: the old logs count until all of the new ones are whole.
        while !self.restart(&logs) {
            self.history.now += 10;
        }
        self.last_turn = vec![self.history.now; usize::from(shards)];
    }

    /// New shards take in what is left of the logs; false if the machine stops over that.
    fn restart(&mut self, logs: &[Vec<Vec<u8>>]) -> bool {
        let stops_at = self.rng.percent(20).then(|| self.rng.below(20) as u32);
        let now = self.history.now;
        self.network.replace_shards(self.settings.shards, self.settings.ring_capacity);
        self.hosts = (0..self.settings.shards).map(|shard| Host::new(ShardId(shard), &self.settings, now)).collect();
        for host in &mut self.hosts {
            host.shard.restore(now, logs);
        }
        for turn in 0..RESTORE_TURNS {
            if stops_at == Some(turn) {
                return false;
            }
            if self.hosts.iter().all(|host| host.is_quiet() && host.shard.interest_is_known()) {
                return true;
            }
            self.history.now += self.rng.below(self.settings.step_ms + 1);
            let World { settings, history, network, rng, hosts, .. } = self;
            let mut around = Surroundings { network, history, rng, settings };
            for host in hosts {
                host.restore_turn(&mut around);
            }
        }
        self.history.push(Event::Broken { rule: "comes to rest", what: "the shards never finished what they restored".to_owned() });
        true
    }
}
