//! `ringmq-perf`: load generator and scenarios over sockets. One file or folder per subcommand.

mod forwarder;
mod io_gate;
mod load;
mod measure;
mod million;
mod table;
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
    /// A bare forwarder: what the load generator can do at most; can also lose, double and swap messages on purpose
    Forwarder(forwarder::Arguments),
    /// What a message costs the server in our drivers, beside a bare io_uring loop
    IoGate(io_gate::Arguments),
    /// The server of io-gate; started by it
    #[command(hide = true)]
    IoGateServer(io_gate::server::Arguments),
    /// A million clients of one broker, from this one process
    Million(million::Arguments),
    /// Results of `load --json` as a table, with ratios between brokers
    Table(table::Arguments),
    /// Two shards wake each other millions of times; counts the wake-ups that got lost
    Wakeups(wakeups::Arguments),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Arguments::parse().command {
        Command::Load(arguments) => load::run(&arguments),
        Command::Forwarder(arguments) => forwarder::run(&arguments),
        Command::IoGate(arguments) => io_gate::run(&arguments),
        Command::IoGateServer(arguments) => io_gate::server::run(&arguments),
        Command::Million(arguments) => million::run(&arguments),
        Command::Table(arguments) => table::run(&arguments),
        Command::Wakeups(arguments) => wakeups::run(&arguments),
    }
}
