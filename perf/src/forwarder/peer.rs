//! A connection of the forwarder.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

pub struct Peer {
    stream: TcpStream,
    partial: Vec<u8>,
    pub out: Vec<u8>,
    /// In the list of those that this turn has something for.
    pub dirty: bool,
    waits_for_room: bool,
    closed: bool,
    /// A delivery that lets the next one of the same publisher pass: where it came from, and its packet.
    pub held: Option<(usize, Vec<u8>)>,
}

impl Peer {
    pub fn new(poll: &OwnedFd, key: u64, stream: TcpStream) -> io::Result<Peer> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        epoll::add(poll, &stream, EventData::new_u64(key), EventFlags::IN)?;
        Ok(Peer { stream, partial: Vec::new(), out: Vec::new(), dirty: false, waits_for_room: false, closed: false, held: None })
    }

    /// Reads behind what had been kept and gives the length of both.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let kept = self.partial.len();
        let count = match self.stream.read(&mut buffer[kept..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        buffer[..kept].copy_from_slice(&self.partial);
        self.partial.clear();
        Ok(kept + count)
    }

    pub fn keep(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
    }

    /// A delivery that nothing came to pass goes out in its place after all.
    pub fn release_held(&mut self) {
        if let Some((_, packet)) = self.held.take() {
            self.out.extend_from_slice(&packet);
        }
    }

    pub fn flush(&mut self, poll: &OwnedFd, key: u64) -> io::Result<()> {
        if self.closed {
            self.out.clear();
        }
        if !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let waits = !self.out.is_empty();
        if waits != self.waits_for_room {
            let flags = if waits { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(poll, &self.stream, EventData::new_u64(key), flags)?;
            self.waits_for_room = waits;
        }
        Ok(())
    }

    pub fn close(&mut self, poll: &OwnedFd) {
        self.closed = true;
        // Fails only if the socket is not registered any more.
        let _ = epoll::delete(poll, &self.stream);
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}
