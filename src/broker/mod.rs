//! The state of ONE shard: a synchronous object without I/O, clock, thread or `unsafe`.
//!
//! [`Shard`] is the only entry. Its handlers are spread over files by what they handle; each file is one `impl Shard`:
//!
//! ```text
//! receive     bytes in, cut into packets        connect, disconnect   the life of a connection and of a session
//! admission   who is let in, on what terms      authenticate, auth    proving who one is
//! publish     from a client, and its acks       subscribe, interest   filters, here and on the other shards
//! route, run  to everyone who wants it          retain, fetch         retained messages: the store, and reading it
//! deliver     to one session                    timers, sys           what happens by itself
//! batch       from another shard                rate                  slowing a client down
//! inspect     what is held                  limited               who hits limits
//! warm        what publishes will look at
//! ```
//!
//! The rest are the parts of its state: connections, sessions, outgoing messages, acknowledgements, topics, retained messages, timers, output.

mod acks;
mod admission;
mod ahead;
mod aliases;
pub mod auth;
mod authenticate;
mod batch;
mod budget;
mod connect;
mod connection;
mod deliver;
mod disconnect;
mod fetch;
pub mod hash;
pub mod ids;
mod inspect;
mod interest;
pub mod journal;
mod limited;
mod message;
pub mod outbox;
mod outgoing;
mod peer;
mod publish;
mod rate;
mod receive;
mod retain;
pub mod retained;
mod route;
mod run;
mod session;
mod shard;
mod share;
mod stuck;
mod subscribe;
mod sys;
mod timers;
pub mod topics;
mod warm;
pub mod wheel;

pub use admission::Admission;
pub use connection::Origin;
pub use ids::{ConnId, MAX_SHARDS, ShardId};
pub use inspect::Holdings;
pub use journal::JournalJob;
pub use outbox::OutBatch;
pub use peer::Batch;
pub use session::home_of;
pub use shard::{Command, Shard, ShardConfig};
