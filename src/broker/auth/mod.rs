//! Enhanced authentication (5.0 section 4.12): what a method is, and the methods that there are.
//!
//! A method knows neither packets nor connections: it is handed what the client says and answers what is to be said. The shard carries that in
//! CONNECT, AUTH and CONNACK (see `authenticate`) and bounds it in time, size and number of messages. To add a method, implement [`Method`] and
//! name it in [`super::Admission`].

pub mod scram;

/// Bytes that no client can foresee and that no exchange was given before.
pub type Fresh = [u8; 32];

/// A way for clients to prove who they are.
pub trait Method: std::fmt::Debug + Send + Sync {
    /// The Authentication Method by which clients ask for it.
    fn name(&self) -> &str;

    /// A new exchange with one client.
    fn begin(&self, fresh: Fresh) -> Box<dyn Exchange>;
}

/// One authentication of one client, under way.
pub trait Exchange: std::fmt::Debug {
    /// Takes the Authentication Data of the client's next packet, beginning with CONNECT (or the AUTH that asks for re-authentication); empty where
    /// the packet has none. Not called again after [`Step::Success`] or [`Step::Fail`].
    fn next(&mut self, data: &[u8]) -> Step;
}

/// What follows from a client's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The client is asked for more, with this Authentication Data.
    Continue(Vec<u8>),
    /// The client is `user`, and is told so with this Authentication Data.
    Success { data: Vec<u8>, user: Box<str> },
    /// The client is not told why.
    Fail,
}
