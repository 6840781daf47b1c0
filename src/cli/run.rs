//! `ringmq [run]`: flags over file over defaults, then the broker itself.

use std::path::{Path, PathBuf};

use clap::Args;
use toml::{Table, Value};

use crate::config::{Config, ConfigError, Override, Sources};

#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(super) struct RunArgs {
    /// Configuration file (TOML)
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen here instead of where the configuration says; PORT alone means 127.0.0.1:PORT. May be repeated
    #[arg(short, long, value_name = "ADDR:PORT")]
    listen: Vec<String>,
    /// Number of shards [default: one per CPU]
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// CPUs for the shards, such as 0,2-5 [default: those the process may use]
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Kernel interface [default: auto]
    #[arg(long, value_name = "BACKEND", value_parser = ["auto", "uring", "epoll"])]
    io: Option<String>,
    /// Directory for what outlives the process [default: nothing does]
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    data_dir: Option<String>,
    /// Least important log lines to show [default: info]
    #[arg(long, value_name = "LEVEL", value_parser = ["off", "error", "warn", "info", "debug", "trace"])]
    log: Option<String>,
    /// Any setting of the configuration file, such as limits.max_inflight=100. May be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl RunArgs {
    /// Where the settings come from, in rising rank: file, flags, `--set`.
    pub(super) fn sources(&self) -> Result<Sources, ConfigError> {
        let mut overrides = Vec::new();
        let mut flag = |flag: &str, key: &str, value: Option<Value>| {
            if let Some(value) = value {
                let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                overrides.push(Override { origin: format!("--{flag} {shown}"), key: key.to_owned(), value });
            }
        };
        let text = |value: &Option<String>| value.clone().map(Value::String);
        flag("shards", "shards", self.shards.map(|shards| Value::Integer(shards.into())));
        flag("cpus", "cpus", text(&self.cpus));
        flag("io", "io.backend", text(&self.io));
        flag("data-dir", "storage.data_dir", text(&self.data_dir));
        flag("log", "log.level", text(&self.log));
        if !self.listen.is_empty() {
            let listener = |address: &String| Value::Table(Table::from_iter([("address".to_owned(), Value::String(address.clone()))]));
            let value = Value::Array(self.listen.iter().map(listener).collect());
            overrides.push(Override { origin: format!("--listen {}", self.listen.join(" --listen ")), key: "listeners".to_owned(), value });
        }
        for set in &self.set {
            overrides.push(Override::from_set(set)?);
        }
        Ok(Sources { file: self.config.clone(), overrides })
    }
}

/// Runs the broker until a signal stops it.
pub(super) fn run(args: &RunArgs) -> Result<(), String> {
    let sources = args.sources().map_err(|error| error.to_string())?;
    let load = move || -> Result<Config, String> { sources.load().map_err(|error| error.to_string()) };
    let config = load()?;
    crate::server::log::init(config.log.level);
    if let Some(dir) = &config.storage.data_dir {
        prepare_data_dir(dir)?;
    }
    crate::server::run(config, Box::new(load))
}

/// Makes the data directory if it is not there, and makes sure that it can be written to: better now than at the first message.
fn prepare_data_dir(dir: &Path) -> Result<(), String> {
    let shown = dir.display();
    std::fs::create_dir_all(dir).map_err(|error| format!("storage.data_dir: cannot make {shown}: {error}"))?;
    let probe = dir.join(format!(".write-test-{}", std::process::id()));
    std::fs::write(&probe, b"").map_err(|error| format!("storage.data_dir: cannot write to {shown}: {error}"))?;
    std::fs::remove_file(&probe).map_err(|error| format!("storage.data_dir: cannot delete in {shown}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backend, LogLevel};
    use clap::Parser;

    #[derive(Parser)]
    struct Harness {
        #[command(flatten)]
        args: RunArgs,
    }

    fn load(arguments: &[&str]) -> Result<Config, String> {
        let args = Harness::try_parse_from([&["ringmq"], arguments].concat()).unwrap().args;
        args.sources().and_then(|sources| sources.load()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_flag_sets_what_it_is_named_after() {
        let config = load(&[
            "--listen",
            "1884",
            "-l",
            "0.0.0.0:1885",
            "--shards",
            "3",
            "--cpus",
            "0-2",
            "--io",
            "epoll",
            "--data-dir",
            "/tmp/x",
            "--log",
            "warn",
            "--set",
            "limits.max_inflight=9",
            "--set",
            "sys.interval_s=0",
        ])
        .unwrap();
        let addresses: Vec<_> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1:1884", "0.0.0.0:1885"]);
        assert_eq!((config.shards, config.io.backend, config.log.level), (Some(3), Backend::Epoll, LogLevel::Warn));
        assert_eq!(config.cpus.unwrap().to_string(), "0-2");
        assert_eq!(config.storage.data_dir.as_deref(), Some(Path::new("/tmp/x")));
        assert_eq!((config.limits.max_inflight, config.sys.interval_s), (9, 0));
    }

    #[test]
    fn a_wrong_flag_is_named_in_the_error() {
        for (arguments, message) in [
            (&["--shards", "500"][..], "--shards 500: shards: found 500, expected 1 to 128"),
            (&["--cpus", "x"], "--cpus x: cpus: found `x`, expected a list of CPUs from 0 to 1023 such as \"0,2-5\""),
            (&["--set", "limits.max_inflight=0"], "--set limits.max_inflight=0: limits.max_inflight: found 0, expected 1 to 65535"),
            (
                &["--listen", "1", "--listen", "127.0.0.1:1"],
                "--listen 1 --listen 127.0.0.1:1: listeners[1].address: found 127.0.0.1:1, which listeners[0] has already",
            ),
        ] {
            assert_eq!(load(arguments).unwrap_err(), message);
        }
    }

    #[test]
    fn flags_go_over_the_file_and_a_listen_flag_replaces_its_listeners() {
        let path = std::env::temp_dir().join(format!("ringmq-run-test-{}.toml", std::process::id()));
        std::fs::write(&path, "shards = 7\nlog.level = 'error'\n[[listeners]]\naddress = '9'\n").unwrap();
        let config = load(&["--config", path.to_str().unwrap(), "--shards", "2", "--listen", "8"]).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((config.shards, config.log.level, config.listeners.len()), (Some(2), LogLevel::Error, 1));
        assert_eq!(config.listeners[0].address.port(), 8);
    }

    #[test]
    fn a_data_directory_is_made_and_one_that_cannot_be_is_named() {
        let base = std::env::temp_dir().join(format!("ringmq-data-test-{}", std::process::id()));
        prepare_data_dir(&base.join("a/b")).unwrap();
        assert_eq!(std::fs::read_dir(base.join("a/b")).unwrap().count(), 0);
        std::fs::write(base.join("file"), b"").unwrap();
        let error = prepare_data_dir(&base.join("file/below")).unwrap_err();
        std::fs::remove_dir_all(&base).unwrap();
        assert!(error.starts_with("storage.data_dir: cannot make "), "{error}");
    }
}
