//! How connections and sessions lived, by the clock: what each CONNECT had to find, when sessions had to expire and wills to be sent.
//!
//! A shard notices the time only when it runs, and its timers may be late by [`LATE_MS`]; a deadline within a jump of time moves to the jump's end.

use crate::history::{ClientIx, End, Event, History, Sent, Seq, SocketIx};

/// What timers may be late, ms.
pub const LATE_MS: u64 = 500;

/// How a connection ended, as far as sessions and wills are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub seq: Seq,
    pub at: u64,
    pub paused: bool,
    /// DISCONNECT was worked off: its reason.
    pub disconnect: Option<u8>,
    /// Session expiry in force at the end, seconds.
    pub expiry_s: u32,
}

/// The life of an accepted connection.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub socket: SocketIx,
    pub client: ClientIx,
    pub seq: Seq,
    pub at: u64,
    pub ended: Option<Ended>,
}

/// Whether something happened, as far as the clock can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Yes,
    No,
    Either,
}

/// The lives of all accepted connections, in the order of their acceptance, and the jumps of time.
#[derive(Debug)]
pub struct Lives {
    pub lives: Vec<Life>,
    jumps: Vec<(u64, u64)>,
    /// The last moment of the world.
    pub until: u64,
}

impl Lives {
    pub fn new(history: &History) -> Lives {
        let mut lives: Vec<Life> = Vec::new();
        let mut jumps = Vec::new();
        let mut goodbye = vec![None; history.connections.len()];
        for (seq, at, event) in history.iter() {
            match *event {
                Event::Accepted { socket, .. } => {
                    lives.push(Life { socket, client: history.client_of(socket), seq, at, ended: None });
                }
                Event::Processed { sent, socket, .. } => {
                    if let Sent::Disconnect { reason, expiry_s } = history.sent(sent) {
                        goodbye[socket] = Some((*reason, *expiry_s));
                    }
                }
                Event::Ended { socket, end, paused, .. } => {
                    let (disconnect, expiry_s) = goodbye[socket].filter(|_| end == End::Shard && !paused).unzip();
                    let expiry_s = expiry_s.flatten().unwrap_or(history.connections[socket].expiry_s);
                    if let Some(life) = lives.iter_mut().find(|life| life.socket == socket) {
                        life.ended = Some(Ended { seq, at, paused, disconnect, expiry_s });
                    }
                }
                Event::Jumped { from, to } => jumps.push((from, to)),
                _ => {}
            }
        }
        Lives { lives, jumps, until: history.now }
    }

    /// The latest moment at which a timer with this deadline may fire.
    pub fn latest(&self, deadline: u64) -> u64 {
        let latest = deadline.saturating_add(LATE_MS);
        // Two jumps may follow one another.
        self.jumps.iter().fold(latest, |latest, &(from, to)| if from <= latest && latest < to + LATE_MS { to + LATE_MS } else { latest })
    }

    /// Whether a deadline has passed for a shard, at some moment.
    pub fn passed(&self, deadline: Option<u64>, now: u64) -> Verdict {
        match deadline {
            Some(deadline) if now > self.latest(deadline) => Verdict::Yes,
            Some(deadline) if now >= deadline => Verdict::Either,
            _ => Verdict::No,
        }
    }

    /// When the session of an ended connection expires; `None`: never.
    pub fn expires_at(ended: &Ended) -> Option<u64> {
        (ended.expiry_s != u32::MAX).then(|| ended.at + u64::from(ended.expiry_s) * 1_000)
    }

    /// The connection of the same client before and after one.
    pub fn neighbours(&self, index: usize) -> (Option<&Life>, Option<&Life>) {
        let client = self.lives[index].client;
        let before = self.lives[..index].iter().rfind(|life| life.client == client);
        let after = self.lives[index + 1..].iter().find(|life| life.client == client);
        (before, after)
    }

    /// Whether the session before an accepted connection was still there, whatever the connection asked for.
    pub fn session_before(&self, index: usize, history: &History) -> Verdict {
        let life = &self.lives[index];
        let Some(before) = self.neighbours(index).0 else { return Verdict::No };
        match before.ended.filter(|ended| ended.seq < life.seq) {
            // Taken over: a session without expiry ends with its connection.
            None if history.connections[before.socket].expiry_s == 0 => Verdict::No,
            None => Verdict::Yes,
            Some(ended) => match self.passed(Lives::expires_at(&ended), life.at) {
                _ if ended.expiry_s == 0 => Verdict::No,
                Verdict::Yes => Verdict::No,
                Verdict::No => Verdict::Yes,
                Verdict::Either => Verdict::Either,
            },
        }
    }
}
