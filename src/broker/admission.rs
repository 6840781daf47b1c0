//! Who is let in, and on what terms: what each listener grants, how clients prove who they are, and where they are sent instead.
//!
//! Everything here is decided by CONNECT, before anything of a session is touched. How many connections a listener takes is not: that is counted
//! where connections are accepted.

use std::sync::Arc;

use super::auth::scram::{self, Scram};
use super::auth::{Fresh, Method};
use super::ids::ConnId;
use super::shard::Shard;
use crate::config::{Config, Durability, Limits, Listener, Redirect, Terms, TopicDurability};
use crate::metrics::RefuseReason;
use crate::mqtt::{Connect, DecodeError, Properties, QoS, ReasonCode, TopicFilter, TopicName, Will};

/// Who is let in. Without anything in it: everybody, on the general terms.
#[derive(Debug, Default)]
pub struct Admission {
    listeners: Vec<Listener>,
    redirect: Option<Redirect>,
    methods: Vec<Box<dyn Method>>,
    authentication_required: bool,
    /// What acknowledgements promise in general, and by topic.
    durability: Durability,
    topic_durability: Vec<TopicDurability>,
}

impl Admission {
    /// What the configuration says; a connection's `Origin::listener` is the place of its listener there.
    pub fn new(config: &Config) -> Admission {
        let admission = Admission {
            listeners: config.listeners.clone(),
            redirect: config.redirect.clone(),
            methods: Vec::new(),
            authentication_required: config.auth.required(),
            durability: config.storage.durability,
            topic_durability: config.storage.topics.clone(),
        };
        match config.auth.scram.is_empty() {
            true => admission,
            false => admission.with_method(Box::new(Scram::new(&config.auth.scram))),
        }
    }

    /// The same with one more method of authentication.
    #[must_use]
    pub fn with_method(mut self, method: Box<dyn Method>) -> Admission {
        self.methods.push(method);
        self
    }

    pub(super) fn method(&self, name: &str) -> Option<&dyn Method> {
        self.methods.iter().find(|method| method.name() == name).map(AsRef::as_ref)
    }

    fn terms(&self, listener: u16, limits: &Limits) -> Terms {
        let found = self.listeners.get(usize::from(listener));
        let terms = found.map_or_else(|| Terms::of(limits), |listener| listener.terms(limits));
        Terms { durability: found.and_then(|listener| listener.durability).unwrap_or(self.durability), ..terms }
    }

    /// The durability of a topic's messages, where one is set.
    pub(super) fn durability_of(&self, topic: &str) -> Option<Durability> {
        if self.topic_durability.is_empty() {
            return None;
        }
        let topic = TopicName::new(topic).ok()?;
        let matches = |rule: &&TopicDurability| TopicFilter::new(&rule.filter).is_ok_and(|filter| filter.matches(topic));
        self.topic_durability.iter().find(matches).map(|rule| rule.durability)
    }
}

/// Bytes that clients cannot foresee, out of a key that they do not know.
#[derive(Debug)]
pub(super) struct Entropy {
    key: [u8; 32],
    shard: u16,
    count: u64,
}

impl Entropy {
    /// Good enough for tests and simulations, where all must happen again as it did before.
    pub fn from_seed(seed: u64, shard: u16) -> Entropy {
        Entropy { key: scram::hmac(&seed.to_be_bytes(), &[b"entropy"]), shard, count: 0 }
    }

    pub fn fresh(&mut self) -> Fresh {
        self.count += 1;
        scram::hmac(&self.key, &[&self.shard.to_be_bytes(), &self.count.to_be_bytes()])
    }

    /// A number from 1 on.
    pub fn fresh_number(&mut self) -> u64 {
        self.fresh()[..8].iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte)).max(1)
    }
}

impl Shard {
    /// Who is let in from now on, and on what terms; clients that are connected keep theirs.
    pub fn set_admission(&mut self, admission: Arc<Admission>) {
        self.admission = admission;
    }

    /// The key of everything that clients must not foresee: 32 bytes of the system's randomness. Without it, `ShardConfig::seed` has to do.
    pub fn set_entropy(&mut self, key: [u8; 32]) {
        self.entropy.key = key;
    }

    /// A client that was turned away before it became a connection here.
    pub fn count_refused(&mut self, reason: RefuseReason) {
        self.counters.count_refused(reason);
    }

    pub(super) fn terms_of(&self, id: ConnId) -> Terms {
        let listener = self.connections.get(id).and_then(|conn| conn.origin.as_ref()).map_or(0, |origin| origin.listener);
        self.admission.terms(listener, &self.limits)
    }

    /// Before CONNECT nothing is granted but a packet of its size.
    pub(super) fn terms_before_connect(&self, listener: u16) -> Terms {
        let terms = self.admission.terms(listener, &self.limits);
        Terms { max_packet_bytes: terms.max_packet_bytes.min(self.limits.max_connect_packet_bytes), ..terms }
    }

    /// Whether a CONNECT is turned away whoever sent it; then it has been answered.
    pub(super) fn turned_away(&mut self, id: ConnId) -> bool {
        let admission = Arc::clone(&self.admission);
        let Some(redirect) = &admission.redirect else { return false };
        self.counters.count_refused(RefuseReason::Redirected);
        // 5.0 section 4.11
        let code = if redirect.permanent { ReasonCode::SERVER_MOVED } else { ReasonCode::USE_ANOTHER_SERVER };
        let properties = Properties { server_reference: Some(&redirect.server_reference), ..Properties::default() };
        self.refuse_connect_with(id, code, &properties);
        true
    }

    /// Whether a CONNECT asks for what its listener does not grant [MQTT-3.1.4-2].
    pub(super) fn check_admission(&mut self, connect: &Connect<'_>, terms: Terms) -> Result<(), ReasonCode> {
        let refused = match connect.properties.auth_method {
            None if self.admission.authentication_required => Some((RefuseReason::AuthenticationRequired, ReasonCode::NOT_AUTHORIZED)),
            Some(name) if self.admission.method(name).is_none() => {
                // [MQTT-4.12.0-1]
                Some((RefuseReason::AuthenticationMethod, ReasonCode::BAD_AUTHENTICATION_METHOD))
            }
            _ => connect.will.as_ref().and_then(|will| refuse_will(will, terms)),
        };
        refused.map_or(Ok(()), |(reason, code)| {
            self.counters.count_refused(reason);
            Err(code)
        })
    }

    /// The answer to a subscription of a kind that its listener does not grant [MQTT-3.8.3-2]. A 5.0 client was told in CONNACK: for it, that is a
    /// protocol error with a reason code of its own (5.0 sections 3.2.2.3.11 to 13).
    pub(super) fn refuse_subscription(
        &mut self,
        terms: Terms,
        filter: &str,
        is_shared: bool,
        subscription_id: u32,
        v5: bool,
    ) -> Option<Result<ReasonCode, DecodeError>> {
        let (why, reason) = if is_shared && !terms.shared {
            (RefuseReason::Shared, ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED)
        } else if subscription_id != 0 && !terms.subscription_ids {
            (RefuseReason::SubscriptionIds, ReasonCode::SUBSCRIPTION_IDS_NOT_SUPPORTED)
        } else if !terms.wildcards && filter.contains(['+', '#']) {
            (RefuseReason::Wildcards, ReasonCode::WILDCARDS_NOT_SUPPORTED)
        } else {
            return None;
        };
        self.counters.count_refused(why);
        Some(match v5 {
            true => Err(DecodeError { reason, what: "a subscription of a kind that is not available" }),
            false => Ok(ReasonCode::UNSPECIFIED_ERROR),
        })
    }
}

/// [MQTT-3.2.2-12] [MQTT-3.2.2-13]
fn refuse_will(will: &Will<'_>, terms: Terms) -> Option<(RefuseReason, ReasonCode)> {
    if will.qos as u8 > terms.max_qos {
        return Some((RefuseReason::Qos, ReasonCode::QOS_NOT_SUPPORTED));
    }
    (will.retain && !terms.retain).then_some((RefuseReason::Retain, ReasonCode::RETAIN_NOT_SUPPORTED))
}

/// The flags of a PUBLISH, in its first byte, that these terms do not allow.
pub(super) fn refused_publish_flags(terms: Terms) -> u8 {
    let qos = match terms.max_qos {
        0 => 0b0110,
        1 => 0b0100,
        _ => 0,
    };
    qos | u8::from(!terms.retain)
}

/// What CONNACK says of the terms that are not the standard's defaults.
pub(super) fn announce<'a>(terms: Terms) -> Properties<'a> {
    Properties {
        receive_maximum: (terms.receive_maximum != u16::MAX).then_some(terms.receive_maximum),
        maximum_packet_size: Some(terms.max_packet_bytes),
        topic_alias_maximum: (terms.topic_alias_maximum > 0).then_some(terms.topic_alias_maximum),
        // [MQTT-3.2.2-9]
        maximum_qos: QoS::from_bits(terms.max_qos).filter(|&qos| qos < QoS::ExactlyOnce),
        retain_available: (!terms.retain).then_some(false),
        wildcard_available: (!terms.wildcards).then_some(false),
        shared_available: (!terms.shared).then_some(false),
        subscription_ids_available: (!terms.subscription_ids).then_some(false),
        ..Properties::default()
    }
}
