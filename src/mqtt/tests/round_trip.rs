//! Properties that hold for all packets and for all bytes.

use super::generate::{version, versioned_packet};
use super::*;
use proptest::prelude::*;

/// Uses every view of a packet, so that none can panic on what was accepted.
fn walk(packet: &Packet<'_>) {
    match packet {
        Packet::Subscribe(subscribe) => assert!(subscribe.filters().count() > 0),
        Packet::Unsubscribe(unsubscribe) => assert!(unsubscribe.filters().count() > 0),
        Packet::Publish(publish) => {
            publish.properties.forward_into(&mut Vec::new());
            publish.properties.subscription_ids().for_each(|id| assert_ne!(id, 0));
            publish.properties.all().user.iter().for_each(drop);
        }
        Packet::Connect(connect) => connect.properties.user.iter().for_each(drop),
        _ => {}
    }
}

/// What was accepted says the same when written and read again.
fn accept_or_refuse(version: Version, first: u8, body: &[u8]) {
    let Ok(packet) = decode(version, first, body) else { return };
    walk(&packet);
    let version = if let Packet::Connect(connect) = &packet { connect.version } else { version };
    let again = write(version, &packet);
    assert_same(&packet, &read(version, &again).expect("own bytes are valid"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read((version, packet) in versioned_packet()) {
        let bytes = write(version, &packet);
        let back = read(version, &bytes).expect("valid");
        assert_same(&back, &packet);
        walk(&back);
    }

    #[test]
    fn the_header_is_found_at_each_split((version, packet) in versioned_packet()) {
        let bytes = write(version, &packet);
        let whole = peek(&bytes, NO_LIMIT).expect("valid").expect("complete");
        prop_assert_eq!(whole.total_len(), bytes.len());
        for len in 0..bytes.len() {
            let complete = len >= usize::from(whole.header_len);
            prop_assert_eq!(peek(&bytes[..len], NO_LIMIT), Ok(complete.then_some(whole)));
        }
    }

    #[test]
    fn a_packet_cut_short_is_never_read_as_the_whole((version, packet) in versioned_packet(), at in any::<prop::sample::Index>()) {
        let bytes = write(version, &packet);
        let header = peek(&bytes, NO_LIMIT).expect("valid").expect("complete");
        let body = &bytes[usize::from(header.header_len)..];
        if !body.is_empty() {
            let cut = &body[..at.index(body.len())];
            if let Ok(shorter) = decode(version, header.first, cut) {
                prop_assert_ne!(shorter, packet);
            }
        }
    }

    #[test]
    fn mutated_packets_are_read_or_refused(
        (version, packet) in versioned_packet(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        reader in version(),
    ) {
        let bytes = write(version, &packet);
        let header = peek(&bytes, NO_LIMIT).expect("valid").expect("complete");
        let mut body = bytes[usize::from(header.header_len)..].to_vec();
        for (at, value) in changes {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = value;
            }
        }
        accept_or_refuse(version, header.first, &body);
        accept_or_refuse(reader, header.first, &body);
    }

    #[test]
    fn random_bytes_are_read_or_refused(version in version(), first in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        accept_or_refuse(version, first, &body);
        let _ = peek(&body, 1 << 20);
    }

    #[test]
    fn small_bytes_are_read_or_refused(version in version(), kind in 1..16u8, body in prop::collection::vec(0..12u8, 0..40)) {
        accept_or_refuse(version, kind << 4 | if [6, 8, 10].contains(&kind) { 2 } else { 0 }, &body);
    }
}
