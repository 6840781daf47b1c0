//! The command line: one file per subcommand. Each parses its own arguments, does its work through the layers below, and gives an exit code.

mod check_config;
pub mod client;
mod client_args;
mod completions;
mod doctor;
mod format;
mod passwd;
mod property_args;
mod publish;
mod run;
mod storage;
mod subscribe;
mod url;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Shown under every `ringmq --help`: what a newcomer needs next.
const AFTER_HELP: &str = "\
Examples:
  ringmq                                     broker on 127.0.0.1:1883, no configuration needed
  ringmq --listen 0.0.0.0:1883 --shards 4    reachable from outside, four shards
  ringmq --set limits.max_packet_bytes=65536 any setting of the file, for this run
  ringmq doctor --connections 1000000        what this machine lacks for that many
  ringmq check-config /etc/ringmq.toml       what would be in force, or what is wrong and where
  ringmq sub -t 'sensors/#' -v               print what arrives
  ringmq pub -t sensors/1 -m 21.5 -r         send one retained message

Configuration:
  One TOML file, given with --config; the broker looks nowhere else. Without it the defaults
  hold; `ringmq check-config` prints them. Flags and --set go over the file. docs/CONFIG.md
  explains every setting. SIGHUP reads the file again: limits, users, log level and $SYS interval
  change at once, the rest needs a restart.";

/// MQTT broker for Linux: one shard per core, MQTT 3.1, 3.1.1 and 5.0
///
/// Without a subcommand `ringmq` runs the broker.
#[derive(Debug, Parser)]
#[command(name = "ringmq", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker (what `ringmq` alone does)
    Run(run::RunArgs),
    /// Publish messages, as mosquitto_pub does
    Pub(publish::PubArgs),
    /// Subscribe and print what arrives, as mosquitto_sub does
    Sub(subscribe::SubArgs),
    /// Print the configuration that a file makes, or what is wrong with it
    CheckConfig(check_config::CheckConfigArgs),
    /// Look whether this machine allows for many connections, and say what to change
    Doctor(doctor::DoctorArgs),
    /// Look into a data directory, check it, write it out as JSON, make one
    Storage(storage::StorageArgs),
    /// Print a user for the configuration file, made from a password on standard input
    Passwd(passwd::PasswdArgs),
    /// Print the completion script of a shell
    Completions(completions::CompletionsArgs),
}

/// Why a subcommand failed: a line for standard error, unless empty, and the exit code.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    fn quiet_if(self, quiet: bool) -> Failure {
        if quiet { Failure { message: String::new(), ..self } } else { self }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure { message, code: 1 }
    }
}

impl From<client::ClientError> for Failure {
    fn from(error: client::ClientError) -> Failure {
        Failure { message: error.to_string(), code: error.exit_code() }
    }
}

/// Runs the program with the arguments of the process and gives its exit code: 0 for success, 1 for failure, 2 for arguments that make no
/// sense, and those of mosquitto_pub and mosquitto_sub for `pub` and `sub`.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(args) => run::run(&args).map_err(Failure::from),
        Command::Pub(args) => publish::run(&args),
        Command::Sub(args) => subscribe::run(&args),
        Command::CheckConfig(args) => check_config::run(&args).map_err(Failure::from),
        Command::Doctor(args) => doctor::run(&args).map_err(Failure::from),
        Command::Storage(args) => storage::run(&args).map_err(Failure::from),
        Command::Passwd(args) => passwd::run(&args).map_err(Failure::from),
        Command::Completions(args) => completions::run::<Cli>(&args).map_err(Failure::from),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("error: {}", failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Writes to standard output; a reader that has gone away is no failure.
fn print(text: &[u8]) -> Result<(), String> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("cannot write to standard output: {error}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn no_subcommand_means_run_and_both_take_the_same_flags() {
        let bare = Cli::try_parse_from(["ringmq", "--shards", "2"]).unwrap();
        assert!(bare.command.is_none());
        let named = Cli::try_parse_from(["ringmq", "run", "--shards", "2"]).unwrap();
        let Some(Command::Run(args)) = named.command else { panic!("{named:?}") };
        assert_eq!(args, bare.run);
    }

    #[test]
    fn what_is_no_flag_of_ours_is_refused() {
        for arguments in [&["ringmq", "--port", "1"][..], &["ringmq", "surf"], &["ringmq", "--io", "kqueue"], &["ringmq", "--shards"]] {
            assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }
}
