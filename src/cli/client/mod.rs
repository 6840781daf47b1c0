//! A small MQTT client for `ringmq pub` and `ringmq sub`, the examples and tests: one connection, one thread, no runtime.
//!
//! ```no_run
//! use ringmq::cli::client::{ConnectOptions, Connection, Event, Message};
//! let mut connection = Connection::open(&ConnectOptions::default())?;
//! connection.subscribe(&[("sensors/#", Default::default())], &Default::default())?;
//! connection.publish(&Message::new("sensors/1", "21.5"))?;
//! while let Event::Message(message) = connection.next(None)? {
//!     println!("{}", message.topic);
//! }
//! # Ok::<(), ringmq::cli::client::ClientError>(())
//! ```
//!
//! [`Connection`] moves bytes and keeps the connection alive, its session knows the handshakes and does no I/O. Memory is what has arrived and
//! not been taken, plus a megabyte (or one message) not yet sent. Callers that publish at QoS 1 or 2 ask [`Connection::has_room`] first. Not made
//! for load: that is what the load generator is for.

mod connection;
mod error;
mod establish;
mod options;
mod properties;
mod session;
mod trace;

pub use connection::Connection;
pub use error::ClientError;
pub use options::{ConnectOptions, Message};
pub use properties::OwnedProperties;
pub use session::{Event, Received};
