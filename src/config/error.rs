//! Why a configuration is refused, in one sentence: place, key, what was found, what was expected.

use std::ops::Range;

use toml::Value;

use super::keys;

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// `ringmq.toml:3:20`, or the flag that said it.
    pub origin: String,
    /// The key path, `limits.max_packet_bytes`; none where the text is no TOML at all.
    pub key: Option<String>,
    /// What was found and what was expected.
    pub problem: String,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: {key}: {}", self.origin, self.problem),
            None => write!(f, "{}: {}", self.origin, self.problem),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A problem with the value of a key, before anybody has looked up where that value came from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub key: String,
    pub problem: String,
}

impl Problem {
    pub(super) fn new(key: impl Into<String>, problem: impl Into<String>) -> Problem {
        Problem { key: key.into(), problem: problem.into() }
    }
}

/// Puts what serde says about the value at `key` of `root` into words of the file rather than of Rust.
pub(super) fn explain(key: &str, message: &str, root: &Value) -> Problem {
    if message.starts_with("unknown field") {
        return Problem::new(key, unknown_key(key, message));
    }
    if let Some(field) = message.strip_prefix("missing field ") {
        return Problem::new(key, format!("{field} is required"));
    }
    let found = keys::lookup(root, key).map(describe);
    let problem = match (message.split_once(", expected "), found) {
        (Some((head, expected)), Some(found)) if head.starts_with("invalid ") || head.starts_with("unknown variant") => {
            format!("found {found}, expected {}", in_plain_words(expected))
        }
        _ => message.to_owned(),
    };
    Problem::new(key, problem)
}

fn unknown_key(key: &str, message: &str) -> String {
    match keys::nearest(key) {
        Some(near) => format!("unknown key; did you mean `{near}`?"),
        None => match message.split_once(", expected ") {
            Some((_, expected)) => format!("unknown key, expected {expected}"),
            None => "unknown key".to_owned(),
        },
    }
}

fn in_plain_words(expected: &str) -> &str {
    match expected {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number from 0 to 9223372036854775807",
        "a sequence" => "a list",
        "string only" | "path string" => "a string",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the string \"{text}\""),
        Value::Integer(number) => format!("the number {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Boolean(flag) => format!("{flag}"),
        Value::Datetime(time) => format!("the date {time}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// `name:line:column` of the start of `span` in `text`, counted from 1 in characters.
pub(super) fn position(name: &str, text: &str, span: Range<usize>) -> String {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("{name}:{line}:{column}")
}
