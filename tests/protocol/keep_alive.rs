//! Keep-alive (section 3.1.2.10): who is silent for one and a half times as long as it promised is disconnected, and nobody else.

use std::thread;
use std::time::{Duration, Instant};

use super::support::packets::{PINGREQ, PINGRESP};
use super::support::{Broker, Connect, Publish, V5, V311, VERSIONS, on_every_configuration};

on_every_configuration! {
    []
    a_silent_client_is_closed_after_one_and_a_half_keep_alives,
    any_packet_keeps_a_client_alive,
    without_keep_alive_silence_is_allowed,
}

/// From the last packet on, with a keep-alive of 1 s.
fn assert_in_time(silence: Duration) {
    // The clock of the broker has whole milliseconds.
    assert!(silence >= Duration::from_millis(1_499), "closed early, after {silence:?}");
    assert!(silence <= Duration::from_millis(2_000), "closed late, after {silence:?}");
}

/// [MQTT-3.1.2-24] of 3.1.1; [MQTT-3.1.2-22] [MQTT-3.2.2-22] of 5.0
fn a_silent_client_is_closed_after_one_and_a_half_keep_alives(broker: &Broker) {
    thread::scope(|scope| {
        for version in VERSIONS {
            for shard in 0..broker.shards {
                scope.spawn(move || {
                    let connect = Connect::new(version, &broker.client_id("silent", shard)).keep_alive(1);
                    let mut client = broker.open();
                    let since = Instant::now();
                    client.connect(&connect);
                    client.expect_disconnect(0x8D);
                    assert_in_time(since.elapsed());
                });
            }
        }
    });
}

/// [MQTT-3.1.2-23] of 3.1.1; [MQTT-3.1.2-20] of 5.0; [MQTT-3.12.4-1]
fn any_packet_keeps_a_client_alive(broker: &Broker) {
    thread::scope(|scope| {
        for version in [V311, V5] {
            for publishes in [false, true] {
                scope.spawn(move || {
                    let mut client = broker.connect(&Connect::new(version, &broker.client_id("alive", 0)).keep_alive(1));
                    let mut last = Instant::now();
                    for _ in 0..2 {
                        thread::sleep(Duration::from_secs(1));
                        last = Instant::now();
                        if publishes {
                            client.send(&Publish::new(version, "alive", "").bytes());
                        } else {
                            client.send(&PINGREQ);
                            client.expect(&PINGRESP);
                        }
                    }
                    client.expect_disconnect(0x8D);
                    assert_in_time(last.elapsed());
                });
            }
        }
    });
}

/// A keep-alive of 0 switches it off (section 3.1.2.10); one of a minute is not over after two seconds.
fn without_keep_alive_silence_is_allowed(broker: &Broker) {
    let connect = |seconds| broker.connect(&Connect::new(V5, &broker.client_id("calm", 0)).keep_alive(seconds));
    let mut calm = [connect(0), connect(60)];
    let mut silent = connect(1);
    silent.expect_disconnect(0x8D);
    calm.iter_mut().for_each(|client| client.expect_silence());
}

/// Where the broker grants no more than a second.
mod limited {
    use super::*;

    on_every_configuration! {
        ["limits.max_keep_alive_s=1"]
        a_keep_alive_beyond_the_limit_is_lowered_and_told,
    }

    /// [MQTT-3.1.2-21] [MQTT-3.2.2-21]
    fn a_keep_alive_beyond_the_limit_is_lowered_and_told(broker: &Broker) {
        let within = broker.connect(&Connect::new(V5, &broker.client_id("within", 0)).keep_alive(1));
        assert_eq!(within.connack.property(0x13), None);
        thread::scope(|scope| {
            for asked in [0, 2, 60, u16::MAX] {
                scope.spawn(move || {
                    let mut client = broker.open();
                    let since = Instant::now();
                    client.connect(&Connect::new(V5, &broker.client_id("lowered", 0)).keep_alive(asked));
                    assert_eq!(client.connack.property(0x13), Some(&[0, 1][..]));
                    client.expect_disconnect(0x8D);
                    assert_in_time(since.elapsed());
                });
            }
        });
    }
}
