//! One vehicle: connect, announce, drive, and end well or badly.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringmq::cli::client::{ClientError, ConnectOptions, Connection, Event, Message, OwnedProperties};
use ringmq::mqtt::QoS;

/// What all vehicles together have done.
#[derive(Debug, Default)]
pub struct Sent {
    pub positions: AtomicU64,
    pub events: AtomicU64,
    pub died: AtomicU64,
    pub failed: AtomicU64,
    pub ended: AtomicU64,
}

/// What one vehicle is going to do.
#[derive(Clone, Debug)]
pub struct Plan {
    name: String,
    topic: String,
    interval: Duration,
    ends: Instant,
    dies: bool,
    random: u64,
}

impl Plan {
    /// `dying` of 100 vehicles die somewhere on the way, the others drive until `ends`.
    pub fn new(topic: &str, number: u32, vehicles: u32, dying: u8, rate: f64, ends: Instant) -> Plan {
        let name = format!("vehicle-{number:04}");
        let mut plan = Plan {
            topic: format!("{topic}/{name}"),
            name,
            interval: Duration::from_secs_f64(1.0 / rate.clamp(0.01, 1000.0)),
            ends,
            // Spread evenly over the fleet, and exactly as many as asked for.
            dies: u64::from(number + 1) * u64::from(dying) / 100 != u64::from(number) * u64::from(dying) / 100,
            random: 0x9E37_79B9_7F4A_7C15 ^ (u64::from(number) << 20) ^ u64::from(vehicles),
        };
        if plan.dies {
            let left = ends.saturating_duration_since(Instant::now());
            let early = plan.chance(700) as f64 / 1000.0;
            plan.ends -= left.mul_f64(early);
        }
        plan
    }

    /// A number from 0 to `below` - 1 that is good enough for a simulation (xorshift).
    fn chance(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }
}

/// Drives to the end; a vehicle that cannot reach the broker counts as failed.
pub fn drive(plan: &Plan, options: &ConnectOptions, sent: &Sent) {
    if let Err(error) = try_drive(plan, options, sent) {
        sent.failed.fetch_add(1, Ordering::Relaxed);
        eprintln!("{}: {error}", plan.name);
    }
    sent.ended.fetch_add(1, Ordering::Release);
}

fn try_drive(plan: &Plan, options: &ConnectOptions, sent: &Sent) -> Result<(), ClientError> {
    let mut plan = plan.clone();
    let presence = |text: &str| Message { retain: true, qos: QoS::AtLeastOnce, ..Message::new(format!("{}/presence", plan.topic), text) };
    let will = Some(presence("vanished"));
    let mut connection = Connection::open(&ConnectOptions { client_id: plan.name.clone(), will, ..options.clone() })?;
    connection.publish(&presence("driving"))?;
    let (parked, mut position) = (presence("parked"), Position::start(&mut plan));
    // Not all at the same moment.
    let mut next = Instant::now() + plan.interval.mul_f64(plan.chance(1000) as f64 / 1000.0);
    loop {
        wait_until(&mut connection, next.min(plan.ends))?;
        if Instant::now() >= plan.ends {
            break;
        }
        next += plan.interval;
        position.advance(&mut plan);
        connection.publish(&Message { retain: true, ..Message::new(format!("{}/position", plan.topic), position.json()) })?;
        sent.positions.fetch_add(1, Ordering::Relaxed);
        if plan.chance(10) == 0 && connection.has_room() {
            let event = ["door opened", "door closed", "hard braking", "low battery"][plan.chance(4) as usize];
            connection.publish(&Message { qos: QoS::AtLeastOnce, ..Message::new(format!("{}/event", plan.topic), event) })?;
            sent.events.fetch_add(1, Ordering::Relaxed);
        }
    }
    wait_for_acks(&mut connection)?;
    if plan.dies {
        // The socket is closed without DISCONNECT: the broker publishes the will.
        sent.died.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    connection.publish(&parked)?;
    wait_for_acks(&mut connection)?;
    connection.disconnect(&OwnedProperties::default())
}

fn wait_until(connection: &mut Connection, moment: Instant) -> Result<(), ClientError> {
    while connection.next(Some(moment))? != Event::TimedOut {}
    Ok(())
}

fn wait_for_acks(connection: &mut Connection) -> Result<(), ClientError> {
    while connection.in_flight() > 0 {
        connection.next(None)?;
    }
    Ok(())
}

/// Somewhere in Berlin.
struct Position {
    latitude: f64,
    longitude: f64,
    heading: f64,
    speed_kmh: f64,
}

impl Position {
    fn start(plan: &mut Plan) -> Position {
        Position {
            latitude: 52.45 + plan.chance(1000) as f64 / 7_000.0,
            longitude: 13.25 + plan.chance(1000) as f64 / 4_000.0,
            heading: plan.chance(360) as f64,
            speed_kmh: 30.0,
        }
    }

    fn advance(&mut self, plan: &mut Plan) {
        self.heading += plan.chance(41) as f64 - 20.0;
        self.speed_kmh = (self.speed_kmh + plan.chance(11) as f64 - 5.0).clamp(0.0, 130.0);
        // A degree of latitude is 111 km; of longitude, here, 68 km.
        let km = self.speed_kmh / 3600.0 * plan.interval.as_secs_f64();
        self.latitude += km * self.heading.to_radians().cos() / 111.0;
        self.longitude += km * self.heading.to_radians().sin() / 68.0;
    }

    fn json(&self) -> String {
        format!("{{\"lat\":{:.5},\"lon\":{:.5},\"kmh\":{:.0}}}", self.latitude, self.longitude, self.speed_kmh)
    }
}
