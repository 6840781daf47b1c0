//! How many connections a listener takes and how fast, counted over all shards and checked before anything is read.
//!
//! The one thing that shards share outside of their rings: a few atomics for each listener, touched when a connection comes or goes and never for a
//! message; and a table of addresses under one of [`TABLES`] locks. A connection counts until its socket is closed, on whatever shard that is.
//!
//! Addresses are counted whether or not they are limited, because the limit may come while connections are open. That costs some 40 bytes for each
//! address (not connection) and tens of nanoseconds where a connection is accepted, which takes a thousand times that.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use crate::broker::Origin;
use crate::config::Listener;
use crate::metrics::RefuseReason;

/// Tables of addresses for each listener, so that shards seldom wait for one another.
const TABLES: usize = 16;

/// Addresses that a table has room for without ever shrinking.
const SMALL_TABLE: usize = 32;

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_S: u64 = 1_000_000_000;

/// The gates of all listeners, in the order of the configuration.
#[derive(Debug)]
pub struct Gates(Vec<Gate>);

impl Gates {
    pub fn new(listeners: &[Listener]) -> Gates {
        let gates = Gates(listeners.iter().map(|_| Gate::default()).collect());
        gates.set_limits(listeners);
        gates
    }

    /// New limits, for connections from now on; the listeners themselves are the same.
    pub fn set_limits(&self, listeners: &[Listener]) {
        for (gate, listener) in self.0.iter().zip(listeners) {
            gate.max_connections.store(listener.max_connections, Relaxed);
            gate.max_per_address.store(listener.max_connections_per_address, Relaxed);
            gate.per_second.store(listener.connects_per_second, Relaxed);
        }
    }

    /// Counts a connection that was accepted at `now_ms` of the shards' clock.
    ///
    /// # Errors
    /// The limit that it would break; then it is not counted, and to be closed.
    pub fn enter(&self, origin: &Origin, now_ms: u64) -> Result<(), RefuseReason> {
        self.gate(origin).map_or(Ok(()), |gate| gate.enter(origin.peer.map(|peer| peer.ip()), now_ms))
    }

    /// A connection that had entered is closed.
    pub fn leave(&self, origin: &Origin) {
        if let Some(gate) = self.gate(origin) {
            gate.leave(origin.peer.map(|peer| peer.ip()));
        }
    }

    fn gate(&self, origin: &Origin) -> Option<&Gate> {
        self.0.get(usize::from(origin.listener))
    }
}

#[derive(Debug, Default)]
struct Gate {
    max_connections: AtomicU32,
    max_per_address: AtomicU32,
    per_second: AtomicU32,
    open: AtomicU32,
    /// Until when all connections are paid for, at one second for `per_second` of them: ns of the shards' clock plus one second, which is the burst.
    paid_until: AtomicU64,
    addresses: [Mutex<HashMap<IpAddr, u32>>; TABLES],
}

impl Gate {
    fn enter(&self, address: Option<IpAddr>, now_ms: u64) -> Result<(), RefuseReason> {
        if self.open.fetch_add(1, Relaxed) >= self.max_connections.load(Relaxed) {
            self.open.fetch_sub(1, Relaxed);
            return Err(RefuseReason::ListenerFull);
        }
        if !self.enter_address(address) {
            self.open.fetch_sub(1, Relaxed);
            return Err(RefuseReason::AddressFull);
        }
        // Last, so that what is refused anyway does not use up the rate of the others.
        if !self.pay(now_ms) {
            self.leave(address);
            return Err(RefuseReason::ConnectRate);
        }
        Ok(())
    }

    fn leave(&self, address: Option<IpAddr>) {
        self.open.fetch_sub(1, Relaxed);
        let Some(address) = address.map(counted_as) else { return };
        let mut table = self.table(address);
        if let Some(count) = table.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                table.remove(&address);
                // A flood of addresses is not to be paid for afterwards.
                let room = (table.len() * 2).max(SMALL_TABLE);
                if table.capacity() > room * 2 {
                    table.shrink_to(room);
                }
            }
        }
    }

    fn enter_address(&self, address: Option<IpAddr>) -> bool {
        let limit = self.max_per_address.load(Relaxed);
        let Some(address) = address.map(counted_as) else { return true };
        let mut table = self.table(address);
        let count = table.get(&address).copied().unwrap_or(0);
        if count < limit {
            table.insert(address, count + 1);
        }
        count < limit
    }

    fn pay(&self, now_ms: u64) -> bool {
        let cost = match self.per_second.load(Relaxed) {
            u32::MAX => return true,
            rate => NS_PER_S / u64::from(rate.max(1)),
        };
        let now = now_ms.saturating_mul(NS_PER_MS);
        let pay = |paid_until: u64| {
            let paid_until = paid_until.max(now) + cost;
            (paid_until <= now + NS_PER_S).then_some(paid_until)
        };
        self.paid_until.fetch_update(Relaxed, Relaxed, pay).is_ok()
    }

    fn table(&self, address: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        let index = match address {
            IpAddr::V4(address) => address.to_bits() as usize,
            IpAddr::V6(address) => (address.to_bits() >> 64) as usize,
        };
        // A table is right after each step: a panic elsewhere while it was locked does no harm.
        self.addresses[index % TABLES].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What counts as one address: of IPv6, whoever has one address has 2^64.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_address;

    fn gates(change: impl FnOnce(&mut Listener)) -> Gates {
        let mut listener = Listener::on(parse_address("1").unwrap());
        change(&mut listener);
        Gates::new(&[listener])
    }

    fn from(address: &str) -> Origin {
        Origin { listener: 0, peer: Some((address.parse::<IpAddr>().unwrap(), 7).into()) }
    }

    fn addresses(gates: &Gates) -> usize {
        gates.0[0].addresses.iter().map(|table| table.lock().unwrap().len()).sum()
    }

    #[test]
    fn no_more_connections_than_allowed_are_open_at_one_time() {
        let gates = gates(|listener| listener.max_connections = 2);
        let origin = from("10.0.0.1");
        assert_eq!([gates.enter(&origin, 0), gates.enter(&origin, 0)], [Ok(()); 2]);
        for _ in 0..3 {
            assert_eq!(gates.enter(&origin, 0), Err(RefuseReason::ListenerFull));
        }
        gates.leave(&origin);
        assert_eq!(gates.enter(&origin, 0), Ok(()));
        assert_eq!(gates.enter(&origin, 0), Err(RefuseReason::ListenerFull));
    }

    #[test]
    fn addresses_are_counted_apart_and_a_network_of_ipv6_together() {
        let gates = gates(|listener| listener.max_connections_per_address = 1);
        for first in ["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8:0:1::1"] {
            assert_eq!(gates.enter(&from(first), 0), Ok(()), "{first}");
        }
        for second in ["10.0.0.1", "::ffff:10.0.0.2", "2001:db8::2", "2001:db8:0:1:8000::"] {
            assert_eq!(gates.enter(&from(second), 0), Err(RefuseReason::AddressFull), "{second}");
        }
        gates.leave(&from("2001:db8::1"));
        assert_eq!(gates.enter(&from("2001:db8::2"), 0), Ok(()));
        // A socket without an address is nobody's.
        let local = Origin { listener: 0, peer: None };
        assert_eq!([gates.enter(&local, 0), gates.enter(&local, 0)], [Ok(()); 2]);
    }

    #[test]
    fn nothing_is_kept_of_addresses_that_have_left() {
        let gates = gates(|listener| listener.max_connections_per_address = 1);
        let origins: Vec<_> = (0..5_000).map(|n| from(&format!("10.0.{}.{}", n / 250, n % 250))).collect();
        origins.iter().for_each(|origin| assert_eq!(gates.enter(origin, 0), Ok(())));
        assert_eq!(addresses(&gates), 5_000);
        origins.iter().for_each(|origin| gates.leave(origin));
        assert_eq!(addresses(&gates), 0);
        assert!(gates.0[0].addresses.iter().all(|table| table.lock().unwrap().capacity() <= 2 * SMALL_TABLE));
        gates.set_limits(&[Listener { max_connections_per_address: 0, ..Listener::on(parse_address("1").unwrap()) }]);
        origins.iter().for_each(|origin| assert_eq!(gates.enter(origin, 0), Err(RefuseReason::AddressFull)));
        assert_eq!(addresses(&gates), 0);
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_the_rate_holds() {
        let gates = gates(|listener| listener.connects_per_second = 10);
        let origin = from("10.0.0.1");
        let taken = |from_ms: u64, until_ms: u64| (from_ms..until_ms).filter(|&ms| gates.enter(&origin, ms).is_ok()).count();
        assert_eq!((0..100).filter(|_| gates.enter(&origin, 5_000).is_ok()).count(), 10);
        assert_eq!(gates.enter(&origin, 5_000), Err(RefuseReason::ConnectRate));
        assert_eq!(taken(5_000, 6_001), 10);
        assert_eq!(taken(6_001, 7_001), 10);
    }

    #[test]
    fn what_is_refused_uses_nothing_up() {
        let gates = gates(|listener| {
            (listener.max_connections, listener.max_connections_per_address, listener.connects_per_second) = (3, 1, 2);
        });
        gates.enter(&from("10.0.0.1"), 0).unwrap();
        for _ in 0..10 {
            assert_eq!(gates.enter(&from("10.0.0.1"), 0), Err(RefuseReason::AddressFull));
        }
        gates.enter(&from("10.0.0.2"), 0).unwrap();
        for _ in 0..10 {
            assert_eq!(gates.enter(&from("10.0.0.3"), 0), Err(RefuseReason::ConnectRate));
        }
        assert_eq!(addresses(&gates), 2);
        gates.enter(&from("10.0.0.3"), 1_000).unwrap();
        assert_eq!(gates.enter(&from("10.0.0.4"), 1_000), Err(RefuseReason::ListenerFull));
    }

    #[test]
    fn limits_may_change_while_connections_are_open() {
        let gates = gates(|_| {});
        let origin = from("10.0.0.1");
        (0..3).for_each(|_| gates.enter(&origin, 0).unwrap());
        let mut listener = Listener::on(parse_address("1").unwrap());
        (listener.max_connections, listener.max_connections_per_address) = (4, 1);
        gates.set_limits(&[listener]);
        // Those that were open before count as well.
        assert_eq!(gates.enter(&origin, 0), Err(RefuseReason::AddressFull));
        gates.enter(&from("10.0.0.2"), 0).unwrap();
        assert_eq!(gates.enter(&from("10.0.0.3"), 0), Err(RefuseReason::ListenerFull));
        (0..3).for_each(|_| gates.leave(&origin));
        gates.enter(&origin, 0).unwrap();
        assert_eq!(gates.enter(&origin, 0), Err(RefuseReason::AddressFull));
        gates.leave(&origin);
        gates.leave(&from("10.0.0.2"));
        assert_eq!((gates.0[0].open.load(Relaxed), addresses(&gates)), (0, 0));
    }

    #[test]
    fn shards_that_accept_at_the_same_time_let_in_exactly_as_many_as_allowed() {
        let gates = gates(|listener| (listener.max_connections, listener.connects_per_second) = (1_000, 700));
        let accept = &|shard: u8| (0..500).filter(|_| gates.enter(&from(&format!("10.0.0.{shard}")), 0).is_ok()).count();
        let taken = std::thread::scope(|scope| {
            let shards: Vec<_> = (0..4).map(|shard| scope.spawn(move || accept(shard))).collect();
            shards.into_iter().map(|shard| shard.join().unwrap()).sum::<usize>()
        });
        assert_eq!(taken, 700);
        assert_eq!(gates.0[0].open.load(Relaxed), 700);
    }
}
