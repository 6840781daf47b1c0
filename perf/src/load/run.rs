//! The course of a run, on the main thread: start the workers, let the phases pass, read the meters at their ends.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::latency::Percentiles;
use super::outcome::{Broker, Checks, Generator, Latencies, Outcome, SetUp, Storm};
use super::plan::{Cell, Plan};
use super::shared::{Phase, Shared, Tally, Totals};
use super::usage::{self, Process};
use super::worker::{Findings, Stages, Worker};
use crate::measure;

/// Share of its time above which a generator's thread cannot have done much more.
const BOUND: f64 = 0.95;
/// How often the progress is shown and the drain looked at.
const GLANCE: Duration = Duration::from_millis(50);
/// What the broker has to give back memory that only the way in took, before it is looked at.
const SETTLING: Duration = Duration::from_millis(1_500);
/// Of a thread, as Linux has it.
const LOWEST_PRIORITY: i32 = 19;
/// How long a broker may go on delivering after the load, in patiences; what is then still to come is late, not lost.
const MAX_PATIENCES: u32 = 2;
/// Time after the last message for whatever should not come.
const AFTERMATH: Duration = Duration::from_millis(50);

/// Who is measured, and who is told.
pub struct Observer<'a> {
    /// The broker's process.
    pub pid: Option<u32>,
    pub threads: usize,
    /// Is shown the phase and the totals now and then.
    pub show: &'a dyn Fn(Phase, &Totals),
}

/// All meters at one time.
pub struct Reading {
    at: Instant,
    totals: Totals,
    pub broker: Option<Process>,
    generator: Process,
    machine: f64,
}

impl Reading {
    pub fn take(totals: Totals, observer: &Observer<'_>) -> io::Result<Reading> {
        Ok(Reading {
            at: Instant::now(),
            totals,
            broker: observer.pid.map(Process::read).transpose()?,
            generator: Process::read(std::process::id())?,
            machine: usage::machine_busy_seconds(),
        })
    }

    pub fn seconds_to(&self, later: &Reading) -> f64 {
        (later.at - self.at).as_secs_f64()
    }

    pub fn generator_seconds_to(&self, later: &Reading) -> f64 {
        (later.generator.cpu_ns - self.generator.cpu_ns) as f64 / 1e9
    }
}

/// CPU time of the broker between two readings, in microseconds.
pub fn broker_cpu_us(first: &Reading, last: &Reading) -> Option<f64> {
    first.broker.zip(last.broker).map(|(before, after)| (after.cpu_ns - before.cpu_ns) as f64 / 1e3)
}

/// The broker's side between two readings in which `egress` messages were delivered.
pub fn broker(first: &Reading, last: &Reading, egress: u64) -> Option<Broker> {
    let (before, after) = first.broker.zip(last.broker)?;
    let cpu_seconds = (after.cpu_ns - before.cpu_ns) as f64 / 1e9;
    Some(Broker {
        cpu_seconds,
        cores: cpu_seconds / first.seconds_to(last),
        cpu_us_per_message: (egress > 0).then(|| cpu_seconds * 1e6 / egress as f64),
        user_share: after.user_share_since(&before),
        rss_bytes: after.rss,
        peak_rss_bytes: after.peak_rss,
    })
}

/// Cores that others kept busy between two readings.
pub fn other_cores(first: &Reading, last: &Reading) -> Option<f64> {
    let broker = broker_cpu_us(first, last)? / 1e6;
    Some((last.machine - first.machine - broker - first.generator_seconds_to(last)) / first.seconds_to(last))
}

/// Runs a plan. Errors: the broker cannot be reached, refuses a client, or its process cannot be read.
pub fn run(name: &str, plan: Plan, observer: &Observer<'_>) -> io::Result<Outcome> {
    let threads = observer.threads.clamp(1, plan.cells.len().max(1));
    let shared = Arc::new(Shared::new(threads + usize::from(!plan.crowd.is_empty()), plan.connections()));
    let (connections, filters) = (plan.connections() as u64, plan.filters() as u64);
    let settings = Arc::new(plan.settings.clone());
    let stays_idle = plan.publishers() == 0 && plan.crowd.is_empty();
    let before = Reading::take(shared.totals(), observer)?;
    let workers = start(plan, threads, &shared, observer)?;
    let ready = Reading::take(shared.totals(), observer)?;
    thread::sleep(SETTLING);
    let rested = Reading::take(shared.totals(), observer)?;
    shared.enter(Phase::WarmUp);
    pass(settings.warm_up, Phase::WarmUp, &shared, observer);
    let first = Reading::take(shared.totals(), observer)?;
    shared.enter(Phase::Measure);
    pass(settings.time, Phase::Measure, &shared, observer);
    let last = Reading::take(shared.totals(), observer)?;
    // Clients that only sit there show what they cost once the broker has had time to give back what their coming took.
    let settled = if stays_idle { &last } else { &rested };
    let set_up = set_up(&before, &ready, settled, connections, filters);
    shared.enter(Phase::Drain);
    let late = drain(settings.patience, &shared, observer);
    shared.enter(Phase::Done);

    let mut sum = Findings { tally: Tally::default(), lost: 0, late: 0, slow_missed: 0, stages: Stages::new() };
    for worker in workers {
        let findings = worker.join().map_err(|_| io::Error::other("a thread of the generator panicked"))??;
        sum.tally.add(&findings.tally);
        sum.lost += findings.lost;
        sum.slow_missed += findings.slow_missed;
        sum.late = late.min(sum.lost);
        sum.stages.add(&findings.stages);
    }
    Ok(outcome(name, set_up, &first, &last, shared.workers.len(), settings.busy_poll, &sum))
}

type Handle = thread::JoinHandle<io::Result<Findings>>;

/// Starts the workers, their cells dealt out in turn, and waits until all connections are ready.
fn start(plan: Plan, threads: usize, shared: &Arc<Shared>, observer: &Observer<'_>) -> io::Result<Vec<Handle>> {
    let publishers = plan.publishers().max(1) as f64;
    let mut shares: Vec<Vec<Cell>> = vec![Vec::new(); threads];
    let crowd = plan.crowd;
    for (place, cell) in plan.cells.into_iter().enumerate() {
        shares[place % threads].push(cell);
    }
    let settings = Arc::new(plan.settings);
    let clock = Instant::now();
    let (told, tells) = mpsc::channel();
    let mut handles = Vec::new();
    let mut number = 0;
    for (index, cells) in shares.into_iter().enumerate() {
        let here: usize = cells.iter().map(|cell| cell.publishers.len()).sum();
        let all = here + cells.iter().map(|cell| cell.subscribers.len()).sum::<usize>();
        let worker = Worker::new(index, cells, Arc::clone(&settings), Arc::clone(shared), clock, here as f64 / publishers)?;
        let told = told.clone();
        handles.push(thread::Builder::new().name(format!("load-{index}")).spawn(move || work(worker, number, &told, false))?);
        number += all;
    }
    if !crowd.is_empty() {
        let worker = Worker::new(threads, crowd, settings, Arc::clone(shared), clock, 0.0)?;
        handles.push(thread::Builder::new().name("crowd".to_owned()).spawn(move || work(worker, number, &told, true))?);
    }
    for _ in 0..handles.len() {
        loop {
            match tells.recv_timeout(GLANCE) {
                Ok(result) => break result?,
                Err(RecvTimeoutError::Timeout) => (observer.show)(Phase::SetUp, &shared.totals()),
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("a thread of the generator panicked")),
            }
        }
    }
    Ok(handles)
}

/// Brings a worker's connections to readiness, tells the main thread, and does what the worker is for.
fn work(mut worker: Worker, number: usize, told: &mpsc::Sender<io::Result<()>>, is_crowd: bool) -> io::Result<Findings> {
    if is_crowd {
        rustix::process::nice(LOWEST_PRIORITY)?;
    } else if worker.settings.realtime {
        measure::go_first()?;
    }
    // 1 ns of timer slack: the open loop's sleeps end when they should.
    rustix::thread::set_current_timer_slack(std::num::NonZero::new(1))?;
    let result = worker.set_up(number);
    let failed = result.is_err();
    // The main thread has gone only if another worker failed.
    let _ = told.send(result);
    match (failed, is_crowd) {
        (true, _) => Err(io::Error::other("not set up")),
        (false, true) => worker.storm(number),
        (false, false) => worker.run(),
    }
}

/// Lets a phase last for `time`.
fn pass(time: Duration, phase: Phase, shared: &Shared, observer: &Observer<'_>) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::sleep(left.min(GLANCE));
        (observer.show)(phase, &shared.totals());
    }
}

/// Waits until all has arrived, or nothing has for `patience`, or it takes too long: then it gives what is late.
fn drain(patience: Duration, shared: &Shared, observer: &Observer<'_>) -> u64 {
    let start = Instant::now();
    let mut last = (shared.totals(), start);
    let late = loop {
        thread::sleep(GLANCE);
        let totals = shared.totals();
        (observer.show)(Phase::Drain, &totals);
        if totals != last.0 {
            last = (totals, Instant::now());
        } else if totals.outstanding == 0 || last.1.elapsed() > patience {
            break 0;
        }
        if start.elapsed() > patience * MAX_PATIENCES {
            break totals.outstanding;
        }
    };
    thread::sleep(AFTERMATH);
    late
}

/// What it took to bring all connections to readiness.
pub fn set_up(before: &Reading, ready: &Reading, settled: &Reading, connections: u64, filters: u64) -> SetUp {
    let seconds = (ready.at - before.at).as_secs_f64();
    let broker = before.broker.zip(ready.broker);
    let rss = before.broker.zip(settled.broker).map(|(before, after)| after.rss.saturating_sub(before.rss) as f64);
    SetUp {
        connections,
        filters,
        seconds,
        connections_per_s: connections as f64 / seconds,
        cpu_us_per_connection: broker.map(|(before, after)| (after.cpu_ns - before.cpu_ns) as f64 / 1e3 / connections.max(1) as f64),
        rss_bytes_per_connection: rss.map(|rss| rss / connections.max(1) as f64),
        rss_bytes_per_filter: rss.filter(|_| filters > 0).map(|rss| rss / filters as f64),
    }
}

fn outcome(name: &str, set_up: SetUp, first: &Reading, last: &Reading, threads: usize, busy_poll: bool, sum: &Findings) -> Outcome {
    let seconds = first.seconds_to(last);
    let ingress = last.totals.sent - first.totals.sent;
    let received = last.totals.received - first.totals.received;
    let egress = if sum.tally.expected == 0 { last.totals.acknowledged - first.totals.acknowledged } else { received };
    // Threads that share a core cannot be busy at the same time.
    let cores = thread::available_parallelism().map_or(threads, |cores| threads.min(cores.get()));
    let busy = first.generator_seconds_to(last) / seconds / cores as f64;
    let broker = broker(first, last, egress);
    let (tally, stages) = (&sum.tally, &sum.stages);
    let reconnects = last.totals.reconnects - first.totals.reconnects;
    let storm = (tally.waves > 0).then(|| Storm {
        waves: tally.waves,
        reconnects,
        reconnects_per_s: reconnects as f64 / seconds,
        refused: tally.refused,
        cpu_us_per_reconnect: broker.as_ref().filter(|_| reconnects > 0).map(|broker| broker.cpu_seconds * 1e6 / reconnects as f64),
    });
    Outcome {
        name: name.to_owned(),
        set_up,
        seconds,
        ingress,
        ingress_per_s: ingress as f64 / seconds,
        egress,
        egress_per_s: egress as f64 / seconds,
        broker,
        generator: Generator { threads, busy: (!busy_poll).then_some(busy), bound: !busy_poll && busy >= BOUND },
        other_cores: other_cores(first, last),
        storm,
        retained: None,
        checks: Checks {
            sent: tally.sent,
            received: tally.received,
            lost: sum.lost - sum.late,
            late: sum.late,
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            unacknowledged: tally.expected_acknowledged.saturating_sub(tally.acknowledged),
            foreign: tally.foreign,
            stalls: tally.stalls,
            closed: tally.closed,
            slow_received: tally.slow_received,
            slow_missed: sum.slow_missed,
            slow_closed: tally.slow_closed,
        },
        latency_us: Latencies {
            connect: stages.connect.percentiles(),
            connack: stages.connack.percentiles(),
            suback: stages.suback.percentiles(),
            delivery: stages.delivery.percentiles(),
            acknowledgement: stages.acknowledgement.percentiles(),
            send_lag: stages.lag.percentiles(),
            reconnect: stages.reconnect.percentiles(),
            wave: stages.wave.percentiles(),
            fetch: Percentiles::default(),
            bystander: Percentiles::default(),
        },
    }
}
