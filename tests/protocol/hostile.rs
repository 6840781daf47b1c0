//! What other brokers fell over: announced sizes, silence, half packets, leaks. Each time somebody else goes on working and notices nothing.
//! TESTING.md has the list, by the number under which each became known.

use std::time::{Duration, Instant};

use super::support::{Broker, Canary, Client, Connect, Publish, V5, V311, Will, on_every_configuration, packets, property};

const MEGABYTE: u64 = 1024 * 1024;

on_every_configuration! {
    ["limits.connect_timeout_ms=1000"]
    an_announced_length_takes_no_memory,
    before_connect_an_announced_length_takes_no_memory_either,
    a_connection_that_says_nothing_or_half_of_connect_is_closed_in_time,
    one_byte_at_a_time_does_not_keep_a_connection_alive,
    a_packet_that_is_not_connect_is_not_waited_for,
    request_response_information_is_understood,
    wildcards_and_dollars_in_client_identifiers_are_only_characters,
}

/// Where time and memory are looked at, nobody else may use the broker.
mod leaks {
    super::on_every_configuration! {
        ["limits.connect_timeout_ms=2000"]
        what_is_refused_leaves_nothing_and_silence_takes_no_time,
    }
    use super::what_is_refused_leaves_nothing_and_silence_takes_no_time;
}

mod storms {
    super::on_every_configuration! {
        []
        a_storm_of_take_overs_ends_with_one_client,
        user_properties_take_time_by_their_number,
        the_deepest_topics_are_refused_in_every_packet,
        every_form_of_dollar_topic_is_harmless,
    }
    use super::{
        a_storm_of_take_overs_ends_with_one_client, every_form_of_dollar_topic_is_harmless, the_deepest_topics_are_refused_in_every_packet,
        user_properties_take_time_by_their_number,
    };
}

/// A client that must see its own message come back, whatever the others do.
fn canary_is_well(broker: &Broker) {
    let mut canary = broker.connect(&Connect::new(V311, &broker.client_id("canary", 0)));
    let topic = broker.topic("canary", 0);
    canary.subscribe(&topic, 0);
    canary.send(&Publish::new(V311, &topic, "still there").bytes());
    assert_eq!(canary.publish().text(), "still there");
}

/// CVE-2017-7651: 256 MB are announced, and one byte comes.
fn an_announced_length_takes_no_memory(broker: &Broker) {
    let before = broker.resident_bytes();
    let greedy: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = broker.connect(&Connect::new(V311, &broker.client_id("greedy", 0)));
            // The largest packet that the broker takes: 16 MiB.
            client.send(&[0x30, 0xFB, 0xFF, 0xFF, 0x07, 0]);
            client
        })
        .collect();
    canary_is_well(broker);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes for {} announcements", greedy.len());
    drop(greedy);
    let mut too_large = broker.connect(&Connect::new(V5, &broker.client_id("too-large", 0)));
    too_large.send(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    too_large.expect_disconnect(0x95);
}

/// SlowITe, CVE-2020-13849: half-open connections end when CONNECT is late.
fn a_connection_that_says_nothing_or_half_of_connect_is_closed_in_time(broker: &Broker) {
    let connect = Connect::new(V311, "half").bytes();
    for bytes in [&[][..], &connect[..1], &connect[..connect.len() - 1]] {
        let began = Instant::now();
        let mut client = broker.open();
        client.send(bytes);
        let closed = client.time_to_close(began);
        assert!((Duration::from_millis(950)..Duration::from_secs(4)).contains(&closed), "closed after {closed:?}");
    }
    canary_is_well(broker);
}

/// The keep-alive counts packets, not bytes [MQTT-3.1.2-22].
fn one_byte_at_a_time_does_not_keep_a_connection_alive(broker: &Broker) {
    let began = Instant::now();
    let mut client = broker.connect(&Connect::new(V311, &broker.client_id("drip", 0)).keep_alive(1));
    let publish = Publish::new(V311, "drip", &"x".repeat(200)).bytes();
    let closed = client.time_to_close_while_sending(&publish, began);
    assert!((Duration::from_millis(1_400)..Duration::from_secs(5)).contains(&closed), "closed after {closed:?}");
    canary_is_well(broker);
}

/// CVE-2023-0809: what is no CONNECT is closed at its first byte, however long it says it is.
fn a_packet_that_is_not_connect_is_not_waited_for(broker: &Broker) {
    for first in [0x00, 0x20, 0x30, 0x40, 0x62, 0x82, 0xA2, 0xC0, 0xE0, 0xF0] {
        let mut client = broker.open();
        client.send(&[first, 0xFF, 0xFF, 0x7F]);
        client.expect_close();
    }
    canary_is_well(broker);
}

fn request_response_information_is_understood(broker: &Broker) {
    let connect = Connect::new(V5, &broker.client_id("asks", 0)).properties(&[property::request_response(1)]);
    let mut client = broker.connect(&connect);
    client.send(&packets::PINGREQ);
    client.expect(&packets::PINGRESP);
}

/// CVE-2017-7651 once more, for strangers: CONNECT may be large, but what is not there takes no memory.
fn before_connect_an_announced_length_takes_no_memory_either(broker: &Broker) {
    let before = broker.resident_bytes();
    let greedy: Vec<Client> = (0..1_000)
        .map(|_| {
            let mut client = broker.open();
            // The largest CONNECT that the broker takes: 256 KiB.
            client.send(&[0x10, 0xFC, 0xFF, 0x0F, 0]);
            client
        })
        .collect();
    canary_is_well(broker);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 16 * MEGABYTE, "{grown} bytes for {} announcements", greedy.len());
    drop(greedy);
    for length in [[0xFD, 0xFF, 0x0F, 0], [0xFF, 0xFF, 0xFF, 0x7F]] {
        let mut too_large = broker.open();
        too_large.send(&[&[0x10][..], &length].concat());
        too_large.expect_close();
    }
}

/// CVE-2017-7650, CVE-2026-44838: nothing is made of them.
fn wildcards_and_dollars_in_client_identifiers_are_only_characters(broker: &Broker) {
    let mut canary = Canary::new(broker);
    for client_id in ["#", "+", "+/#", "$SYS/#", "$share/g/#", "/", ".*", "(", "%c", "{}", "a\u{301}"] {
        let mut client = broker.connect(&Connect::new(V5, client_id).will(Will::new("will", "gone")));
        client.expect_silence();
        client.disconnect();
    }
    canary.check();
}

/// Opens a connection, says this, and reads what comes until it is closed.
fn say(broker: &Broker, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut client = broker.open();
    client.send(bytes);
    client.drain_to_close()
}

/// A CONNECT with 40,000 bytes of will properties, the last of which is wrong: CVE-2017-7654, CVE-2021-34431, CVE-2023-3592.
fn bad_connects(broker: &Broker) {
    let user = property::user("name", &"x".repeat(19_900));
    let will = Will::new("will", "gone").properties(&[user.clone(), user, property::receive_maximum(1)]);
    let connect = Connect::new(V5, &broker.client_id("bad", 0)).will(will).bytes();
    for _ in 0..500 {
        assert_eq!(say(broker, &connect)[0][3], 0x81);
    }
}

/// PUBLISH at QoS 2 that is never released, under one identifier and under all that there may be: CVE-2023-28366.
fn publishes_without_pubrel(broker: &Broker) {
    let mut client = broker.connect(&Connect::new(V5, &broker.client_id("unreleased", 0)));
    let payload = "x".repeat(1_000);
    for id in (1..=500).chain(std::iter::repeat_n(7, 20_000)) {
        client.send(&Publish::new(V5, "unreleased", &payload).qos(2, id).bytes());
        assert_eq!(client.packet()[..1], [0x50]);
    }
}

/// The subscriber takes QoS 2 messages and never says so: what is kept for it ends at its queue.
fn publishes_without_pubrec(broker: &Broker) {
    let topic = broker.topic("silent", 0);
    let mut silent = broker.connect(&Connect::new(V5, &broker.client_id("silent", 0)));
    silent.subscribe(&topic, 2);
    let mut publisher = broker.connect(&Connect::new(V5, &broker.client_id("publisher", 0)));
    let mut refused = 0;
    for id in 1..=12_000 {
        publisher.send(&Publish::new(V5, &topic, "x").qos(1, id).bytes());
        refused += usize::from(publisher.packet().get(4) == Some(&0x97));
    }
    // 1,024 under way, 10,000 in the queue.
    assert_eq!(refused, 12_000 - 11_024);
}

/// Filters that are refused, and such that are taken back: a leak that Mosquitto 2.0.21 mended.
fn failing_subscribes(broker: &Broker) {
    let mut client = broker.connect(&Connect::new(V5, &broker.client_id("failing", 0)));
    let long = format!("{}/#/no", "x".repeat(1_000));
    for _ in 0..200 {
        let filters: Vec<(&str, u8)> = std::iter::repeat_n((long.as_str(), 0), 100).collect();
        client.send(&packets::subscribe(V5, 1, &[], &filters));
        client.expect(&packets::suback(V5, 1, &[0x8F; 100]));
        client.subscribe("taken/+/back", 0);
        client.unsubscribe("taken/+/back");
    }
}

/// CVE-2023-5632 (a silent connection made the broker spin), and leaks that a stranger or a client could make.
fn what_is_refused_leaves_nothing_and_silence_takes_no_time(broker: &Broker) {
    let mut canary = Canary::new(broker);
    // The first time it may take memory for good.
    bad_connects(broker);
    let before = broker.resident_bytes();
    bad_connects(broker);
    publishes_without_pubrel(broker);
    publishes_without_pubrec(broker);
    failing_subscribes(broker);
    canary.check();
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 8 * MEGABYTE, "{grown} bytes are left");
    let silent: Vec<Client> = (0..500).map(|_| broker.open()).collect();
    canary.check();
    let (busy, began) = (broker.cpu_time(), Instant::now());
    silent.into_iter().for_each(|mut silent| assert!(silent.drain_to_close().is_empty()));
    let busy = broker.cpu_time() - busy;
    assert!(busy < began.elapsed() / 4 && began.elapsed() > Duration::from_millis(500), "{busy:?} of {:?}", began.elapsed());
    canary.check();
}

/// CVE-2025-59946, CVE-2026-22040, sol#17: one identifier over and over, with subscriptions and messages at the same time.
fn a_storm_of_take_overs_ends_with_one_client(broker: &Broker) {
    let mut canary = Canary::new(broker);
    let client_id = broker.client_id("wanted", broker.shards - 1);
    let storm = || {
        for round in 0..100_u16 {
            let mut client = broker.open();
            let connect = Connect { client_id: client_id.clone(), ..Connect::new(V5, "").durable(60) };
            let jitter: Vec<u8> = [
                connect.bytes(),
                packets::subscribe(V5, 1, &[], &[("storm/#", 1), ("$share/g/storm/+", 1)]),
                Publish::new(V5, "storm/eye", "wind").qos(1, 2).bytes(),
                packets::unsubscribe(V5, 3, &["storm/#"]),
            ]
            .concat();
            // Some are taken over before they have said all.
            client.send(&jitter[..jitter.len() - usize::from(round % 40)]);
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|_| _ = scope.spawn(storm)));
    canary.check();
    let mut last = broker.connect(&Connect::new(V5, &client_id));
    last.subscribe("storm/after", 1);
    last.publish_to("storm/after", "calm", 0);
    assert_eq!(last.publish().text(), "calm");
    canary.check();
}

/// CVE-2021-41039: quadratic work would take hours for these.
fn user_properties_take_time_by_their_number(broker: &Broker) {
    let mut canary = Canary::new(broker);
    let topic = broker.topic("properties", 0);
    let mut subscriber = broker.connect(&Connect::new(V5, &broker.client_id("sub", 0)));
    subscriber.subscribe(&topic, 1);
    let mut client = broker.connect(&Connect::new(V5, &broker.client_id("pub", 0)));
    let publish = Publish::new(V5, &topic, "").qos(1, 1).properties(&vec![property::user("a", ""); 500_000]);
    client.send_publish(&publish);
    assert_eq!(subscriber.publish_acknowledged().properties.len(), publish.properties.len());
    let connect = Connect::new(V5, &broker.client_id("connect", 0)).properties(&vec![property::user("a", ""); 40_000]);
    broker.connect(&connect).disconnect();
    canary.check();
}

/// CVE-2019-11779: nothing of this is recursive, and more levels than allowed are refused wherever they come.
fn the_deepest_topics_are_refused_in_every_packet(broker: &Broker) {
    let mut canary = Canary::new(broker);
    for levels in [1_000, 32_767, 65_534] {
        let deep = "/".repeat(levels);
        let mut client = broker.connect(&Connect::new(V5, &broker.client_id("deep", 0)));
        client.send(&packets::subscribe(V5, 1, &[], &[(&deep, 0), (&format!("+{deep}"), 0)]));
        client.expect(&packets::suback(V5, 1, &[0x8F; 2]));
        client.send(&packets::unsubscribe(V5, 2, &[&deep]));
        client.expect(&packets::unsuback(V5, 2, &[0x11]));
        client.send(&Publish::new(V5, &deep, "").bytes());
        client.expect_disconnect(0x90);
        let mut mortal = broker.open();
        mortal.send(&Connect::new(V5, &broker.client_id("mortal", 0)).will(Will::new(&deep, "")).bytes());
        mortal.expect_connack(V5);
        assert_eq!(mortal.connack.code, 0x90);
        mortal.expect_close();
    }
    canary.check();
}

/// CVE-2018-12543, and shared subscriptions that are none (moquette#957 to #963).
fn every_form_of_dollar_topic_is_harmless(broker: &Broker) {
    let mut canary = Canary::new(broker);
    let shares = ["$share", "$share/", "$share//", "$share/g", "$share/g/", "$share//a", "$share/+/a", "$share/#/a", "$share/g/$SYS/#"];
    for name in ["$", "$/", "$$", "$SYS", "$SYS/", "$SYS/broker", "$sys/x", "$other", "$other/x", "$queue/x"].into_iter().chain(shares) {
        let mut client = broker.connect(&Connect::new(V5, &broker.client_id("dollar", 0)));
        let id = client.packet_id();
        client.send(&packets::subscribe(V5, id, &[], &[(name, 0)]));
        assert_eq!(client.packet()[0], 0x90, "{name}");
        for qos in 0..3 {
            client.send(&Publish::new(V5, name, "").qos(qos, u16::from(qos) * 10).retain().bytes());
        }
        // Wildcards have no place in a topic name: that ends the connection, and nothing else.
        client.send(&packets::PINGREQ);
        client.send(&packets::DISCONNECT);
        client.drain_to_close();
    }
    canary.check();
}
