//! Why messages are dropped and connections end: the labels of counters. Every drop has a reason.

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$text:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$text])* $variant,)* }

        impl $name {
            /// All, in the order of the counters.
            pub const ALL: &[$name] = &[$($name::$variant),*];
            /// How many there are.
            pub const COUNT: usize = $name::ALL.len();

            /// The name in metrics and topics.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $label),* }
            }

            /// All names, in the order of the counters.
            pub fn names() -> impl Iterator<Item = &'static str> {
                $name::ALL.iter().map(|label| label.name())
            }
        }
    };
}

labels! {
    /// Why one delivery of a message (or one retained message) was given up.
    DropReason {
        /// QoS 0: the connection's unsent output is at `limits.out_buffer_bytes`.
        OutBufferFull = "out_buffer_full",
        /// QoS 0: the shard's unsent output leaves this connection no more of `limits.out_budget_bytes`.
        OutBudgetFull = "out_budget_full",
        /// QoS 1 and 2: `limits.max_queued_messages`, the oldest gave way.
        QueueFull = "queue_full",
        /// QoS 1 and 2: `limits.max_queued_bytes`, the oldest gave way.
        QueueBytesFull = "queue_bytes_full",
        /// The message expiry interval ran out while the message waited.
        Expired = "expired",
        /// The session expired with the message in its queue.
        SessionExpired = "session_expired",
        /// The session was ended by its client (clean start) with the message in its queue.
        SessionDiscarded = "session_discarded",
        /// The session was ended because its queue was full and nothing was taken from it for `limits.full_session_patience_s`.
        SessionStuck = "session_stuck",
        /// The client's Maximum Packet Size does not hold it.
        PacketTooLargeForClient = "packet_too_large_for_client",
        /// QoS 0: the ring to the shard of the subscriber is full.
        PeerRingFull = "peer_ring_full",
        /// The session that it was meant for is gone.
        NoSession = "no_session",
        /// QoS 0 for a client that is not connected: such messages are never stored.
        Offline = "offline",
        /// QoS 0: the connection closed with the message unsent.
        ConnectionClosed = "connection_closed",
        /// A retained message beyond `limits.max_retained_messages` or `limits.max_retained_bytes`: delivered, not kept.
        RetainedLimit = "retained_limit",
        /// The publisher or the subscriber has no right to the topic.
        NotAuthorized = "not_authorized",
    }
}

labels! {
    /// Why a network connection ended.
    CloseCause {
        /// DISCONNECT of the client.
        ClientDisconnect = "client_disconnect",
        /// The client closed the socket without DISCONNECT.
        ClientClosed = "client_closed",
        /// The network failed: reset, time-out of TCP.
        SocketError = "socket_error",
        /// Nothing from the client for one and a half keep-alives.
        KeepAliveTimeout = "keep_alive_timeout",
        /// No complete CONNECT within `limits.connect_timeout_ms`.
        ConnectTimeout = "connect_timeout",
        /// CONNECT was answered with a refusal.
        ConnectRefused = "connect_refused",
        /// Another connection with the same client identifier took the session over.
        TakenOver = "taken_over",
        /// Malformed packet or breach of the protocol.
        ProtocolError = "protocol_error",
        /// A packet beyond `limits.max_packet_bytes` or `limits.max_connect_packet_bytes`.
        PacketTooLarge = "packet_too_large",
        /// The client does not read what it asked for.
        SlowReader = "slow_reader",
        /// `limits.max_connections`.
        TooManyConnections = "too_many_connections",
        /// An operator closed it.
        Administrative = "administrative",
        /// The broker shuts down.
        Shutdown = "shutdown",
    }
}

labels! {
    /// Which limit or rule of access stood in a client's way.
    RefuseReason {
        /// `listeners[].max_connections`: closed when it was accepted.
        ListenerFull = "listener_full",
        /// `listeners[].max_connections_per_address`: closed when it was accepted.
        AddressFull = "address_full",
        /// `listeners[].connects_per_second`: closed when it was accepted.
        ConnectRate = "connect_rate",
        /// No descriptor was left: a listener rested, or a connection could not move to the shard of its session and was closed.
        Descriptors = "descriptors",
        /// `redirect`: CONNECT was answered with another server.
        Redirected = "redirected",
        /// `auth.required`, and CONNECT named no method.
        AuthenticationRequired = "authentication_required",
        /// CONNECT named a method that is not configured.
        AuthenticationMethod = "authentication_method",
        /// A client could not prove who it is, or left the exchange.
        AuthenticationFailed = "authentication_failed",
        /// The session of the client identifier belongs to another user.
        SessionOfAnother = "session_of_another",
        /// `listeners[].max_qos`: a publish or a will.
        Qos = "qos",
        /// `listeners[].retain_available`: a publish or a will.
        Retain = "retain",
        /// `listeners[].wildcard_available`: a subscription.
        Wildcards = "wildcards",
        /// `listeners[].shared_available`: a subscription.
        Shared = "shared",
        /// `listeners[].subscription_ids_available`: a subscription.
        SubscriptionIds = "subscription_ids",
        /// `limits.max_publish_per_second` or `limits.max_publish_bytes_per_second`: a client was not read from for a while.
        PublishRate = "publish_rate",
        /// `limits.memory_budget_bytes`: a connection, a subscription or a message that the shard has no memory for.
        Memory = "memory",
        /// `limits.max_connections`: closed when it was accepted.
        ShardFull = "shard_full",
        /// `limits.max_client_id_bytes`.
        ClientId = "client_id",
        /// `limits.max_packet_bytes`, or `limits.max_connect_packet_bytes` before CONNECT.
        PacketSize = "packet_size",
        /// `limits.max_topic_bytes` or `limits.max_topic_levels`: a publish, a will or a subscription.
        Topic = "topic",
        /// `limits.topic_alias_maximum`.
        TopicAlias = "topic_alias",
        /// `limits.receive_maximum`.
        ReceiveMaximum = "receive_maximum",
        /// `limits.max_subscriptions_per_client`, or too many of them waiting for their retained messages.
        Subscriptions = "subscriptions",
        /// `limits.max_queued_messages` or `limits.max_queued_bytes`: a message for this client was refused or held.
        FullQueue = "full_queue",
        /// `storage.max_bytes`, or a disk that takes nothing: a message for this client was refused or held.
        Storage = "storage",
        /// `limits.full_queue_patience_ms`: a publisher that waited too long was closed.
        FullQueuePatience = "full_queue_patience",
        /// `limits.out_buffer_bytes`: a client that asks and does not read the answers was closed.
        UnreadAnswers = "unread_answers",
        /// `limits.max_offline_sessions`: a session ended with its connection.
        OfflineSessions = "offline_sessions",
    }
}

/// What stood in a client's way, whatever it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// A delivery to it was given up.
    Dropped(DropReason),
    /// It was refused something, or slowed down.
    Refused(RefuseReason),
}

impl Limit {
    /// How many there are.
    pub const COUNT: usize = DropReason::COUNT + RefuseReason::COUNT;

    /// The place in an array with one value for each.
    pub fn index(self) -> usize {
        match self {
            Limit::Dropped(reason) => reason as usize,
            Limit::Refused(reason) => DropReason::COUNT + reason as usize,
        }
    }

    /// The name in metrics and topics.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Dropped(reason) => reason.name(),
            Limit::Refused(reason) => reason.name(),
        }
    }

    /// All names, in the order of [`Limit::index`].
    pub fn names() -> impl Iterator<Item = &'static str> {
        DropReason::names().chain(RefuseReason::names())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_stand_in_the_order_of_the_counters() {
        let names: Vec<_> = DropReason::names().chain(CloseCause::names()).chain(RefuseReason::names()).collect();
        assert_eq!(names.len(), DropReason::COUNT + CloseCause::COUNT + RefuseReason::COUNT);
        assert_eq!(std::collections::BTreeSet::from_iter(&names).len(), names.len());
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert_eq!(names[index], reason.name());
        }
    }
}
