//! What the shards tell one another of their subscriptions. SUBACK leaves when every shard has applied what the SUBSCRIBE changed, so that a publish after
//! SUBACK is delivered wherever it enters.
//!
//! Changes are numbered per shard and travel in the rings' order; the others acknowledge the highest number that they have applied. A SUBSCRIBE waits for
//! all changes that are under way, its own or not: one number says all.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::ids::{ConnId, ShardId};
use super::shard::Shard;
use super::topics::InterestChange;

/// A SUBACK that waits.
#[derive(Debug)]
pub struct WaitingSuback {
    number: u64,
    pub conn: ConnId,
    pub packet_id: u16,
    pub codes: SmallVec<[u8; 8]>,
    /// The retained messages up to this fetch follow it.
    pub last_fetch: u64,
    /// The commit that holds the subscriptions, or 0.
    pub commit: u64,
}

impl WaitingSuback {
    pub fn new(conn: ConnId, packet_id: u16) -> WaitingSuback {
        WaitingSuback { number: 0, conn, packet_id, codes: SmallVec::new(), last_fetch: 0, commit: 0 }
    }
}

/// Numbers given, numbers acknowledged, and who waits for them.
#[derive(Debug)]
pub struct InterestState {
    given: u64,
    /// Highest number that each shard has applied.
    applied: Vec<u64>,
    waiting: VecDeque<WaitingSuback>,
}

impl InterestState {
    pub fn new(shards: u16) -> InterestState {
        InterestState { given: 0, applied: vec![0; usize::from(shards)], waiting: VecDeque::new() }
    }

    /// SUBACKs that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The highest number that all other shards have applied.
    fn settled(&self, own: ShardId) -> u64 {
        let others = self.applied.iter().enumerate().filter(|&(shard, _)| shard != usize::from(own.0));
        others.map(|(_, &number)| number).min().unwrap_or(self.given)
    }
}

impl Shard {
    /// Tells all other shards of a change.
    pub(super) fn tell_interest(&mut self, change: Option<InterestChange>) {
        let Some(change) = change else { return };
        if self.shards == 1 {
            return;
        }
        self.interest.given += 1;
        for shard in (0..self.shards).map(ShardId).filter(|&shard| shard != self.id) {
            self.peers.to(shard).push_interest(self.interest.given, change.clone());
        }
    }

    /// Whether all other shards know all subscriptions of this one.
    pub fn interest_is_known(&self) -> bool {
        self.interest.settled(self.id) >= self.interest.given
    }

    /// Sends a SUBACK now, or when all shards know what they must.
    pub(super) fn suback_when_known(&mut self, mut suback: WaitingSuback) {
        if self.interest_is_known() {
            return self.send_suback(&suback);
        }
        suback.number = self.interest.given;
        self.interest.waiting.push_back(suback);
    }

    /// Another shard has applied our changes up to `number`.
    pub(super) fn on_interest_applied(&mut self, from: ShardId, number: u64) {
        if let Some(applied) = self.interest.applied.get_mut(usize::from(from.0)) {
            *applied = number.max(*applied);
        }
        let settled = self.interest.settled(self.id);
        while self.interest.waiting.front().is_some_and(|suback| suback.number <= settled) {
            if let Some(suback) = self.interest.waiting.pop_front() {
                self.send_suback(&suback);
            }
        }
    }
}
