//! `ringmq completions SHELL`: the script to source, on standard output.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

#[derive(Args, Clone, Debug, PartialEq)]
pub(super) struct CompletionsArgs {
    /// Shell to write the script for
    shell: SupportedShell,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum SupportedShell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script for the command line `C`.
pub(super) fn run<C: CommandFactory>(args: &CompletionsArgs) -> Result<(), String> {
    let shell = match args.shell {
        SupportedShell::Bash => Shell::Bash,
        SupportedShell::Zsh => Shell::Zsh,
        SupportedShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut C::command(), "ringmq", &mut script);
    super::print(&script)
}
