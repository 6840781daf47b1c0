//! The client against a scripted peer: a thread that reads the bytes it expects and writes the bytes it was told to.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use super::*;
use crate::cli::client::Received;

/// A broker that accepts one connection and hands it to `script`; panics of the script surface in `finish`.
struct Peer {
    port: u16,
    thread: JoinHandle<()>,
}

impl Peer {
    fn new(script: impl FnOnce(TcpStream) + Send + 'static) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            script(stream);
        });
        Peer { port, thread }
    }

    fn options(&self, version: Version) -> ConnectOptions {
        ConnectOptions { host: "127.0.0.1".to_owned(), port: self.port, version, client_id: "c".to_owned(), ..ConnectOptions::default() }
    }

    fn finish(self) {
        self.thread.join().unwrap();
    }
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut buffer = vec![0; bytes.len()];
    stream.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer, bytes);
}

fn expect_end(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
}

/// Reads the CONNECT of client `c` and grants it.
fn accept_connect(stream: &mut TcpStream, version: Version) {
    match version {
        Version::V5 => {
            expect(stream, b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c");
            stream.write_all(&[0x20, 3, 0, 0, 0]).unwrap();
        }
        _ => {
            expect(stream, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c");
            stream.write_all(&[0x20, 2, 0, 0]).unwrap();
        }
    }
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(10))
}

fn message(event: Event) -> Received {
    let Event::Message(message) = event else { panic!("{event:?}") };
    message
}

#[test]
fn a_message_of_each_qos_goes_out_and_is_acknowledged() {
    let peer = Peer::new(|mut stream| {
        accept_connect(&mut stream, Version::V311);
        expect(&mut stream, b"\x30\x04\x00\x01ax");
        expect(&mut stream, b"\x33\x06\x00\x01a\x00\x01x");
        expect(&mut stream, b"\x34\x06\x00\x01a\x00\x02x");
        stream.write_all(&[0x40, 2, 0, 1, 0x50, 2, 0, 2]).unwrap();
        expect(&mut stream, &[0x62, 2, 0, 2]);
        stream.write_all(&[0x70, 2, 0, 2]).unwrap();
        expect(&mut stream, &[0xE0, 0]);
        expect_end(&mut stream);
    });
    let mut connection = Connection::open(&peer.options(Version::V311)).unwrap();
    assert_eq!(connection.publish(&Message::new("a", "x")).unwrap(), 0);
    assert_eq!(connection.publish(&Message { qos: QoS::AtLeastOnce, retain: true, ..Message::new("a", "x") }).unwrap(), 1);
    assert_eq!(connection.publish(&Message { qos: QoS::ExactlyOnce, ..Message::new("a", "x") }).unwrap(), 2);
    assert_eq!(connection.in_flight(), 2);
    for packet_id in [1, 2] {
        assert_eq!(connection.next(soon()).unwrap(), Event::Published { packet_id, reason: ReasonCode::SUCCESS });
    }
    assert_eq!(connection.in_flight(), 0);
    connection.disconnect(&OwnedProperties::default()).unwrap();
    peer.finish();
}

#[test]
fn messages_of_each_qos_arrive_and_are_acknowledged_before_the_goodbye() {
    let peer = Peer::new(|mut stream| {
        accept_connect(&mut stream, Version::V5);
        expect(&mut stream, b"\x82\x07\x00\x01\x00\x00\x01a\x02");
        stream.write_all(&[0x90, 4, 0, 1, 0, 2]).unwrap();
        // Written byte by byte, as a small device may.
        for byte in b"\x30\x05\x00\x01a\x00x\x33\x0c\x00\x01a\x00\x05\x05\x03\x00\x02ctx\x34\x07\x00\x01a\x00\x06\x00x" {
            stream.write_all(&[*byte]).unwrap();
        }
        expect(&mut stream, &[0x40, 2, 0, 5, 0x50, 2, 0, 6]);
        stream.write_all(&[0x62, 2, 0, 6]).unwrap();
        expect(&mut stream, &[0x70, 2, 0, 6, 0xE0, 0]);
        expect_end(&mut stream);
    });
    let mut connection = Connection::open(&peer.options(Version::V5)).unwrap();
    let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
    assert_eq!(connection.subscribe(&[("a", options)], &OwnedProperties::default()).unwrap(), 1);
    assert_eq!(connection.next(soon()).unwrap(), Event::Subscribed { packet_id: 1, codes: vec![2] });
    assert_eq!(message(connection.next(soon()).unwrap()).qos, QoS::AtMostOnce);
    let second = message(connection.next(soon()).unwrap());
    assert_eq!((second.qos, second.retain, second.properties().content_type), (QoS::AtLeastOnce, true, Some("ct")));
    let third = message(connection.next(soon()).unwrap());
    assert_eq!((third.qos, third.topic.as_str(), third.payload.as_slice()), (QoS::ExactlyOnce, "a", &b"x"[..]));
    connection.disconnect(&OwnedProperties::default()).unwrap();
    peer.finish();
}

#[test]
fn will_user_and_properties_stand_in_connect() {
    let peer = Peer::new(|mut stream| {
        expect(
            &mut stream,
            b"\x10\x27\x00\x04MQTT\x05\xf6\x00\x0a\x05\x11\x00\x00\x00\x3c\x00\x01c\x05\x18\x00\x00\x00\x07\x00\x01w\x00\x02by\x00\x01u\x00\x02pw",
        );
        stream.write_all(&[0x20, 3, 0, 0, 0]).unwrap();
    });
    let will = Message {
        qos: QoS::ExactlyOnce,
        retain: true,
        properties: OwnedProperties { will_delay: Some(7), ..OwnedProperties::default() },
        ..Message::new("w", "by")
    };
    Connection::open(&ConnectOptions {
        keep_alive_s: 10,
        user_name: Some("u".to_owned()),
        password: Some(b"pw".to_vec()),
        will: Some(will),
        properties: OwnedProperties { session_expiry: Some(60), ..OwnedProperties::default() },
        ..peer.options(Version::V5)
    })
    .unwrap();
    peer.finish();
}

#[test]
fn properties_of_a_message_are_sent_in_5_0_and_left_out_before() {
    for (version, bytes) in
        [(Version::V5, &b"\x30\x13\x00\x01a\x0e\x01\x01\x03\x00\x01t\x26\x00\x01k\x00\x02vvx"[..]), (Version::V311, b"\x30\x04\x00\x01ax")]
    {
        let peer = Peer::new(move |mut stream| {
            accept_connect(&mut stream, version);
            expect(&mut stream, bytes);
            expect(&mut stream, &[0xE0, 0]);
        });
        let mut connection = Connection::open(&peer.options(version)).unwrap();
        let properties = OwnedProperties {
            payload_format: Some(1),
            content_type: Some("t".to_owned()),
            user: vec![("k".to_owned(), "vv".to_owned())],
            ..OwnedProperties::default()
        };
        connection.publish(&Message { properties, ..Message::new("a", "x") }).unwrap();
        connection.disconnect(&OwnedProperties::default()).unwrap();
        peer.finish();
    }
}

#[test]
fn what_connack_grants_is_kept() {
    let peer = Peer::new(|mut stream| {
        expect(&mut stream, b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c");
        // Session present, receive maximum 2, maximum packet size 10, assigned client identifier "x".
        stream.write_all(b"\x20\x0f\x01\x00\x0c\x21\x00\x02\x27\x00\x00\x00\x0a\x12\x00\x01x").unwrap();
        expect(&mut stream, b"\x32\x07\x00\x01a\x00\x01\x00x");
        expect(&mut stream, b"\x32\x07\x00\x01a\x00\x02\x00x");
        expect(&mut stream, &[0xE0, 0]);
    });
    let mut connection = Connection::open(&peer.options(Version::V5)).unwrap();
    assert_eq!((connection.client_id(), connection.session_present()), ("x", true));
    let message = Message { qos: QoS::AtLeastOnce, ..Message::new("a", "x") };
    connection.publish(&message).unwrap();
    assert!(connection.has_room());
    connection.publish(&message).unwrap();
    assert!(!connection.has_room());
    let error = connection.publish(&Message::new("a", "12345678")).unwrap_err().to_string();
    assert_eq!(error, "the message makes a packet of 14 bytes, the broker takes 10");
    connection.disconnect(&OwnedProperties::default()).unwrap();
    peer.finish();
}

#[test]
fn a_refusal_gives_the_code() {
    for (version, connack, code) in
        [(Version::V311, &[0x20, 2, 0, 5][..], 5), (Version::V5, &[0x20, 3, 0, 0x87, 0], 0x87), (Version::V5, &[0x20, 2, 0, 1], 1)]
    {
        let peer = Peer::new(move |mut stream| {
            stream.write_all(connack).unwrap();
            let _ = stream.read(&mut [0; 64]);
        });
        let error = Connection::open(&peer.options(version)).unwrap_err();
        assert!(matches!(error, ClientError::Refused { code: found, .. } if found == code), "{error:?}");
        assert_eq!(error.exit_code(), code);
        peer.finish();
    }
}

#[test]
fn nobody_listening_is_told_with_the_next_step() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = Connection::open(&ConnectOptions { host: "127.0.0.1".to_owned(), port, ..ConnectOptions::default() }).unwrap_err();
    let expected = format!("connection refused by 127.0.0.1:{port}: is a broker running there? start one with `ringmq`");
    assert_eq!(error.to_string(), expected);
    let error = Connection::open(&ConnectOptions { host: "no host".to_owned(), ..ConnectOptions::default() }).unwrap_err();
    assert!(error.to_string().starts_with("cannot find the host 'no host': "), "{error}");
}

#[test]
fn a_peer_that_is_no_broker_is_found_out() {
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0xD0, 0], &[0x20, 1, 0], &[0x30, 4, 0, 1, 97, 120]] {
        let peer = Peer::new(move |mut stream| {
            stream.write_all(bytes).unwrap();
            let _ = stream.read(&mut [0; 64]);
        });
        let error = Connection::open(&peer.options(Version::V311)).unwrap_err();
        assert!(matches!(error, ClientError::Protocol(_)), "{error:?}");
        peer.finish();
    }
}

#[test]
fn silence_is_broken_by_a_ping_and_endless_silence_ends_the_connection() {
    let peer = Peer::new(|mut stream| {
        expect(&mut stream, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x01\x00\x01c");
        stream.write_all(&[0x20, 2, 0, 0]).unwrap();
        expect(&mut stream, &[0xC0, 0]);
        stream.write_all(&[0xD0, 0]).unwrap();
        expect(&mut stream, &[0xC0, 0]);
        expect_end(&mut stream);
    });
    let mut connection = Connection::open(&ConnectOptions { keep_alive_s: 1, ..peer.options(Version::V311) }).unwrap();
    let started = Instant::now();
    let error = connection.next(None).unwrap_err();
    assert_eq!(error, ClientError::Lost("the broker did not answer for 1 s".to_owned()));
    assert!(started.elapsed() >= Duration::from_secs(3) - Duration::from_millis(100), "{:?}", started.elapsed());
    drop(connection);
    peer.finish();
}

#[test]
fn a_deadline_and_another_descriptor_end_the_wait() {
    let peer = Peer::new(|mut stream| {
        accept_connect(&mut stream, Version::V311);
        expect_end(&mut stream);
    });
    let mut connection = Connection::open(&peer.options(Version::V311)).unwrap();
    assert_eq!(connection.next(Some(Instant::now() + Duration::from_millis(5))).unwrap(), Event::TimedOut);
    let (mut writer, reader) = std::os::unix::net::UnixStream::pair().unwrap();
    writer.write_all(b"x").unwrap();
    assert_eq!(connection.next_or_input(soon(), Some(reader.as_fd())).unwrap(), Event::InputReady);
    drop(connection);
    peer.finish();
}

#[test]
fn an_end_without_goodbye_is_a_loss_and_a_goodbye_is_told() {
    for (last_words, expected) in [
        (&[][..], ClientError::Lost("the broker closed it".to_owned())),
        (&[0xE0, 1, 0x8B], ClientError::Disconnected { reason: ReasonCode::SERVER_SHUTTING_DOWN, reason_string: None }),
    ] {
        let peer = Peer::new(move |mut stream| {
            accept_connect(&mut stream, Version::V5);
            stream.write_all(last_words).unwrap();
        });
        let mut connection = Connection::open(&peer.options(Version::V5)).unwrap();
        assert_eq!(connection.next(soon()).unwrap_err(), expected);
        peer.finish();
    }
}

#[test]
fn a_qos_2_message_half_received_is_handed_out_after_a_reconnect() {
    let options = |port| ConnectOptions {
        host: "127.0.0.1".to_owned(),
        port,
        clean_start: false,
        client_id: "c".to_owned(),
        ..ConnectOptions::default()
    };
    let connect = b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x3c\x00\x01c";
    let first = Peer::new(move |mut stream| {
        expect(&mut stream, connect);
        stream.write_all(b"\x20\x02\x00\x00\x34\x06\x00\x01a\x00\x06x").unwrap();
        expect(&mut stream, &[0x50, 2, 0, 6]);
    });
    let second = Peer::new(move |mut stream| {
        expect(&mut stream, connect);
        stream.write_all(&[0x20, 2, 1, 0, 0x62, 2, 0, 6]).unwrap();
        expect(&mut stream, &[0x70, 2, 0, 6]);
    });
    let mut connection = Connection::open(&options(first.port)).unwrap();
    assert!(matches!(connection.next(soon()), Err(ClientError::Lost(_))));
    first.finish();
    let mut connection = connection.reopen(&options(second.port)).unwrap();
    assert_eq!(message(connection.next(soon()).unwrap()).payload, b"x");
    assert!(matches!(connection.next(soon()), Err(ClientError::Lost(_))));
    second.finish();
}

#[test]
fn what_is_no_topic_is_not_sent() {
    let peer = Peer::new(|mut stream| {
        accept_connect(&mut stream, Version::V311);
        expect_end(&mut stream);
    });
    let mut connection = Connection::open(&peer.options(Version::V311)).unwrap();
    for topic in ["a/#", "+", "", "a\0"] {
        assert!(matches!(connection.publish(&Message::new(topic, "")), Err(ClientError::Invalid(_))), "{topic:?}");
    }
    for filter in ["a/#/b", "a+", "", "$share/g", "$share//a"] {
        let subscribed = connection.subscribe(&[(filter, SubscribeOptions::default())], &OwnedProperties::default());
        assert!(matches!(subscribed, Err(ClientError::Invalid(_))), "{filter:?}");
    }
    drop(connection);
    peer.finish();
}
