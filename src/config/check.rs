//! What serde cannot know: ranges, and settings that must fit together.

use std::ops::RangeInclusive;

use super::error::Problem;
use super::{Auth, Config, Engine, Limits, Listener, Redirect, Storage};

/// Most shards of one broker.
pub const MAX_SHARDS: u16 = 128;

const U16: u64 = u16::MAX as u64;
const U32: u64 = u32::MAX as u64;

/// Largest packet that MQTT can express: 5 bytes of fixed header and 268,435,455 bytes behind them.
const LARGEST_PACKET_BYTES: u64 = 268_435_460;

/// Rounds of PBKDF2: RFC 7677 section 4 wants this many at least, and more than this many keep a client busy for minutes.
const SCRAM_ITERATIONS: RangeInclusive<u64> = 4_096..=10_000_000;

/// The first problem of `config`, if it has one.
pub(super) fn check(config: &Config) -> Result<(), Problem> {
    if let Some(shards) = config.shards {
        range("shards", shards, 1..=MAX_SHARDS.into())?;
    }
    let io = &config.io;
    range("io.direct_descriptors_per_shard", io.direct_descriptors_per_shard, 64..=1024 * 1024)?;
    range("io.recv_buffer_bytes", io.recv_buffer_bytes, 256..=1024 * 1024)?;
    range("io.recv_buffers", io.recv_buffers, 16..=32_768)?;
    if !io.recv_buffers.is_power_of_two() {
        return Err(Problem::new("io.recv_buffers", format!("found {}, expected a power of two", io.recv_buffers)));
    }
    range("io.max_events_per_turn", io.max_events_per_turn, 1..=1024 * 1024)?;
    range("sys.interval_s", config.sys.interval_s, 0..=86_400)?;
    check_limits(&config.limits)?;
    check_auth(&config.auth)?;
    check_engine(&config.storage)?;
    check_topics(&config.storage)?;
    if let Some(redirect) = &config.redirect {
        check_redirect(redirect)?;
    }
    check_listeners(config)
}

fn check_limits(limits: &Limits) -> Result<(), Problem> {
    range("limits.max_packet_bytes", limits.max_packet_bytes, 64..=LARGEST_PACKET_BYTES)?;
    range("limits.max_connect_packet_bytes", limits.max_connect_packet_bytes, 64..=LARGEST_PACKET_BYTES)?;
    at_most("limits.max_connect_packet_bytes", limits.max_connect_packet_bytes, "limits.max_packet_bytes", limits.max_packet_bytes)?;
    range("limits.connect_timeout_ms", limits.connect_timeout_ms, 10..=3_600_000)?;
    range("limits.max_keep_alive_s", limits.max_keep_alive_s, 1..=U16)?;
    // A server must accept client identifiers of 1 to 23 bytes [MQTT-3.1.3-5].
    range("limits.max_client_id_bytes", limits.max_client_id_bytes, 23..=U16)?;
    range("limits.max_topic_bytes", limits.max_topic_bytes, 1..=U16)?;
    range("limits.max_topic_levels", limits.max_topic_levels, 1..=U16)?;
    range("limits.max_subscriptions_per_client", limits.max_subscriptions_per_client, 1..=U32)?;
    // A Receive Maximum of 0 is a protocol error (5.0 section 3.2.2.3.3).
    range("limits.receive_maximum", limits.receive_maximum, 1..=U16)?;
    range("limits.max_inflight", limits.max_inflight, 1..=U16)?;
    range("limits.max_queued_messages", limits.max_queued_messages, 1..=U32)?;
    range("limits.max_queued_bytes", limits.max_queued_bytes, 1024..=U32)?;
    range("limits.full_queue_patience_ms", limits.full_queue_patience_ms, 1..=3_600_000)?;
    range("limits.full_session_patience_s", limits.full_session_patience_s, 1..=U32)?;
    range("limits.out_buffer_bytes", limits.out_buffer_bytes, 4096..=U32)?;
    range("limits.out_budget_bytes", limits.out_budget_bytes, 4096..=i64::MAX as u64)?;
    at_most("limits.out_buffer_bytes", limits.out_buffer_bytes, "limits.out_budget_bytes", limits.out_budget_bytes)?;
    range("limits.memory_budget_bytes", limits.memory_budget_bytes, 1024 * 1024..=i64::MAX as u64)?;
    range("limits.max_connections", limits.max_connections, 1..=U32)
}

/// Longest name of a user.
const MAX_USER_BYTES: usize = 1_024;

fn check_auth(auth: &Auth) -> Result<(), Problem> {
    for (index, user) in auth.scram.iter().enumerate() {
        let key = format!("auth.scram[{index}]");
        range(&format!("{key}.iterations"), user.iterations, SCRAM_ITERATIONS)?;
        string(&format!("{key}.user"), &user.user, MAX_USER_BYTES)?;
        if let Some(earlier) = auth.scram[..index].iter().position(|earlier| earlier.user == user.user) {
            let problem = format!("found \"{}\", which auth.scram[{earlier}] has already", user.user);
            return Err(Problem::new(format!("{key}.user"), problem));
        }
    }
    Ok(())
}

fn check_engine(storage: &Storage) -> Result<(), Problem> {
    match storage.engine {
        Engine::Log => Ok(()),
        Engine::Fjall if !cfg!(feature = "engine-fjall") => {
            let problem = "found \"fjall\", which this ringmq was built without; build it with `cargo build --features engine-fjall`, or take \"log\"";
            Err(Problem::new("storage.engine", problem.to_owned()))
        }
        Engine::Fjall if storage.max_bytes > 0 => {
            Err(Problem::new("storage.max_bytes", "bounds logs; with storage.engine = \"fjall\" there are none: leave it out".to_owned()))
        }
        Engine::Fjall => Ok(()),
    }
}

fn check_topics(storage: &Storage) -> Result<(), Problem> {
    for (index, topic) in storage.topics.iter().enumerate() {
        if !is_filter(&topic.filter) {
            let problem = format!("found \"{}\", expected a topic filter such as \"alarms/#\"", topic.filter.escape_debug());
            return Err(Problem::new(format!("storage.topics[{index}].filter"), problem));
        }
    }
    Ok(())
}

/// Whether a text is a topic filter, and not that of a shared subscription.
fn is_filter(text: &str) -> bool {
    let levels = text.split('/').count();
    let is_level = |(index, level): (usize, &str)| level == "+" || level == "#" && index + 1 == levels || !level.contains(['+', '#', '\0']);
    (1..=usize::from(u16::MAX)).contains(&text.len()) && !text.starts_with("$share/") && text.split('/').enumerate().all(is_level)
}

fn check_redirect(redirect: &Redirect) -> Result<(), Problem> {
    string("redirect.server_reference", &redirect.server_reference, usize::from(u16::MAX))
}

/// A string that MQTT can carry and that says something.
fn string(key: &str, text: &str, max_bytes: usize) -> Result<(), Problem> {
    match text.is_empty() || text.len() > max_bytes || text.contains(char::is_control) {
        true => {
            let problem = format!("found \"{}\", expected 1 to {max_bytes} bytes without control characters", text.escape_debug());
            Err(Problem::new(key, problem))
        }
        false => Ok(()),
    }
}

fn check_listeners(config: &Config) -> Result<(), Problem> {
    if config.listeners.is_empty() {
        return Err(Problem::new("listeners", "found an empty list, expected at least one listener"));
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        check_listener_limits(&format!("listeners[{index}]"), listener)?;
        for (earlier_index, earlier) in config.listeners[..index].iter().enumerate() {
            // Port 0 means "any free port": two of them are two ports.
            if earlier.address == listener.address && listener.address.port() != 0 {
                let problem = format!("found {}, which listeners[{earlier_index}] has already", listener.address);
                return Err(Problem::new(format!("listeners[{index}].address"), problem));
            }
            if earlier.name == listener.name {
                let problem = format!("found \"{}\", which listeners[{earlier_index}] has already", listener.name);
                return Err(Problem::new(format!("listeners[{index}].name"), problem));
            }
        }
    }
    Ok(())
}

fn check_listener_limits(listener_key: &str, listener: &Listener) -> Result<(), Problem> {
    let key = |name: &str| format!("{listener_key}.{name}");
    let given = |name: &str, value: Option<u64>, valid| value.map_or(Ok(()), |value| range(&key(name), value, valid));
    range(&key("backlog"), listener.backlog, 1..=i32::MAX as u64)?;
    range(&key("max_connections"), listener.max_connections, 1..=U32)?;
    range(&key("max_connections_per_address"), listener.max_connections_per_address, 1..=U32)?;
    range(&key("connects_per_second"), listener.connects_per_second, 1..=U32)?;
    range(&key("max_qos"), listener.max_qos, 0..=2)?;
    given("max_packet_bytes", listener.max_packet_bytes.map(u64::from), 64..=LARGEST_PACKET_BYTES)?;
    given("receive_maximum", listener.receive_maximum.map(u64::from), 1..=U16)?;
    given("max_keep_alive_s", listener.max_keep_alive_s.map(u64::from), 1..=U16)
}

fn range(key: &str, value: impl Into<u64>, valid: RangeInclusive<u64>) -> Result<(), Problem> {
    let value = value.into();
    match valid.contains(&value) {
        true => Ok(()),
        false => Err(Problem::new(key, format!("found {value}, expected {} to {}", valid.start(), valid.end()))),
    }
}

fn at_most(key: &str, value: impl Into<u64>, bound_key: &str, bound: impl Into<u64>) -> Result<(), Problem> {
    let (value, bound) = (value.into(), bound.into());
    match value > bound {
        true => Err(Problem::new(key, format!("found {value}, expected at most {bound} ({bound_key})"))),
        false => Ok(()),
    }
}
