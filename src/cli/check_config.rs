//! `ringmq check-config FILE`: the configuration in force as TOML on standard output, or what is wrong as one line on standard error.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Config, Override, Sources};

#[derive(Args, Clone, Debug, PartialEq)]
pub(super) struct CheckConfigArgs {
    /// Configuration file; without it the defaults are printed
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Lay a setting over the file, as `ringmq --set` does. May be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Prints what is in force.
pub(super) fn run(args: &CheckConfigArgs) -> Result<(), String> {
    let overrides = args.set.iter().map(|set| Override::from_set(set)).collect::<Result<_, _>>();
    let config = overrides.and_then(|overrides| Sources { file: args.file.clone(), overrides }.load());
    let shown = effective(&config.map_err(|error| error.to_string())?)?;
    super::print(shown.as_bytes())
}

/// The configuration as a file that would make it; settings without a value stand in comments.
fn effective(config: &Config) -> Result<String, String> {
    let mut text = String::new();
    if config.shards.is_none() {
        text.push_str("# shards: one for each CPU that the broker may use\n");
    }
    if config.cpus.is_none() {
        text.push_str("# cpus: those that the process may use\n");
    }
    if config.storage.data_dir.is_none() {
        text.push_str("# storage.data_dir: none, everything lives in memory\n");
    }
    text.push_str(&toml::to_string(config).map_err(|error| error.to_string())?);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn what_is_printed_is_a_file_that_makes_the_same_configuration() {
        for text in ["", "shards = 3\ncpus = '1-2'\nstorage.data_dir = '/x'\n[[listeners]]\nname = 'lan'\naddress = '0.0.0.0:1883'\n"] {
            let config = parse(Some(("a", text)), &[]).unwrap();
            let shown = effective(&config).unwrap();
            assert_eq!(parse(Some(("b", &shown)), &[]).unwrap(), config, "{shown}");
        }
    }
}
