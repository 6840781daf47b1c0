//! `-D PACKET NAME VALUE`: MQTT 5 properties from the command line, by their names in the standard with hyphens.

use super::client::OwnedProperties;

/// The properties of each packet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct PropertyArgs {
    pub connect: OwnedProperties,
    pub publish: OwnedProperties,
    pub subscribe: OwnedProperties,
    pub unsubscribe: OwnedProperties,
    pub disconnect: OwnedProperties,
    pub will: OwnedProperties,
}

/// Which names a packet may carry.
const ALLOWED: [(&str, &[&str]); 6] = [
    (
        "connect",
        &[
            "authentication-data",
            "authentication-method",
            "maximum-packet-size",
            "receive-maximum",
            "request-problem-information",
            "request-response-information",
            "session-expiry-interval",
            "topic-alias-maximum",
            "user-property",
        ],
    ),
    (
        "publish",
        &[
            "content-type",
            "correlation-data",
            "message-expiry-interval",
            "payload-format-indicator",
            "response-topic",
            "topic-alias",
            "user-property",
        ],
    ),
    ("subscribe", &["subscription-identifier", "user-property"]),
    ("unsubscribe", &["user-property"]),
    ("disconnect", &["session-expiry-interval", "user-property"]),
    (
        "will",
        &[
            "content-type",
            "correlation-data",
            "message-expiry-interval",
            "payload-format-indicator",
            "response-topic",
            "user-property",
            "will-delay-interval",
        ],
    ),
];

impl PropertyArgs {
    /// Reads the values of all `-D` in a row: three words each, four for a user property.
    pub(super) fn parse(words: &[String]) -> Result<PropertyArgs, String> {
        let mut properties = PropertyArgs::default();
        let mut words = words.iter().map(String::as_str);
        while let Some(packet) = words.next() {
            let packet = packet.to_ascii_lowercase();
            let Some((_, names)) = ALLOWED.iter().find(|(known, _)| *known == packet) else {
                let known = ALLOWED.map(|(packet, _)| packet).join(", ");
                return Err(format!("-D {packet}: unknown packet, expected one of {known}"));
            };
            let name = words.next().unwrap_or_default();
            if !names.contains(&name) {
                return Err(format!("-D {packet} {name}: unknown property, expected one of {}", names.join(", ")));
            }
            let value = words.next().ok_or_else(|| format!("-D {packet} {name}: the value is missing"))?;
            let target = properties.of(&packet);
            if name == "user-property" {
                let second = words.next().ok_or_else(|| format!("-D {packet} {name} {value}: expected a name and a value"))?;
                target.user.push((value.to_owned(), second.to_owned()));
            } else {
                set(target, name, value).map_err(|expected| format!("-D {packet} {name} {value}: expected {expected}"))?;
            }
        }
        Ok(properties)
    }

    /// Whether any was given.
    pub(super) fn any(&self) -> bool {
        *self != PropertyArgs::default()
    }

    fn of(&mut self, packet: &str) -> &mut OwnedProperties {
        match packet {
            "connect" => &mut self.connect,
            "publish" => &mut self.publish,
            "subscribe" => &mut self.subscribe,
            "unsubscribe" => &mut self.unsubscribe,
            "disconnect" => &mut self.disconnect,
            _ => &mut self.will,
        }
    }
}

/// Sets one property; the error says what kind of value is expected.
fn set(target: &mut OwnedProperties, name: &str, value: &str) -> Result<(), &'static str> {
    let text = || Some(value.to_owned());
    let bytes = || Some(value.as_bytes().to_vec());
    match name {
        "authentication-data" => target.auth_data = bytes(),
        "authentication-method" => target.auth_method = text(),
        "content-type" => target.content_type = text(),
        "correlation-data" => target.correlation_data = bytes(),
        "response-topic" => target.response_topic = text(),
        "maximum-packet-size" => target.maximum_packet_size = Some(number(value)?),
        "message-expiry-interval" => target.message_expiry = Some(number(value)?),
        "session-expiry-interval" => target.session_expiry = Some(number(value)?),
        "will-delay-interval" => target.will_delay = Some(number(value)?),
        "subscription-identifier" => target.subscription_id = Some(number(value)?),
        "receive-maximum" => target.receive_maximum = Some(short(value)?),
        "topic-alias" => target.topic_alias = Some(short(value)?),
        "topic-alias-maximum" => target.topic_alias_maximum = Some(short(value)?),
        "payload-format-indicator" => target.payload_format = Some(u8::from(flag(value)?)),
        "request-problem-information" => target.request_problem = Some(flag(value)?),
        _ => target.request_response = Some(flag(value)?),
    }
    Ok(())
}

fn number(value: &str) -> Result<u32, &'static str> {
    value.parse().map_err(|_| "a number from 0 to 4294967295")
}

fn short(value: &str) -> Result<u16, &'static str> {
    value.parse().map_err(|_| "a number from 0 to 65535")
}

fn flag(value: &str) -> Result<bool, &'static str> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err("0 or 1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PropertyArgs, String> {
        PropertyArgs::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn every_property_that_a_packet_may_carry_can_be_given() {
        for (packet, names) in ALLOWED {
            for name in names {
                let value = if *name == "user-property" { "a b" } else { "1" };
                let properties = parse(&format!("{packet} {name} {value}")).unwrap();
                assert!(properties.any(), "{packet} {name}");
            }
        }
    }

    #[test]
    fn several_in_a_row_go_to_their_packets_in_order() {
        let properties =
            parse("publish user-property a b CONNECT session-expiry-interval 60 publish user-property a c publish content-type t").unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(properties.publish.user, [pair("a", "b"), pair("a", "c")]);
        assert_eq!((properties.publish.content_type.as_deref(), properties.connect.session_expiry), (Some("t"), Some(60)));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("puback user-property a b", "unknown packet, expected one of connect"),
            ("publish session-expiry-interval 1", "unknown property, expected one of content-type"),
            ("publish content-type", "the value is missing"),
            ("publish user-property a", "expected a name and a value"),
            ("connect receive-maximum 65536", "expected a number from 0 to 65535"),
            ("publish payload-format-indicator 2", "expected 0 or 1"),
            ("publish", "unknown property"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
