//! What the tests of the protocol stand on: a real broker, clients that speak raw bytes, and the packets as the standard writes them.
//!
//! Nothing here uses the broker's own codec: a mistake in it must not repeat itself in the test that is to find it.

pub mod broker;
pub mod canary;
pub mod client;
pub mod markers;
pub mod packets;
pub mod property;

pub use broker::{Broker, Io, SharedBroker};
pub use canary::Canary;
pub use client::Client;
pub use markers::Markers;
pub use packets::{Connect, Publish, Will};
pub use ringmq::mqtt::Version::{self, V5, V31, V311};

/// The versions of the protocol.
pub const VERSIONS: [Version; 3] = [V31, V311, V5];

/// Makes five tests of each function `fn(&Broker)`: io_uring and epoll, one shard and two, and io_uring with direct descriptors, where connections
/// move from ring to ring. The tests of one configuration share a broker, which ends with the last of them; so each test takes client identifiers and topics of its own.
macro_rules! on_every_configuration {
    ([$($setting:literal),* $(,)?] $($test:ident),+ $(,)?) => {
        $crate::support::on_every_configuration!(@module uring_one_shard Uring 1 [$($setting),*] $($test),+);
        $crate::support::on_every_configuration!(@module uring_two_shards Uring 2 [$($setting),*] $($test),+);
        $crate::support::on_every_configuration!(@module direct_two_shards Direct 2 [$($setting),*] $($test),+);
        $crate::support::on_every_configuration!(@module epoll_one_shard Epoll 1 [$($setting),*] $($test),+);
        $crate::support::on_every_configuration!(@module epoll_two_shards Epoll 2 [$($setting),*] $($test),+);
    };
    (@module $module:ident $io:ident $shards:literal [$($setting:literal),*] $($test:ident),+) => {
        mod $module {
            use $crate::support::{Io, SharedBroker};
            static BROKER: SharedBroker = SharedBroker::new(Io::$io, $shards, &[$($setting),*]);
            $(
                #[test]
                fn $test() {
                    if let Some(broker) = BROKER.get() {
                        super::$test(&broker);
                    }
                }
            )+
        }
    };
}
pub(crate) use on_every_configuration;
