//! Reading ahead of a publisher that waits: what it acknowledges must not stand behind what it publishes.
//!
//! A 3.x publisher whose messages find full queues is not gone on with until they have room. But the full queue may be its own, or that of a client that
//! waits for it in turn, and then only its acknowledgements make room. So its bytes are still taken: acknowledgements of what was delivered to it are worked
//! off at once, and PINGREQ is answered, which their order towards its publishes allows. Everything else waits in `partial`, in its order, up to
//! [`AHEAD_BYTES`]; then the client is not read from.
//!
//! Where one of its publishes will never be answered, none behind it will be either, and the client sends them again: they are thrown away, so that all of
//! its acknowledgements are heard until it is let go.
//!
//! One pass over what came since; nothing is copied as long as nothing is taken out. A packet that is wrong is found when its turn comes.

use super::connection::{Connection, Paused, State};
use super::ids::ConnId;
use super::shard::{Command, Shard};
use crate::mqtt::{PacketType, peek};

/// Bytes that may wait; beyond it the client is not read from.
const AHEAD_BYTES: usize = 64 * 1024;

/// What is to be done with a packet whose turn has not come.
enum Ahead {
    WorkOff,
    Keep,
    ThrowAway,
}

fn what_to_do(first: u8, doomed: bool) -> Ahead {
    match PacketType::from_first(first) {
        Some(PacketType::Puback | PacketType::Pubrec | PacketType::Pubcomp | PacketType::Pingreq) => Ahead::WorkOff,
        // Nothing that was kept is before it.
        Some(PacketType::Disconnect) if doomed => Ahead::WorkOff,
        _ if doomed => Ahead::ThrowAway,
        _ => Ahead::Keep,
    }
}

/// Whether the connection only lasts until the client's patience or ours is over: one of its publishes is never answered.
fn is_doomed(conn: &Connection) -> bool {
    conn.acks.as_ref().is_some_and(|acks| acks.withheld())
}

impl Shard {
    /// Works off what need not wait of what a waiting publisher sent.
    pub(super) fn look_ahead(&mut self, id: ConnId) {
        let Some(conn) = self.connections.get_mut(id).filter(|conn| conn.paused.for_acks && conn.state == State::Connected) else { return };
        let (seen, max, doomed) = (conn.last_seen, conn.terms.max_packet_bytes, is_doomed(conn));
        let mut bytes = std::mem::take(&mut conn.partial);
        let mut read = if doomed { 0 } else { conn.looked_at as usize };
        let mut kept = read;
        while let Ok(Some(header)) = peek(&bytes[read..], max) {
            let end = read + header.total_len();
            if end > bytes.len() {
                break;
            }
            match what_to_do(header.first, doomed) {
                Ahead::WorkOff => self.on_packet(id, header, &bytes[read..end]),
                Ahead::Keep => {
                    bytes.copy_within(read..end, kept);
                    kept += end - read;
                }
                Ahead::ThrowAway => {}
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
        let ahead = !conn.paused.for_acks || conn.partial.len() <= AHEAD_BYTES || is_doomed(conn);
        let wanted = conn.state != State::Moving && !conn.paused.by_rate && ahead;
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

    /// A publisher has waited for as long as it may. Its acknowledgements may stand behind more than is read ahead: then the publishes are given up first,
    /// which it will send again. False: there is nothing to wait for any more.
    pub(super) fn give_publishes_up(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.connections.get_mut(id).filter(|conn| conn.unread && !is_doomed(conn)) else { return false };
        let Some(acks) = &mut conn.acks else { return false };
        acks.withhold();
        conn.last_seen = self.now;
        self.go_on_doomed(id);
        true
    }

    /// Reads on from a publisher that will not be answered any more.
    pub(super) fn go_on_doomed(&mut self, id: ConnId) {
        self.look_ahead(id);
        self.account_partial(id);
        self.resume_reading(id);
    }

    /// A client has closed its connection: what it sent before and what waited until now is worked off, for there is nothing to wait for any more.
    pub(super) fn work_off_rest(&mut self, id: ConnId) {
        while let Some(conn) = self.connections.get_mut(id)
            && conn.paused.any()
            && conn.state == State::Connected
            && !is_doomed(conn)
        {
            conn.paused = Paused::default();
            conn.looked_at = 0;
            let bytes = std::mem::take(&mut conn.partial);
            self.consume(id, &bytes);
        }
    }
}
