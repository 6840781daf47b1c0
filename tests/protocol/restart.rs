//! What a data directory keeps of sessions over kill -9: that they are there, their subscriptions, messages, QoS 2 exchanges and wills. On both kernel
//! interfaces, with the same number of shards afterwards and with another one.

use super::durability::for_each_restart;
use super::support::{Broker, Client, Connect, Publish, V5, V311, Will, packets, property};
use packets::{pubcomp, pubrec, pubrel};

/// The names of sessions: of some, the home is another shard after a change of their number.
const NAMES: [&str; 4] = ["anna", "bob", "carol", "dave"];

fn lasting(name: &str) -> Connect {
    Connect::new(V5, name).durable(1_000)
}

/// The session must be there.
#[track_caller]
fn back(broker: &Broker, connect: &Connect) -> Client {
    let client = broker.connect(connect);
    assert!(client.connack.session_present, "the session of {} is lost", connect.client_id);
    client
}

fn publisher(broker: &Broker) -> Client {
    broker.connect(&Connect::new(V311, "publisher"))
}

/// [MQTT-4.1.0-1]
#[test]
fn subscriptions_are_there_after_a_kill() {
    for_each_restart("subscriptions", |data, io, before, after| {
        let broker = data.start(io, before);
        for name in NAMES {
            let mut client = broker.connect(&lasting(name));
            client.subscribe_with(&property::subscription_id(7), "news/+", 1);
            client.subscribe("gone", 1);
            client.subscribe("$share/group/work", 2);
            // No Local, and RETAIN as published.
            client.subscribe(&format!("own/{name}"), 0x0C | 1);
            client.unsubscribe("gone");
        }
        let three = Connect::new(V311, "three").durable(0);
        broker.connect(&three).subscribe("news/#", 2);
        drop(broker);
        let broker = data.start(io, after);
        let mut clients = NAMES.map(|name| back(&broker, &lasting(name)));
        let mut three = back(&broker, &three);
        let mut publisher = publisher(&broker);
        publisher.publish_to("gone", "nobody", 1);
        publisher.publish_to("news/a", "first", 1);
        assert_eq!(three.publish_acknowledged().text(), "first");
        for (client, name) in clients.iter_mut().zip(NAMES) {
            let publish = client.publish_acknowledged();
            assert_eq!((publish.text(), publish.subscription_ids()), ("first", vec![7]), "{name}");
            client.publish_to(&format!("own/{name}"), "not to me", 1);
            publisher.send_publish(&Publish::new(V311, &format!("own/{name}"), "kept").qos(1, 99).retain());
            let publish = client.publish_acknowledged();
            assert_eq!((publish.text(), publish.retain), ("kept", true), "{name}");
        }
        // One of the group.
        publisher.publish_to("work", "work", 2);
        publisher.publish_to("news/end", "end", 1);
        let got: usize = clients.iter_mut().map(|client| usize::from(client.publish_acknowledged().text() == "work")).sum();
        assert_eq!(got, 1);
    });
}

/// [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.6.0-1]
#[test]
fn messages_are_there_after_a_kill_in_their_order_and_under_their_identifiers() {
    for_each_restart("messages", |data, io, before, after| {
        let broker = data.start(io, before);
        let connects = NAMES.map(lasting);
        let mut clients = connects.clone().map(|connect| broker.connect(&connect));
        clients.iter_mut().for_each(|client| client.subscribe("queue/#", 2));
        let mut sender = broker.connect(&Connect::new(V5, "publisher"));
        let properties = [property::user("k", "v"), property::message_expiry(1_000)];
        sender.send_publish(&Publish::new(V5, "queue/acknowledged", "done").qos(1, 1));
        sender.send_publish(&Publish::new(V5, "queue/sent/1", "one").qos(1, 2).properties(&properties));
        sender.send_publish(&Publish::new(V5, "queue/sent/2", "two").qos(2, 3));
        sender.send_publish(&Publish::new(V5, "queue/released", "three").qos(2, 4));
        let sent = clients.each_mut().map(|client| {
            assert_eq!(client.publish_acknowledged().text(), "done");
            let sent = [client.publish(), client.publish(), client.publish()];
            client.send(&pubrec(sent[2].id));
            client.expect(&pubrel(sent[2].id));
            sent
        });
        clients.into_iter().for_each(Client::vanish);
        for number in 0..20 {
            sender.publish_to("queue/waiting", &number.to_string(), 1 + number % 2);
        }
        drop(broker);
        // Nobody comes: what was taken over from the first run outlives the second.
        drop(data.start(io, after));
        let broker = data.start(io, before);
        for (connect, [one, two, three]) in connects.iter().zip(&sent) {
            let mut client = back(&broker, connect);
            let again = client.publish();
            assert_eq!((again.id, again.dup, again.text()), (one.id, true, "one"));
            assert_eq!(again.property(0x26), one.property(0x26));
            assert!(!again.property(0x02).is_empty());
            client.expect(&two.clone().dup().bytes());
            client.expect(&pubrel(three.id));
            client.send(&[packets::puback(one.id), pubrec(two.id)].concat());
            client.send(&pubcomp(three.id));
            client.expect_behind(&pubrel(two.id));
            client.send(&pubcomp(two.id));
            for number in 0..20 {
                let publish = client.publish_acknowledged();
                assert_eq!((publish.text(), publish.qos, publish.dup), (&number.to_string()[..], 1 + number % 2, false));
            }
            client.expect_silence();
        }
        drop(broker);
        let broker = data.start(io, after);
        // An acknowledgement of a subscriber is no promise of ours: what was acknowledged last may come again, marked as such.
        for connect in &connects {
            let mut client = back(&broker, connect);
            publisher(&broker).publish_to("queue/end", "end", 1);
            loop {
                let packet = client.packet();
                match packet[0] {
                    0x62 => client.send(&pubcomp(u16::from_be_bytes([packet[2], packet[3]]))),
                    _ if Publish::parse(V5, &packet).text() == "end" => break,
                    _ => assert!(Publish::parse(V5, &packet).dup, "{packet:02x?}"),
                }
            }
        }
    });
}

/// [MQTT-4.3.3-2] [MQTT-4.3.3-10] [MQTT-4.3.3-12]: exactly once over a crash, also where publisher and subscriber are on different shards.
#[test]
fn a_qos_2_publish_is_known_again_after_a_kill() {
    for_each_restart("exchange", |data, io, before, after| {
        let broker = data.start(io, before);
        NAMES.iter().for_each(|name| broker.connect(&lasting(name)).subscribe("exchange", 2));
        let connects = ["p1", "p2", "p3"].map(|name| Connect::new(V5, name).durable(1_000));
        let publish = |connect: &Connect, id| Publish::new(V5, "exchange", &connect.client_id).qos(2, id);
        for connect in &connects {
            let mut client = broker.connect(connect);
            client.send(&publish(connect, 5).bytes());
            client.expect(&pubrec(5));
        }
        drop(broker);
        let broker = data.start(io, after);
        for connect in &connects {
            let mut client = back(&broker, connect);
            client.send(&publish(connect, 5).dup().bytes());
            client.expect(&pubrec(5));
            client.send(&pubrel(5));
            client.expect(&pubcomp(5));
            // The same message once more under the same identifier is a new one now.
            client.send(&publish(connect, 5).bytes());
            client.expect(&pubrec(5));
        }
        drop(broker);
        let broker = data.start(io, before);
        for connect in &connects {
            let mut client = back(&broker, connect);
            client.send(&pubrel(5));
            client.expect(&pubcomp(5));
        }
        for name in NAMES {
            let mut client = back(&broker, &lasting(name));
            let mut got = Vec::from_iter((0..6).map(|_| client.publish_acknowledged().text().to_owned()));
            got.sort_unstable();
            assert_eq!(got, ["p1", "p1", "p2", "p2", "p3", "p3"], "{name}");
            client.expect_silence();
        }
    });
}

/// [MQTT-3.1.2-8] [MQTT-3.1.3-9]: the connection of a client that was there when the broker died has ended, too.
#[test]
fn wills_are_sent_after_a_kill() {
    for_each_restart("wills", |data, io, before, after| {
        let broker = data.start(io, before);
        let mut watcher = broker.connect(&lasting("watcher"));
        watcher.subscribe("will/#", 1);
        let will = |name: &str| Will::new(&format!("will/{name}"), name).qos(1);
        let delayed = |name: &str, seconds| will(name).properties(&[property::will_delay(seconds)]);
        broker.connect(&lasting("left").will(delayed("left", 1))).vanish();
        broker.connect(&lasting("said goodbye").will(will("goodbye"))).disconnect();
        let connected = broker.connect(&lasting("connected").will(will("connected")));
        let waiting = broker.connect(&lasting("waiting").will(delayed("waiting", 1_000)));
        drop(broker);
        drop((connected, waiting));
        let broker = data.start(io, after);
        let mut watcher = back(&broker, &lasting("watcher"));
        let mut got = [watcher.publish_acknowledged().text().to_owned(), watcher.publish_acknowledged().text().to_owned()];
        got.sort_unstable();
        assert_eq!(got, ["connected", "left"]);
        // It comes back in time.
        back(&broker, &lasting("waiting")).disconnect();
        watcher.expect_silence();
        // So does one whose will has no delay: it gets a moment to come back when the broker dies under it.
        let connect = lasting("again").will(will("again"));
        let again = broker.connect(&connect);
        drop(broker);
        drop(again);
        let broker = data.start(io, before);
        let again = back(&broker, &connect);
        broker.let_a_second_pass();
        back(&broker, &lasting("watcher")).expect_silence();
        again.disconnect();
    });
}

/// [MQTT-3.1.2-23]
#[test]
fn a_session_ends_while_the_broker_does_not_run_and_one_that_ended_stays_gone() {
    for_each_restart("ends", |data, io, before, after| {
        let broker = data.start(io, before);
        let short = Connect::new(V5, "short").durable(1);
        for name in NAMES {
            broker.connect(&lasting(name)).subscribe("end", 1);
        }
        broker.connect(&short).vanish();
        // Over: by a clean start without expiry, by DISCONNECT, by a clean start that begins a new one.
        broker.connect(&Connect::new(V5, "anna")).vanish();
        broker.connect(&lasting("bob")).send(&packets::packet(0xE0, &[0, 5, 0x11, 0, 0, 0, 0]));
        let mut anew = lasting("carol");
        anew.clean_start = true;
        drop(broker.connect(&anew));
        broker.let_a_second_pass();
        drop(broker);
        let broker = data.start(io, after);
        let present = |connect: &Connect| broker.connect(connect).connack.session_present;
        assert!(!present(&short) && !present(&lasting("anna")) && !present(&lasting("bob")));
        let mut carol = back(&broker, &lasting("carol"));
        let mut dave = back(&broker, &lasting("dave"));
        publisher(&broker).publish_to("end", "for dave", 1);
        assert_eq!(dave.publish_acknowledged().text(), "for dave");
        carol.expect_silence();
    });
}
