//! The load of the gate: one thread, its own core, epoll. It counts what the server forwarded and what that cost the server.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use socket2::{Domain, Socket, Type};

use super::forward::{COUNT, FRAME_BYTES, SUBSCRIBE, frame, number};
use super::server::Child;
use crate::measure;

/// What the load is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Thousands of connections, one small message at a time, at a fixed rate: the server sleeps between messages
    Sparse,
    /// One message goes to and fro on one connection
    PingPong1,
    /// The same on a hundred connections at once
    PingPong100,
    /// 64 publishers, each with a subscriber of its own, 16 messages in flight per pair
    OneToOne,
}

impl Scenario {
    pub const ALL: [Scenario; 4] = [Scenario::Sparse, Scenario::PingPong1, Scenario::PingPong100, Scenario::OneToOne];
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Scenario::Sparse => "sparse",
            Scenario::PingPong1 => "ping-pong1",
            Scenario::PingPong100 => "ping-pong100",
            Scenario::OneToOne => "one-to-one",
        })
    }
}

pub struct Plan {
    pub connections: usize,
    /// Messages per second of the sparse scenario.
    pub rate: u64,
    pub warm_up: Duration,
    pub time: Duration,
}

/// What one server did in one scenario.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub messages: u64,
    pub per_second: f64,
    /// Server CPU per message, in microseconds.
    pub cpu_us: f64,
    /// Share of its core that the server used.
    pub busy: f64,
    /// Share of that core that others used, which the server's caches paid for.
    pub others: f64,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rate, cpu, busy, others) = (self.per_second, self.cpu_us, self.busy * 100.0, self.others * 100.0);
        write!(f, "{rate:.0}/s, {cpu:.3} us/message, {busy:.0} % of the core, others {others:.0} %")
    }
}

pub fn run(scenario: Scenario, plan: &Plan, server: &Child) -> io::Result<Outcome> {
    match scenario {
        Scenario::Sparse => sparse(plan, server),
        Scenario::PingPong1 => windowed(plan, server, 1, 1, true),
        Scenario::PingPong100 => windowed(plan, server, 100, 1, true),
        Scenario::OneToOne => windowed(plan, server, 64, 16, false),
    }
}

/// Connects; a source address serves some thousands of connections, since its ports are few.
fn connect(address: SocketAddr, index: usize) -> io::Result<TcpStream> {
    const PER_SOURCE: usize = 8_000;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1 + (index / PER_SOURCE) as u8), 0)).into())?;
    socket.connect(&address.into())?;
    socket.set_tcp_nodelay(true)?;
    // Leaves no TIME_WAIT behind for the next measurement.
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(socket.into())
}

fn ask(control: &mut TcpStream, topic: u64) -> io::Result<u64> {
    control.write_all(&frame(topic, 0))?;
    let mut answer = [0; FRAME_BYTES];
    control.read_exact(&mut answer)?;
    Ok(number(&answer, 12))
}

/// Start and end of the measured time, as the server sees it.
struct Meter<'a> {
    server: &'a Child,
    control: TcpStream,
    start: Instant,
    cpu_ns: u64,
    core_busy_s: f64,
    messages: u64,
}

impl<'a> Meter<'a> {
    fn start(server: &'a Child, mut control: TcpStream) -> io::Result<Meter<'a>> {
        let messages = ask(&mut control, COUNT)?;
        let core_busy_s = measure::core_busy_s(server.core);
        Ok(Meter { server, control, start: Instant::now(), cpu_ns: server.cpu_time_ns()?, core_busy_s, messages })
    }

    fn stop(mut self) -> io::Result<Outcome> {
        let cpu_ns = (self.server.cpu_time_ns()? - self.cpu_ns) as f64;
        let seconds = self.start.elapsed().as_secs_f64();
        let core_busy_s = measure::core_busy_s(self.server.core) - self.core_busy_s;
        let messages = ask(&mut self.control, COUNT)? - self.messages;
        Ok(Outcome {
            messages,
            per_second: messages as f64 / seconds,
            cpu_us: cpu_ns / 1_000.0 / messages.max(1) as f64,
            busy: cpu_ns / 1e9 / seconds,
            others: ((core_busy_s - cpu_ns / 1e9) / seconds).max(0.0),
        })
    }
}

fn sparse(plan: &Plan, server: &Child) -> io::Result<Outcome> {
    let control = connect(server.address, 0)?;
    let mut clients = (0..plan.connections).map(|index| connect(server.address, index)).collect::<io::Result<Vec<TcpStream>>>()?;
    // Everybody is served once before the clock starts.
    for (index, client) in clients.iter_mut().enumerate() {
        client.write_all(&frame(index as u64, 0))?;
    }
    let mut next = 0;
    let mut send_for = |time: Duration| -> io::Result<()> {
        let gap = Duration::from_secs_f64(1.0 / plan.rate as f64);
        let start = Instant::now();
        let (mut now, mut due) = (start, start);
        while now < start + time {
            if now >= due {
                clients[next].write_all(&frame(next as u64, 0))?;
                next = (next + 1) % plan.connections;
                // Who was held up does not catch up in a burst, which would be another scenario.
                due = (due + gap).max(now.checked_sub(10 * gap).unwrap_or(now));
            } else {
                std::hint::spin_loop();
            }
            now = Instant::now();
        }
        Ok(())
    };
    send_for(plan.warm_up)?;
    let meter = Meter::start(server, control)?;
    send_for(plan.time)?;
    meter.stop()
}

/// A publisher and the subscriber that gets its messages; the same connection if they talk to themselves.
struct Pair {
    publisher: TcpStream,
    subscriber: Option<TcpStream>,
    topic: u64,
    /// Bytes received of a frame that is not complete.
    partial: usize,
}

impl Pair {
    fn new(server: &Child, topic: u64, itself: bool) -> io::Result<Pair> {
        let mut publisher = connect(server.address, 0)?;
        let mut subscriber = if itself { None } else { Some(connect(server.address, 0)?) };
        ask(subscriber.as_mut().unwrap_or(&mut publisher), topic | SUBSCRIBE)?;
        Ok(Pair { publisher, subscriber, topic, partial: 0 })
    }

    fn reader(&mut self) -> &mut TcpStream {
        self.subscriber.as_mut().unwrap_or(&mut self.publisher)
    }

    /// Sends as many messages as have arrived, in one write. The window keeps them within the socket's buffer.
    fn answer(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let received = self.partial + self.reader().read(buffer)?;
        self.partial = received % FRAME_BYTES;
        self.publish(received / FRAME_BYTES, buffer)
    }

    fn publish(&mut self, count: usize, buffer: &mut [u8]) -> io::Result<()> {
        let message = frame(self.topic, 0);
        let out = &mut buffer[..count * FRAME_BYTES];
        out.chunks_exact_mut(FRAME_BYTES).for_each(|slot| slot.copy_from_slice(&message));
        self.publisher.write_all(out)
    }
}

fn windowed(plan: &Plan, server: &Child, pairs: usize, window: usize, itself: bool) -> io::Result<Outcome> {
    let control = connect(server.address, 0)?;
    let mut pairs = (0..pairs).map(|topic| Pair::new(server, topic as u64, itself)).collect::<io::Result<Vec<Pair>>>()?;
    let epoll = Epoll::new()?;
    let mut buffer = vec![0; 64 * 1_024];
    for (index, pair) in pairs.iter_mut().enumerate() {
        epoll.add(pair.reader(), index as u64)?;
        pair.publish(window, &mut buffer)?;
    }
    let mut ready = Vec::with_capacity(pairs.len());
    let mut answer_for = |time: Duration| -> io::Result<()> {
        let start = Instant::now();
        while start.elapsed() < time {
            epoll.wait(&mut ready)?;
            for event in &ready {
                pairs[event.u64 as usize].answer(&mut buffer)?;
            }
        }
        Ok(())
    };
    answer_for(plan.warm_up)?;
    let meter = Meter::start(server, control)?;
    answer_for(plan.time)?;
    meter.stop()
}

struct Epoll(std::os::fd::OwnedFd);

impl Epoll {
    fn new() -> io::Result<Epoll> {
        // SAFETY: takes a number.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, no other owner.
        Ok(Epoll(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }))
    }

    fn add(&self, socket: &TcpStream, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: both descriptors are open, the event is alive during the call.
        let failed = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Replaces `ready` by what is ready, at most its capacity.
    fn wait(&self, ready: &mut Vec<libc::epoll_event>) -> io::Result<()> {
        const STUCK_MS: i32 = 5_000;
        ready.clear();
        // SAFETY: the kernel writes at most `capacity` entries.
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), ready.as_mut_ptr(), ready.capacity() as i32, STUCK_MS) };
        if count <= 0 {
            return Err(io::Error::other("the server has not forwarded anything for five seconds"));
        }
        // SAFETY: the kernel has written that many entries.
        unsafe { ready.set_len(count as usize) };
        Ok(())
    }
}
