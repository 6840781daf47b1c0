//! Logs out of anything: a shard takes in what it can of them, and what it then writes anew says the same to the next run.

use std::sync::Arc;

use ringmq::broker::{Holdings, JournalJob, Shard, ShardConfig, ShardId};
use ringmq::config::Limits;

/// Milliseconds since 1970 at the beginning of the shards' clock.
const UNIX_MS: u64 = 1_700_000_000_000;

/// The first byte says how many shards there are and were; the rest is cut into their logs at each 0xFE 0xFF.
pub fn run(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    let (before, after) = (usize::from(first % 3) + 1, u16::from(first / 3 % 3) + 1);
    let mut logs: Vec<Vec<Vec<u8>>> = vec![Vec::new(); before];
    for (index, commit) in commits(rest).enumerate() {
        logs[index % before].push(commit.to_vec());
    }
    let (holdings, written) = restart(&logs, after);
    let (again, rewritten) = restart(&written, after);
    assert_eq!(again, holdings, "what was written anew says something else");
    let (and_again, _) = restart(&rewritten, after);
    assert_eq!(and_again, holdings);
}

fn commits(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let end = bytes.windows(2).position(|pair| pair == [0xFE, 0xFF]);
        rest = end.map(|end| &bytes[end + 2..]);
        Some(&bytes[..end.unwrap_or(bytes.len())])
    })
}

/// A run that takes the logs in and is killed as soon as it has written its own: what it held, and what it left.
fn restart(logs: &[Vec<Vec<u8>>], shards: u16) -> (Vec<Holdings>, Vec<Vec<Vec<u8>>>) {
    let limits = Arc::new(Limits::default());
    let mut all: Vec<Shard> = (0..shards)
        .map(|id| Shard::new(ShardConfig { id: ShardId(id), shards, limits: Arc::clone(&limits), sys_interval_s: 0, seed: 7 }, 0))
        .collect();
    for shard in &mut all {
        shard.keep_journal(UNIX_MS);
        shard.restore(0, logs);
    }
    exchange(&mut all);
    let written = all.iter_mut().map(write).collect();
    // A timer may wait for what was taken back since.
    (all.iter().map(|shard| Holdings { timers: 0, ..shard.holdings() }).collect(), written)
}

/// What the shards tell one another.
fn exchange(all: &mut [Shard]) {
    let mut any = true;
    while std::mem::take(&mut any) {
        for from in 0..all.len() {
            for to in (0..all.len()).filter(|&to| to != from) {
                if let Some(batch) = all[from].take_batch(ShardId(to as u16)) {
                    all[to].peer_batch(0, ShardId(from as u16), batch);
                    any = true;
                }
            }
        }
    }
    assert!(all.iter().all(Shard::interest_is_known));
}

fn write(shard: &mut Shard) -> Vec<Vec<u8>> {
    let mut log = Vec::new();
    // A stage of the rewriting may have nothing to write.
    while !shard.is_durable() {
        while let Some(job) = shard.next_job() {
            if let JournalJob::Commit { number, records } = job {
                log.push(records);
                shard.committed(0, number, 1);
            }
        }
    }
    log
}
