//! `ringmq-perf`: load generator and scenarios over sockets.
fn main() {}
