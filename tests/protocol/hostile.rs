//! What other brokers fell over: announced sizes, silence, half packets. Each time somebody else goes on working and notices nothing.

use std::time::{Duration, Instant};

use super::support::{Broker, Client, Connect, Publish, V5, V311, on_every_configuration, packets, property};

on_every_configuration! {
    ["limits.connect_timeout_ms=1000"]
    an_announced_length_takes_no_memory,
    a_connection_that_says_nothing_or_half_of_connect_is_closed_in_time,
    one_byte_at_a_time_does_not_keep_a_connection_alive,
    a_packet_that_is_not_connect_is_not_waited_for,
    request_response_information_is_understood,
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
