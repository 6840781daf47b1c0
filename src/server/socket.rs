//! Sockets of clients and listeners: options, binding, and errors that say what to do.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::broker::ShardId;
use crate::config::Listener;

/// What ENFILE means: to a shard with direct descriptors that its table is full, to one without that the system's is.
const NO_ROOM: &str = "no descriptor is left; run more shards, or raise io.direct_descriptors_per_shard and `ulimit -n`, or fs.file-max";

/// One listening socket per shard for each listener: the kernel spreads new connections over them. Gives the addresses that were bound (a port 0 is
/// replaced by the port that the system chose).
///
/// # Errors
/// A sentence that says which address cannot be had, why, and what to do.
pub fn listen(listeners: &[Listener], shards: u16) -> Result<(Vec<SocketAddr>, Vec<Vec<OwnedFd>>), String> {
    let mut addresses = Vec::new();
    let mut per_shard: Vec<Vec<OwnedFd>> = (0..shards).map(|_| Vec::new()).collect();
    for listener in listeners {
        let mut address = listener.address;
        if shards > 1 && address.port() != 0 {
            // Sockets that share a port do so with anybody's: only one that does not share finds out whether the port is taken.
            bind_in_time(address, false).map_err(|error| explain(&error, address))?;
        }
        for sockets in &mut per_shard {
            let socket = bind_in_time(address, shards > 1).map_err(|error| explain(&error, address))?;
            socket.listen(listener.backlog.min(i32::MAX as u32) as i32).map_err(|error| explain(&error, address))?;
            if let Some(bound) = socket.local_addr().ok().and_then(|bound| bound.as_socket()) {
                address = bound;
            }
            sockets.push(socket.into());
        }
        addresses.push(address);
    }
    Ok((addresses, per_shard))
}

/// How long a port may still be taken by an earlier run that was killed: the kernel ends an io_uring, and the sockets in it, after its process.
const LEFT_OVER: Duration = Duration::from_millis(1_500);

fn bind_in_time(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let deadline = Instant::now() + LEFT_OVER;
    loop {
        match bind(address, shared) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            outcome => return outcome,
        }
    }
}

/// TCP: bytes in order, and none lost [MQTT-4.2-1] [MQTT-7.1.1-1].
fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Output is gathered over a turn already; what is sent is to leave at once. Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` may then be listened on side by side.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn explain(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "cannot listen on {address}: the port is in use (another broker?); `ss -ltnp 'sport = :{port}'` shows by whom, `--listen {ip}:PORT` takes another",
            port = address.port(),
            ip = address.ip(),
        ),
        io::ErrorKind::PermissionDenied => format!(
            "cannot listen on {address}: ports below 1024 need the right to use them; take one above, or give the binary CAP_NET_BIND_SERVICE"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("cannot listen on {address}: no interface of this machine has that address; `ip address` lists them")
        }
        _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
            format!("cannot listen on {address}: too few file descriptors; raise `ulimit -n`, or LimitNOFILE in the service's unit")
        }
        _ => format!("cannot listen on {address}: {error}"),
    }
}

/// Between two lines about connections that are not accepted; it is tried again many times a second.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// Says why new connections are not accepted for the moment, unless that was said lately.
pub fn warn_accept_failed(listener: u32, error: &io::Error) {
    static SAID: Mutex<Option<Instant>> = Mutex::new(None);
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.is_some_and(|said| said.elapsed() < SAY_AGAIN) {
        return;
    }
    *said = Some(Instant::now());
    match error.raw_os_error() {
        Some(libc::EMFILE) => {
            tracing::warn!(
                listener,
                "new connections wait: no file descriptor is left; raise `ulimit -n`, or LimitNOFILE in the service's unit"
            );
        }
        Some(libc::ENFILE) => {
            tracing::warn!(listener, "new connections wait: {NO_ROOM}");
        }
        _ => tracing::warn!(listener, "new connections wait: {error}"),
    }
}

/// Says why a connection could not move to the shard of its session and was closed.
pub fn warn_move_failed(to: ShardId, error: &io::Error) {
    match error.raw_os_error() {
        Some(libc::ENFILE) => tracing::warn!("a connection is closed: shard {to}, where its session lives, is full; {NO_ROOM}", to = to.0),
        _ => tracing::warn!("a connection is closed: it cannot move to shard {to}: {error}", to = to.0),
    }
}

/// Raises the soft limit of file descriptors to the hard one; gives the limit that holds then.
pub fn raise_file_descriptors() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    let raised = rustix::process::Rlimit { current: Some(hard), maximum: Some(hard) };
    if soft < hard && rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).is_err() {
        return soft;
    }
    hard
}

/// Most file descriptors for which the process's table is made large enough at the start; 8 bytes of kernel memory each.
const TABLE_AT_START: u64 = 65_536;

/// Makes the process's table of file descriptors as large as it will have to be, up to a bound. Left to itself it doubles whenever it is full, and each time
/// whoever accepted that connection waits until every core has passed by (RCU): 5 to 20 ms were measured, in which a shard does nothing else.
pub fn enlarge_descriptor_table(file_descriptors: u64) {
    let last = file_descriptors.min(TABLE_AT_START).saturating_sub(1) as i32;
    // Without it all works as well, with the pauses.
    let _ = std::fs::File::open("/dev/null").map(|file| rustix::io::fcntl_dupfd_cloexec(&file, last).map(drop));
}
