//! The names of all settings, and finding a value, a place or a name by them.
//!
//! The list is made from the types themselves, so that it cannot lag behind them. Keys of listeners are written `listeners[].address`.

use std::path::PathBuf;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::{
    Auth, Config, CpuList, Durability, Engine, Io, Limits, Listener, Log, Redirect, ScramUser, Secret, Storage, Sys, TopicDurability,
    parse_address,
};

/// Every key that a configuration may hold, sorted.
pub fn every_key() -> Vec<String> {
    let mut keys = Vec::new();
    collect("", &Value::try_from(full()).expect("a configuration is plain data"), &mut keys);
    keys.sort_unstable();
    keys
}

/// A configuration in which no optional setting is absent: written without `..`, so that a new one cannot be forgotten here.
fn full() -> Config {
    Config {
        shards: Some(1),
        cpus: Some("0".parse::<CpuList>().expect("a list of one CPU")),
        io: Io::default(),
        limits: Limits::default(),
        sys: Sys::default(),
        storage: Storage {
            data_dir: Some(PathBuf::new()),
            engine: Engine::default(),
            durability: Durability::default(),
            max_bytes: 0,
            topics: vec![TopicDurability { filter: String::new(), durability: Durability::default() }],
        },
        log: Log::default(),
        auth: Auth { required: Some(true), scram: vec![full_scram_user()] },
        redirect: Some(Redirect { server_reference: String::new(), permanent: false }),
        listeners: vec![Listener {
            max_packet_bytes: Some(0),
            receive_maximum: Some(0),
            topic_alias_maximum: Some(0),
            max_keep_alive_s: Some(0),
            durability: Some(Durability::default()),
            ..Listener::on(parse_address("1883").expect("a port"))
        }],
    }
}

fn full_scram_user() -> ScramUser {
    ScramUser { user: String::new(), iterations: 0, salt: Secret([0; 16]), stored_key: Secret([0; 32]), server_key: Secret([0; 32]) }
}

fn collect(path: &str, value: &Value, keys: &mut Vec<String>) {
    match value {
        Value::Table(table) => {
            let dot = if path.is_empty() { "" } else { "." };
            table.iter().for_each(|(key, value)| collect(&format!("{path}{dot}{key}"), value, keys));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(&format!("{path}[]"), value, keys)),
        _ => keys.push(path.to_owned()),
    }
}

/// The valid key that was most likely meant by `unknown`: a slip of the pen, or the right name in the wrong table.
pub(super) fn nearest(unknown: &str) -> Option<String> {
    let (table, name) = split(unknown);
    let distance = |key: &String| {
        let (key_table, key_name) = split(key);
        let moved = if without_index(table) == key_table { 0 } else { 1 };
        strsim::damerau_levenshtein(name, key_name) * 2 + moved
    };
    let tables =
        ["io", "limits", "sys", "storage", "storage.topics", "log", "auth", "auth.scram", "redirect", "listeners"].map(str::to_owned);
    let near = every_key().into_iter().chain(tables).min_by_key(distance)?;
    let close_enough = distance(&near) <= (name.chars().count() * 2 / 3).clamp(2, 6);
    let (near_table, near_name) = split(&near);
    let in_this_table = near_table == without_index(table) && !table.is_empty();
    close_enough.then(|| if in_this_table { format!("{table}.{near_name}") } else { near.clone() })
}

fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// `listeners[3]` as `listeners[]`.
fn without_index(table: &str) -> String {
    match table.split_once('[') {
        Some((name, _)) => format!("{name}[]"),
        None => table.to_owned(),
    }
}

/// The steps of a path such as `listeners[0].address`: `listeners`, `0`, `address`.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '[']).map(|step| step.trim_end_matches(']')).filter(|step| !step.is_empty())
}

/// The value at `path`.
pub(super) fn lookup<'v>(root: &'v Value, path: &str) -> Option<&'v Value> {
    steps(path).try_fold(root, |value, step| match value {
        Value::Table(table) => table.get(step),
        Value::Array(list) => list.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Where in the text `path` stands: its value, or its key where `of_key`; `None` where the text does not mention it.
pub(super) fn span(root: &DeTable<'_>, path: &str, of_key: bool) -> Option<std::ops::Range<usize>> {
    let mut steps = steps(path);
    let first = steps.next()?;
    let (key, mut value) = root.get_key_value(first)?;
    let mut key_span = key.span();
    for step in steps {
        match value.get_ref() {
            DeValue::Table(table) => {
                let (key, next) = table.get_key_value(step)?;
                (key_span, value) = (key.span(), next);
            }
            DeValue::Array(list) => value = list.get(step.parse::<usize>().ok()?)?,
            _ => return None,
        }
    }
    Some(if of_key { key_span } else { value.span() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_keys_holds_optional_settings_and_those_of_listeners() {
        let keys = every_key();
        for key in ["shards", "cpus", "storage.data_dir", "limits.max_packet_bytes", "listeners[].address", "io.backend", "log.level"] {
            assert!(keys.iter().any(|known| known == key), "{key}");
        }
    }

    #[test]
    fn a_slip_of_the_pen_finds_its_key() {
        for (unknown, meant) in [
            ("limits.max_packet_byte", "limits.max_packet_bytes"),
            ("limits.max_paket_bytes", "limits.max_packet_bytes"),
            ("shard", "shards"),
            ("max_packet_bytes", "limits.max_packet_bytes"),
            ("listeners[1].adress", "listeners[1].address"),
            ("io.level", "log.level"),
            ("listener", "listeners"),
            ("limit", "limits"),
        ] {
            assert_eq!(nearest(unknown).as_deref(), Some(meant), "{unknown}");
        }
        assert_eq!(nearest("persistence"), None);
        assert_eq!(nearest("x"), None);
    }

    #[test]
    fn the_documentation_names_every_key_and_its_default() {
        let documentation = include_str!("../../docs/CONFIG.md");
        let rows: Vec<Vec<_>> = documentation.lines().map(|line| line.split(" | ").collect()).collect();
        let defaults = Value::try_from(Config::default()).unwrap();
        for key in every_key() {
            let row = rows.iter().find(|row| row[0] == format!("| `{key}`")).unwrap_or_else(|| panic!("no row for {key}"));
            // An absent default, or one made from other settings, is described in words.
            let described = key.starts_with("listeners[].") && !key.ends_with("backlog");
            if let (false, Some(default)) = (described, lookup(&defaults, &key.replace("[]", "[0]"))) {
                assert_eq!(row[1], default.to_string(), "{key}");
            }
        }
        for row in rows.iter().filter(|row| row[0].starts_with("| `")) {
            assert!(every_key().iter().any(|key| row[0] == format!("| `{key}`")), "{} is no key", row[0]);
        }
    }
}
