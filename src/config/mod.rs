//! Every setting, limit and default: typed, with the unit in the name, parsed once and valid from then on.
//!
//! [`Sources::load`] is the way in: built-in defaults, then one TOML file, then overrides in order (command-line flags and `--set`). What comes
//! out is a [`Config`] that needs no further checking; what goes wrong comes out as one [`ConfigError`] that names the place, the key, what was
//! found and what was expected. [`reloadable`] says which differences between two configurations may be applied to a running broker.
//!
//! Plain data and pure functions, apart from reading the one file. Deliberately absent: environment variables, include files, units inside of
//! values (`"10s"`), and any knowledge of the command line.

mod auth;
mod check;
mod cpus;
mod error;
mod keys;
mod limits;
mod listener;
mod load;
mod reload;
mod settings;

pub use auth::{Auth, ScramUser, Secret};
pub use check::MAX_SHARDS;
pub use cpus::CpuList;
pub use error::ConfigError;
pub use keys::every_key;
pub use limits::{Limits, QueueFull};
pub use listener::{Listener, Terms};
pub use load::{Override, Sources, parse};
pub use reload::{Changes, reloadable};
pub use settings::{
    Backend, Config, Durability, Engine, Io, Log, LogLevel, Redirect, Storage, Switch, Sys, TopicDurability, parse_address,
};
