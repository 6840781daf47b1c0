//! Property blocks: the length in the fewest bytes, then whatever is there and may stand in the packet.

use super::super::properties::Properties;
use super::super::property::{self, Set};
use super::super::types::PacketType;
use super::super::wire::{put_binary, put_string, put_u16, put_var_int, with_length};

impl Properties<'_> {
    /// Appends the block for a packet of type `kind`, length included, also where it is 0 [MQTT-2.2.2-1]; what such a packet may not carry is left out.
    pub fn encode(&self, kind: PacketType, out: &mut Vec<u8>) {
        self.encode_allowed(property::allowed(kind), out);
    }

    /// Appends the block of a will.
    pub fn encode_will(&self, out: &mut Vec<u8>) {
        self.encode_allowed(property::WILL, out);
    }

    /// Appends, without a length, what a message carries on to its subscribers: for a will, which comes in as properties of CONNECT [MQTT-3.1.3-10].
    pub fn encode_forward(&self, out: &mut Vec<u8>) {
        Properties { message_expiry: None, subscription_id: None, topic_alias: None, ..*self }.encode_block(property::PUBLISH, out);
    }

    fn encode_allowed(&self, allowed: Set, out: &mut Vec<u8>) {
        with_length(out, |out| self.encode_block(allowed, out));
    }

    fn encode_block(&self, allowed: Set, out: &mut Vec<u8>) {
        let mut block = Block { out, allowed };
        block.message(self);
        block.connection(self);
        block.texts(self);
        if allowed.contains(property::USER) {
            super::super::UserProperties::encode(self.user.iter(), block.out);
        }
    }
}

struct Block<'o> {
    out: &'o mut Vec<u8>,
    allowed: Set,
}

impl Block<'_> {
    /// Writes one property, if it is there and allowed.
    fn put<T>(&mut self, id: u8, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
        if let (Some(value), true) = (value, self.allowed.contains(id)) {
            self.out.push(id);
            write(self.out, value);
        }
    }

    fn flag(&mut self, id: u8, value: Option<bool>) {
        self.put(id, value, |out, value| out.push(u8::from(value)));
    }

    fn u16(&mut self, id: u8, value: Option<u16>) {
        self.put(id, value, put_u16);
    }

    fn u32(&mut self, id: u8, value: Option<u32>) {
        self.put(id, value, |out, value| out.extend_from_slice(&value.to_be_bytes()));
    }

    fn string(&mut self, id: u8, value: Option<&str>) {
        self.put(id, value, put_string);
    }

    fn binary(&mut self, id: u8, value: Option<&[u8]>) {
        self.put(id, value, put_binary);
    }

    /// What belongs to a message or a subscription.
    fn message(&mut self, from: &Properties<'_>) {
        self.put(property::PAYLOAD_FORMAT, from.payload_format, |out, value| out.push(value));
        self.u32(property::MESSAGE_EXPIRY, from.message_expiry);
        self.string(property::CONTENT_TYPE, from.content_type);
        self.string(property::RESPONSE_TOPIC, from.response_topic);
        self.binary(property::CORRELATION_DATA, from.correlation_data);
        self.put(property::SUBSCRIPTION_ID, from.subscription_id, put_var_int);
        self.u32(property::WILL_DELAY, from.will_delay);
        self.u16(property::TOPIC_ALIAS, from.topic_alias);
    }

    /// What the two sides of a connection agree on.
    fn connection(&mut self, from: &Properties<'_>) {
        self.u32(property::SESSION_EXPIRY, from.session_expiry);
        self.u16(property::SERVER_KEEP_ALIVE, from.server_keep_alive);
        self.flag(property::REQUEST_PROBLEM, from.request_problem);
        self.flag(property::REQUEST_RESPONSE, from.request_response);
        self.u16(property::RECEIVE_MAXIMUM, from.receive_maximum);
        self.u16(property::TOPIC_ALIAS_MAXIMUM, from.topic_alias_maximum);
        self.put(property::MAXIMUM_QOS, from.maximum_qos, |out, value| out.push(value as u8));
        self.flag(property::RETAIN_AVAILABLE, from.retain_available);
        self.u32(property::MAXIMUM_PACKET_SIZE, from.maximum_packet_size);
        self.flag(property::WILDCARD_AVAILABLE, from.wildcard_available);
        self.flag(property::SUBSCRIPTION_IDS_AVAILABLE, from.subscription_ids_available);
        self.flag(property::SHARED_AVAILABLE, from.shared_available);
    }

    /// Names, texts and authentication.
    fn texts(&mut self, from: &Properties<'_>) {
        self.string(property::ASSIGNED_CLIENT_ID, from.assigned_client_id);
        self.string(property::AUTH_METHOD, from.auth_method);
        self.binary(property::AUTH_DATA, from.auth_data);
        self.string(property::RESPONSE_INFORMATION, from.response_information);
        self.string(property::SERVER_REFERENCE, from.server_reference);
        self.string(property::REASON_STRING, from.reason_string);
    }
}
