//! Sessions that hold publishers up: a full queue from which nothing is taken, because its client is gone for good or never acknowledges.
//!
//! A publisher that finds a full queue is refused or waits, so that nothing is lost that was acknowledged. Of a session that was abandoned it would wait
//! for ever. So a session that takes nothing for `limits.full_session_patience_s` while its queue is full comes to its end, which the standard leaves to
//! the server's administration (3.1.1 and 5.0 section 4.1), and of which the client is told: its session is not there when it comes back.
//!
//! One timer a session, and only while its queue is full.

use super::connection::NONE;
use super::ids::ConnId;
use super::shard::Shard;
use super::timers::TimerKey;
use crate::metrics::DropReason;
use crate::mqtt::ReasonCode;

/// Never, as a patience.
const FOREVER_S: u32 = u32::MAX;

impl Shard {
    /// A message found the queue of a session full.
    pub(super) fn watch_full_queue(&mut self, index: u32) {
        let (patience_s, now) = (self.limits.full_session_patience_s, self.now);
        let Some(session) = self.sessions.get_mut(index).filter(|_| patience_s != FOREVER_S) else { return };
        let generation = session.generation;
        let standstill = &mut session.outgoing().standstill;
        standstill.blocks = true;
        if standstill.since == 0 {
            // The queue is that of an earlier run.
            standstill.since = now;
        }
        if !std::mem::replace(&mut standstill.watched, true) {
            let due = standstill.since + u64::from(patience_s) * 1_000;
            self.wheel.schedule(due.max(now), TimerKey::FullQueue { session: index, generation });
        }
    }

    /// Something moved in the queue of a session: its client takes what it is sent, or has just come back.
    pub(super) fn queue_moves(&mut self, index: u32) {
        let now = self.now;
        if let Some(outgoing) = self.sessions.get_mut(index).and_then(|session| session.outgoing.as_mut()) {
            (outgoing.standstill.since, outgoing.standstill.blocks) = (now, false);
        }
    }

    pub(super) fn on_full_queue_timer(&mut self, index: u32, generation: u32) {
        let patience_ms = u64::from(self.limits.full_session_patience_s) * 1_000;
        let Some(outgoing) = self.sessions.get_same(index, generation).and_then(|session| session.outgoing.as_mut()) else { return };
        let due = outgoing.standstill.since + patience_ms;
        let blocks = outgoing.standstill.blocks || outgoing.held() > 0;
        outgoing.standstill.watched = blocks && due > self.now;
        if outgoing.standstill.watched {
            self.wheel.schedule(due, TimerKey::FullQueue { session: index, generation });
        } else if blocks {
            self.give_session_up(index);
        }
    }

    fn give_session_up(&mut self, index: u32) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        tracing::warn!(
            client_id = &*session.client_id,
            "session ended: its queue is full, publishers wait, and it took nothing for too long"
        );
        self.counters.sessions_given_up += 1;
        let slot = std::mem::replace(&mut session.connection, NONE);
        if let Some(conn) = self.connections.slot_mut(slot) {
            let id = ConnId { slot, generation: conn.generation };
            // The session is not left but taken from the connection: it does not go on.
            conn.session = NONE;
            self.connected -= 1;
            self.disconnect_because(
                id,
                ReasonCode::QUOTA_EXCEEDED,
                "nothing acknowledged while the queue was full",
                super::disconnect::Will::Publish,
            );
        }
        self.end_session(index, DropReason::SessionStuck);
    }
}
