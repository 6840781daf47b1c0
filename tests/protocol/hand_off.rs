//! Hand-off: a connection that comes in on another shard than the one where its session lives. Nobody may notice.

use super::support::packets::DISCONNECT;
use super::support::{Broker, Connect, V311, Will, on_every_configuration};

on_every_configuration! {
    []
    a_disconnect_is_not_overtaken_by_the_next_connect,
}

/// The kernel decides which shard a connection comes in on, so each round is a chance to lose the race between two connections of one client.
const ROUNDS: usize = 3_000;

/// A client that leaves, and comes back at once over another connection, has left: its will is not due. [MQTT-3.1.2-10] [MQTT-3.14.4-3]
fn a_disconnect_is_not_overtaken_by_the_next_connect(broker: &Broker) {
    let mut watcher = broker.connect(&Connect::new(V311, &broker.client_id("watcher", 0)));
    watcher.subscribe("hand-off/#", 0);
    for shard in 0..broker.shards {
        let connect = Connect::new(V311, &broker.client_id("restless", shard)).will(Will::new("hand-off/will", "gone"));
        for _ in 0..ROUNDS {
            // It does not wait for the broker to close.
            broker.connect(&connect).send(&DISCONNECT);
        }
        // Whatever the broker made of the rounds has reached the watcher when this has.
        let mut last = broker.connect(&connect);
        last.publish_to("hand-off/end", "", 1);
        last.disconnect();
        assert_eq!(watcher.publish().topic, "hand-off/end", "a will after a DISCONNECT");
    }
}
