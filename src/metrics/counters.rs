//! The counters and gauges of one shard.
//!
//! A counter only grows; a gauge is what is there now. The doc comment of a field is its help text for exporters.

use super::{CloseCause, DropReason, Limit, RefuseReason};

/// One value for an exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// `bytes_received`.
    pub name: &'static str,
    /// Name and value of the label where one metric has several values: `("reason", "queue_full")`.
    pub label: Option<(&'static str, &'static str)>,
    pub value: u64,
    /// One sentence.
    pub help: &'static str,
}

/// The labels of values by quality of service.
const QOS: [&str; 3] = ["0", "1", "2"];

macro_rules! values {
    ($(#[$doc:meta])* $name:ident {
        $(#[doc = $help:literal] $field:ident,)*;
        $(#[doc = $array_help:literal] $array:ident by $label:literal: [$count:expr] = $names:expr,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $(#[doc = $help] pub $field: u64,)*
            $(#[doc = $array_help] pub $array: [u64; $count],)*
        }

        // Derived, it would end at arrays of 32 values.
        impl Default for $name {
            fn default() -> $name {
                $name { $($field: 0,)* $($array: [0; $count],)* }
            }
        }

        impl $name {
            /// Adds the values of another shard.
            pub fn merge(&mut self, other: &$name) {
                $(self.$field += other.$field;)*
                $(self.$array.iter_mut().zip(&other.$array).for_each(|(value, more)| *value += more);)*
            }

            /// Every value with its name and what it means.
            pub fn iter(&self) -> impl Iterator<Item = Metric> + use<> {
                let single = [$(Metric { name: stringify!($field), label: None, value: self.$field, help: $help.trim_ascii() }),*];
                single.into_iter()$(.chain($names.zip(self.$array).map(|(label, value)| {
                    Metric { name: stringify!($array), label: Some(($label, label)), value, help: $array_help.trim_ascii() }
                })))*
            }
        }
    };
}

values! {
    /// What one shard counted since it started.
    Counters {
        /// Bytes received from clients, MQTT packets and incomplete ones.
        bytes_received,
        /// Bytes sent to clients.
        bytes_sent,
        /// MQTT packets received, of all types.
        packets_received,
        /// MQTT packets sent, of all types.
        packets_sent,
        /// Payload bytes of the PUBLISH packets received.
        publish_bytes_received,
        /// Payload bytes of the PUBLISH packets sent.
        publish_bytes_sent,
        /// Network connections accepted.
        connections_opened,
        /// CONNECT packets that were answered with success.
        connects_accepted,
        /// CONNECT packets that were refused.
        connects_refused,
        /// Deliveries owed: one for each published message and session that it matched.
        deliveries_matched,
        /// Deliveries that waited in the queue of a session first.
        deliveries_queued,
        /// Deliveries of QoS 1 and 2 that their subscriber acknowledged; those of QoS 0 end with being sent.
        deliveries_acknowledged,
        /// Deliveries that went to another member of their shared subscription, as the session that they were for had ended.
        deliveries_handed_on,
        /// Messages published that no subscription matched.
        publishes_unmatched,
        /// Messages refused with a reason code that told the publisher so.
        publishes_refused,
        /// Publishers of 3.x that were not read from for a while because their messages found no room.
        publishers_paused,
        /// Wills published.
        wills_published,
        /// Sessions that ended because their expiry interval ran out.
        sessions_expired,
        /// Sessions that ended because they took nothing while their full queues held publishers up.
        sessions_given_up,
        /// Subscriptions made or replaced.
        subscribes,
        /// Subscriptions ended by UNSUBSCRIBE.
        unsubscribes,
        /// Messages handed over to other shards.
        peer_messages_sent,
        /// Messages taken over from other shards.
        peer_messages_received,
        /// Turns of the shard.
        turns,
        ;
        /// PUBLISH packets received.
        publishes_received by "qos": [3] = QOS.into_iter(),
        /// PUBLISH packets sent for the first time.
        publishes_sent by "qos": [3] = QOS.into_iter(),
        /// Deliveries given up, by reason.
        dropped by "reason": [DropReason::COUNT] = DropReason::names(),
        /// Network connections ended, by cause.
        connections_closed by "cause": [CloseCause::COUNT] = CloseCause::names(),
        /// Times that a limit or a rule of access stood in a client's way, by reason.
        refused by "reason": [RefuseReason::COUNT] = RefuseReason::names(),
    }
}

values! {
    /// What one shard holds now.
    Gauges {
        /// Network connections.
        connections,
        /// Sessions, with a connection or without.
        sessions,
        /// Sessions without a connection.
        sessions_offline,
        /// Subscriptions, shared ones included.
        subscriptions,
        /// Members of shared subscriptions.
        shared_subscriptions,
        /// Retained messages.
        retained_messages,
        /// Bytes of retained messages: topics, payloads and properties.
        retained_bytes,
        /// QoS 1 and 2 messages sent that are not fully acknowledged.
        inflight_messages,
        /// Messages waiting in the queues of sessions.
        queued_messages,
        /// Messages waiting outside full queues, whose 3.x publishers wait for their acknowledgement.
        held_messages,
        /// Bytes of the messages waiting in the queues of sessions.
        queued_bytes,
        /// Bytes of output not yet taken by the kernel.
        out_bytes,
        ;
        /// Clients that a limit bit lately, by what it cost them.
        limited_clients by "reason": [Limit::COUNT] = Limit::names(),
    }
}

impl Counters {
    /// Counts `n` deliveries given up.
    #[inline]
    pub fn count_dropped(&mut self, reason: DropReason, n: u64) {
        self.dropped[reason as usize] += n;
    }

    /// Counts one connection ended.
    #[inline]
    pub fn count_closed(&mut self, cause: CloseCause) {
        self.connections_closed[cause as usize] += 1;
    }

    /// Counts one client that was refused something, or slowed down.
    #[inline]
    pub fn count_refused(&mut self, reason: RefuseReason) {
        self.refused[reason as usize] += 1;
    }

    /// Deliveries given up for whatever reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Deliveries that were owed and are done or given up. Together with what is in flight, queued and held they are exactly those that were owed.
    pub fn deliveries_ended(&self) -> u64 {
        // These were no deliveries yet: nobody knew whom the message would match, or it was only not kept.
        let others = [DropReason::PeerRingFull, DropReason::RetainedLimit, DropReason::NotAuthorized];
        let others: u64 = others.iter().map(|&reason| self.dropped[reason as usize]).sum();
        self.publishes_sent[0] + self.deliveries_acknowledged + self.deliveries_handed_on + self.dropped_total() - others
    }
}

/// Counters and gauges of a shard at one moment, or of all shards once merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub counters: Counters,
    pub gauges: Gauges,
}

impl Snapshot {
    /// The sum over `shards`.
    pub fn total(shards: &[Snapshot]) -> Snapshot {
        let mut total = Snapshot::default();
        for shard in shards {
            total.counters.merge(&shard.counters);
            total.gauges.merge(&shard.gauges);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_adds_every_value() {
        let mut one = Counters { bytes_received: 5, publishes_sent: [1, 2, 3], ..Counters::default() };
        one.count_dropped(DropReason::QueueFull, 4);
        one.count_closed(CloseCause::TakenOver);
        let mut sum = one.clone();
        sum.merge(&one);
        for (single, double) in one.iter().zip(sum.iter()) {
            assert_eq!(single.value * 2, double.value, "{single:?}");
        }
        assert_eq!((sum.bytes_received, sum.publishes_sent, sum.dropped_total()), (10, [2, 4, 6], 8));
        assert_eq!(sum.connections_closed[CloseCause::TakenOver as usize], 2);
    }

    #[test]
    fn every_value_has_a_name_of_its_own_and_a_sentence_of_help() {
        let metrics: Vec<_> = Counters::default().iter().chain(Gauges::default().iter()).collect();
        let names = std::collections::BTreeSet::from_iter(metrics.iter().map(|metric| (metric.name, metric.label)));
        assert_eq!(names.len(), metrics.len());
        for metric in metrics {
            assert!(metric.help.ends_with('.') && !metric.help.starts_with(' '), "{metric:?}");
        }
    }

    #[test]
    fn labelled_values_carry_their_label() {
        let mut counters = Counters::default();
        counters.count_dropped(DropReason::Expired, 3);
        let found = counters.iter().find(|metric| metric.label == Some(("reason", "expired"))).unwrap();
        assert_eq!((found.name, found.value), ("dropped", 3));
    }
}
