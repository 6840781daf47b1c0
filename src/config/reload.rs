//! What a running broker may change on SIGHUP: all of the differences, or none.

use toml::{Table, Value};

use super::{Config, Limits, LogLevel};

/// Settings that differ and are to be applied; `None` where nothing changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    pub limits: Option<Limits>,
    pub log_level: Option<LogLevel>,
    pub sys_interval_s: Option<u32>,
    /// Whether anything about listeners, authentication or the redirect differs: who is let in, and on what terms.
    pub admission: bool,
    /// Every key that changes, with its old and its new value, for the log.
    pub described: Vec<String>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.described.is_empty()
    }
}

/// Compares the configuration in force with a new one. Errors list each key that differs and cannot change while the broker runs; then nothing
/// at all may be applied.
pub fn reloadable(old: &Config, new: &Config) -> Result<Changes, Vec<String>> {
    let mut differences = Vec::new();
    compare("", &table(old), &table(new), &mut differences);
    let (allowed, refused): (Vec<_>, Vec<_>) = differences.into_iter().partition(|difference| may_change(&difference.key));
    if !refused.is_empty() {
        return Err(refused.iter().map(|difference| format!("{} needs a restart", difference.describe())).collect());
    }
    Ok(Changes {
        limits: (old.limits != new.limits).then(|| new.limits.clone()),
        log_level: (old.log != new.log).then_some(new.log.level),
        sys_interval_s: (old.sys != new.sys).then_some(new.sys.interval_s),
        admission: old.listeners != new.listeners || old.auth != new.auth || old.redirect != new.redirect,
        described: allowed.iter().map(Difference::describe).collect(),
    })
}

fn may_change(key: &str) -> bool {
    let (table, name) = key.rsplit_once('.').unwrap_or((key, ""));
    match table.split(['.', '[']).next() {
        Some("limits" | "auth" | "redirect") => true,
        // The sockets themselves stay as they were bound.
        Some("listeners") => !matches!(name, "" | "name" | "address" | "backlog"),
        _ => key == "log.level" || key == "sys.interval_s",
    }
}

struct Difference {
    key: String,
    old: Option<Value>,
    new: Option<Value>,
}

impl Difference {
    fn describe(&self) -> String {
        if self.key.starts_with("auth.scram") {
            // Keys do not belong into logs.
            return format!("{} changed", self.key);
        }
        let show = |value: &Option<Value>| value.as_ref().map_or_else(|| "(default)".to_owned(), Value::to_string);
        format!("{}: {} -> {}", self.key, show(&self.old), show(&self.new))
    }
}

fn table(config: &Config) -> Table {
    Table::try_from(config).expect("a configuration is plain data")
}

fn compare(path: &str, old: &Table, new: &Table, differences: &mut Vec<Difference>) {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let path = format!("{path}{key}");
        match (old.get(key), new.get(key)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => compare(&format!("{path}."), old, new, differences),
            (Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() && old != new => {
                compare_lists(&path, old, new, differences);
            }
            (old, new) if old != new => differences.push(Difference { key: path, old: old.cloned(), new: new.cloned() }),
            _ => {}
        }
    }
}

/// Lists of the same length, item by item.
fn compare_lists(path: &str, old: &[Value], new: &[Value], differences: &mut Vec<Difference>) {
    for (index, pair) in old.iter().zip(new).enumerate() {
        let path = format!("{path}[{index}]");
        match pair {
            (Value::Table(old), Value::Table(new)) => compare(&format!("{path}."), old, new, differences),
            (old, new) if old != new => differences.push(Difference { key: path, old: Some(old.clone()), new: Some(new.clone()) }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Listener, Redirect, ScramUser, Secret, parse_address};

    #[test]
    fn limits_log_level_and_sys_interval_change_while_running() {
        let old = Config::default();
        let mut new = old.clone();
        new.limits.max_inflight = 7;
        new.log.level = LogLevel::Debug;
        new.sys.interval_s = 0;
        let changes = reloadable(&old, &new).unwrap();
        assert_eq!(changes.limits, Some(new.limits.clone()));
        assert_eq!(changes.log_level, Some(LogLevel::Debug));
        assert_eq!(changes.sys_interval_s, Some(0));
        assert!(changes.described.contains(&"limits.max_inflight: 1024 -> 7".to_owned()), "{:?}", changes.described);
    }

    #[test]
    fn nothing_changed_is_no_error_and_no_change() {
        assert!(reloadable(&Config::default(), &Config::default()).unwrap().is_empty());
    }

    #[test]
    fn one_key_that_needs_a_restart_refuses_all_and_every_such_key_is_named() {
        let old = Config::default();
        let mut new = old.clone();
        new.limits.max_inflight = 7;
        new.shards = Some(3);
        new.storage.data_dir = Some("/tmp".into());
        new.listeners.push(Listener::on(parse_address("1999").unwrap()));
        let refused = reloadable(&old, &new).unwrap_err();
        for key in ["shards: (default) -> 3", "storage.data_dir", "listeners"] {
            assert!(refused.iter().any(|line| line.starts_with(key)), "{key}: {refused:?}");
        }
        assert!(!refused.iter().any(|line| line.contains("max_inflight")), "{refused:?}");
    }

    #[test]
    fn what_a_listener_grants_changes_while_running_but_not_where_it_is() {
        let old = Config::default();
        let mut new = old.clone();
        new.listeners[0].max_qos = 1;
        new.listeners[0].receive_maximum = Some(3);
        let changes = reloadable(&old, &new).unwrap();
        assert!(changes.admission);
        assert_eq!(changes.described, ["listeners[0].max_qos: 2 -> 1", "listeners[0].receive_maximum: (default) -> 3"]);
        new.listeners[0].backlog = 1;
        assert_eq!(reloadable(&old, &new).unwrap_err(), ["listeners[0].backlog: 4096 -> 1 needs a restart"]);
    }

    #[test]
    fn users_and_the_redirect_change_while_running_and_no_key_is_described() {
        let old = Config::default();
        let mut new = old.clone();
        let keys = ("zuMxXZ".to_owned(), Secret([7; 32]));
        let user = ScramUser { user: keys.0, iterations: 4096, salt: Secret([7; 16]), stored_key: keys.1, server_key: keys.1 };
        new.auth.scram.push(user);
        new.redirect = Some(Redirect { server_reference: "other:1883".to_owned(), permanent: false });
        let changes = reloadable(&old, &new).unwrap();
        assert!(changes.admission);
        assert!(changes.described.iter().any(|line| line.starts_with("redirect: (default) -> ") && line.contains("other:1883")));
        assert!(changes.described.contains(&"auth.scram changed".to_owned()), "{:?}", changes.described);
        let mut other = new.clone();
        other.auth.scram[0].stored_key = Secret([8; 32]);
        assert_eq!(reloadable(&new, &other).unwrap().described, ["auth.scram[0].stored_key changed"]);
    }
}
