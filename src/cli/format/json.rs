//! `%j` and `%J`: a message as one JSON object, with the names and the order of mosquitto_sub.

use super::super::client::Received;
use super::time::Clock;
use crate::mqtt::Properties;

/// Appends the object. `payload_is_json`: the payload stands in it as it is, else as a string in which bytes that are no UTF-8 are replaced.
///
/// # Errors
/// A payload that should be JSON and is none.
pub(super) fn write(message: &Received, clock: &Clock, payload_is_json: bool, out: &mut Vec<u8>) -> Result<(), String> {
    if payload_is_json && serde_json::from_slice::<serde::de::IgnoredAny>(&message.payload).is_err() {
        return Err(format!("the payload is no JSON on topic {}", message.topic));
    }
    let mut object = Object::begin(out);
    object.text("tst", &clock.iso8601_micros());
    object.text("topic", &message.topic);
    object.raw("qos", &(message.qos as u8).to_string());
    object.raw("retain", &u8::from(message.retain).to_string());
    object.raw("payloadlen", &message.payload.len().to_string());
    if message.packet_id != 0 {
        object.raw("mid", &message.packet_id.to_string());
    }
    let block = properties(message);
    if block != "{}" {
        object.raw("properties", &block);
    }
    match payload_is_json {
        true => object.raw("payload", &String::from_utf8_lossy(&message.payload)),
        false => object.text("payload", &String::from_utf8_lossy(&message.payload)),
    }
    object.end();
    Ok(())
}

/// The properties as an object; user properties keep their order, and a name that comes twice is there twice.
fn properties(message: &Received) -> String {
    let mut out = Vec::new();
    let properties: Properties<'_> = message.properties();
    let mut object = Object::begin(&mut out);
    if !properties.user.is_empty() {
        let mut pairs = Vec::new();
        let mut user = Object::begin(&mut pairs);
        properties.user.iter().for_each(|(name, value)| user.text(name, value));
        user.end();
        object.raw("user-properties", &String::from_utf8_lossy(&pairs));
    }
    let correlation = properties.correlation_data.map(String::from_utf8_lossy);
    for (name, value) in [
        ("content-type", properties.content_type),
        ("response-topic", properties.response_topic),
        ("correlation-data", correlation.as_deref()),
    ] {
        value.into_iter().for_each(|value| object.text(name, value));
    }
    let numbers = [
        ("payload-format-indicator", properties.payload_format.map(u32::from)),
        ("message-expiry-interval", properties.message_expiry),
        ("topic-alias", properties.topic_alias.map(u32::from)),
    ];
    for (name, value) in numbers {
        value.into_iter().for_each(|value| object.raw(name, &value.to_string()));
    }
    let ids: Vec<_> = message.subscription_ids().map(|id| id.to_string()).collect();
    if !ids.is_empty() {
        object.raw("subscription-identifiers", &format!("[{}]", ids.join(",")));
    }
    object.end();
    String::from_utf8_lossy(&out).into_owned()
}

/// A JSON object being written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl Object<'_> {
    fn begin(out: &mut Vec<u8>) -> Object<'_> {
        out.push(b'{');
        Object { out, first: true }
    }

    fn text(&mut self, name: &str, value: &str) {
        self.raw(name, &quoted(value));
    }

    fn raw(&mut self, name: &str, value: &str) {
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(b',');
        }
        self.out.extend_from_slice(quoted(name).as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(value.as_bytes());
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
