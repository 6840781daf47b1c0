//! Who is let in, and how fast, over real sockets: what is counted where connections are accepted, and what stops a connection from being read.
//! The rest is proven without sockets, in `tests/admission`.

/// Limits of a listener, over all shards.
mod listener {
    use std::time::Instant;

    use crate::support::client::PATIENCE;
    use crate::support::packets::{PINGREQ, PINGRESP};
    use crate::support::{Broker, Client, Connect, V5, V311, on_every_configuration};

    on_every_configuration! {
        ["listeners=[{address='127.0.0.1:0',max_connections=6,max_connections_per_address=4}]"]
        no_more_connections_are_taken_than_allowed_and_a_place_that_is_free_is_given_away,
    }

    /// A connection that is not taken is closed before anything is read from it.
    fn let_in(broker: &Broker, name: &str, shard: u16) -> Option<Client> {
        let mut client = broker.open();
        let connect = Connect::new(V5, &broker.client_id(name, shard));
        client.send(&connect.bytes());
        let packet = client.packet_or_close()?;
        assert_eq!(packet[..2], [0x20, packet.len() as u8 - 2]);
        Some(client)
    }

    fn no_more_connections_are_taken_than_allowed_and_a_place_that_is_free_is_given_away(broker: &Broker) {
        // All come from one address, so that the smaller limit holds; on both shards, whichever accepts them.
        let mut inside: Vec<_> = (0..4).map(|n| let_in(broker, "in", n % broker.shards).expect("there is room")).collect();
        for _ in 0..8 {
            assert!(let_in(broker, "out", 0).is_none());
        }
        for left in 0..4 {
            drop(inside.remove(0));
            let since = Instant::now();
            // The broker may not have seen yet that the other one is gone.
            let client = loop {
                assert!(since.elapsed() < PATIENCE, "no place became free after {left}");
                if let Some(client) = let_in(broker, "next", left % broker.shards) {
                    break client;
                }
                std::thread::yield_now();
            };
            inside.push(client);
        }
        for client in &mut inside {
            client.send(&PINGREQ);
            client.expect(&PINGRESP);
        }
    }

    /// How many connections come in a second.
    mod rate {
        use super::*;

        on_every_configuration! {
            ["listeners=[{address='127.0.0.1:0',connects_per_second=20}]"]
            no_more_connections_come_in_a_second_than_allowed,
        }

        fn no_more_connections_come_in_a_second_than_allowed(broker: &Broker) {
            let started = Instant::now();
            let mut let_in = 0;
            for _ in 0..60 {
                let mut client = broker.open();
                client.send(&Connect::new(V311, &broker.client_id("rate", 0)).bytes());
                let_in += usize::from(client.packet_or_close().is_some());
            }
            // Twenty at once, then one each 50 ms.
            let most = 20 + started.elapsed().as_millis() as usize / 50 + 1;
            assert!((20..=most).contains(&let_in), "{let_in} of 60, {most} at most");
        }
    }
}

/// Enhanced authentication with SCRAM-SHA-256.
mod scram {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use hmac::{Hmac, KeyInit, Mac};
    use pbkdf2::pbkdf2_hmac;
    use sha2::{Digest, Sha256};

    use crate::support::packets::{block, packet};
    use crate::support::{Broker, Client, Connect, V5, V311, on_every_configuration, property};

    on_every_configuration! {
        [
            "auth.scram=[{user='user',iterations=4096,salt='W22ZaJ0SNY7soEsUEjb6gQ==',\
             stored_key='WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=',server_key='wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU='}]",
        ]
        a_client_with_the_password_is_let_in_and_may_prove_it_again,
        a_client_without_it_is_not,
    }

    const METHOD: &str = "SCRAM-SHA-256";

    fn auth(reason: u8, data: &str) -> Vec<u8> {
        let properties = [property::auth_method(METHOD), property::auth_data(data.as_bytes())].concat();
        packet(0xF0, &[&[reason][..], &block(&properties)].concat())
    }

    fn hmac(key: &[u8], text: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// The data of an AUTH with this reason and our method.
    fn challenge(client: &mut Client, reason: u8) -> String {
        let packet = client.packet();
        let before = [&[reason][..], &[packet.len() as u8 - 4], &property::auth_method(METHOD), &[0x16]].concat();
        assert_eq!((packet[0], &packet[2..2 + before.len()]), (0xF0, &before[..]));
        String::from_utf8(packet[2 + before.len() + 2..].to_vec()).expect("text")
    }

    /// The client's last message, and the broker's answer to it.
    fn proof(password: &str, challenge: &str) -> (String, String) {
        let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).expect("a part");
        let salt = STANDARD.decode(part("s=")).expect("base64");
        let mut salted = [0; 32];
        pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, part("i=").parse().expect("a number"), &mut salted);
        let last = format!("c=biws,r={}", part("r="));
        let signed = format!("n=user,r=abc,{challenge},{last}");
        let client_key = hmac(&salted, "Client Key");
        let signature = hmac(&Sha256::digest(client_key), &signed);
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, mask)| key ^ mask).collect();
        let server = hmac(&hmac(&salted, "Server Key"), &signed);
        (format!("{last},p={}", STANDARD.encode(proof)), format!("v={}", STANDARD.encode(server)))
    }

    fn log_in(broker: &Broker, shard: u16, password: &str) -> (Client, String) {
        let mut client = broker.open();
        client.version = V5;
        let properties = [property::auth_method(METHOD), property::auth_data(b"n,,n=user,r=abc")];
        client.send(&Connect::new(V5, &broker.client_id("scram", shard)).properties(&properties).bytes());
        let (last, signature) = proof(password, &challenge(&mut client, 0x18));
        client.send(&auth(0x18, &last));
        client.expect_connack(V5);
        (client, signature)
    }

    /// [MQTT-4.12.0-2] [MQTT-4.12.0-3] [MQTT-4.12.0-5] [MQTT-4.12.1-1]
    fn a_client_with_the_password_is_let_in_and_may_prove_it_again(broker: &Broker) {
        for shard in 0..broker.shards {
            let (mut client, signature) = log_in(broker, shard, "pencil");
            assert_eq!(client.connack.code, 0);
            let expected = [METHOD.as_bytes(), signature.as_bytes()];
            let found = [0x15, 0x16].map(|id| client.connack.property(id).expect("a property")[2..].to_vec());
            assert_eq!(found, expected);
            client.send(&auth(0x19, "n,,n=user,r=abc"));
            let (last, signature) = proof("pencil", &challenge(&mut client, 0x18));
            client.send(&auth(0x18, &last));
            assert_eq!(challenge(&mut client, 0), signature);
        }
    }

    /// [MQTT-4.12.0-4]
    fn a_client_without_it_is_not(broker: &Broker) {
        for shard in 0..broker.shards {
            let (mut client, _) = log_in(broker, shard, "pen");
            assert_eq!(client.connack.code, 0x87);
            client.expect_close();
        }
        let mut client = broker.open();
        client.send(&Connect::new(V311, &broker.client_id("scram", 0)).bytes());
        client.expect(&[0x20, 2, 0, 5]);
        client.expect_close();
    }
}

/// Rates per client.
mod rates {
    use std::time::{Duration, Instant};

    use crate::support::packets::{suback, subscribe};
    use crate::support::{Broker, Connect, Publish, V5, V311, on_every_configuration};

    on_every_configuration! {
        ["limits.max_publish_per_second=100"]
        a_client_beyond_its_rate_is_read_later_and_loses_nothing,
    }

    fn a_client_beyond_its_rate_is_read_later_and_loses_nothing(broker: &Broker) {
        for &(publishers, subscribers) in broker.places() {
            let topic = broker.topic("rate", 0);
            let mut subscriber = broker.connect(&Connect::new(V5, &broker.client_id("sub", subscribers)));
            subscriber.send(&subscribe(V5, 1, &[], &[(&topic, 0)]));
            subscriber.expect(&suback(V5, 1, &[0]));
            let mut publisher = broker.connect(&Connect::new(V311, &broker.client_id("pub", publishers)));
            let started = Instant::now();
            for n in 0..250 {
                // One by one, so that they come in many reads.
                publisher.send(&Publish::new(V311, &topic, &n.to_string()).bytes());
            }
            for n in 0..250 {
                assert_eq!(subscriber.publish().text(), n.to_string());
            }
            // A hundred were free. What one read brings is taken whole, so all may have come at once; but what is read after them waits.
            publisher.send(&Publish::new(V311, &topic, "last").bytes());
            assert_eq!(subscriber.publish().text(), "last");
            assert!(started.elapsed() >= Duration::from_millis(1_400), "{:?}", started.elapsed());
        }
    }
}
