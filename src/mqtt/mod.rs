//! Bytes to packets and back for MQTT 3.1, 3.1.1 and 5.0, and topic names and filters. No I/O, no clock, no state.

pub mod packet;
pub mod properties;
pub mod types;

pub use packet::*;
pub use properties::{Properties, PublishProperties, UserProperties};
pub use types::{DecodeError, PacketType, QoS, ReasonCode, Version};
