//! Formats against what mosquitto_sub 2.0 prints for the same message.

use std::time::Duration;

use super::*;
use crate::mqtt::QoS;

fn message() -> Received {
    let (topic, payload) = ("r".to_owned(), b"{\"x\":1}".to_vec());
    Received { topic, payload, qos: QoS::AtLeastOnce, retain: true, packet_id: 1, ..Received::default() }
}

/// The message of `message()` with every property that a broker may send.
fn with_properties() -> Received {
    let mut block = b"\x01\x01\x02\x00\x00\x00\x64\x03\x00\x09text/json\x08\x00\x02rt\x09\x00\x02cd\x0b\x05\x0b\x80\x02".to_vec();
    block.extend_from_slice(b"\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x03v\"2");
    Received { property_block: block, ..message() }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_470_818_858, 786_368_637)
}

fn shown(format: &str, message: &Received) -> String {
    let mut out = Vec::new();
    Format::parse(format).unwrap().write(message, now(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn without_a_format_the_payload_or_topic_and_payload_are_printed() {
    let mut out = Vec::new();
    Format::payload().write(&message(), now(), &mut out).unwrap();
    assert_eq!(out, b"{\"x\":1}");
    out.clear();
    Format::verbose().write(&message(), now(), &mut out).unwrap();
    assert_eq!(out, b"r {\"x\":1}");
}

#[test]
fn every_letter_prints_what_it_prints_in_mosquitto() {
    let all = "%A|%C|%D|%E|%F|%l|%m|%P|%p|%q|%R|%r|%S|%t|%x|%X|%%|%I|%U";
    assert_eq!(
        shown(all, &with_properties()),
        "|text/json|cd|100|1|7|1|k:v k:v\"2|{\"x\":1}|1|rt|1|5 256|r|7b2278223a317d|7B2278223A317D|%|2016-08-10T08:47:38+0000|1470818858.786368637"
    );
    assert_eq!(
        shown(all, &message()),
        "|||||7|1||{\"x\":1}|1||1||r|7b2278223a317d|7B2278223A317D|%|2016-08-10T08:47:38+0000|1470818858.786368637"
    );
}

#[test]
fn width_length_and_flags_are_those_of_printf() {
    let mut long = message();
    long.topic = "a/längere/topic".to_owned();
    for (format, expected) in [
        ("%10t|", "a/längere/topic|"),
        ("%10.5t|", "     a/län|"),
        ("%-10.5t|", "a/län     |"),
        ("%.3t|", "a/l|"),
        ("%.0t|", "|"),
        ("%010l|", "0000000007|"),
        ("%-010l|", "7         |"),
        ("%5l|", "    7|"),
        ("%010.2t|", "        a/|"),
        ("%3.1q|", "  1|"),
        ("%10p|", "   {\"x\":1}|"),
    ] {
        assert_eq!(shown(format, &long), expected, "{format}");
    }
}

#[test]
fn json_has_mosquittos_names_in_mosquittos_order() {
    let start = "{\"tst\":\"2016-08-10T08:47:38.786368+0000\",\"topic\":\"r\",\"qos\":1,\"retain\":1,\"payloadlen\":7,\"mid\":1,";
    let properties = "\"properties\":{\"user-properties\":{\"k\":\"v\",\"k\":\"v\\\"2\"},\"content-type\":\"text/json\",\"response-topic\":\"rt\",\
        \"correlation-data\":\"cd\",\"payload-format-indicator\":1,\"message-expiry-interval\":100,\"subscription-identifiers\":[5,256]},";
    assert_eq!(shown("%j", &with_properties()), format!("{start}{properties}\"payload\":\"{{\\\"x\\\":1}}\"}}"));
    assert_eq!(shown("%J", &message()), format!("{start}\"payload\":{{\"x\":1}}}}"));
}

#[test]
fn a_payload_that_is_no_json_is_an_error_only_where_json_is_wanted() {
    let mut plain = message();
    plain.payload = b"plain \xff".to_vec();
    assert!(shown("%j", &plain).ends_with("\"payload\":\"plain \u{fffd}\"}"));
    let error = Format::parse("%J").unwrap().write(&plain, now(), &mut Vec::new()).unwrap_err();
    assert_eq!(error, "the payload is no JSON on topic r");
}

#[test]
fn escapes_and_times_are_understood() {
    assert_eq!(shown(r"\\\0\a\e\n\r\t\v", &message()), "\\\0\x07\x1b\n\r\t\x0b");
    assert_eq!(shown("@Y-@m-@d @H:@M:@S.@N @@", &message()), "2016-08-10 08:47:38.786368637 @");
}

#[test]
fn what_means_nothing_is_refused_and_named() {
    for (format, sequence) in [
        ("%Z", "'%Z'"),
        ("%", "'%'"),
        ("%5", "'%5'"),
        ("%-08.3", "'%-08.3'"),
        ("%é", "'%é'"),
        ("@?", "'@?'"),
        ("@", "'@'"),
        (r"\x", r"'\x'"),
        ("\\", "'\\'"),
    ] {
        let error = Format::parse(format).unwrap_err();
        assert!(error.contains(sequence), "{format}: {error}");
    }
}

#[test]
fn an_absurd_width_is_bounded() {
    assert_eq!(shown("%99999999999999999999t", &message()).len(), MAX_WIDTH);
}
