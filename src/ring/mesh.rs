//! One ring for every ordered pair of shards: N x (N-1) rings, and no two producers on one index.
//!
//! Shard `s` sends to `t` through `ports[s].outbound[t]` and reads it as `ports[t].inbound[s]`; a shard has no ring to itself. Order holds per
//! pair of shards, which is what order per publisher and topic needs: a publisher lives on one shard.

use super::spsc::{Consumer, Producer, ring};

/// The ends of the mesh that one shard owns, indexed by the other shard; `None` at its own index.
pub struct Ports<T> {
    pub outbound: Vec<Option<Producer<T>>>,
    pub inbound: Vec<Option<Consumer<T>>>,
}

impl<T> Ports<T> {
    /// Whether a message from any other shard waits. Looks at the producers' own indices: right for the last look before sleeping.
    #[inline]
    pub fn any_inbound(&self) -> bool {
        self.inbound.iter().flatten().any(|consumer| !consumer.is_empty())
    }
}

/// Makes the rings between `shards` shards, each with room for `capacity` messages; the result is indexed by shard.
pub fn mesh<T>(shards: usize, capacity: usize) -> Vec<Ports<T>> {
    let mut ports: Vec<Ports<T>> =
        (0..shards).map(|_| Ports { outbound: Vec::with_capacity(shards), inbound: Vec::with_capacity(shards) }).collect();
    for from in 0..shards {
        for to in 0..shards {
            let (producer, consumer) = if from == to { (None, None) } else { some_ring(capacity) };
            ports[from].outbound.push(producer);
            ports[to].inbound.push(consumer);
        }
    }
    ports
}

fn some_ring<T>(capacity: usize) -> (Option<Producer<T>>, Option<Consumer<T>>) {
    let (producer, consumer) = ring(capacity);
    (Some(producer), Some(consumer))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_a_ring_of_its_own_and_none_leads_home() {
        let mut ports = mesh::<(usize, usize)>(3, 4);
        for (from, ports) in ports.iter_mut().enumerate() {
            for (to, outbound) in ports.outbound.iter_mut().enumerate() {
                match outbound {
                    Some(producer) => producer.push((from, to)).expect("room"),
                    None => assert_eq!(from, to),
                }
            }
        }
        for (to, ports) in ports.iter_mut().enumerate() {
            assert!(ports.any_inbound());
            for (from, inbound) in ports.inbound.iter_mut().enumerate() {
                let popped = inbound.as_mut().map(|consumer| (consumer.pop(), consumer.pop()));
                assert_eq!(popped, (from != to).then_some((Some((from, to)), None)));
            }
            assert!(!ports.any_inbound());
        }
    }

    #[test]
    fn one_shard_has_nobody_to_talk_to() {
        let ports = mesh::<u8>(1, 4);
        assert!(!ports[0].any_inbound());
        assert!(ports[0].outbound.iter().all(Option::is_none));
    }
}
