//! A batch of another shard, message by message, in the order in which it was written.

use super::ids::ShardId;
use super::peer::{Batch, PeerMessage};
use super::shard::Shard;

impl Shard {
    pub(super) fn on_batch(&mut self, from: ShardId, batch: &Batch) {
        let mut applied = None;
        for change in batch.exact_changes() {
            self.finish_run();
            self.topics.apply(from, &change);
            applied = Some(batch.exact_number);
        }
        // The place from which on nothing was looked ahead for.
        let mut cold = if self.topics.is_large() { 0 } else { usize::MAX };
        for (at, message) in batch.messages.iter().enumerate() {
            if at >= cold {
                cold = self.warm_messages(batch, at);
            }
            if let PeerMessage::Publish(publish) = message {
                self.counters.peer_messages_received += 1;
                self.on_peer_publish(from, publish, batch);
                continue;
            }
            if let PeerMessage::Run(run) = message {
                self.counters.peer_messages_received += u64::from(run.count);
                self.on_peer_run(run, batch);
                continue;
            }
            self.finish_run();
            match message {
                PeerMessage::Publish(_) | PeerMessage::Run(_) => {}
                PeerMessage::PublishDone { ticket, code, kept } => {
                    if let Some(ticket) = self.tickets.get_mut(*ticket) {
                        ticket.kept_elsewhere |= kept;
                    }
                    self.settle(*ticket, *code);
                }
                PeerMessage::Forget { exchange, ticket } => self.on_forget(from, *exchange, *ticket),
                PeerMessage::Interest { number, change } => {
                    self.topics.apply(from, change);
                    applied = applied.max(Some(*number));
                }
                PeerMessage::InterestApplied { number } => self.on_interest_applied(from, *number),
                PeerMessage::RetainedRead { fetch, filter, max } => self.on_retained_read(from, *fetch, filter, *max),
                PeerMessage::RetainedItem { fetch, message } => self.on_retained_item(*fetch, message, batch),
                PeerMessage::RetainedSlice { fetch, done } => self.on_retained_slice(from, *fetch, *done),
                PeerMessage::RetainedCancel { fetch } => {
                    if let Some(cursor) = self.cursors.remove(&(from, *fetch)) {
                        self.retained.close(cursor);
                    }
                }
                PeerMessage::Snapshot(snapshot) => self.on_snapshot(from, snapshot),
            }
        }
        // One answer for all changes of a batch.
        if let Some(number) = applied {
            self.peers.to(from).messages.push(PeerMessage::InterestApplied { number });
        }
    }
}
