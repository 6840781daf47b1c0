//! The properties of MQTT 5 as bytes, and the way back (section 2.2.2).

fn with_string(id: u8, text: &[u8]) -> Vec<u8> {
    [&[id][..], &super::packets::field(text)].concat()
}

pub fn payload_format(value: u8) -> Vec<u8> {
    vec![0x01, value]
}

pub fn message_expiry(seconds: u32) -> Vec<u8> {
    [&[0x02][..], &seconds.to_be_bytes()].concat()
}

pub fn content_type(text: &str) -> Vec<u8> {
    with_string(0x03, text.as_bytes())
}

pub fn response_topic(topic: &str) -> Vec<u8> {
    with_string(0x08, topic.as_bytes())
}

pub fn correlation_data(data: &[u8]) -> Vec<u8> {
    with_string(0x09, data)
}

pub fn subscription_id(id: u32) -> Vec<u8> {
    [&[0x0B][..], &super::packets::var_int(id)].concat()
}

pub fn session_expiry(seconds: u32) -> Vec<u8> {
    [&[0x11][..], &seconds.to_be_bytes()].concat()
}

pub fn auth_method(name: &str) -> Vec<u8> {
    with_string(0x15, name.as_bytes())
}

pub fn auth_data(data: &[u8]) -> Vec<u8> {
    with_string(0x16, data)
}

pub fn request_problem(wanted: u8) -> Vec<u8> {
    vec![0x17, wanted]
}

pub fn will_delay(seconds: u32) -> Vec<u8> {
    [&[0x18][..], &seconds.to_be_bytes()].concat()
}

pub fn request_response(wanted: u8) -> Vec<u8> {
    vec![0x19, wanted]
}

pub fn reason_string(text: &str) -> Vec<u8> {
    with_string(0x1F, text.as_bytes())
}

pub fn receive_maximum(messages: u16) -> Vec<u8> {
    [&[0x21][..], &messages.to_be_bytes()].concat()
}

pub fn topic_alias_maximum(aliases: u16) -> Vec<u8> {
    [&[0x22][..], &aliases.to_be_bytes()].concat()
}

pub fn topic_alias(alias: u16) -> Vec<u8> {
    [&[0x23][..], &alias.to_be_bytes()].concat()
}

pub fn user(name: &str, value: &str) -> Vec<u8> {
    [with_string(0x26, name.as_bytes()), super::packets::field(value.as_bytes())].concat()
}

pub fn maximum_packet_size(bytes: u32) -> Vec<u8> {
    [&[0x27][..], &bytes.to_be_bytes()].concat()
}

/// The properties of a block without its length: number and value, in order.
pub fn parse(mut block: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut properties = Vec::new();
    while let Some((&id, rest)) = block.split_first() {
        let field = |at: usize| 2 + usize::from(u16::from_be_bytes([rest[at], rest[at + 1]]));
        let length = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => 1,
            0x13 | 0x21 | 0x22 | 0x23 => 2,
            0x02 | 0x11 | 0x18 | 0x27 => 4,
            0x0B => rest.iter().position(|byte| byte & 0x80 == 0).expect("a variable byte integer ends") + 1,
            0x26 => field(0) + field(field(0)),
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => field(0),
            _ => panic!("unknown property {id:#04x} in {block:02x?}"),
        };
        properties.push((id, rest[..length].to_vec()));
        block = &rest[length..];
    }
    properties
}
