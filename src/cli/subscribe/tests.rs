//! The arguments of `sub`, and what it does with what a scripted peer sends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Harness {
    #[command(flatten)]
    args: SubArgs,
}

fn parse(arguments: &[&str]) -> Result<SubArgs, clap::Error> {
    Harness::try_parse_from([&["sub"], arguments].concat()).map(|harness| harness.args)
}

/// Runs `sub` with `arguments` against a peer that grants CONNECT and the subscription to `a`, sends `bytes`, and returns what it read after.
fn run_against(arguments: &[&str], bytes: &'static [u8]) -> (Result<(), Failure>, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let peer = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        read(&mut stream, 14);
        stream.write_all(&[0x20, 2, 0, 0]).unwrap();
        read(&mut stream, 8);
        stream.write_all(&[0x90, 3, 0, 1, 0]).unwrap();
        stream.write_all(bytes).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        rest
    });
    let args = parse(&[&["-h", "127.0.0.1", "-p", &port, "-t", "a"], arguments].concat()).unwrap();
    let result = run(&args);
    (result, peer.join().unwrap())
}

fn read(stream: &mut TcpStream, bytes: usize) {
    stream.read_exact(&mut vec![0; bytes]).unwrap();
}

#[test]
fn every_letter_is_understood_short_and_long() {
    for arguments in [
        &["-t", "a", "-t", "b"][..],
        &["--topic", "a", "--filter-out", "b", "--unsubscribe", "c"],
        &["-T", "b", "-U", "c"],
        &["-C", "1", "-W", "2", "-v"],
        &["--verbose"],
        &["-F", "%t"],
        &["-F", "-%p"],
        &["-N", "-R", "-E"],
        &["--retained-only"],
        &["--remove-retained"],
        &["--retain-as-published", "--no-local", "-V", "5"],
        &["--retain-handling", "never"],
        &["--retain-handling", "1"],
        &["-L", "mqtt://h/t"],
        &["-h", "host", "-p", "1", "-i", "i", "-c", "-q", "1"],
        &["-D", "subscribe", "subscription-identifier", "5", "-t", "a"],
    ] {
        parse(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    }
    for arguments in [&["-C", "0"][..], &["-W", "0"], &["-R", "--retained-only"], &["--retain-handling", "3"], &["stray"]] {
        assert!(parse(arguments).is_err(), "{arguments:?}");
    }
}

#[test]
fn mistakes_are_told_before_anybody_connects() {
    for (arguments, part) in [
        (&["-p", "1"][..], "no topic given"),
        (&["-t", "a", "-F", "%Z"], "'%Z' means nothing"),
        (&["-t", "a", "-T", "a/#/b"], "-T a/#/b: "),
        (&["-t", "a", "--no-local"], "add -V 5"),
        (&["-t", "a", "-c"], "add -i NAME"),
    ] {
        let failure = run(&parse(arguments).unwrap()).unwrap_err();
        assert!(failure.message.contains(part), "{arguments:?}: {}", failure.message);
        assert_eq!(failure.code, 1);
    }
}

#[test]
fn it_ends_in_order_after_the_messages_asked_for() {
    let (result, rest) = run_against(&["-C", "2", "-F", "x", "-N"], b"\x30\x04\x00\x01ax\x32\x06\x00\x01a\x00\x05x\x30\x04\x00\x01ay");
    result.unwrap();
    assert_eq!(rest, [0x40, 2, 0, 5, 0xE0, 0]);
}

#[test]
fn messages_that_are_not_to_be_printed_do_not_count() {
    let (result, _) =
        run_against(&["-C", "1", "-R", "-T", "b", "-F", "x", "-N"], b"\x31\x04\x00\x01ax\x30\x04\x00\x01bx\x30\x04\x00\x01ax");
    result.unwrap();
    let (result, rest) = run_against(&["-C", "1", "-R", "-T", "a", "-W", "1"], b"\x31\x04\x00\x01ax\x30\x04\x00\x01ax");
    assert_eq!((result.unwrap_err().code, rest), (TIMED_OUT, vec![0xE0, 0]));
}

#[test]
fn retained_messages_are_removed_and_others_end_a_run_for_retained_ones_only() {
    let (result, rest) = run_against(&["--retained-only", "--remove-retained", "-F", "x", "-N"], b"\x31\x04\x00\x01ax\x30\x04\x00\x01by");
    result.unwrap();
    assert_eq!(rest, b"\x31\x03\x00\x01a\xE0\x00");
}

#[test]
fn it_ends_when_subscribed_if_that_is_all_that_was_wanted() {
    let (result, rest) = run_against(&["-E"], b"");
    result.unwrap();
    assert_eq!(rest, [0xE0, 0]);
}

#[test]
fn a_payload_that_is_no_json_is_counted_and_not_printed() {
    let (result, _) = run_against(&["-C", "1", "-F", "%J", "-N", "--quiet"], b"\x30\x04\x00\x01ax");
    result.unwrap();
}

#[test]
fn a_refusal_of_every_subscription_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let peer = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        read(&mut stream, 14);
        stream.write_all(&[0x20, 2, 0, 0, 0x90, 3, 0, 1, 0x80]).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let failure = run(&parse(&["-h", "127.0.0.1", "-p", &port, "-t", "a", "--quiet"]).unwrap()).unwrap_err();
    assert_eq!(failure.code, 1);
    peer.join().unwrap();
}

#[test]
fn a_lost_connection_is_made_again_and_the_subscription_with_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let peer = std::thread::spawn(move || {
        for packet_id in [1, 2] {
            let mut stream = listener.accept().unwrap().0;
            read(&mut stream, 14);
            stream.write_all(&[0x20, 2, 0, 0]).unwrap();
            read(&mut stream, 8);
            stream.write_all(&[0x90, 3, 0, packet_id, 0]).unwrap();
            if packet_id == 2 {
                stream.write_all(b"\x30\x04\x00\x01ax").unwrap();
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
    });
    run(&parse(&["-h", "127.0.0.1", "-p", &port, "-t", "a", "-C", "1", "-F", "x", "-N", "--quiet"]).unwrap()).unwrap();
    peer.join().unwrap();
}
