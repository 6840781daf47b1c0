//! The I/O shell: one pinned thread runs one shard.
//!
//! - [`driver`]: sockets over io_uring or epoll, behind one seam; and the bell that wakes a sleeping shard.
//! - `gate`: how many connections a listener takes. `memory`: what a load leaves behind goes back to the system.
//! - `shell`: the loop of a shard; `socket`: listeners and socket options; `threads`: the threads of the shards, and what they are made of.
//! - `keyed`, with the feature `engine-fjall`: what the broker's records change in a store of keys and values.
//! - `signals`, `notify`, `log`: the process and its surroundings.

#[allow(unsafe_code)]
pub mod driver;
mod gate;
#[cfg(feature = "engine-fjall")]
mod keyed;
pub mod log;
mod memory;
pub mod notify;
mod shell;
pub mod signals;
mod socket;
mod threads;

use std::sync::Arc;

use crossbeam_channel::{select, unbounded};

use self::notify::Notifier;
use self::shell::Request;
use self::signals::Signal;
use self::threads::Shards;
use crate::config::{Config, reloadable};

/// Runs the broker until a signal stops it. `reload` gives the configuration anew on SIGHUP.
///
/// # Errors
/// What kept the broker from starting, for the person who started it.
pub fn run(config: Config, reload: Box<dyn Fn() -> Result<Config, String> + Send>) -> Result<(), String> {
    // Until a shard is large: see `memory`.
    driver::allow_huge_pages(false);
    let notifier = Notifier::from_env();
    let (sender, signals) = unbounded();
    signals::watch(move |signal| _ = sender.send(signal)).map_err(|error| format!("cannot handle signals: {error}"))?;
    let mut config = config;
    let (sender, ended) = unbounded();
    let shards = Shards::start(&config, &sender)?;
    let summary = shards.summary();
    println!("{summary}");
    notifier.ready(&summary);
    let pulse = notifier.alive_interval().unwrap_or(std::time::Duration::from_secs(3_600));
    loop {
        select! {
            recv(signals) -> signal => match signal {
                Ok(Signal::Reload) => {
                    notifier.reloading();
                    reload_config(&mut config, &reload, &shards);
                    notifier.ready(&summary);
                }
                Ok(Signal::Stop) | Err(_) => break,
            },
            // A shard without which the broker is not whole: better to be started anew.
            recv(ended) -> _ => break,
            default(pulse) => notifier.alive(),
        }
    }
    notifier.stopping();
    tracing::info!("stopping");
    shards.stop()
}

/// Applies what may change while running; all of it, or, with a reason in the log, nothing.
fn reload_config(config: &mut Config, reload: &dyn Fn() -> Result<Config, String>, shards: &Shards) {
    let new = match reload() {
        Ok(new) => new,
        Err(error) => return tracing::error!("reload refused, nothing changed: {error}"),
    };
    let changes = match reloadable(config, &new) {
        Ok(changes) => changes,
        Err(reasons) => return tracing::error!("reload refused, nothing changed: {}", reasons.join("; ")),
    };
    if changes.is_empty() {
        return tracing::info!("reload: nothing differs");
    }
    if let Some(level) = changes.log_level {
        log::set_level(level);
    }
    if let Some(limits) = changes.limits {
        shards.request(&Request::Limits(Arc::new(limits)));
    }
    if config.auth.required() && !new.auth.required() {
        tracing::warn!("from now on clients need not authenticate");
    }
    if changes.admission {
        shards.set_admission(&new);
    }
    if let Some(interval_s) = changes.sys_interval_s {
        shards.request(&Request::SysInterval(interval_s));
    }
    tracing::info!("reloaded: {}", changes.described.join(", "));
    *config = new;
}
