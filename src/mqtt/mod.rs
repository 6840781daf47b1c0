//! Bytes to packets and back for MQTT 3.1, 3.1.1 and 5.0, and topic names and filters. No I/O, no clock, no state.
//!
//! [`frame::peek`] finds the end of the next packet, [`decode()`] makes a view of its body, [`encode`] appends packets to a buffer.

pub mod decode;
pub mod encode;
pub mod frame;
pub mod packet;
pub mod properties;
mod property;
pub mod topic;
pub mod types;
mod wire;

#[cfg(test)]
mod tests;

pub use decode::{ConnectError, decode, decode_connect, decode_publish};
pub use encode::PublishOut;
pub use frame::{FixedHeader, peek};
pub use packet::*;
pub use properties::{Properties, PublishProperties, UserProperties};
pub use topic::{SharedFilter, TopicError, TopicFilter, TopicName};
pub use types::{DecodeError, PacketType, QoS, ReasonCode, Version};
pub use wire::MAX_VAR_INT;
