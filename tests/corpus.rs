//! Runs the fuzz targets on their committed corpus, without a fuzzer: every input that ever taught something stays a test. `scripts/fuzz.sh` goes on
//! from here; a finding of it becomes a file in `tests/fuzz/corpus/<target>` named after what it shows.

#[path = "fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

/// Runs one target on each of its inputs, and says which one fails.
fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&directory).expect("a corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file of the corpus").path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "{} inputs in {}", paths.len(), directory.display());
    for path in paths {
        let input = std::fs::read(&path).expect("an input");
        if let Err(panic) = std::panic::catch_unwind(|| run(&input)) {
            eprintln!("with {}", path.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn decoding_anything() {
    replay("decode", targets::decode::run);
}

#[test]
fn encoding_and_decoding_again() {
    replay("round_trip", targets::round_trip::run);
}

#[test]
fn topics_against_a_naive_matcher() {
    replay("topics", targets::topics::run);
}

#[test]
fn what_is_read_after_a_crash() {
    replay("recovery", targets::recovery::run);
}

#[test]
fn a_shard_and_its_clients() {
    replay("shard", targets::shard::run);
}
