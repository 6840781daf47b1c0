//! Flow control (sections 3.3.4, 4.9): Receive Maximum both ways, and what it does not hold up.

use super::support::packets::{puback, pubcomp, pubrec, pubrel};
use super::support::{Broker, Client, Connect, Publish, V5, V311, Version, on_every_configuration, property};

on_every_configuration! {
    ["limits.receive_maximum=4", "limits.max_inflight=8"]
    no_more_than_the_clients_receive_maximum_is_under_way,
    a_qos_2_message_counts_until_it_is_complete,
    a_refusal_makes_room,
    other_packets_are_not_held_up,
    the_brokers_own_limit_holds_too,
    a_client_that_overruns_the_receive_maximum_can_read_why,
    a_client_within_the_receive_maximum_is_served,
    a_3_x_client_has_no_receive_maximum,
}

fn connect(broker: &Broker, version: Version, name: &str, shard: u16) -> Client {
    broker.connect(&Connect::new(version, &broker.client_id(name, shard)))
}

/// A subscriber at QoS 2 with this Receive Maximum, a publisher, and the topic, in every pair of places.
fn for_each_pair(broker: &Broker, receive_maximum: u16, mut test: impl FnMut(Client, Client, &str)) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("flow", 0);
        let subscriber = Connect::new(V5, &broker.client_id("subscriber", here));
        let mut subscriber = broker.connect(&subscriber.properties(&[property::receive_maximum(receive_maximum)]));
        subscriber.subscribe(&topic, 2);
        test(subscriber, connect(broker, V5, "publisher", there), &topic);
    }
}

/// [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]
fn no_more_than_the_clients_receive_maximum_is_under_way(broker: &Broker) {
    for receive_maximum in [1, 2, 7] {
        for_each_pair(broker, receive_maximum, |mut subscriber, mut publisher, topic| {
            for number in 0..20 {
                publisher.publish_to(topic, &number.to_string(), 1);
            }
            let mut under_way: Vec<_> = (0..receive_maximum).map(|_| subscriber.publish()).collect();
            for number in usize::from(receive_maximum)..20 {
                subscriber.expect_silence();
                // Acknowledged in any order.
                let acknowledged = under_way.remove(number % under_way.len());
                subscriber.send(&puback(acknowledged.id));
                under_way.push(subscriber.publish());
                assert_eq!(under_way.last().unwrap().text(), number.to_string());
            }
        });
    }
}

/// [MQTT-4.9.0-1]: PUBREC does not end it, PUBCOMP does.
fn a_qos_2_message_counts_until_it_is_complete(broker: &Broker) {
    for_each_pair(broker, 2, |mut subscriber, mut publisher, topic| {
        for qos in [2, 1, 2, 1] {
            publisher.publish_to(topic, "", qos);
        }
        let (two, _one) = (subscriber.publish(), subscriber.publish());
        subscriber.send(&pubrec(two.id));
        subscriber.expect(&pubrel(two.id));
        subscriber.expect_silence();
        subscriber.send(&pubcomp(two.id));
        assert_eq!(subscriber.publish().qos, 2);
        subscriber.expect_silence();
    });
}

/// Section 4.9: a PUBREC with an error completes the exchange.
fn a_refusal_makes_room(broker: &Broker) {
    for_each_pair(broker, 1, |mut subscriber, mut publisher, topic| {
        for qos in [2, 1, 1] {
            publisher.publish_to(topic, "", qos);
        }
        let id = subscriber.publish().id;
        subscriber.send(&super::support::packets::ack_with(0x50, id, 0x83));
        let id = subscriber.publish().id;
        subscriber.expect_silence();
        subscriber.send(&super::support::packets::ack_with(0x40, id, 0x83));
        assert_eq!(subscriber.publish().qos, 1);
    });
}

/// [MQTT-3.3.4-10] [MQTT-4.9.0-3]
fn other_packets_are_not_held_up(broker: &Broker) {
    for_each_pair(broker, 1, |mut subscriber, mut publisher, topic| {
        publisher.publish_to(topic, "fills the window", 1);
        publisher.publish_to(topic, "waits", 1);
        let id = subscriber.publish().id;
        publisher.publish_to(topic, "passes", 0);
        assert_eq!(subscriber.publish().text(), "passes");
        subscriber.expect_silence();
        subscriber.subscribe(&format!("{topic}/other"), 1);
        subscriber.unsubscribe(&format!("{topic}/other"));
        // One's own publishes are acknowledged.
        subscriber.publish_to(&format!("{topic}/other"), "", 2);
        subscriber.send(&puback(id));
        assert_eq!(subscriber.publish().text(), "waits");
    });
}

/// `limits.max_inflight` lowers what the client allows.
fn the_brokers_own_limit_holds_too(broker: &Broker) {
    for &(here, there) in broker.places() {
        for version in [V311, V5] {
            let topic = broker.topic("own", 0);
            let mut subscriber = connect(broker, version, "subscriber", here);
            subscriber.subscribe(&topic, 1);
            let mut publisher = connect(broker, V5, "publisher", there);
            for _ in 0..9 {
                publisher.publish_to(&topic, "", 1);
            }
            let ids: Vec<_> = (0..8).map(|_| subscriber.publish().id).collect();
            subscriber.expect_silence();
            subscriber.send(&puback(ids[0]));
            subscriber.publish();
            subscriber.expect_silence();
        }
    }
}

/// [MQTT-3.3.4-7] [MQTT-4.13.1-1]: also while the client is still sending.
fn a_client_that_overruns_the_receive_maximum_can_read_why(broker: &Broker) {
    for shard in 0..broker.shards {
        let topic = broker.topic("overrun", 0);
        let mut client = connect(broker, V5, "client", shard);
        assert_eq!(client.connack.property(0x21), Some(&[0, 4][..]));
        let publishes: Vec<u8> = (1..=5).flat_map(|id| Publish::new(V5, &topic, "").qos(2, id).bytes()).collect();
        let more: Vec<u8> = (6..=300).flat_map(|id| Publish::new(V5, &topic, &"x".repeat(1_000)).qos(2, id).bytes()).collect();
        client.send(&[publishes, more].concat());
        for id in 1..=4u16 {
            client.expect(&super::support::packets::ack_with(0x50, id, 0x10));
        }
        client.expect_disconnect(0x93);
    }
}

/// [MQTT-3.3.4-7]: PUBREL makes room, and what is acknowledged at once never took any.
fn a_client_within_the_receive_maximum_is_served(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("within", 0);
        let mut subscriber = connect(broker, V311, "subscriber", here);
        subscriber.subscribe(&topic, 1);
        let mut client = connect(broker, V5, "client", there);
        for id in 1..=4 {
            client.send(&Publish::new(V5, &topic, "").qos(2, id).bytes());
            client.expect(&pubrec(id));
        }
        // Full; the same again is no new message.
        client.send(&Publish::new(V5, &topic, "").qos(2, 2).dup().bytes());
        client.expect(&pubrec(2));
        for id in 1..=20 {
            client.send(&pubrel(id));
            client.expect(&pubcomp(id));
            client.send(&Publish::new(V5, &topic, "").qos(2, id + 4).bytes());
            client.expect(&pubrec(id + 4));
        }
        for _ in 0..24 {
            subscriber.publish_acknowledged();
        }
        subscriber.expect_silence();
    }
}

/// It knows no Receive Maximum: what it sends is taken, however much of it is unreleased.
fn a_3_x_client_has_no_receive_maximum(broker: &Broker) {
    for &(here, there) in broker.places() {
        let topic = broker.topic("old", 0);
        let mut subscriber = connect(broker, V5, "subscriber", here);
        subscriber.subscribe(&topic, 0);
        let mut client = connect(broker, V311, "client", there);
        let publishes: Vec<u8> = (1..=500).flat_map(|id| Publish::new(V311, &topic, &id.to_string()).qos(2, id).bytes()).collect();
        client.send(&publishes);
        (1..=500).for_each(|id| client.expect(&pubrec(id)));
        client.send(&(1..=500).flat_map(pubrel).collect::<Vec<u8>>());
        (1..=500).for_each(|id| client.expect(&pubcomp(id)));
        (1..=500u16).for_each(|id| assert_eq!(subscriber.publish().text(), id.to_string()));
    }
}
