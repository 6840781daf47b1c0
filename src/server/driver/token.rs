//! What the kernel carries along with an operation or a watched descriptor: 64 bits that say what it was and for whom.
//!
//! `operation (4 bits) | slot (28 bits) | generation (32 bits)`: a completion that comes late, for an earlier user of a slot, is recognised.

use super::ConnId;

/// One more than the largest slot.
pub(super) const MAX_SLOTS: u32 = 1 << 28;

/// The kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    Bell = 0,
    /// The slot is the listener's.
    Accept = 1,
    CancelAccept = 2,
    Connection = 3,
    Recv = 4,
    Send = 5,
    CancelRecv = 6,
    CancelAll = 7,
    Shutdown = 8,
    /// A socket on its way to another ring.
    Move = 9,
    /// A direct descriptor that is closed; tells only if that failed.
    Close = 10,
}

/// An operation and the connection or listener that it is for.
pub(super) fn pack(op: Op, conn: ConnId) -> u64 {
    (op as u64) << 60 | u64::from(conn.slot & (MAX_SLOTS - 1)) << 32 | u64::from(conn.generation)
}

/// A token for something that is no connection.
pub(super) fn pack_index(op: Op, index: usize) -> u64 {
    pack(op, ConnId { slot: index as u32, generation: 0 })
}

/// The inverse of [`pack`]; `None` for bits that it never makes.
pub(super) fn unpack(token: u64) -> Option<(Op, ConnId)> {
    let op = match token >> 60 {
        0 => Op::Bell,
        1 => Op::Accept,
        2 => Op::CancelAccept,
        3 => Op::Connection,
        4 => Op::Recv,
        5 => Op::Send,
        6 => Op::CancelRecv,
        7 => Op::CancelAll,
        8 => Op::Shutdown,
        9 => Op::Move,
        10 => Op::Close,
        _ => return None,
    };
    Some((op, ConnId { slot: (token >> 32) as u32 & (MAX_SLOTS - 1), generation: token as u32 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_back_what_it_was_made_of() {
        let connection = [Op::Connection, Op::Recv, Op::Send, Op::CancelRecv, Op::CancelAll, Op::Shutdown, Op::Move, Op::Close];
        for op in [Op::Bell, Op::Accept, Op::CancelAccept].into_iter().chain(connection) {
            for (slot, generation) in [(0, 0), (1, u32::MAX), (MAX_SLOTS - 1, 7)] {
                let conn = ConnId { slot, generation };
                assert_eq!(unpack(pack(op, conn)), Some((op, conn)));
            }
        }
        assert_eq!(unpack(u64::MAX), None);
    }
}
