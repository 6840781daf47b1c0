//! One connection of the generator: a non-blocking socket with the bytes that could not be read or written yet.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use socket2::{Domain, Socket, Type};

/// Connections that share a source address on loopback; beyond, the kernel's search for a free port costs more than the connection.
const PER_SOURCE: usize = 4_000;

/// Receive buffer of a slow subscriber's socket; the kernel makes at least twice as much of it.
const SLOW_RECEIVE_BYTES: usize = 4_096;

/// Written bytes that may stay in front of those that wait.
const KEEP_WRITTEN_BYTES: usize = 256 * 1024;

/// What a connection is for: a place among the publishers or subscribers of its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Publisher(usize),
    Subscriber(usize),
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Connecting,
    AwaitsConnack,
    AwaitsSuback,
    Ready,
    Closed,
}

pub struct Client {
    stream: TcpStream,
    pub role: Role,
    pub stage: Stage,
    /// When the stage began, in nanoseconds.
    pub since: u64,
    /// The start of a packet whose end has not come.
    partial: Vec<u8>,
    /// What the socket had no room for.
    out: Vec<u8>,
    /// Bytes of `out` that have been written.
    written: usize,
    waits_for_room: bool,
}

impl Client {
    /// Starts to connect; the `index` counts the connections of the process. Registers the socket under `key`. A `slow` one has room for little.
    pub fn open(poll: &OwnedFd, key: u64, address: SocketAddr, index: usize, role: Role, slow: bool, now: u64) -> io::Result<Client> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
        if address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) && index >= PER_SOURCE {
            let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + (index / PER_SOURCE) as u32);
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        socket.set_tcp_nodelay(true)?;
        if slow {
            socket.set_recv_buffer_size(SLOW_RECEIVE_BYTES)?;
        }
        // Leaves no TIME_WAIT behind for the next run.
        socket.set_linger(Some(Duration::ZERO))?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        epoll::add(poll, &socket, EventData::new_u64(key), EventFlags::IN | EventFlags::OUT)?;
        Ok(Client {
            stream: socket.into(),
            role,
            stage: Stage::Connecting,
            since: now,
            partial: Vec::new(),
            out: Vec::new(),
            written: 0,
            waits_for_room: true,
        })
    }

    /// Why the connection could not be made, if so.
    pub fn connect_error(&self) -> io::Result<()> {
        self.stream.take_error()?.map_or(Ok(()), Err)
    }

    /// Reads at most so many bytes into `buffer`, behind what had been kept, and gives the length of both; `None` if there was nothing.
    pub fn receive(&mut self, buffer: &mut [u8], most: usize) -> io::Result<Option<usize>> {
        let kept = self.partial.len();
        if buffer.len() <= kept {
            return Err(io::Error::other("a packet is larger than the receive buffer"));
        }
        let end = buffer.len().min(kept.saturating_add(most));
        let count = match self.stream.read(&mut buffer[kept..end]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        buffer[..kept].copy_from_slice(&self.partial);
        self.partial.clear();
        Ok(Some(kept + count))
    }

    /// Is not told any more that something has come; whoever wants to know must ask.
    pub fn ignore_input(&mut self, poll: &OwnedFd, key: u64) -> io::Result<()> {
        self.waits_for_room = false;
        Ok(epoll::modify(poll, &self.stream, EventData::new_u64(key), EventFlags::empty())?)
    }

    /// Keeps the start of a packet for the next read.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
    }

    /// Bytes that the socket has not taken.
    pub fn backlog(&self) -> usize {
        self.out.len() - self.written
    }

    /// Sends `bytes`, at once as far as the socket takes them.
    pub fn send(&mut self, poll: &OwnedFd, key: u64, bytes: &[u8]) -> io::Result<()> {
        if self.backlog() > 0 {
            self.out.extend_from_slice(bytes);
            return Ok(());
        }
        let count = write_some(&mut self.stream, bytes)?;
        self.out.extend_from_slice(&bytes[count..]);
        self.watch_room(poll, key)
    }

    /// The socket has room: sends what waited for it.
    pub fn flush(&mut self, poll: &OwnedFd, key: u64) -> io::Result<()> {
        self.written += write_some(&mut self.stream, &self.out[self.written..])?;
        if self.backlog() == 0 {
            self.out.clear();
            self.written = 0;
        } else if self.written > KEEP_WRITTEN_BYTES {
            self.out.drain(..self.written);
            self.written = 0;
        }
        self.watch_room(poll, key)
    }

    fn watch_room(&mut self, poll: &OwnedFd, key: u64) -> io::Result<()> {
        let wanted = self.backlog() > 0;
        if wanted != self.waits_for_room {
            let flags = if wanted { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(poll, &self.stream, EventData::new_u64(key), flags)?;
            self.waits_for_room = wanted;
        }
        Ok(())
    }

    /// No more events of this connection.
    pub fn close(&mut self, poll: &OwnedFd) {
        self.stage = Stage::Closed;
        // Fails only if the socket is no longer registered, which is what is wanted.
        let _ = epoll::delete(poll, &self.stream);
    }
}

fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match stream.write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}
