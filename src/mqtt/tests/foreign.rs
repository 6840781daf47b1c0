//! A codec of other authors reads what we write, and we read what it writes of that.

use super::generate::packet;
use super::*;
use proptest::prelude::*;

/// Whether the other codec can express this packet. It checks UTF-8 of payloads (which 5.0 leaves to the receiver), keeps one subscription
/// identifier of a PUBLISH, and writes 3 for the failure code 0x80 of 3.x.
fn shared_ground(version: Version, packet: &Packet<'_>) -> bool {
    let text_or_bytes = |format: Option<u8>, payload: &[u8]| format != Some(1) || std::str::from_utf8(payload).is_ok();
    match packet {
        Packet::Connect(Connect { will: Some(will), .. }) => text_or_bytes(will.properties.payload_format, will.payload),
        Packet::Publish(publish) => {
            let properties = publish.properties.all();
            text_or_bytes(properties.payload_format, publish.payload) && publish.properties.subscription_ids().count() <= 1
        }
        Packet::Suback(suback) => version.is_v5() || !suback.codes.contains(&0x80),
        _ => true,
    }
}

fn through_foreign_codec(version: Version, bytes: &[u8]) -> Vec<u8> {
    if version.is_v5() {
        let packet = mqtt_proto::v5::Packet::decode(bytes).expect("valid for the other codec").expect("complete");
        packet.encode().expect("encodable").as_ref().to_vec()
    } else {
        let packet = mqtt_proto::v3::Packet::decode(bytes).expect("valid for the other codec").expect("complete");
        packet.encode().expect("encodable").as_ref().to_vec()
    }
}

fn agree(version: Version, packet: &Packet<'_>) {
    if !shared_ground(version, packet) {
        return;
    }
    let ours = write(version, packet);
    let theirs = through_foreign_codec(version, &ours);
    let back = read(version, &theirs).expect("valid for us");
    assert_same(&back, packet);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packets_of_3_1_mean_the_same_to_both(packet in packet(V31)) {
        agree(V31, &packet);
    }

    #[test]
    fn packets_of_3_1_1_mean_the_same_to_both(packet in packet(V311)) {
        agree(V311, &packet);
    }

    #[test]
    fn packets_of_5_0_mean_the_same_to_both(packet in packet(V5)) {
        agree(V5, &packet);
    }
}
