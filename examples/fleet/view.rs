//! What the watcher knows of the fleet: a table that is redrawn on a terminal, plain lines elsewhere, and the summary at the end.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringmq::cli::client::Received;

use super::vehicle::Sent;

/// Rows of the table; the most recently changed vehicles are shown.
const ROWS: usize = 20;

#[derive(Debug, Default)]
struct Vehicle {
    presence: String,
    position: String,
    event: String,
    events: u64,
    changed: Option<Instant>,
}

/// Everything that has arrived.
#[derive(Debug)]
pub struct Fleet {
    on_terminal: bool,
    vehicles: BTreeMap<String, Vehicle>,
    positions: u64,
    events: u64,
    vanished: u64,
    started: Instant,
    /// Lines of the last table, to be drawn over.
    drawn: usize,
}

impl Fleet {
    pub fn new(on_terminal: bool) -> Fleet {
        Fleet { on_terminal, vehicles: BTreeMap::new(), positions: 0, events: 0, vanished: 0, started: Instant::now(), drawn: 0 }
    }

    /// Takes a message in. Retained ones that were there before tell the state but do not count: they were sent by an earlier run.
    pub fn take(&mut self, message: &Received) {
        let mut levels = message.topic.rsplit('/');
        let (Some(what), Some(name)) = (levels.next(), levels.next()) else { return };
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        let fresh = u64::from(!message.retain);
        let line = format!("{name} {what}: {text}");
        let vehicle = self.vehicles.entry(name.to_owned()).or_default();
        vehicle.changed = Some(Instant::now());
        match what {
            "position" => {
                self.positions += fresh;
                vehicle.position = text;
                return;
            }
            "event" => {
                self.events += fresh;
                vehicle.events += fresh;
                vehicle.event = text;
            }
            _ => {
                self.vanished += if text == "vanished" { fresh } else { 0 };
                vehicle.presence = text;
            }
        }
        if !self.on_terminal {
            print(&format!("{line}\n"));
        }
    }

    pub fn draw_interval(&self) -> Duration {
        if self.on_terminal { Duration::from_millis(200) } else { Duration::from_secs(1) }
    }

    /// The names of all vehicles seen.
    pub fn vehicles(&self) -> impl Iterator<Item = &String> {
        self.vehicles.keys()
    }

    /// Whether everything that was sent has arrived.
    pub fn has_all(&self, sent: &Sent) -> bool {
        let have = |counter: &AtomicU64, arrived: u64| arrived >= counter.load(Ordering::Relaxed);
        have(&sent.positions, self.positions) && have(&sent.events, self.events) && have(&sent.died, self.vanished)
    }

    /// Redraws the table, or writes one line.
    pub fn draw(&mut self, sent: &Sent) {
        let count = |presence: &str| self.vehicles.values().filter(|vehicle| vehicle.presence == presence).count();
        let head = format!(
            "{:5.1} s   {} driving   {} parked   {} vanished   positions {} of {}   events {} of {}",
            self.started.elapsed().as_secs_f64(),
            count("driving"),
            count("parked"),
            count("vanished"),
            self.positions,
            sent.positions.load(Ordering::Relaxed),
            self.events,
            sent.events.load(Ordering::Relaxed)
        );
        if !self.on_terminal {
            return print(&format!("{head}\n"));
        }
        let mut rows: Vec<_> = self.vehicles.iter().collect();
        rows.sort_by_key(|(_, vehicle)| std::cmp::Reverse(vehicle.changed));
        rows.truncate(ROWS);
        rows.sort_by_key(|(name, _)| *name);
        // Cursor up over the last table, then each line cleared to its end.
        let mut text = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        text.push_str(&format!("\x1b[2K{head}\n\x1b[2K{:14} {:10} {:44} {:>6}  last event\n", "vehicle", "presence", "position", "events"));
        for (name, vehicle) in &rows {
            let Vehicle { presence, position, event, events, .. } = vehicle;
            text.push_str(&format!("\x1b[2K{name:14} {presence:10} {position:44} {events:6}  {event}\n"));
        }
        self.drawn = rows.len() + 2;
        print(&text);
    }

    /// Prints what was sent, received and lost; whether nothing is missing that may not be lost.
    pub fn summary(&self, sent: &Sent) -> bool {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut text = format!("\n{:22} {:>10} {:>10} {:>10}\n", "", "sent", "received", "lost");
        let mut row = |name: &str, sent: u64, received: u64| {
            text.push_str(&format!("{name:22} {sent:10} {received:10} {:10}\n", sent.saturating_sub(received)));
        };
        row("positions (QoS 0)", value(&sent.positions), self.positions);
        row("events (QoS 1)", value(&sent.events), self.events);
        row("wills (died, vanished)", value(&sent.died), self.vanished);
        text.push_str(&format!("vehicles that failed   {:10}\n", value(&sent.failed)));
        print(&text);
        value(&sent.failed) == 0 && self.events >= value(&sent.events) && self.vanished >= value(&sent.died)
    }
}

/// Writes to standard output; a reader that has gone away is no reason to stop.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
