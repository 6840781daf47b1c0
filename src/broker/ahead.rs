//! Reading ahead of a publisher that waits: what it acknowledges must not stand behind what it publishes.
//!
//! A 3.x publisher whose messages find full queues is not gone on with until they have room. But the full queue may be its own, or that of a client that
//! waits for it in turn, and then only its acknowledgements make room. So its bytes are still taken, up to [`AHEAD_BYTES`]: acknowledgements of what was
//! delivered to it are worked off at once, which their order towards its publishes allows; everything else waits in `partial`, in its order.
//!
//! One pass over what came since; nothing is copied as long as nothing is taken out. A packet that is wrong is found when its turn comes.

use super::connection::State;
use super::ids::ConnId;
use super::shard::{Command, Shard};
use crate::mqtt::{PacketType, peek};

/// Bytes that may wait; beyond it the client is not read from.
const AHEAD_BYTES: usize = 64 * 1024;

fn is_acknowledgement(first: u8) -> bool {
    matches!(PacketType::from_first(first), Some(PacketType::Puback | PacketType::Pubrec | PacketType::Pubcomp))
}

impl Shard {
    /// Takes the acknowledgements out of what a waiting publisher sent.
    pub(super) fn look_ahead(&mut self, id: ConnId) {
        let Some(conn) = self.connections.get_mut(id).filter(|conn| conn.paused.for_acks && conn.state == State::Connected) else { return };
        let (seen, max) = (conn.last_seen, conn.terms.max_packet_bytes);
        let mut bytes = std::mem::take(&mut conn.partial);
        let mut read = conn.looked_at as usize;
        let mut kept = read;
        while let Ok(Some(header)) = peek(&bytes[read..], max) {
            let end = read + header.total_len();
            if end > bytes.len() {
                break;
            }
            if is_acknowledgement(header.first) {
                self.on_packet(id, header, &bytes[read..end]);
            } else {
                bytes.copy_within(read..end, kept);
                kept += end - read;
            }
            read = end;
        }
        let Some(conn) = self.connections.get_mut(id).filter(|conn| conn.state == State::Connected) else { return };
        conn.looked_at = kept as u32;
        bytes.drain(kept..read);
        conn.partial = bytes;
        // How long it has been waiting is what counts.
        conn.last_seen = seen;
    }

    /// Whether the shell is to read from a connection, which is noted where it is not.
    pub(super) fn goes_on_reading(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.connections.get_mut(id) else { return true };
        let wanted = conn.state != State::Moving && !conn.paused.by_rate && (!conn.paused.for_acks || conn.partial.len() <= AHEAD_BYTES);
        conn.unread = !wanted;
        wanted
    }

    /// Has the shell read from a connection again, if it does not and may.
    pub(super) fn resume_reading(&mut self, id: ConnId) {
        let unread = self.connections.get(id).is_some_and(|conn| conn.unread && conn.state == State::Connected);
        if unread && self.goes_on_reading(id) {
            self.command(Command::Resume(id));
        }
    }
}
