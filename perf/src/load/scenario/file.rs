//! Reading scenario files: what they are like, what the command line changes.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Scenario;

/// Files that may be like one another before it must be a circle.
const MAX_DEPTH: usize = 8;

/// The scenario of this name (a file in `folder`) or file, with `changes` of the form `key=value` on top. Gives its name, too.
///
/// # Errors
/// There is no such file, it is not TOML, it has keys that no scenario has, or what it says makes no sense.
pub fn load(folder: &Path, name: &str, changes: &[String]) -> Result<(String, Scenario), Box<dyn Error>> {
    let path = if name.ends_with(".toml") { PathBuf::from(name) } else { folder.join(name).with_extension("toml") };
    let mut table = read(&path, 0)?;
    for change in changes {
        let (key, value) = parse_change(change)?;
        table.insert(key, value);
    }
    let scenario: Scenario = Value::Table(table).try_into().map_err(|error| format!("{}: {error}", path.display()))?;
    scenario.check().map_err(|what| format!("{}: {what}", path.display()))?;
    let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    Ok((name, scenario))
}

/// All scenarios of a folder, by name.
pub fn list(folder: &Path) -> Result<Vec<(String, Scenario)>, Box<dyn Error>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    names.iter().map(|name| load(folder, name, &[])).collect()
}

/// The keys of a file and of those that it is like. What belongs to one file only is not inherited.
fn read(path: &Path, depth: usize) -> Result<Table, Box<dyn Error>> {
    const OWN: [&str; 6] = ["title", "like", "against", "headline", "bare", "scale"];
    if depth > MAX_DEPTH {
        return Err(format!("{}: like goes round in a circle", path.display()).into());
    }
    let text = fs::read_to_string(path).map_err(|error| format!("no scenario {}: {error}", path.display()))?;
    let table: Table = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
    let Some(like) = table.get("like").and_then(Value::as_str) else { return Ok(table) };
    let mut base = read(&path.with_file_name(like).with_extension("toml"), depth + 1)?;
    base.retain(|key, _| !OWN.contains(&key));
    base.extend(table);
    Ok(base)
}

fn parse_change(change: &str) -> Result<(String, Value), String> {
    let (key, value) = change.split_once('=').ok_or_else(|| format!("--set {change}: it must be KEY=VALUE"))?;
    // What is no number or truth value is a string without its quotes.
    let quoted = || Value::String(value.to_owned());
    let value = format!("v={value}").parse::<Table>().ok().and_then(|mut table| table.remove("v")).unwrap_or_else(quoted);
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
    }

    #[test]
    fn every_scenario_of_the_project_makes_sense() {
        let all = list(&folder()).unwrap();
        assert!(all.len() > 20);
        for (name, scenario) in &all {
            assert!(scenario.against.is_empty() || all.iter().any(|(other, _)| *other == scenario.against), "{name}");
        }
    }

    #[test]
    fn a_variation_inherits_what_it_does_not_say_and_the_command_line_wins() {
        let (_, base) = load(&folder(), "pairs", &[]).unwrap();
        let changes = ["payload=256".to_owned(), "filter_kind=hash".to_owned()];
        let (name, scenario) = load(&folder(), "pairs-qos1", &changes).unwrap();
        assert_eq!((name.as_str(), scenario.publishers, scenario.qos), ("pairs-qos1", base.publishers, 1));
        assert_eq!((scenario.payload, scenario.filter_kind), (256, super::super::FilterKind::Hash));
    }

    #[test]
    fn a_key_that_no_scenario_has_is_an_error() {
        assert!(load(&folder(), "pairs", &["paylod=256".to_owned()]).is_err());
        assert!(load(&folder(), "pairs", &["payload=1".to_owned()]).is_err());
        assert!(load(&folder(), "no-such-scenario", &[]).is_err());
    }
}
