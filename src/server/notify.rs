//! Tells systemd how the broker is: one datagram a change to the socket in `NOTIFY_SOCKET`, as sd_notify(3) describes.
//!
//! Without that variable every call does nothing, and an error is never more than a log line: the broker runs with or without systemd.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// What the environment of this process says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub fn from_env() -> Notifier {
        let var = |name| std::env::var_os(name);
        let Some(address) = var("NOTIFY_SOCKET") else { return Notifier::default() };
        let number = |name| var(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
        let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| *usec > 0 && for_us).map(Duration::from_micros);
        match Notifier::to(&address, watchdog) {
            Ok(notifier) => notifier,
            Err(error) => {
                tracing::warn!("cannot reach the service manager at {address:?}: {error}");
                Notifier::default()
            }
        }
    }

    /// A notifier that sends to `address`: a path, or an abstract name behind a leading `@`.
    ///
    /// # Errors
    /// An address of another kind, or a socket that cannot be made or reached.
    pub fn to(address: &OsStr, watchdog: Option<Duration>) -> io::Result<Notifier> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract socket")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Notifier { socket: Some(socket), watchdog })
    }

    /// The listeners are open; also ends a reload. `status` is a line for `systemctl status`.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// A reload begins; [`Notifier::ready`] ends it, whether or not it succeeded.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1_000));
    }

    /// A new line for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    /// The broker shuts down.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// How often [`Notifier::alive`] must be called: half the time after which systemd would kill the process.
    pub fn alive_interval(&self) -> Option<Duration> {
        self.watchdog.map(|timeout| timeout / 2)
    }

    /// The broker still turns.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(message.as_bytes())
        {
            tracing::debug!("the service manager does not listen: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_change_is_one_datagram_to_an_abstract_socket() {
        let name = format!("ringmq-notify-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let notifier = Notifier::to(OsStr::new(&format!("@{name}")), Some(Duration::from_secs(30))).unwrap();
        notifier.ready("2 shards");
        assert_eq!(received(&manager), "READY=1\nSTATUS=2 shards");
        notifier.reloading();
        let reloading = received(&manager);
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse::<u64>().unwrap();
        assert!(usec > 0);
        notifier.alive();
        assert_eq!(received(&manager), "WATCHDOG=1");
        notifier.status("busy");
        assert_eq!(received(&manager), "STATUS=busy");
        notifier.stopping();
        assert_eq!(received(&manager), "STOPPING=1");
        assert_eq!(notifier.alive_interval(), Some(Duration::from_secs(15)));
    }

    #[test]
    fn a_path_works_too() {
        let path = std::env::temp_dir().join(format!("ringmq-notify-{}.sock", std::process::id()));
        let manager = UnixDatagram::bind(&path).unwrap();
        Notifier::to(path.as_os_str(), None).unwrap().stopping();
        assert_eq!(received(&manager), "STOPPING=1");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn without_a_service_manager_nothing_happens() {
        let notifier = Notifier::default();
        notifier.ready("");
        notifier.alive();
        assert_eq!(notifier.alive_interval(), None);
        assert!(Notifier::to(OsStr::new("relative"), None).is_err());
        assert!(Notifier::to(OsStr::new("/does/not/exist"), None).is_err());
    }
}
