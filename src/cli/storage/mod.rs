//! `ringmq storage info|verify|export|import`: what a data directory holds, for people. The broker must not run on it meanwhile.

mod dump;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::storage::{self, Contents};
use dump::State;

#[derive(Args, Clone, Debug, PartialEq)]
pub(super) struct StorageArgs {
    #[command(subcommand)]
    command: StorageCommand,
}

#[derive(Clone, Debug, PartialEq, Subcommand)]
enum StorageCommand {
    /// Say what is in a data directory: sessions, messages, retained messages, bytes
    Info(DirArgs),
    /// Read everything, and fail if anything of it is damaged
    Verify(DirArgs),
    /// Write everything to standard output, a line of JSON for each session and each retained message
    Export(DirArgs),
    /// Make a data directory out of what `export` wrote, from standard input
    Import(DirArgs),
}

#[derive(Args, Clone, Debug, PartialEq)]
struct DirArgs {
    /// Data directory, as in `ringmq --data-dir DIR`
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Carries out a subcommand.
pub(super) fn run(args: &StorageArgs) -> Result<(), String> {
    match &args.command {
        StorageCommand::Info(args) => super::print(info(&args.dir)?.as_bytes()),
        StorageCommand::Verify(args) => super::print(verify(&args.dir)?.as_bytes()),
        StorageCommand::Export(args) => export(&args.dir, &mut std::io::stdout().lock()),
        StorageCommand::Import(args) => super::print(import(&args.dir, std::io::stdin().lock())?.as_bytes()),
    }
}

fn info(dir: &Path) -> Result<String, String> {
    let contents = Contents::read(dir)?;
    let state = State::of(&contents.shards);
    let damage: usize = contents.damage.iter().map(|damage| damage.bytes).sum();
    let damaged = if damage == 0 { String::new() } else { format!("damaged           {damage} bytes, which the next start sets aside\n") };
    Ok(format!("{}log               {} bytes of {} shards\n{damaged}", state.summary(), contents.bytes, contents.shards.len()))
}

fn verify(dir: &Path) -> Result<String, String> {
    let contents = Contents::read(dir)?;
    let unknown = dump::unknown_records(&contents.shards);
    if contents.damage.is_empty() && unknown == 0 {
        let commits: usize = contents.shards.iter().map(Vec::len).sum();
        return Ok(format!("whole: {commits} commits, {} bytes\n", contents.bytes));
    }
    let mut lines: Vec<String> = contents
        .damage
        .iter()
        .map(|damage| format!("{}: {} bytes from {} on", damage.segment.display(), damage.bytes, damage.at))
        .collect();
    lines.extend((unknown > 0).then(|| format!("{unknown} commits hold records that this version does not know")));
    let next = "The broker starts all the same: it sets these bytes aside in DIR/damaged and goes on with the rest. The end of a log is often damaged by \
                a kill or a loss of power, and nothing that was acknowledged is in it then.";
    Err(format!("damaged:\n  {}\n{next}", lines.join("\n  ")))
}

fn export(dir: &Path, out: &mut impl Write) -> Result<(), String> {
    let contents = Contents::read(dir)?;
    let state = State::of(&contents.shards);
    let written = state.lines().try_for_each(|line| writeln!(out, "{line}")).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("cannot write to standard output: {error}")),
        _ => Ok(()),
    }
}

fn import(dir: &Path, lines: impl BufRead) -> Result<String, String> {
    let mut commits = Vec::new();
    let mut numbers = dump::Numbers::default();
    for (index, line) in lines.lines().enumerate() {
        let line = line.map_err(|error| format!("cannot read standard input: {error}"))?;
        if !line.trim().is_empty() {
            commits.push(dump::records(&line, &mut numbers).map_err(|error| format!("line {}: {error}", index + 1))?);
        }
    }
    let count = commits.len();
    storage::make(dir, commits)?;
    Ok(format!("{count} sessions and retained messages are in {}; start it with `ringmq --data-dir {0}`\n", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::journal::record::{Record, Stored};
    use crate::mqtt::{QoS, Version};

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let path = std::env::temp_dir().join(format!("ringmq-storage-cli-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            Dir(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn stored<'a>(topic: &'a str, payload: &'a [u8]) -> Stored<'a> {
        Stored { topic, payload, forward: &[0x26, 0, 1, b'k', 0, 1, b'v'], qos: QoS::ExactlyOnce, retain: true, expires_at: 77 }
    }

    /// A log with everything in it, and something that is over.
    fn log() -> Vec<u8> {
        let mut bytes = Vec::new();
        let session = 0x1234_5678_9abc_def0;
        let delivery = |number, message| Record::Delivery {
            session,
            number,
            message,
            qos: QoS::ExactlyOnce,
            retain: true,
            share: "$share/g/t",
            subscription_ids: [3, 4].into_iter().collect(),
        };
        let records = [
            Record::SetRetained(stored("kept/1", &[0, 255, b'"'])),
            Record::SetRetained(stored("kept/2", b"over")),
            Record::ClearRetained { topic: "kept/2" },
            Record::Session { session, version: Version::V5, expiry_s: 9, client_id: "ä \"c\"", user: "u" },
            Record::Will { session, delay_s: 5, expiry_s: u32::MAX, message: stored("will", b"w") },
            Record::Subscribed { session, subscription_id: 7, options: 9, filter: "$share/g/t" },
            Record::Message { message: 1, stored: stored("t", b"one") },
            delivery(5, 1),
            delivery(6, 1),
            delivery(7, 1),
            Record::Sent { session, number: 6 },
            Record::Released { session, number: 5 },
            Record::Received { session, packet_id: 12, elsewhere: true },
            Record::SessionLeft { session, unix_ms: 99 },
        ];
        records.iter().for_each(|record| record.put(&mut bytes));
        bytes
    }

    #[test]
    fn what_is_exported_can_be_imported_and_says_the_same() {
        let (from, to) = (Dir::new("from"), Dir::new("to"));
        storage::make(&from.0, vec![log()]).unwrap();
        let exported = |dir: &Dir| {
            let mut text = Vec::new();
            export(&dir.0, &mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        let text = exported(&from);
        assert_eq!(text.lines().count(), 2, "{text}");
        import(&to.0, text.as_bytes()).unwrap();
        assert_eq!(exported(&to), text);
        let info = info(&to.0).unwrap();
        for line in ["sessions          1", "subscriptions     1", "messages          2", "retained          1"] {
            assert!(info.contains(line), "{info}");
        }
        assert!(verify(&to.0).unwrap().starts_with("whole"));
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let dir = Dir::new("said");
        assert!(info(&dir.0).unwrap_err().contains("no data directory"), "{}", info(&dir.0).unwrap_err());
        let error = import(&dir.0, &b"{\"retained\":{\"topic\":\"a\"}}\n"[..]).unwrap_err();
        assert!(error.starts_with("line 1: "), "{error}");
        storage::make(&dir.0, vec![log()]).unwrap();
        assert!(import(&dir.0, &b""[..]).unwrap_err().contains("is not empty"));
        let segment = dir.0.join("epoch-1/shard-0/0000000000000001.log");
        let mut bytes = std::fs::read(&segment).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        assert!(verify(&dir.0).unwrap_err().contains("0000000000000001.log"));
    }
}
