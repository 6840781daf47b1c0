//! Log lines on standard error: one line an event, a level that can change while the broker runs.
//!
//! Colour only on a terminal and without `NO_COLOR`; no timestamps where systemd's journal adds its own. Nothing is logged per packet.

use std::io::IsTerminal;
use std::os::linux::fs::MetadataExt;
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::LogLevel;

static FILTER: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Starts logging at `level`. A second call only changes the level.
pub fn init(level: LogLevel) {
    let (filter, handle) = reload::Layer::new(filter(level));
    if FILTER.set(handle).is_err() {
        return set_level(level);
    }
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = fmt::layer().compact().with_target(false).with_ansi(color).with_writer(std::io::stderr);
    let lines = if stderr_is_journal() { lines.without_time().boxed() } else { lines.boxed() };
    // Fails only where the program that embeds this library logs already: then its choice stands.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
}

/// Changes the level of a running program.
pub fn set_level(level: LogLevel) {
    if let Some(handle) = FILTER.get() {
        // Fails only if the subscriber is gone, and then nobody reads.
        let _ = handle.modify(|current| *current = filter(level));
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// systemd names the journal's socket as `device:inode`; a child whose standard error was redirected still inherits the variable.
fn stderr_is_journal() -> bool {
    let Ok(journal) = std::env::var("JOURNAL_STREAM") else { return false };
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|stderr| journal == format!("{}:{}", stderr.st_dev(), stderr.st_ino()))
}
