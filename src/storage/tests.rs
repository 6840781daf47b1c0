//! The log as a shard sees it: over both kinds of file, written, closed, torn, and read again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::directory::Directory;
use super::faulty::{self, Faults, Faulty};
use super::journal::{self, Done, Job, Journal};
use super::{Backend, Engine, Storage};

/// A directory that goes with the test.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("ringmq-storage-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        TempDir(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn wait_for(journal: &mut Journal, number: u64) -> Done {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match journal.poll() {
            Some(done @ Done::Committed { number: committed, .. }) if committed >= number => return done,
            Some(_) => {}
            None => assert!(Instant::now() < deadline, "commit {number} is not reported"),
        }
        std::thread::yield_now();
    }
}

/// Writes the commits of one run of a broker with one shard, one after the other, and makes them count.
fn run_once(dir: &Path, backend: Backend, payloads: &[&[u8]]) {
    let mut storage = Storage::open(dir, Engine::Log).unwrap();
    let mut journals = storage.start(1, backend, Arc::new(|_| {})).unwrap();
    let journal = &mut journals[0];
    for (index, payload) in payloads.iter().enumerate() {
        let job = Job::Commit { number: index as u64 + 1, payload: payload.to_vec() };
        assert!(journal.submit(job).is_ok());
        wait_for(journal, index as u64 + 1);
    }
    storage.commit_epoch(1).unwrap();
    drop(journals);
    storage.join();
}

fn read_back(dir: &Path) -> Vec<Vec<Vec<u8>>> {
    Storage::open(dir, Engine::Log).unwrap().recovered.shards
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    for backend in [Backend::Glommio, Backend::Blocking] {
        let dir = TempDir::new(&format!("restart-{backend:?}"));
        run_once(&dir.0, backend, &[b"one", b"two", b"three"]);
        assert_eq!(read_back(&dir.0), [[b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]], "{backend:?}");
        // The next run replaces it by what it writes itself.
        run_once(&dir.0, backend, &[b"four"]);
        assert_eq!(read_back(&dir.0), [[b"four".to_vec()]], "{backend:?}");
    }
}

#[test]
fn a_run_that_never_came_to_count_changes_nothing() {
    let dir = TempDir::new("uncounted");
    run_once(&dir.0, Backend::Blocking, &[b"kept"]);
    let mut storage = Storage::open(&dir.0, Engine::Log).unwrap();
    let mut journals = storage.start(1, Backend::Blocking, Arc::new(|_| {})).unwrap();
    assert!(journals[0].submit(Job::Commit { number: 1, payload: b"lost".to_vec() }).is_ok());
    wait_for(&mut journals[0], 1);
    drop(journals);
    storage.join();
    assert_eq!(read_back(&dir.0), [[b"kept".to_vec()]]);
}

#[test]
fn segments_are_read_in_order_and_freed_ones_are_gone() {
    let dir = TempDir::new("segments");
    let mut storage = Storage::open(&dir.0, Engine::Log).unwrap();
    let mut journals = storage.start(1, Backend::Glommio, Arc::new(|_| {})).unwrap();
    for number in 1..=12_u64 {
        assert!(journals[0].submit(Job::Commit { number, payload: vec![number as u8; 9] }).is_ok());
        assert!(journals[0].submit(Job::Rotate).is_ok());
    }
    let Done::Committed { segment, .. } = wait_for(&mut journals[0], 12) else { panic!("not a commit") };
    assert_eq!(segment, 12);
    assert!(journals[0].submit(Job::Free { before: 4 }).is_ok());
    assert!(journals[0].submit(Job::Commit { number: 13, payload: b"end".to_vec() }).is_ok());
    wait_for(&mut journals[0], 13);
    storage.commit_epoch(1).unwrap();
    drop(journals);
    storage.join();
    let payloads = read_back(&dir.0).remove(0);
    let first: Vec<u8> = payloads.iter().map(|payload| payload[0]).collect();
    assert_eq!(first, [4, 5, 6, 7, 8, 9, 10, 11, 12, b'e']);
}

/// A run of a broker with one shard on a disk that has faults: its two commits are written together.
fn run_on_faulty(dir: &Path, faults: Faults) {
    let mut directory = Directory::open(dir).unwrap();
    let shard = directory.make_shard(0).unwrap();
    let (mut journal, end) = journal::pair(Box::new(|| {}));
    for (number, payload) in [(1, b"first"), (2, b"other")] {
        assert!(journal.submit(Job::Commit { number, payload: payload.to_vec() }).is_ok());
    }
    let writer = std::thread::spawn(move || {
        faulty::plan(faults);
        futures_lite::future::block_on(super::log::run::<Faulty>(shard, end));
    });
    wait_for(&mut journal, 2);
    directory.commit(1).unwrap();
    drop(journal);
    writer.join().unwrap();
}

/// After a sync that failed the kernel may drop what it could not write, and report success the next time.
#[test]
fn what_a_failed_sync_may_have_dropped_is_written_once_more() {
    let length = 2 * (super::frame::HEADER + 5);
    let half = length / 2;
    for dropped in [0..half, half..length, 0..length, half - 1..half + 1] {
        let dir = TempDir::new("dropped");
        run_on_faulty(&dir.0, Faults { failing_syncs: 1, dropped: dropped.clone(), ..Default::default() });
        assert_eq!(read_back(&dir.0), [[b"first".to_vec(), b"other".to_vec()]], "dropped {dropped:?}");
    }
}

#[test]
fn short_and_failing_writes_are_made_good() {
    let dir = TempDir::new("short");
    run_on_faulty(&dir.0, Faults { failing_writes: 3, written_before_failing: 40, ..Default::default() });
    assert_eq!(read_back(&dir.0), [[b"first".to_vec(), b"other".to_vec()]]);
}

/// A message in an older segment must not outlive the word in a later one that it is done with.
#[test]
fn no_segment_is_deleted_before_those_that_are_older() {
    let dir = TempDir::new("order");
    let mut storage = Storage::open(&dir.0, Engine::Log).unwrap();
    let mut journals = storage.start(1, Backend::Blocking, Arc::new(|_| {})).unwrap();
    let mut write = |number| {
        assert!(journals[0].submit(Job::Commit { number, payload: b"x".to_vec() }).is_ok());
        assert!(journals[0].submit(Job::Rotate).is_ok());
        wait_for(&mut journals[0], number);
        let before = if number == 5 { 4 } else { 0 };
        assert!(journals[0].submit(Job::Free { before }).is_ok());
    };
    (1..=4).for_each(&mut write);
    // A directory cannot be deleted as a file: the second segment stays.
    let segments = dir.0.join("epoch-1/shard-0");
    let second = segments.join("0000000000000002.log");
    std::fs::remove_file(&second).unwrap();
    std::fs::create_dir(&second).unwrap();
    (5..=6).for_each(&mut write);
    drop(journals);
    storage.join();
    let mut left: Vec<_> = std::fs::read_dir(&segments).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    let left: Vec<_> = left.iter().map(|name| &name.to_str().unwrap()[15..16]).collect();
    assert_eq!(left, ["2", "3", "4", "5", "6"]);
}

#[test]
fn a_damaged_record_is_set_aside_and_the_rest_is_read() {
    let dir = TempDir::new("damaged");
    run_once(&dir.0, Backend::Blocking, &[b"first", b"second", b"third"]);
    let segment = dir.0.join("epoch-1/shard-0/0000000000000001.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[super::frame::HEADER + 5 + super::frame::HEADER] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let recovered = Storage::open(&dir.0, Engine::Log).unwrap().recovered;
    assert_eq!(recovered.shards, [[b"first".to_vec(), b"third".to_vec()]]);
    let [damage] = &recovered.damage[..] else { panic!("{:?}", recovered.damage) };
    let set_aside = std::fs::read(damage.set_aside.as_ref().unwrap()).unwrap();
    assert!(set_aside.ends_with(&bytes[2 * super::frame::HEADER + 5..][..6]), "{set_aside:?}");
}

#[test]
fn a_second_broker_on_the_same_directory_is_refused() {
    let dir = TempDir::new("locked");
    let first = Storage::open(&dir.0, Engine::Log).unwrap();
    let error = Storage::open(&dir.0, Engine::Log).err().unwrap();
    assert!(error.contains("another ringmq uses it"), "{error}");
    drop(first);
    assert!(Storage::open(&dir.0, Engine::Log).is_ok());
}

#[test]
fn a_foreign_or_later_directory_is_refused_with_the_remedy() {
    let dir = TempDir::new("foreign");
    std::fs::create_dir_all(&dir.0).unwrap();
    for (current, expected) in
        [("ringmq 3 epoch 1", "written in format 3"), ("something else", "none of ringmq's"), ("ringmq 2 epoch x", "names no epoch")]
    {
        std::fs::write(dir.0.join("CURRENT"), current).unwrap();
        let error = Storage::open(&dir.0, Engine::Log).err().unwrap();
        assert!(error.contains(expected), "{error}");
    }
}

/// The same for the engine that keeps keys and values.
#[cfg(feature = "engine-fjall")]
mod fjall {
    use super::super::Changes;
    use super::*;

    /// `+ab` puts `a` under the key `ab`; `-ab` removes it; `*ab` removes all keys from `a` on, without `b`.
    fn keyed(records: &[u8], _: u16, _: u16, changes: &mut dyn Changes) {
        match records {
            [b'+', key @ ..] => changes.put(key, &key[..1]),
            [b'-', key @ ..] => changes.remove(key),
            [b'*', from, to] => changes.remove_range(&[*from], &[*to]),
            _ => {}
        }
    }

    const FJALL: Engine = Engine::Fjall(keyed);

    /// Runs a broker whose shards leave these commits.
    fn run(dir: &Path, shards: &[&[&str]]) {
        let mut storage = Storage::open(dir, FJALL).unwrap();
        let mut journals = storage.start(shards.len() as u16, Backend::Blocking, Arc::new(|_| {})).unwrap();
        for (journal, commits) in journals.iter_mut().zip(shards) {
            for (number, commit) in (1..).zip(*commits) {
                assert!(journal.submit(Job::Commit { number, payload: commit.as_bytes().to_vec() }).is_ok());
            }
            wait_for(journal, commits.len() as u64);
        }
        storage.commit_epoch(shards.len() as u16).unwrap();
        drop(journals);
        storage.join();
    }

    fn values(dir: &Path) -> String {
        let shards = Storage::open(dir, FJALL).unwrap().recovered.shards;
        String::from_utf8(shards.concat().concat()).unwrap()
    }

    #[test]
    fn what_is_live_is_there_after_a_restart_and_nothing_else() {
        let dir = TempDir::new("fjall-live");
        assert_eq!(values(&dir.0), "");
        run(&dir.0, &[&["+c1", "+a1", "-a1", "+d1", "-d1", "+d1"], &["+b1", "+f1", "+f2", "+g1"]]);
        assert_eq!(values(&dir.0), "bcdffg");
        // Also what an earlier run has left, and what the same commits put.
        run(&dir.0, &[&["-b1", "+f3", "*fg", "+e1"]]);
        assert_eq!(values(&dir.0), "cdeg");
    }

    #[test]
    fn a_directory_stays_with_the_engine_that_made_it() {
        let (logs, keys) = (TempDir::new("of-logs"), TempDir::new("of-keys"));
        run_once(&logs.0, Backend::Blocking, &[b"one"]);
        run(&keys.0, &[&["+a1"]]);
        let error = Storage::open(&logs.0, FJALL).err().unwrap();
        assert!(error.contains("it holds logs"), "{error}");
        let error = Storage::open(&keys.0, Engine::Log).err().unwrap();
        assert!(error.contains("storage.engine = \"fjall\""), "{error}");
        assert_eq!(super::super::Contents::read(&keys.0).unwrap().shards, [[b"a"]]);
    }

    #[test]
    fn a_second_broker_on_the_same_directory_is_refused() {
        let dir = TempDir::new("fjall-locked");
        let first = Storage::open(&dir.0, FJALL).unwrap();
        let error = Storage::open(&dir.0, FJALL).err().unwrap();
        assert!(error.contains("another ringmq uses it"), "{error}");
        drop(first);
        assert!(Storage::open(&dir.0, FJALL).is_ok());
    }
}
