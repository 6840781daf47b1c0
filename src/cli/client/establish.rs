//! The beginning of a connection: finding the broker, CONNECT, and what CONNACK grants.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::{ClientError, ConnectOptions};
use crate::mqtt::{Connack, Connect, TopicName, Version, Will, encode};

/// For each address that the name of the broker stands for, and again for CONNACK.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest packet that MQTT can express, fixed header included.
pub(super) const LARGEST_PACKET_BYTES: u32 = 268_435_460;

/// A non-blocking socket, connected to the first address of the host that answers.
pub(super) fn connect_socket(options: &ConnectOptions) -> Result<Socket, ClientError> {
    let host = options.host.as_str();
    let name_error = |error: String| ClientError::Unreachable(format!("cannot find the host '{host}': {error}; check -h or the name"));
    let addresses: Vec<_> = (host, options.port).to_socket_addrs().map_err(|error| name_error(error.to_string()))?.collect();
    let mut last = name_error("it has no address".to_owned());
    for address in addresses {
        match connect_to(address, options) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = ClientError::Unreachable(unreachable(address, &error)),
        }
    }
    Err(last)
}

fn connect_to(address: SocketAddr, options: &ConnectOptions) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(local) = options.bind {
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    socket.connect_timeout(&address.into(), CONNECT_TIMEOUT)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn unreachable(address: SocketAddr, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            format!("connection refused by {address}: is a broker running there? start one with `ringmq`")
        }
        std::io::ErrorKind::TimedOut => {
            format!("no answer from {address} within {} s: a wrong address, or a firewall in between?", CONNECT_TIMEOUT.as_secs())
        }
        _ => format!("cannot connect to {address}: {error}"),
    }
}

/// Appends the CONNECT that `options` ask for.
pub(super) fn encode_connect(out: &mut Vec<u8>, options: &ConnectOptions) -> Result<(), ClientError> {
    let (mut scratch, mut will_scratch) = (Vec::new(), Vec::new());
    let will = match &options.will {
        Some(will) => {
            TopicName::new(&will.topic).map_err(|error| ClientError::Invalid(format!("invalid will topic '{}': {error}", will.topic)))?;
            let properties = will.properties.view(&mut will_scratch)?;
            Some(Will { topic: &will.topic, payload: &will.payload, qos: will.qos, retain: will.retain, properties })
        }
        None => None,
    };
    let connect = Connect {
        version: options.version,
        clean_start: options.clean_start,
        keep_alive: options.keep_alive_s,
        client_id: &options.client_id,
        will,
        user_name: options.user_name.as_deref(),
        password: options.password.as_deref(),
        properties: options.properties.view(&mut scratch)?,
    };
    encode::connect(out, &connect);
    Ok(())
}

/// What CONNACK allows: the smaller of what we asked for and what the broker grants.
pub(super) struct Granted {
    pub session_present: bool,
    pub client_id: Option<String>,
    pub keep_alive: Option<Duration>,
    pub max_inflight: u16,
    pub max_packet_bytes: u32,
}

impl Granted {
    /// # Errors
    /// A code other than success.
    pub(super) fn new(connack: &Connack<'_>, options: &ConnectOptions) -> Result<Granted, ClientError> {
        let properties = &connack.properties;
        if connack.code != 0 {
            let reason_string = properties.reason_string.map(str::to_owned);
            return Err(ClientError::Refused { code: connack.code, version: options.version, reason_string });
        }
        // A server keep-alive replaces ours. [MQTT-3.1.2-21] [MQTT-3.2.2-21]
        let keep_alive_s = properties.server_keep_alive.unwrap_or(options.keep_alive_s);
        Ok(Granted {
            session_present: connack.session_present,
            client_id: properties.assigned_client_id.map(str::to_owned),
            keep_alive: (keep_alive_s > 0).then(|| Duration::from_secs(keep_alive_s.into())),
            // [MQTT-3.3.4-7] for our direction: never more on the way than the broker's Receive Maximum.
            max_inflight: options.max_inflight.min(properties.receive_maximum.unwrap_or(u16::MAX)).max(1),
            max_packet_bytes: properties.maximum_packet_size.unwrap_or(LARGEST_PACKET_BYTES),
        })
    }
}

/// The version in which a packet that answers CONNECT is written: a broker that does not know 5.0 refuses in the two bytes of 3.1.1.
pub(super) fn version_of_connack(asked: Version, body: &[u8]) -> Version {
    if asked.is_v5() && body.len() == 2 { Version::V311 } else { asked }
}
