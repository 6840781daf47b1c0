//! Who is let in, on what terms, and how fast: whole shards, driven without sockets.

mod authentication;
mod rates;
mod reauthentication;
mod redirect;
mod scram_client;
mod terms;
mod world;
