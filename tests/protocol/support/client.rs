//! A client that sends and expects bytes.
//!
//! Nothing waits for a fixed time: what is to come is waited for, and "nothing comes" is proven by a PINGREQ whose PINGRESP is the next packet.
//! (The broker answers a client in order; what other clients caused must have been acknowledged to them before.)

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::packets::{self, Connack, Connect, PINGREQ, PINGRESP, Publish};
use super::{V311, Version};

/// How long the tests wait for what must come: long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A client.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// Received and not looked at yet.
    unread: Vec<u8>,
    pub version: Version,
    /// What the last CONNACK said.
    pub connack: Connack,
    next_id: u16,
}

impl Client {
    pub fn open(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the broker accepts connections");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
        Client { stream, unread: Vec::new(), version: V311, connack: Connack::default(), next_id: 0 }
    }

    /// Sends bytes; that they all find their way is not expected of a connection which the broker may have closed.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            assert!(is_closed(error.kind()), "cannot send: {error}");
        }
    }

    /// CONNECT, and a CONNACK that accepts it.
    pub fn connect(&mut self, connect: &Connect) {
        self.send(&connect.bytes());
        self.expect_connack(connect.version);
        assert_eq!(self.connack.code, 0, "refused: {connect:?}");
    }

    /// The CONNACK, whatever it says.
    pub fn expect_connack(&mut self, version: Version) {
        self.version = version;
        let packet = self.packet();
        self.connack = Connack::parse(version, &packet);
    }

    /// Reads what has come; false at the end of the stream.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) if is_closed(error.kind()) => false,
            Err(error) => panic!("nothing comes ({error}); not looked at: {:02x?}", self.unread),
        }
    }

    /// These bytes and no others come next.
    #[track_caller]
    pub fn expect(&mut self, bytes: &[u8]) {
        while self.unread.len() < bytes.len() && bytes.starts_with(&self.unread) {
            if !self.fill() {
                panic!("closed; expected {bytes:02x?}, found {:02x?}", self.unread);
            }
        }
        let found = &self.unread[..bytes.len().min(self.unread.len())];
        assert!(found == bytes, "expected {bytes:02x?}, found {:02x?}", &self.unread[..self.unread.len().min(64)]);
        self.unread.drain(..bytes.len());
    }

    /// The next packet; `None` when the connection is closed instead.
    #[track_caller]
    pub fn packet_or_close(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some((length, length_bytes)) = self.unread.get(1..).and_then(packets::read_var_int) {
                let total = 1 + length_bytes + length;
                if self.unread.len() >= total {
                    return Some(self.unread.drain(..total).collect());
                }
            }
            if !self.fill() {
                assert!(self.unread.is_empty(), "closed in the middle of a packet: {:02x?}", self.unread);
                return None;
            }
        }
    }

    /// The next packet.
    #[track_caller]
    pub fn packet(&mut self) -> Vec<u8> {
        self.packet_or_close().expect("a packet, but the connection was closed")
    }

    /// This packet comes, next or behind others; those are not read by this.
    #[track_caller]
    pub fn expect_behind(&mut self, packet: &[u8]) {
        let mut before = Vec::new();
        loop {
            let next = self.packet();
            if next == packet {
                break;
            }
            before.extend(next);
        }
        before.append(&mut self.unread);
        self.unread = before;
    }

    /// The next packet, which is a PUBLISH.
    #[track_caller]
    pub fn publish(&mut self) -> Publish {
        let packet = self.packet();
        Publish::parse(self.version, &packet)
    }

    /// The next packet, a PUBLISH that is acknowledged at once by what its QoS asks for.
    #[track_caller]
    pub fn publish_acknowledged(&mut self) -> Publish {
        let publish = self.publish();
        match publish.qos {
            0 => {}
            1 => self.send(&packets::puback(publish.id)),
            _ => {
                self.send(&packets::pubrec(publish.id));
                self.expect_behind(&packets::pubrel(publish.id));
                self.send(&packets::pubcomp(publish.id));
            }
        }
        publish
    }

    /// The broker closes the connection, and has nothing to say before.
    #[track_caller]
    pub fn expect_close(&mut self) {
        if let Some(packet) = self.packet_or_close() {
            panic!("expected the connection to be closed, found {packet:02x?}");
        }
    }

    /// The broker says a DISCONNECT with this reason, if the version has it, and closes.
    #[track_caller]
    pub fn expect_disconnect(&mut self, reason: u8) {
        if self.version.is_v5() {
            let packet = self.packet();
            assert!(packet[0] == 0xE0 && packet.get(2) == Some(&reason), "expected DISCONNECT {reason:#04x}, found {packet:02x?}");
        }
        self.expect_close();
    }

    /// Whatever the broker says, it closes in the end. Gives what it said.
    pub fn drain_to_close(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.packet_or_close()).collect()
    }

    /// Nothing waits for this client: the answer to a PINGREQ is what comes next.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        self.send(&PINGREQ);
        self.expect(&PINGRESP);
    }

    /// A packet identifier that was not used before.
    pub fn packet_id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// Subscribes, and is granted the QoS that the options ask for.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, options: u8) {
        self.subscribe_with(&[], filter, options);
    }

    /// The same with properties.
    #[track_caller]
    pub fn subscribe_with(&mut self, properties: &[u8], filter: &str, options: u8) {
        let id = self.packet_id();
        self.send(&packets::subscribe(self.version, id, properties, &[(filter, options)]));
        self.expect(&packets::suback(self.version, id, &[options & 3]));
    }

    /// Takes a subscription back that was there.
    #[track_caller]
    pub fn unsubscribe(&mut self, filter: &str) {
        let id = self.packet_id();
        self.send(&packets::unsubscribe(self.version, id, &[filter]));
        self.expect(&packets::unsuback(self.version, id, &[0]));
    }

    /// Publishes and waits until the broker has put the message in its place everywhere: at QoS 1 and 2 that is the acknowledgement.
    #[track_caller]
    pub fn publish_to(&mut self, topic: &str, payload: &str, qos: u8) {
        let id = if qos > 0 { self.packet_id() } else { 0 };
        self.send_publish(&Publish::new(self.version, topic, payload).qos(qos, id));
    }

    /// The same with a retained message.
    #[track_caller]
    pub fn retain(&mut self, topic: &str, payload: &str) {
        let id = self.packet_id();
        self.send_publish(&Publish::new(self.version, topic, payload).qos(1, id).retain());
    }

    /// Sends a PUBLISH and takes the acknowledgements of its QoS; with or without a subscriber.
    #[track_caller]
    pub fn send_publish(&mut self, publish: &Publish) {
        self.send(&publish.bytes());
        if publish.qos == 0 {
            return;
        }
        let answer = self.packet();
        let first = if publish.qos == 1 { 0x40 } else { 0x50 };
        let accepted = answer[0] == first && answer[2..4] == publish.id.to_be_bytes() && matches!(answer.get(4), None | Some(0x10));
        assert!(accepted, "{publish:?} was answered with {answer:02x?}");
        if publish.qos == 2 {
            self.send(&packets::pubrel(publish.id));
            self.expect(&packets::pubcomp(publish.id));
        }
    }

    /// Closes the socket without a DISCONNECT, and waits until the broker knows.
    pub fn vanish(mut self) {
        self.shut_down_write();
        self.drain_to_close();
    }

    /// DISCONNECT with reason 0x00; the broker closes in answer.
    #[track_caller]
    pub fn disconnect(mut self) {
        self.send(&packets::DISCONNECT);
        self.expect_close();
    }

    /// Sends no more, but can still read.
    pub fn shut_down_write(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is there");
    }

    /// The same, while these bytes are sent, three a second.
    pub fn time_to_close_while_sending(&mut self, bytes: &[u8], since: Instant) -> Duration {
        self.stream.set_read_timeout(Some(Duration::from_millis(333))).expect("a read timeout");
        for byte in bytes {
            self.send(&[*byte]);
            match self.stream.read(&mut [0; 64]) {
                Ok(0) => break,
                Err(error) if is_closed(error.kind()) => break,
                _ => {}
            }
        }
        since.elapsed()
    }

    /// How long it takes until the connection is closed by the broker; what comes before is passed over.
    pub fn time_to_close(&mut self, since: Instant) -> Duration {
        self.drain_to_close();
        since.elapsed()
    }
}

fn is_closed(error: ErrorKind) -> bool {
    matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}
