//! What a client does of its own accord: wild while the world is in chaos, tidy afterwards.

use ringmq::mqtt::{Properties, QoS, ReasonCode, RetainHandling, SubscribeOptions, UserProperties, Version};

use super::Client;
pub use super::outbound::ConnectWish;
use crate::history::{Entry, Message, MessageIx, Purpose, WillPlan};
use crate::host::Surroundings;
use crate::network::ClientEnd;
use crate::topics;

/// Unacknowledged messages of one client at most.
const MAX_FLIGHTS: usize = 20;
/// A client that gets no CONNACK gives up after this, ms.
const CONNECT_PATIENCE_MS: u64 = 15_000;

impl Client {
    /// One step of a client; `chaos`: it may begin something new.
    pub fn act(&mut self, chaos: bool, around: &mut Surroundings<'_>) {
        self.read_ghosts(around);
        self.read(around);
        let now = around.history.now;
        let Some(link) = &mut self.link else {
            let wish = if chaos { self.wild_wish(around) } else { self.tidy_wish(around) };
            if !chaos || around.rng.permille(200) {
                self.connect_and_go_on(wish, around);
            }
            return;
        };
        if !chaos {
            (link.stalled_until, link.silent_until) = (0, 0);
        }
        if !link.connected && now > link.opened_at + CONNECT_PATIENCE_MS {
            return self.leave(ClientEnd::Reset, around);
        }
        if link.silent_until > now {
            return;
        }
        if link.connected
            && let Some(filter) = self.watches.filter(|_| std::mem::take(&mut self.unwatched))
        {
            let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
            self.subscribe(vec![Entry { filter: filter.to_owned(), options, subscription_id: 0 }], around);
        }
        if chaos && !self.steady && around.rng.percent(around.settings.activity_percent) {
            self.do_something(around);
        }
        self.send_due(if chaos && !self.steady { around.settings.ack_percent } else { 100 }, around);
        self.keep_alive(around);
    }

    /// Who starts anew need not wait for CONNACK before the next packets [MQTT-3.1.2-4].
    fn connect_and_go_on(&mut self, wish: ConnectWish, around: &mut Surroundings<'_>) {
        let hasty = wish.clean_start && !wish.half && !self.steady && around.rng.percent(30);
        self.connect(wish, around);
        if hasty {
            self.subscribe_something(around);
            self.publish_something(around);
        }
    }

    fn keep_alive(&mut self, around: &mut Surroundings<'_>) {
        let Some(link) = self.link.as_ref().filter(|link| link.connected && !link.leaving) else { return };
        let patience_ms = u64::from(link.keep_alive_s) * 700;
        if patience_ms > 0 && around.history.now >= link.last_sent + patience_ms {
            self.ping(around);
        }
    }

    fn do_something(&mut self, around: &mut Surroundings<'_>) {
        let Some(link) = &mut self.link else { return };
        if !link.connected {
            // Nothing but CONNECT is under way: only a connection attempt may be given up.
            if around.rng.permille(10) {
                self.leave(ClientEnd::Reset, around);
            }
            return;
        }
        if link.leaving {
            if around.rng.percent(30) {
                self.leave(ClientEnd::Eof, around);
            }
            return;
        }
        let now = around.history.now;
        let weights = around.settings.weights;
        let choice = around.rng.weighted(&[
            weights.publish,
            weights.subscribe,
            weights.unsubscribe,
            weights.ping,
            weights.stall,
            weights.disconnect,
            weights.drop,
            weights.take_over,
        ]);
        match choice {
            0 => self.publish_something(around),
            1 => self.subscribe_something(around),
            2 => self.unsubscribe_something(around),
            3 => self.ping(around),
            4 if around.rng.percent(80) => link.stalled_until = now + around.rng.range(100, 8_000),
            4 => link.silent_until = now + around.rng.range(100, 40_000),
            5 => self.say_goodbye(around),
            6 => {
                let end = around.rng.pick(&[ClientEnd::Eof, ClientEnd::Reset, ClientEnd::Reset, ClientEnd::Vanished]);
                self.leave(end, around);
            }
            _ => {
                self.abandon();
                let wish = self.wild_wish(around);
                self.connect_and_go_on(wish, around);
            }
        }
    }

    fn say_goodbye(&mut self, around: &mut Surroundings<'_>) {
        let expiry_of_connect = self.link.as_ref().map_or(0, |link| around.history.connections[link.socket].expiry_s);
        let reason = around.rng.pick(&[ReasonCode::SUCCESS, ReasonCode::SUCCESS, ReasonCode::DISCONNECT_WITH_WILL]);
        let expiry_s = (expiry_of_connect > 0 && around.rng.percent(30)).then(|| around.rng.pick(&[0, 2, 1_000]));
        self.disconnect(reason, expiry_s, around);
    }

    fn wild_wish(&mut self, around: &mut Surroundings<'_>) -> ConnectWish {
        let rng = &mut *around.rng;
        if !self.steady && self.version != Version::V31 && self.flights.is_empty() && rng.percent(5) {
            // The session may be gone on with by another program, which speaks another version.
            self.version = rng.pick(&[Version::V311, Version::V5]);
        }
        let will = rng.percent(30).then(|| rng.pick(&[0, 0, 1, 5, 30]));
        let v5 = self.version.is_v5();
        let mut wish = ConnectWish {
            clean_start: rng.percent(25),
            keep_alive_s: rng.pick(&[0, 2, 10, 60]),
            expiry_s: if v5 { rng.pick(&[0, 3, 20, 1_000, u32::MAX]) } else { 0 },
            receive_maximum: if v5 { rng.pick(&[None, None, Some(1), Some(3)]) } else { None },
            max_packet_bytes: if v5 { rng.pick(&[None, None, None, Some(500)]) } else { None },
            alias_maximum: if v5 { rng.pick(&[None, Some(2), Some(10)]) } else { None },
            half: !self.steady && rng.permille(20),
            will: None,
        };
        if self.steady {
            wish = ConnectWish { clean_start: true, keep_alive_s: 0, max_packet_bytes: None, receive_maximum: None, ..wish };
            return wish;
        }
        if let Some(delay_s) = will {
            wish.will = Some(self.make_will(if v5 { delay_s } else { 0 }, around));
        }
        wish
    }

    /// Goes on with the session, if there is one, for the end of the world.
    fn tidy_wish(&mut self, _around: &mut Surroundings<'_>) -> ConnectWish {
        let expiry_s = if self.version.is_v5() { u32::MAX } else { 0 };
        ConnectWish { keep_alive_s: 0, expiry_s, ..ConnectWish::default() }
    }

    fn make_will(&mut self, delay_s: u32, around: &mut Surroundings<'_>) -> WillPlan {
        let qos = around.rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let message = new_message(self, Purpose::Will, topics::will_topic(self.ix), qos, around.rng.percent(30), 20, around);
        around.history.messages[message].forward.clear();
        WillPlan { message, delay_s }
    }

    /// Publishes, if flow control allows.
    fn publish_something(&mut self, around: &mut Surroundings<'_>) {
        let Some(link) = &self.link else { return };
        // Without CONNACK the client does not know how many the broker takes.
        let max = if link.connected { MAX_FLIGHTS.min(usize::from(link.server_receive_maximum)) } else { 1 };
        let rng = &mut *around.rng;
        let qos = rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        if qos != QoS::AtMostOnce && self.flights.len() >= max {
            return;
        }
        let retain = rng.percent(15);
        let own = rng.percent(if retain { 60 } else { 10 });
        let topic = if own { topics::own_topic(self.ix, rng) } else { topics::random_topic(rng) };
        let large = rng.percent(around.settings.large_percent);
        let bytes = if large { rng.range(100, around.settings.large_bytes) } else { rng.range(8, 60) };
        let repeat = if rng.percent(20) { rng.range(1, 6) } else { 1 };
        let clear = retain && rng.percent(25);
        for _ in 0..repeat {
            let message = new_message(self, Purpose::Ordinary, topic.clone(), qos, retain, bytes as usize, around);
            if clear {
                around.history.messages[message].payload.clear();
            }
            if self.flights.len() < max || qos == QoS::AtMostOnce {
                self.publish(message, around);
            }
        }
    }

    fn subscribe_something(&mut self, around: &mut Surroundings<'_>) {
        if self.link.as_ref().is_none_or(|link| link.asked.len() > 10) {
            return;
        }
        let v5 = self.version.is_v5();
        let count = around.rng.pick(&[1, 1, 1, 2, 3]);
        let subscription_id = if v5 && around.rng.percent(30) { around.rng.range(1, 300) as u32 } else { 0 };
        let mut entries = Vec::new();
        for _ in 0..count {
            let again = around.rng.percent(20) && !self.filters.is_empty();
            let filter = if again {
                self.filters[around.rng.index(self.filters.len())].clone()
            } else {
                topics::random_filter(around.rng, around.settings.clients, around.settings.shared_percent)
            };
            let options = subscribe_options(v5, filter.starts_with("$share/"), around);
            entries.push(Entry { filter, options, subscription_id });
        }
        self.subscribe(entries, around);
    }

    fn unsubscribe_something(&mut self, around: &mut Surroundings<'_>) {
        if self.filters.is_empty() || self.link.as_ref().is_none_or(|link| link.asked.len() > 10) {
            return;
        }
        let filter = self.filters[around.rng.index(self.filters.len())].clone();
        self.filters.retain(|other| *other != filter);
        self.unsubscribe(vec![filter], around);
    }
}

fn subscribe_options(v5: bool, shared: bool, around: &mut Surroundings<'_>) -> SubscribeOptions {
    let qos = around.rng.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce]);
    if !v5 {
        return SubscribeOptions { qos, ..SubscribeOptions::default() };
    }
    SubscribeOptions {
        qos,
        no_local: !shared && around.rng.percent(15),
        retain_as_published: around.rng.percent(20),
        retain_handling: around.rng.pick(&[RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]),
    }
}

/// Makes a message whose payload says which one it is.
pub fn new_message(
    client: &Client,
    purpose: Purpose,
    topic: String,
    qos: QoS,
    retain: bool,
    bytes: usize,
    around: &mut Surroundings<'_>,
) -> MessageIx {
    let message = around.history.messages.len();
    let mut payload = (message as u64).to_be_bytes().to_vec();
    payload.resize(bytes.max(8), message as u8);
    let mut forward = Vec::new();
    let mut expiry_s = None;
    if client.version.is_v5() && around.rng.percent(30) {
        let mut user = Vec::new();
        UserProperties::encode([("n", "1"), ("a", "2"), ("n", "3")], &mut user);
        let user = UserProperties::new(&user).unwrap_or_default();
        Properties { content_type: Some("text/plain"), user, ..Properties::default() }.encode_forward(&mut forward);
        expiry_s = around.rng.pick(&[None, Some(1), Some(20), Some(100_000)]);
    }
    let message_of = Message { publisher: client.ix, purpose, topic, qos, retain, payload, forward, expiry_s };
    around.history.messages.push(message_of);
    message
}
