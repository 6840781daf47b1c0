//! From file and flags to a valid [`Config`].
//!
//! The file is read as a plain TOML table, the overrides are laid over it, and only the result is turned into types and checked: a flag passes
//! the same checks as the file, in the same words. Places are looked up afterwards, by key.

use std::path::PathBuf;

use toml::de::DeTable;
use toml::{Table, Value};

use super::error::{Problem, explain, position};
use super::{Config, ConfigError, check, keys};

/// Where settings come from: the built-in defaults, then the file, then the overrides, each over what went before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    pub file: Option<PathBuf>,
    pub overrides: Vec<Override>,
}

impl Sources {
    /// Reads the file anew and gives the configuration in force.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let Some(path) = &self.file else { return parse(None, &self.overrides) };
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => parse(Some((&name, &text)), &self.overrides),
            Err(error) => Err(ConfigError { origin: name, key: None, problem: format!("cannot read the configuration: {error}") }),
        }
    }
}

/// One value laid over the file, and the flag that said so.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// For error messages, `--set limits.max_inflight=10`.
    pub origin: String,
    /// `limits.max_inflight`.
    pub key: String,
    pub value: Value,
}

impl Override {
    /// Reads `KEY=VALUE` of a `--set`. The value is TOML; a bare word, path or address is taken as a string.
    pub fn from_set(argument: &str) -> Result<Override, ConfigError> {
        let origin = format!("--set {argument}");
        let refuse = |key: Option<&str>, problem: String| Err(ConfigError { origin: origin.clone(), key: key.map(str::to_owned), problem });
        let Some((key, value)) = argument.split_once('=') else {
            return refuse(None, "expected KEY=VALUE, for example limits.max_inflight=100".to_owned());
        };
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() || key.split('.').any(|step| step.trim().is_empty()) {
            return refuse(None, format!("found the key `{key}`, expected a name such as limits.max_inflight"));
        }
        let value = match toml::from_str::<Table>(&format!("value = {value}")) {
            Ok(mut table) if table.len() == 1 => table.remove("value").unwrap_or(Value::String(value.to_owned())),
            Err(error) if value.starts_with(['"', '\'', '[', '{']) => return refuse(Some(key), error.message().to_owned()),
            _ => Value::String(value.to_owned()),
        };
        Ok(Override { origin, key: key.to_owned(), value })
    }
}

/// The configuration that `file` (its name and text) and `overrides` make.
pub fn parse(file: Option<(&str, &str)>, overrides: &[Override]) -> Result<Config, ConfigError> {
    let (name, text) = file.unwrap_or(("built-in defaults", ""));
    let document = DeTable::parse(text).map_err(|error| syntax_error(name, text, &error))?;
    let place = Place { name, text, document: document.get_ref(), overrides };
    let mut root = Value::Table(toml::from_str(text).map_err(|error| syntax_error(name, text, &error))?);
    for over in overrides {
        lay_over(&mut root, over)?;
    }
    let mut config: Config = serde_path_to_error::deserialize(root.clone()).map_err(|error| {
        let message = error.inner().message();
        let of_key = message.starts_with("unknown field");
        place.locate(explain(&error.path().to_string(), message, &root), of_key)
    })?;
    fill_in(&mut config, &root);
    check::check(&config).map_err(|problem| place.locate(problem, false))?;
    Ok(config)
}

/// Defaults that depend on other settings.
fn fill_in(config: &mut Config, root: &Value) {
    let limits = &mut config.limits;
    if keys::lookup(root, "limits.max_connect_packet_bytes").is_none() {
        limits.max_connect_packet_bytes = limits.max_connect_packet_bytes.min(limits.max_packet_bytes);
    }
    if keys::lookup(root, "limits.out_buffer_bytes").is_none() {
        limits.out_buffer_bytes = limits.out_buffer_bytes.min(u32::try_from(limits.out_budget_bytes).unwrap_or(u32::MAX));
    }
    for listener in config.listeners.iter_mut().filter(|listener| listener.name.is_empty()) {
        listener.name = listener.address.to_string();
    }
}

fn lay_over(root: &mut Value, over: &Override) -> Result<(), ConfigError> {
    let mut target = root;
    for step in over.key.split('.').map(str::trim) {
        let kind = target.type_str();
        let Value::Table(table) = target else {
            let problem = format!("`{step}` is looked for in a value of type {kind}; only tables have keys (set a list as a whole)");
            return Err(ConfigError { origin: over.origin.clone(), key: Some(over.key.clone()), problem });
        };
        target = table.entry(step).or_insert_with(|| Value::Table(Table::new()));
    }
    *target = over.value.clone();
    Ok(())
}

fn syntax_error(name: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let origin = error.span().map_or_else(|| name.to_owned(), |span| position(name, text, span));
    ConfigError { origin, key: None, problem: format!("no valid TOML: {}", error.message().replace('\n', "; ")) }
}

/// Knows who set which key.
struct Place<'a> {
    name: &'a str,
    text: &'a str,
    document: &'a DeTable<'a>,
    overrides: &'a [Override],
}

impl Place<'_> {
    fn locate(&self, problem: Problem, of_key: bool) -> ConfigError {
        let Problem { key, problem } = problem;
        let flag =
            |set_it: &dyn Fn(&str) -> bool| self.overrides.iter().rev().find(|over| set_it(&over.key)).map(|over| over.origin.clone());
        let in_file = || keys::span(self.document, &key, of_key).map(|span| position(self.name, self.text, span));
        let origin = flag(&|set| covers(set, &key)).or_else(in_file).or_else(|| flag(&|set| covers(&key, set)));
        let origin = origin.unwrap_or_else(|| self.name.to_owned());
        ConfigError { origin, key: Some(key), problem }
    }
}

/// Whether setting `set` sets `key` too.
fn covers(set: &str, key: &str) -> bool {
    key.strip_prefix(set).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests;
