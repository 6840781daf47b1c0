//! A fleet of simulated vehicles, and a view of them as a dispatcher would have it.
//!
//! Each vehicle is a client of its own: it announces itself (`<topic>/<vehicle>/presence`, retained, with a will that says "vanished"), sends its
//! position a few times per second (`.../position`, retained, QoS 0: the newest is all that counts) and now and then an event
//! (`.../event`, QoS 1: none may be lost). Some vehicles die without DISCONNECT, so that the broker publishes their will. One more client
//! watches them all. In the end the two sides compare what was sent with what arrived, and the retained messages are cleared.
//!
//! ```text
//! ringmq &
//! cargo run --release --example fleet -- --vehicles 100 --seconds 20
//! ```

mod vehicle;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use ringmq::cli::client::{ClientError, ConnectOptions, Connection, Event, Message, OwnedProperties};
use ringmq::mqtt::{QoS, SubscribeOptions};

use vehicle::{Plan, Sent};
use view::Fleet;

/// Simulate a fleet of vehicles and watch them arrive
#[derive(Debug, Parser)]
#[command(disable_help_flag = true)]
struct Args {
    /// Vehicles, each a client of its own
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    vehicles: u32,
    /// How long they drive
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Positions per second and vehicle
    #[arg(long, default_value_t = 2.0)]
    rate: f64,
    /// How many of 100 vehicles die on the way
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    dying: u8,
    /// Broker to connect to
    #[arg(short = 'h', long, default_value = "localhost")]
    host: String,
    #[arg(short, long, default_value_t = 1883)]
    port: u16,
    /// Topic that everything happens below
    #[arg(short, long, default_value = "fleet")]
    topic: String,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// How long the watcher waits for what is still on its way once all vehicles have stopped.
const LAST_ARRIVALS: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything arrived that must arrive.
fn run(args: &Args) -> Result<bool, ClientError> {
    let options = ConnectOptions { host: args.host.clone(), port: args.port, ..ConnectOptions::default() };
    let mut watcher = watch(args, &options)?;
    let sent = Arc::new(Sent::default());
    let ends = Instant::now() + Duration::from_secs(args.seconds);
    for number in 0..args.vehicles {
        let plan = Plan::new(&args.topic, number, args.vehicles, args.dying, args.rate, ends);
        let (options, sent) = (options.clone(), Arc::clone(&sent));
        // A vehicle needs little stack; a thousand of them should not need a gigabyte of address space.
        let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || vehicle::drive(&plan, &options, &sent));
        thread.map_err(|error| ClientError::Invalid(format!("cannot start vehicle {number}: {error}")))?;
    }
    let mut fleet = Fleet::new(std::io::stdout().is_terminal());
    observe(&mut watcher, &mut fleet, &sent, args.vehicles, ends)?;
    clear_retained(&mut watcher, &fleet, &args.topic)?;
    watcher.disconnect(&OwnedProperties::default())?;
    Ok(fleet.summary(&sent))
}

fn watch(args: &Args, options: &ConnectOptions) -> Result<Connection, ClientError> {
    let mut watcher = Connection::open(options)?;
    let filter = |what: &str| format!("{}/+/{what}", args.topic);
    let (position, event, presence) = (filter("position"), filter("event"), filter("presence"));
    let reliable = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    let filters = [(position.as_str(), SubscribeOptions::default()), (&event, reliable), (&presence, reliable)];
    watcher.subscribe(&filters, &OwnedProperties::default())?;
    while !matches!(watcher.next(None)?, Event::Subscribed { .. }) {}
    Ok(watcher)
}

/// Takes in what arrives until all vehicles have ended and everything they sent has arrived, or a while after.
fn observe(watcher: &mut Connection, fleet: &mut Fleet, sent: &Sent, vehicles: u32, ends: Instant) -> Result<(), ClientError> {
    let mut next_draw = Instant::now();
    loop {
        match watcher.next(Some(next_draw))? {
            Event::Message(message) => fleet.take(&message),
            Event::TimedOut => {
                fleet.draw(sent);
                next_draw = Instant::now() + fleet.draw_interval();
            }
            _ => {}
        }
        let all_ended = sent.ended.load(Ordering::Acquire) == u64::from(vehicles);
        if (all_ended && fleet.has_all(sent)) || Instant::now() > ends + LAST_ARRIVALS {
            fleet.draw(sent);
            return Ok(());
        }
    }
}

/// Leaves the broker as it was.
fn clear_retained(watcher: &mut Connection, fleet: &Fleet, topic: &str) -> Result<(), ClientError> {
    for vehicle in fleet.vehicles() {
        for what in ["position", "presence"] {
            watcher.publish(&Message { retain: true, ..Message::new(format!("{topic}/{vehicle}/{what}"), "") })?;
        }
    }
    Ok(())
}
