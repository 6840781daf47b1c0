//! The network side of a client: one non-blocking socket, two buffers, and poll(2) to wait for either direction, a deadline or another
//! descriptor at once.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use super::establish::{CONNECT_TIMEOUT, Granted, LARGEST_PACKET_BYTES, connect_socket, encode_connect, version_of_connack};
use super::session::{Session, Waiting};
use super::{ClientError, ConnectOptions, Event, Message, OwnedProperties, trace};
use crate::mqtt::{DecodeError, Packet, PacketType, PublishOut, QoS, ReasonCode, SubscribeEntry, SubscribeOptions, TopicFilter, TopicName};
use crate::mqtt::{Version, decode, encode, peek};

/// For the broker to take the last bytes and to close its side.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Unsent bytes beyond which [`Connection::publish`] waits for the network.
const OUTGOING_BYTES: usize = 1024 * 1024;

/// A connection to a broker, from CONNACK to DISCONNECT. Dropping it without [`Connection::disconnect`] makes the broker publish the will.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    session: Session,
    version: Version,
    client_id: String,
    session_present: bool,
    incoming: Vec<u8>,
    /// Bytes at the start of `incoming` that have been handled.
    handled: usize,
    outgoing: Vec<u8>,
    /// Bytes at the start of `outgoing` that the kernel has taken.
    sent: usize,
    keep_alive: Option<Duration>,
    last_sent: Instant,
    /// Since when a PINGREQ waits for its answer.
    pinged: Option<Instant>,
    max_inflight: u16,
    max_packet_bytes: u32,
    trace: bool,
}

impl Connection {
    /// Connects, and waits for CONNACK.
    ///
    /// # Errors
    /// Whatever keeps a connection from being made; nothing is retried.
    pub fn open(options: &ConnectOptions) -> Result<Connection, ClientError> {
        Connection::establish(options, Session::new(options.version))
    }

    /// Connects anew after a loss, with what the session remembers of QoS 2 messages half received.
    ///
    /// # Errors
    /// As [`Connection::open`]; the session is lost then.
    pub fn reopen(self, options: &ConnectOptions) -> Result<Connection, ClientError> {
        Connection::establish(options, self.session)
    }

    fn establish(options: &ConnectOptions, session: Session) -> Result<Connection, ClientError> {
        let socket = connect_socket(options)?;
        let now = Instant::now();
        let mut connection = Connection {
            socket,
            session,
            version: options.version,
            client_id: options.client_id.clone(),
            session_present: false,
            incoming: Vec::new(),
            handled: 0,
            outgoing: Vec::new(),
            sent: 0,
            keep_alive: None,
            last_sent: now,
            pinged: None,
            max_inflight: options.max_inflight,
            max_packet_bytes: LARGEST_PACKET_BYTES,
            trace: options.trace,
        };
        encode_connect(&mut connection.outgoing, options)?;
        connection.trace(|| "sending CONNECT".to_owned());
        connection.await_connack(now + CONNECT_TIMEOUT, options)?;
        Ok(connection)
    }

    fn await_connack(&mut self, deadline: Instant, options: &ConnectOptions) -> Result<(), ClientError> {
        let (first, range) = loop {
            if let Some(packet) = self.packet()? {
                break packet;
            }
            if Instant::now() >= deadline {
                return Err(ClientError::Lost(format!("no CONNACK within {} s; is it an MQTT broker?", CONNECT_TIMEOUT.as_secs())));
            }
            self.turn(Some(deadline), None)?;
        };
        let body = &self.incoming[range];
        let Packet::Connack(connack) = decode(version_of_connack(self.version, body), first, body)? else {
            return Err(DecodeError::protocol("the first packet was no CONNACK").into());
        };
        let granted = Granted::new(&connack, options)?;
        self.accept(granted);
        Ok(())
    }

    fn accept(&mut self, granted: Granted) {
        self.trace(|| "received CONNACK (0)".to_owned());
        self.session.reconnected(granted.session_present);
        self.session_present = granted.session_present;
        self.keep_alive = granted.keep_alive;
        self.max_inflight = granted.max_inflight;
        self.max_packet_bytes = granted.max_packet_bytes;
        if let Some(id) = granted.client_id {
            self.client_id = id;
        }
    }

    /// The client identifier, which the broker may have chosen (5.0).
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Whether the broker still knew the session.
    pub fn session_present(&self) -> bool {
        self.session_present
    }

    /// QoS 1 and 2 messages on the way to the broker.
    pub fn in_flight(&self) -> u16 {
        self.session.in_flight()
    }

    /// Whether another QoS 1 or 2 message may be sent before one of those on the way is acknowledged.
    pub fn has_room(&self) -> bool {
        self.session.in_flight() < self.max_inflight
    }

    /// Whether more has arrived that [`Connection::next`] can report without waiting.
    pub fn has_more(&self) -> bool {
        peek(&self.incoming[self.handled..], LARGEST_PACKET_BYTES)
            .is_ok_and(|header| header.is_some_and(|header| self.incoming.len() - self.handled >= header.total_len()))
    }

    /// Sends a message; gives its packet identifier, 0 at QoS 0. Waits where the network does not keep up.
    ///
    /// # Errors
    /// A topic that is none, a message larger than the broker takes, or the end of the connection.
    pub fn publish(&mut self, message: &Message) -> Result<u16, ClientError> {
        let topic_alias = message.properties.topic_alias.unwrap_or(0);
        if !(message.topic.is_empty() && topic_alias != 0 && self.version.is_v5()) {
            TopicName::new(&message.topic).map_err(|error| ClientError::Invalid(format!("invalid topic '{}': {error}", message.topic)))?;
        }
        let block = if self.version.is_v5() { publish_properties(&message.properties)? } else { Vec::new() };
        let (qos, retain) = (message.qos, message.retain);
        let mut publish = PublishOut { qos, retain, forward: &block, ..PublishOut::new(&message.topic, &message.payload) };
        let bytes = encode::publish_len(self.version, &publish);
        if bytes > self.max_packet_bytes as usize {
            return Err(ClientError::Invalid(format!(
                "the message makes a packet of {bytes} bytes, the broker takes {}",
                self.max_packet_bytes
            )));
        }
        while self.outgoing.len() - self.sent >= OUTGOING_BYTES {
            self.turn(None, None)?;
        }
        publish.packet_id = match message.qos {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => self.session.reserve(Waiting::Puback)?,
            QoS::ExactlyOnce => self.session.reserve(Waiting::Pubrec)?,
        };
        encode::publish(&mut self.outgoing, self.version, &publish);
        let head = trace::Publish { dup: false, qos, retain, packet_id: publish.packet_id };
        self.trace(|| head.line("sending", &message.topic, message.payload.len()));
        Ok(publish.packet_id)
    }

    /// Asks for messages; gives the packet identifier that [`Event::Subscribed`] will name.
    ///
    /// # Errors
    /// A filter that is none.
    pub fn subscribe(&mut self, filters: &[(&str, SubscribeOptions)], properties: &OwnedProperties) -> Result<u16, ClientError> {
        for (filter, _) in filters {
            check_filter(filter)?;
        }
        let entries: Vec<_> = filters.iter().map(|&(filter, options)| SubscribeEntry { filter, options }).collect();
        let mut scratch = Vec::new();
        let properties = properties.view(&mut scratch)?;
        let packet_id = self.session.reserve(Waiting::Suback)?;
        encode::subscribe(&mut self.outgoing, self.version, packet_id, &entries, &properties);
        for (filter, options) in filters {
            self.trace(|| format!("sending SUBSCRIBE (Mid: {packet_id}, Topic: {filter}, QoS: {})", options.qos as u8));
        }
        Ok(packet_id)
    }

    /// Ends subscriptions; gives the packet identifier that [`Event::Unsubscribed`] will name.
    ///
    /// # Errors
    /// A filter that is none.
    pub fn unsubscribe(&mut self, filters: &[&str], properties: &OwnedProperties) -> Result<u16, ClientError> {
        for filter in filters {
            check_filter(filter)?;
        }
        let mut scratch = Vec::new();
        let properties = properties.view(&mut scratch)?;
        let packet_id = self.session.reserve(Waiting::Unsuback)?;
        encode::unsubscribe(&mut self.outgoing, self.version, packet_id, filters.iter().copied(), &properties);
        self.trace(|| format!("sending UNSUBSCRIBE (Mid: {packet_id}, Topics: {})", filters.join(" ")));
        Ok(packet_id)
    }

    /// Waits for the next event, until `deadline` if there is one, and keeps the connection alive meanwhile.
    ///
    /// # Errors
    /// The end of the connection, in whatever way.
    pub fn next(&mut self, deadline: Option<Instant>) -> Result<Event, ClientError> {
        self.next_or_input(deadline, None)
    }

    /// As [`Connection::next`], and gives [`Event::InputReady`] when `input` can be read from.
    ///
    /// # Errors
    /// As [`Connection::next`].
    pub fn next_or_input(&mut self, deadline: Option<Instant>, input: Option<BorrowedFd<'_>>) -> Result<Event, ClientError> {
        loop {
            if let Some((first, range)) = self.packet()? {
                self.pinged = None;
                let event = self.session.receive(first, &self.incoming[range], &mut self.outgoing)?;
                if let Some(event) = event {
                    self.trace(|| trace::event(&event).unwrap_or_default());
                    return Ok(event);
                }
                continue;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Event::TimedOut);
            }
            self.stay_alive()?;
            if self.turn(self.wake_up_time(deadline), input)? {
                return Ok(Event::InputReady);
            }
        }
    }

    /// Sends what is waiting, then DISCONNECT, and waits until the broker has taken it, so that no will is published.
    ///
    /// # Errors
    /// If the broker did not take everything in time.
    pub fn disconnect(mut self, properties: &OwnedProperties) -> Result<(), ClientError> {
        let mut scratch = Vec::new();
        let properties = properties.view(&mut scratch)?;
        encode::disconnect(&mut self.outgoing, self.version, ReasonCode::SUCCESS, &properties);
        self.trace(|| "sending DISCONNECT".to_owned());
        let deadline = Instant::now() + DISCONNECT_TIMEOUT;
        while !self.outgoing.is_empty() {
            if Instant::now() >= deadline {
                return Err(ClientError::Lost("the broker does not read".to_owned()));
            }
            self.turn(Some(deadline), None)?;
            self.incoming.clear();
            self.handled = 0;
        }
        // Closing with unread input would reset the connection and could take our last packets with it: read until the broker closes.
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
        while Instant::now() < deadline && self.turn(Some(deadline), None).is_ok() {
            self.incoming.clear();
        }
        Ok(())
    }

    /// The first byte and the place of the body of the next complete packet.
    fn packet(&mut self) -> Result<Option<(u8, std::ops::Range<usize>)>, ClientError> {
        let rest = &self.incoming[self.handled..];
        match peek(rest, LARGEST_PACKET_BYTES)? {
            Some(header) if rest.len() >= header.total_len() => {
                let start = self.handled;
                self.handled += header.total_len();
                Ok(Some((header.first, start + usize::from(header.header_len)..self.handled)))
            }
            _ => {
                self.incoming.drain(..self.handled);
                self.handled = 0;
                Ok(None)
            }
        }
    }

    fn stay_alive(&mut self) -> Result<(), ClientError> {
        let Some(keep_alive) = self.keep_alive else { return Ok(()) };
        if self.pinged.is_some_and(|since| since.elapsed() >= keep_alive) {
            return Err(ClientError::Lost(format!("the broker did not answer for {} s", keep_alive.as_secs())));
        }
        if self.pinged.is_none() && self.last_sent.elapsed() >= keep_alive {
            encode::pingreq(&mut self.outgoing);
            self.pinged = Some(Instant::now());
            self.trace(|| "sending PINGREQ".to_owned());
        }
        Ok(())
    }

    fn wake_up_time(&self, deadline: Option<Instant>) -> Option<Instant> {
        let alive = self.keep_alive.map(|keep_alive| self.pinged.unwrap_or(self.last_sent) + keep_alive);
        [deadline, alive].into_iter().flatten().min()
    }

    /// Waits once, moves bytes both ways, and says whether `input` can be read from.
    fn turn(&mut self, until: Option<Instant>, input: Option<BorrowedFd<'_>>) -> Result<bool, ClientError> {
        let interest = if self.outgoing.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let socket = self.socket.as_fd();
        let mut fds = [PollFd::from_borrowed_fd(socket, interest), PollFd::from_borrowed_fd(input.unwrap_or(socket), PollFlags::IN)];
        let fds = if input.is_some() { &mut fds[..] } else { &mut fds[..1] };
        let timeout = until.map(|until| timespec(until.saturating_duration_since(Instant::now())));
        match poll(fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(ClientError::Lost(error.to_string())),
        }
        let (network, ready) = (fds[0].revents(), fds.get(1).is_some_and(|input| !input.revents().is_empty()));
        if network.contains(PollFlags::OUT) {
            self.send()?;
        }
        if network.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.fill()?;
        }
        Ok(ready)
    }

    fn send(&mut self) -> Result<(), ClientError> {
        match (&self.socket).write(&self.outgoing[self.sent..]) {
            Ok(sent) => {
                self.sent += sent;
                if self.sent == self.outgoing.len() {
                    self.outgoing.clear();
                    self.sent = 0;
                }
                self.last_sent = Instant::now();
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(ClientError::Lost(error.to_string())),
        }
    }

    fn fill(&mut self) -> Result<(), ClientError> {
        let mut buffer = [0; 64 * 1024];
        match (&self.socket).read(&mut buffer) {
            Ok(0) => Err(ClientError::Lost("the broker closed it".to_owned())),
            Ok(length) => {
                self.incoming.extend_from_slice(&buffer[..length]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(ClientError::Lost(error.to_string())),
        }
    }

    fn trace(&self, line: impl FnOnce() -> String) {
        if self.trace {
            let id = if self.client_id.is_empty() { "(null)" } else { &self.client_id };
            eprintln!("Client {id} {}", line());
        }
    }
}

fn check_filter(filter: &str) -> Result<(), ClientError> {
    match crate::mqtt::SharedFilter::parse(filter) {
        Some(shared) => shared.map(drop),
        None => TopicFilter::new(filter).map(drop),
    }
    .map_err(|error| ClientError::Invalid(format!("invalid topic filter '{filter}': {error}")))
}

/// The properties of a PUBLISH without their length, as the encoder takes them.
fn publish_properties(properties: &OwnedProperties) -> Result<Vec<u8>, ClientError> {
    let (mut scratch, mut block) = (Vec::new(), Vec::new());
    properties.view(&mut scratch)?.encode(PacketType::Publish, &mut block);
    // The length is a variable byte integer: up to its first byte below 0x80.
    let length_bytes = 1 + block.iter().take_while(|byte| **byte >= 0x80).count();
    block.drain(..length_bytes.min(block.len()));
    Ok(block)
}

fn timespec(duration: Duration) -> Timespec {
    // Rounded up by a microsecond, so that the deadline has passed when the wait ends.
    let duration = duration.min(Duration::from_secs(86_400)) + Duration::from_micros(1);
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

#[cfg(test)]
mod tests;
