//! A crowd of connections that are all cut off at once and come back as fast as they can, again and again while it is measured.
//!
//! It has a thread of its own, with the lowest priority, so that its work delays nothing that the other threads time. A connection that the
//! broker refuses or drops on its way is counted and tried again, as a client would.

use std::io;

use super::client::Stage;
use super::scenario::crowd_filter;
use super::set_up::MAX_EVENTS;
use super::shared::Phase;
use super::worker::{Findings, LONGEST_SLEEP_NS, Stages, Worker};

impl Worker {
    /// Sits there until it is measured; then every wave cuts all connections off and ends when the last of them is ready again.
    pub fn storm(mut self, number: usize) -> io::Result<Findings> {
        let mut events = Vec::with_capacity(MAX_EVENTS);
        while self.shared.phase() < Phase::Measure {
            self.sit(&mut events)?;
        }
        // From here on the stages say what the storm is like, not the way there.
        self.stages = Stages::new();
        while self.shared.phase() == Phase::Measure {
            self.wave(number, &mut events)?;
        }
        while self.shared.phase() != Phase::Done {
            self.sit(&mut events)?;
        }
        Ok(self.findings())
    }

    /// Connections that are cut off and not back yet.
    pub(super) fn away(&self) -> u64 {
        (self.connections() as u64).saturating_sub(self.ready)
    }

    /// Waits a little. Nothing is published to the crowd, so whatever happens to a connection is its end.
    fn sit(&mut self, events: &mut Vec<rustix::event::epoll::Event>) -> io::Result<()> {
        self.wait(events, LONGEST_SLEEP_NS)?;
        for event in events.iter() {
            let key = event.data.u64() as usize;
            if self.clients[key].stage == Stage::Ready && self.read(key, usize::MAX).is_err() {
                self.clients[key].close(&self.poll);
                self.tally.closed += 1;
            }
        }
        Ok(())
    }

    fn wave(&mut self, number: usize, events: &mut Vec<rustix::event::epoll::Event>) -> io::Result<()> {
        let start = self.now();
        self.clients.clear();
        self.ready = 0;
        self.filters = (0..self.subscribers.len()).map(|client| vec![crowd_filter(client)]).collect();
        while (self.ready as usize) < self.connections() && self.shared.phase() != Phase::Done {
            while self.clients.len() < self.connections() && self.clients.len() - (self.ready as usize) < self.settings.burst {
                let client = self.open(self.clients.len(), number, self.now())?;
                self.clients.push(client);
            }
            self.wait(events, LONGEST_SLEEP_NS)?;
            for event in events.iter() {
                let key = event.data.u64() as usize;
                let before = self.ready;
                if self.set_up_event(key).is_err() {
                    self.tally.refused += 1;
                    self.ready -= u64::from(self.clients[key].stage == Stage::Ready);
                    self.answers.clear();
                    self.clients[key] = self.open(key, number, self.now())?;
                } else if self.ready > before {
                    self.stages.reconnect.record(self.now() - start);
                    self.tally.reconnects += 1;
                }
            }
            self.report();
        }
        if self.away() == 0 {
            self.stages.wave.record(self.now() - start);
            self.tally.waves += 1;
        }
        Ok(())
    }
}
