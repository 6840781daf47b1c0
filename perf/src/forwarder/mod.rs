//! A bare forwarder that speaks just enough MQTT 3.1.1 for the load generator: no session, no retained message, deliveries at QoS 0.
//!
//! Two uses. It shows what the generator can do at most and what one thread with epoll costs without a broker behind it. And told to
//! drop, double or swap deliveries it counts what it did, so that the generator's counts can be checked.

pub mod faults;
mod peer;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringmq::mqtt::topic::{TopicFilter, TopicName};
use ringmq::mqtt::{Packet, PacketType, Properties, PublishOut, QoS, ReasonCode, Version, decode, encode, peek};
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use self::faults::{Faults, Injected, Injector};
use self::peer::Peer;

#[derive(clap::Args)]
pub struct Arguments {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:1884")]
    listen: SocketAddr,
    #[command(flatten)]
    faults: Faults,
}

const LISTENER: u64 = u64::MAX;
const BUFFER_BYTES: usize = 1 << 20;
const MAX_PACKET_BYTES: u32 = 1 << 20;
/// How soon a forwarder that is told to stop does so.
const GLANCE: Duration = Duration::from_millis(20);

pub fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    crate::measure::raise_descriptor_limit()?;
    let listener = TcpListener::bind(arguments.listen)?;
    println!("forwarding on {}", listener.local_addr()?);
    Forwarder::new(listener, arguments.faults)?.serve(&AtomicBool::new(false))?;
    Ok(())
}

/// Who gets the messages to a topic name, resolved once: each of `subscribers`, and one of `members` in turn.
struct Route {
    subscribers: Vec<usize>,
    members: Vec<usize>,
}

pub struct Forwarder {
    poll: OwnedFd,
    listener: TcpListener,
    peers: Vec<Peer>,
    filters: Vec<(String, usize)>,
    routes: HashMap<String, Rc<Route>>,
    /// Messages that a member of a group has got; there is one group.
    shared: usize,
    /// Peers with output of this turn.
    dirty: Vec<usize>,
    injector: Injector,
}

impl Forwarder {
    pub fn new(listener: TcpListener, faults: Faults) -> io::Result<Forwarder> {
        listener.set_nonblocking(true)?;
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&poll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        Ok(Forwarder {
            poll,
            listener,
            peers: Vec::new(),
            filters: Vec::new(),
            routes: HashMap::new(),
            shared: 0,
            dirty: Vec::new(),
            injector: Injector::new(faults),
        })
    }

    /// Forwards until `stop`; gives what was done wrong on purpose.
    pub fn serve(mut self, stop: &AtomicBool) -> io::Result<Injected> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: GLANCE.subsec_nanos().into() };
        let mut events = Vec::with_capacity(1024);
        let mut buffer = vec![0; BUFFER_BYTES];
        while !stop.load(Ordering::Relaxed) {
            events.clear();
            match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    key => self.peer(key as usize, &mut buffer),
                }
            }
            self.flush();
        }
        Ok(self.injector.injected)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.peers.push(Peer::new(&self.poll, self.peers.len() as u64, stream)?),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once from a peer and does what it says; a peer that fails or talks nonsense is closed.
    fn peer(&mut self, key: usize, buffer: &mut [u8]) {
        let used = match self.peers[key].receive(buffer) {
            Ok(filled) => self.packets(key, &buffer[..filled]).map(|used| (used, filled)),
            Err(error) => Err(error),
        };
        match used {
            Ok((used, filled)) => self.peers[key].keep(&buffer[used..filled]),
            Err(_) => self.peers[key].close(&self.poll),
        }
        self.mark(key);
    }

    fn packets(&mut self, key: usize, bytes: &[u8]) -> io::Result<usize> {
        let mut at = 0;
        while let Some(header) = peek(&bytes[at..], MAX_PACKET_BYTES).map_err(io::Error::other)? {
            let Some(body) = bytes.get(at + usize::from(header.header_len)..at + header.total_len()) else { break };
            at += header.total_len();
            match header.packet_type() {
                PacketType::Connect => encode::connack(&mut self.peers[key].out, Version::V311, false, 0, &Properties::default()),
                _ => self.packet(key, &decode(Version::V311, header.first, body).map_err(io::Error::other)?),
            }
        }
        Ok(at)
    }

    fn packet(&mut self, key: usize, packet: &Packet<'_>) {
        let (version, nothing) = (Version::V311, Properties::default());
        let out = &mut self.peers[key].out;
        match packet {
            Packet::Publish(publish) => {
                match publish.qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => encode::ack(out, version, PacketType::Puback, publish.packet_id, ReasonCode::SUCCESS, &nothing),
                    QoS::ExactlyOnce => encode::ack(out, version, PacketType::Pubrec, publish.packet_id, ReasonCode::SUCCESS, &nothing),
                }
                self.forward(key, publish.topic, publish.payload);
            }
            Packet::Pubrel(ack) => encode::ack(out, version, PacketType::Pubcomp, ack.packet_id, ReasonCode::SUCCESS, &nothing),
            Packet::Pingreq => encode::pingresp(out),
            Packet::Subscribe(subscribe) => {
                let codes: Vec<u8> = subscribe.filters().map(|_| 0).collect();
                encode::suback(out, version, subscribe.packet_id, &codes, &nothing);
                self.filters.extend(subscribe.filters().map(|entry| (entry.filter.to_owned(), key)));
                self.routes.clear();
            }
            _ => {}
        }
    }

    fn forward(&mut self, from: usize, topic: &str, payload: &[u8]) {
        let route = match self.routes.get(topic) {
            Some(route) => Rc::clone(route),
            None => self.resolve(topic),
        };
        let message = PublishOut::new(topic, payload);
        self.shared += usize::from(!route.members.is_empty());
        let member = self.shared.checked_rem(route.members.len()).map(|place| &route.members[place]);
        for &key in route.subscribers.iter().chain(member) {
            self.injector.deliver(&mut self.peers[key], from, &message);
            self.mark(key);
        }
    }

    fn resolve(&mut self, topic: &str) -> Rc<Route> {
        let matches =
            |filter: &str| TopicName::new(topic).is_ok_and(|topic| TopicFilter::new(filter).is_ok_and(|filter| filter.matches(topic)));
        let mut route = Route { subscribers: Vec::new(), members: Vec::new() };
        for (filter, key) in &self.filters {
            // $share/NAME/FILTER
            match filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
                Some((_, shared)) => route.members.extend(matches(shared).then_some(*key)),
                None => route.subscribers.extend(matches(filter).then_some(*key)),
            }
        }
        let route = Rc::new(route);
        self.routes.insert(topic.to_owned(), Rc::clone(&route));
        route
    }

    fn mark(&mut self, key: usize) {
        if !std::mem::replace(&mut self.peers[key].dirty, true) {
            self.dirty.push(key);
        }
    }

    /// One write for each peer that this turn has something for.
    fn flush(&mut self) {
        while let Some(key) = self.dirty.pop() {
            let peer = &mut self.peers[key];
            peer.dirty = false;
            peer.release_held();
            if peer.flush(&self.poll, key as u64).is_err() {
                peer.close(&self.poll);
            }
        }
    }
}
