//! What a running broker may change on SIGHUP: all of the differences, or none.

use toml::{Table, Value};

use super::{Config, Limits, LogLevel};

/// Settings that differ and are to be applied; `None` where nothing changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    pub limits: Option<Limits>,
    pub log_level: Option<LogLevel>,
    pub sys_interval_s: Option<u32>,
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
        described: allowed.iter().map(Difference::describe).collect(),
    })
}

fn may_change(key: &str) -> bool {
    key.starts_with("limits.") || key == "log.level" || key == "sys.interval_s"
}

struct Difference {
    key: String,
    old: Option<Value>,
    new: Option<Value>,
}

impl Difference {
    fn describe(&self) -> String {
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
            (old, new) if old != new => differences.push(Difference { key: path, old: old.cloned(), new: new.cloned() }),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Listener, parse_address};

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
}
