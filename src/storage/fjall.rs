//! The other store: fjall, a log-structured merge tree, in place of the logs.
//!
//! What is kept stands under keys of its own and is removed when it is over; what is live is found by going through the keys, and the engine compacts by
//! itself. All shards share one database and one writer: whatever all of them have left meanwhile is one batch, durable with one `fdatasync`. What the
//! records of a commit change is said by a function that is handed in, since the payloads mean nothing here.
//!
//! It is there to be compared with, see docs/decisions/0006-storage-engine.md. Unlike the logs it does not start where a part of it is damaged.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::thread::JoinHandle;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, UserKey, UserValue};

use super::Contents;
use super::directory::{self, Recovered};
use super::journal::{Done, Job, WriterEnd};
use super::store::{Backend, RETRY, Store};

/// Bytes of values that are handed on as one commit when a store is read.
const CHUNK_BYTES: usize = 256 * 1024;

/// Says what the records of a commit change: of this shard of so many.
pub type Keyed = fn(records: &[u8], shard: u16, shards: u16, changes: &mut dyn Changes);

/// Takes what a commit changes, in order.
pub trait Changes {
    fn put(&mut self, key: &[u8], value: &[u8]);
    fn remove(&mut self, key: &[u8]);
    /// Removes all keys from `from` on, without `to`.
    fn remove_range(&mut self, from: &[u8], to: &[u8]);
}

/// A data directory whose state is in fjall.
pub struct Fjall {
    place: Place,
    open: Option<Tree>,
    keyed: Keyed,
    /// Held for as long as the broker runs.
    _lock: File,
}

/// Where the database is.
#[derive(Clone)]
struct Place(PathBuf);

/// The database, and all keys in it.
struct Tree {
    database: Database,
    keys: Keyspace,
}

impl Place {
    fn in_directory(path: &Path) -> Place {
        Place(path.join(directory::FJALL))
    }

    fn open(&self) -> Result<Tree, fjall::Error> {
        let database = Database::builder(&self.0).open()?;
        let keys = database.keyspace("state", KeyspaceCreateOptions::default)?;
        Ok(Tree { database, keys })
    }

    fn explain(&self, what: &str, error: &fjall::Error) -> String {
        format!("storage: cannot {what} {}: {error}", self.0.display())
    }
}

impl Fjall {
    pub fn open(path: &Path, keyed: Keyed) -> Result<Fjall, String> {
        let lock = directory::lock(path)?;
        if path.join("CURRENT").exists() {
            return Err(format!(
                "storage.data_dir {}: it holds logs; start with storage.engine = \"log\", or take another directory",
                path.display()
            ));
        }
        let place = Place::in_directory(path);
        let open = place.open().map_err(|error| place.explain("open", &error))?;
        Ok(Fjall { place, open: Some(open), keyed, _lock: lock })
    }
}

impl Store for Fjall {
    fn read(&mut self) -> Result<Recovered, String> {
        let Some(tree) = &self.open else { return Ok(Recovered::default()) };
        let log = tree.read().map_err(|error| self.place.explain("read", &error))?;
        let bytes = log.iter().map(|commit| commit.len() as u64).sum();
        Ok(Recovered { shards: vec![log], damage: Vec::new(), bytes })
    }

    fn start(&mut self, ends: Vec<WriterEnd>, _: Backend) -> Result<Vec<JoinHandle<()>>, String> {
        let writer = Writer { place: self.place.clone(), open: self.open.take(), keyed: self.keyed, shards: ends.len() as u16 };
        let thread = std::thread::Builder::new().name("storage".to_owned());
        let spawned = thread.spawn(move || futures_lite::future::block_on(writer.run(ends)));
        Ok(vec![spawned.map_err(|error| format!("cannot start the storage thread: {error}"))?])
    }

    fn commit_epoch(&mut self, _: u16) -> Result<(), String> {
        // What was there has stayed where it was.
        Ok(())
    }

    fn keeps_live_only(&self) -> bool {
        true
    }
}

/// What is in a directory; `None` if fjall has not written it.
pub fn contents(path: &Path) -> Result<Option<Contents>, String> {
    let place = Place::in_directory(path);
    if !place.0.is_dir() {
        return Ok(None);
    }
    let _lock = directory::lock(path)?;
    let log = place.open().and_then(|tree| tree.read()).map_err(|error| place.explain("read", &error))?;
    let bytes = log.iter().map(|commit| commit.len() as u64).sum();
    Ok(Some(Contents { shards: vec![log], damage: Vec::new(), bytes }))
}

impl Tree {
    /// All values in the order of their keys.
    fn read(&self) -> Result<Vec<Vec<u8>>, fjall::Error> {
        let mut log = vec![Vec::new()];
        for entry in self.keys.iter() {
            let value = entry.value()?;
            match log.last_mut() {
                Some(last) if last.len() < CHUNK_BYTES => last.extend_from_slice(&value),
                _ => log.push(value.to_vec()),
            }
        }
        log.retain(|commit| !commit.is_empty());
        Ok(log)
    }
}

/// What a batch leaves under each key that it changes; the engine does not order changes of one key within a batch.
struct Batch<'t> {
    tree: &'t Tree,
    changes: BTreeMap<UserKey, Option<UserValue>>,
    failed: Option<fjall::Error>,
}

impl Changes for Batch<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.changes.insert(key.into(), Some(value.into()));
    }

    fn remove(&mut self, key: &[u8]) {
        self.changes.insert(key.into(), None);
    }

    fn remove_range(&mut self, from: &[u8], to: &[u8]) {
        let range = (Bound::Included(from), Bound::Excluded(to));
        self.changes.range_mut::<[u8], _>(range).for_each(|(_, change)| *change = None);
        for entry in self.tree.keys.range(from..to) {
            match entry.key() {
                Ok(key) => drop(self.changes.insert(key, None)),
                Err(error) => self.failed = Some(error),
            }
        }
    }
}

impl Batch<'_> {
    /// Makes all of it durable, or nothing.
    fn commit(self) -> Result<(), fjall::Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut batch = self.tree.database.batch().durability(Some(PersistMode::SyncData));
        for (key, change) in self.changes {
            match change {
                Some(value) => batch.insert(&self.tree.keys, key, value),
                None => batch.remove(&self.tree.keys, key),
            }
        }
        batch.commit()
    }
}

/// Writes what all shards leave.
struct Writer {
    place: Place,
    /// `None` after a failure: the engine takes nothing more then until it is opened again.
    open: Option<Tree>,
    keyed: Keyed,
    shards: u16,
}

/// Commits of one shard in their order.
type Commits = Vec<(u64, Vec<u8>)>;

impl Writer {
    async fn run(mut self, mut ends: Vec<WriterEnd>) {
        while let Some(gathered) = take_from_all(&mut ends).await {
            while let Err(error) = self.write(&gathered) {
                tracing::error!("{}; trying again", self.place.explain("write to", &error));
                let full = matches!(&error, fjall::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull);
                ends.iter_mut().for_each(|end| end.report(Done::Failing { full }));
                self.open = None;
                std::thread::park_timeout(RETRY);
            }
            for (end, commits) in ends.iter_mut().zip(gathered) {
                if let Some(&(number, _)) = commits.last() {
                    let payloads = commits.into_iter().map(|(_, payload)| payload).collect();
                    end.report(Done::Committed { number, segment: 0, bytes: 0, payloads });
                }
            }
        }
    }

    fn write(&mut self, gathered: &[Commits]) -> Result<(), fjall::Error> {
        let tree = match &mut self.open {
            Some(tree) => tree,
            closed => closed.insert(self.place.open()?),
        };
        let mut batch = Batch { tree, changes: BTreeMap::new(), failed: None };
        for (shard, commits) in (0..).zip(gathered) {
            commits.iter().for_each(|(_, records)| (self.keyed)(records, shard, self.shards, &mut batch));
        }
        batch.commit()
    }
}

/// Waits until a shard has left something, then takes what all of them have; `None` once all are gone and nothing is left.
async fn take_from_all(ends: &mut [WriterEnd]) -> Option<Vec<Commits>> {
    poll_fn(|context| {
        let mut gathered = Vec::with_capacity(ends.len());
        let mut closed = 0;
        for end in &mut *ends {
            let jobs = match end.poll_all(context) {
                Poll::Ready(Some(jobs)) => jobs,
                Poll::Ready(None) => {
                    closed += 1;
                    Vec::new()
                }
                Poll::Pending => Vec::new(),
            };
            // There are no segments to begin or to delete.
            let commits = jobs.into_iter().filter_map(|job| match job {
                Job::Commit { number, payload } => Some((number, payload)),
                Job::Rotate | Job::Free { .. } => None,
            });
            gathered.push(commits.collect());
        }
        match gathered.iter().all(Commits::is_empty) {
            false => Poll::Ready(Some(gathered)),
            true if closed == ends.len() => Poll::Ready(None),
            true => Poll::Pending,
        }
    })
    .await
}
