//! The settings as types. The field names are the keys of the file; `docs/CONFIG.md` explains each.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Auth, CpuList, Limits, Listener};

/// A complete, valid configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Number of shards, 1 to 128. None: one for each CPU in `cpus`, else for each CPU that the process may use.
    pub shards: Option<u16>,
    /// CPUs that the shards are pinned to, in turn. None: those that the process may use.
    pub cpus: Option<CpuList>,
    pub io: Io,
    pub limits: Limits,
    pub sys: Sys,
    pub storage: Storage,
    pub log: Log,
    pub auth: Auth,
    /// Where clients are sent instead of being let in. None: they are let in.
    pub redirect: Option<Redirect>,
    /// Where clients connect; at least one.
    pub listeners: Vec<Listener>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            shards: None,
            cpus: None,
            io: Io::default(),
            limits: Limits::default(),
            sys: Sys::default(),
            storage: Storage::default(),
            log: Log::default(),
            auth: Auth::default(),
            redirect: None,
            listeners: vec![Listener::on(SocketAddr::new(LOOPBACK, 1883))],
        }
    }
}

impl Config {
    /// The number of shards to run where the process may use `usable_cpus` CPUs.
    pub fn shard_count(&self, usable_cpus: usize) -> u16 {
        let cpus = self.cpus.as_ref().map_or(usable_cpus, |list| list.cpus().len());
        self.shards.unwrap_or(cpus.clamp(1, usize::from(super::check::MAX_SHARDS)) as u16)
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Reads `ADDRESS:PORT`, or `PORT` alone for that port on 127.0.0.1. Host names are not looked up: a broker binds to addresses.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let expected = match (host, port.parse::<u16>()) {
        ("", Ok(port)) if !text.contains(':') => return Ok(SocketAddr::new(LOOPBACK, port)),
        ("localhost", Ok(port)) => return Ok(SocketAddr::new(LOOPBACK, port)),
        ("" | "*", Ok(port)) => format!("`0.0.0.0:{port}` (IPv4) or `[::]:{port}` (IPv6) for all interfaces"),
        _ => "ADDRESS:PORT such as `0.0.0.0:1883` or `[::]:1883`, or PORT alone for 127.0.0.1".to_owned(),
    };
    text.parse().map_err(|_| format!("found \"{text}\", expected {expected}"))
}

/// How the shards do their input and output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Io {
    pub backend: Backend,
    /// Whether sockets of clients stand in a file table of their shard's ring instead of the process's; io_uring only.
    pub direct_descriptors: Switch,
    /// Entries of that table: connections that one shard holds at most. No more than the process may have file descriptors; 8 bytes of kernel
    /// memory each.
    pub direct_descriptors_per_shard: u32,
    /// Size of one receive buffer.
    pub recv_buffer_bytes: u32,
    /// Receive buffers of a shard, shared by all of its connections; a power of two.
    pub recv_buffers: u16,
    /// Completions that a shard handles before it sends what has gathered. Lower bounds the latency, higher raises the throughput.
    pub max_events_per_turn: u32,
}

impl Default for Io {
    fn default() -> Io {
        Io {
            backend: Backend::Auto,
            direct_descriptors: Switch::default(),
            direct_descriptors_per_shard: 1024 * 1024,
            recv_buffer_bytes: 16 * 1024,
            recv_buffers: 1024,
            max_events_per_turn: 4096,
        }
    }
}

/// The kernel interface of the shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// io_uring where the kernel and the container allow it, else epoll.
    #[default]
    Auto,
    Uring,
    Epoll,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// Where it is possible and helps: direct descriptors where the process may have fewer than 65,536 others.
    Auto,
    On,
    #[default]
    Off,
}

/// The `$SYS` topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sys {
    /// Seconds between two publications of `$SYS`; 0 switches them off.
    pub interval_s: u32,
}

impl Default for Sys {
    fn default() -> Sys {
        Sys { interval_s: 10 }
    }
}

/// What outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// Directory for durable state. None: everything lives in memory.
    pub data_dir: Option<PathBuf>,
    pub engine: Engine,
    /// What an acknowledgement promises where neither a listener nor a topic says otherwise.
    pub durability: Durability,
    /// What the logs of all shards may take on disk, bytes, about; 0: as much as there is.
    pub max_bytes: u64,
    /// Levels by topic: of the filters that match, the first one holds, whatever the listener says.
    pub topics: Vec<TopicDurability>,
}

/// Who keeps what is in the data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// A log for each shard.
    #[default]
    Log,
    /// The embedded engine of that name; only in a broker that was built with the feature `engine-fjall`.
    Fjall,
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Every session that gets the message has it, on whatever shard. It is written to the log like any other, but nobody waits for that.
    Memory,
    /// And it is on disk, where it is to outlive the broker.
    #[default]
    Commit,
}

/// The level of the messages to some topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicDurability {
    pub filter: String,
    pub durability: Durability,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub level: LogLevel,
}

/// Another server that all clients are to use, as when this one is drained. Clients that are connected stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// `host:port`, or several of them separated by spaces (5.0 section 4.11).
    pub server_reference: String,
    /// Whether clients shall never come back.
    #[serde(default)]
    pub permanent: bool,
}

/// The least important lines that are still logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_means_loopback() {
        assert_eq!(parse_address("1884").unwrap(), "127.0.0.1:1884".parse().unwrap());
        assert_eq!(parse_address("localhost:1").unwrap(), "127.0.0.1:1".parse().unwrap());
        assert_eq!(parse_address("0.0.0.0:1883").unwrap(), "0.0.0.0:1883".parse().unwrap());
        assert_eq!(parse_address("[::1]:1883").unwrap(), "[::1]:1883".parse().unwrap());
    }

    #[test]
    fn an_address_without_host_says_how_to_listen_on_all_interfaces() {
        for text in [":1883", "*:1883"] {
            assert!(parse_address(text).unwrap_err().contains("`0.0.0.0:1883`"), "{text}");
        }
        for text in ["", "1883x", "65536", "host:1883", "127.0.0.1", "::1:1883:x", "127.0.0.1:"] {
            assert!(parse_address(text).unwrap_err().contains("ADDRESS:PORT"), "{text}");
        }
    }

    #[test]
    fn the_shards_follow_the_cpus_unless_told_otherwise() {
        let mut config = Config::default();
        assert_eq!(config.shard_count(6), 6);
        assert_eq!(config.shard_count(0), 1);
        assert_eq!(config.shard_count(500), 128);
        config.cpus = Some("0,2-4".parse().unwrap());
        assert_eq!(config.shard_count(6), 4);
        config.shards = Some(3);
        assert_eq!(config.shard_count(6), 3);
    }
}
