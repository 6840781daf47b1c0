//! What the forwarder does wrong on purpose, and how often it did.

use ringmq::mqtt::{PublishOut, Version, encode};

use super::peer::Peer;

/// Every how many deliveries something goes wrong; 0 is never.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Faults {
    /// Drop every Nth delivery
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub drop: u64,
    /// Deliver every Nth delivery twice
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub double: u64,
    /// Let every Nth delivery be passed by the next one of its publisher
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub swap: u64,
}

/// Faults that really happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    pub dropped: u64,
    pub doubled: u64,
    pub swapped: u64,
}

pub struct Injector {
    faults: Faults,
    deliveries: u64,
    pub injected: Injected,
}

impl Injector {
    pub fn new(faults: Faults) -> Injector {
        Injector { faults, deliveries: 0, injected: Injected::default() }
    }

    /// Appends a message of peer `from` to the output of `peer`, or does to it what its turn is.
    pub fn deliver(&mut self, peer: &mut Peer, from: usize, message: &PublishOut<'_>) {
        self.deliveries += 1;
        let due = |every: u64| every > 0 && self.deliveries.is_multiple_of(every);
        if due(self.faults.drop) {
            self.injected.dropped += 1;
            return;
        }
        if peer.held.is_none() && due(self.faults.swap) {
            let mut packet = Vec::new();
            encode::publish(&mut packet, Version::V311, message);
            peer.held = Some((from, packet));
            return;
        }
        encode::publish(&mut peer.out, Version::V311, message);
        if due(self.faults.double) {
            self.injected.doubled += 1;
            encode::publish(&mut peer.out, Version::V311, message);
        }
        if peer.held.as_ref().is_some_and(|(origin, _)| *origin == from) {
            self.injected.swapped += 1;
            peer.release_held();
        }
    }
}
