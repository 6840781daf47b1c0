//! The protocol over real sockets: raw bytes in, raw bytes out, by the areas of the standard.
//!
//! Every behaviour is shown on io_uring and on epoll, with one shard and with two, and where two clients take part, with both on one shard and on
//! different ones. The normative statements that a test proves stand above it; 3.1.1 and 5.0 number them differently, so both may stand there.

// A test may fail by any panic.
#![allow(clippy::unwrap_used)]

mod admission;
mod connect;
mod durability;
mod flow;
mod hand_off;
mod hostile;
mod keep_alive;
mod malformed;
mod properties;
mod publish;
mod restart;
mod retained;
mod session;
mod shared;
mod subscribe;
mod support;
mod wildcards;
mod will;
