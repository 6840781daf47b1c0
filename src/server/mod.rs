//! The I/O shell: one pinned thread runs one shard.

pub mod log;
pub mod notify;
pub mod signals;

/// Runs the broker until a signal stops it. `reload` gives the configuration anew on SIGHUP.
///
/// # Errors
/// What kept the broker from starting, for the person who started it.
pub fn run(_config: crate::config::Config, _reload: Box<dyn Fn() -> Result<crate::config::Config, String> + Send>) -> Result<(), String> {
    Err("not built yet".to_owned())
}
