//! `ringmq-perf`: load generator and scenarios over sockets. One file or folder per subcommand.

mod bare_forwarder;
mod flames;
mod forwarder;
mod handshake;
mod io_gate;
mod load;
mod measure;
mod million;
mod report;
mod wakeups;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "ringmq-perf", version, about = "Load generator and scenarios for ringmq")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Load any MQTT broker by a scenario, and measure it
    Load(load::Arguments),
    /// The scenarios that there are; those with a star are what the scripts run when they are told nothing
    Scenarios(load::ListArguments),
    /// The least that can serve on the broker's own socket driver: what a broker on it could reach
    Bare(bare_forwarder::Arguments),
    /// A forwarder with epoll: what the load generator can do at most; can also lose, double and swap messages on purpose
    Forwarder(forwarder::Arguments),
    /// What a client's way in costs the broker, step by step
    Handshake(handshake::Arguments),
    /// What a message costs the server in our drivers, beside a bare io_uring loop
    IoGate(io_gate::Arguments),
    /// The server of io-gate; started by it
    #[command(hide = true)]
    IoGateServer(io_gate::server::Arguments),
    /// Results of `load --json` as a table and as a page with plots, with ratios between brokers
    Report(report::Arguments),
    /// Samples of `perf script` as a flame graph
    Flames(flames::Arguments),
    /// A million clients of one broker, from this one process
    Million(million::Arguments),
    /// Two shards wake each other millions of times; counts the wake-ups that got lost
    Wakeups(wakeups::Arguments),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Arguments::parse().command {
        Command::Load(arguments) => load::run(&arguments),
        Command::Scenarios(arguments) => load::list(&arguments),
        Command::Bare(arguments) => bare_forwarder::run(&arguments),
        Command::Forwarder(arguments) => forwarder::run(&arguments),
        Command::Handshake(arguments) => handshake::run(&arguments),
        Command::IoGate(arguments) => io_gate::run(&arguments),
        Command::IoGateServer(arguments) => io_gate::server::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Flames(arguments) => flames::run(&arguments),
        Command::Million(arguments) => million::run(&arguments),
        Command::Wakeups(arguments) => wakeups::run(&arguments),
    }
}
