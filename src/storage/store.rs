//! A data directory while a broker runs: opened, read, and written to; and what may stand behind that.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::directory::{Directory, Recovered};
#[cfg(feature = "engine-fjall")]
use super::fjall::{Fjall, Keyed};
use super::journal::{self, Journal, WriterEnd};

/// How long to wait before a write that failed is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(200);

/// How the writers do their work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// All writers on one glommio executor.
    Glommio,
    /// A thread with blocking calls for each: where io_uring is refused.
    Blocking,
}

/// Who keeps the commits.
#[derive(Clone, Copy, Debug)]
pub enum Engine {
    /// A log for each shard.
    Log,
    /// Keys and values; what a commit changes of them is said by this function.
    #[cfg(feature = "engine-fjall")]
    Fjall(Keyed),
}

/// What keeps the commits of the shards, and knows which of them count after a crash. Only the start and the end go through it: what a shard hands over
/// goes through its [`Journal`] to threads of the store.
pub(super) trait Store: Send {
    /// What the last run has left.
    fn read(&mut self) -> Result<Recovered, String>;
    /// Starts the threads that take the commits of these shards.
    fn start(&mut self, ends: Vec<WriterEnd>, backend: Backend) -> Result<Vec<JoinHandle<()>>, String>;
    /// Every shard has what it restored: from now on the commits of this run count.
    fn commit_epoch(&mut self, shards: u16) -> Result<(), String>;
    /// Whether it keeps what is live and nothing else, so that nobody has to write that anew.
    fn keeps_live_only(&self) -> bool;
}

/// An opened data directory: what was found in it, and what takes the commits of this run, none of which count before [`Storage::commit_epoch`].
pub struct Storage {
    store: Box<dyn Store>,
    /// What the last run has left.
    pub recovered: Recovered,
    writers: Vec<JoinHandle<()>>,
}

impl Storage {
    /// Opens a data directory, for one broker at a time, and reads what is there.
    ///
    /// # Errors
    /// A sentence: another broker uses it, it cannot be read or written, or it was written by a later version or another engine.
    pub fn open(path: &Path, engine: Engine) -> Result<Storage, String> {
        let mut store: Box<dyn Store> = match engine {
            Engine::Log => Box::new(Directory::open(path)?),
            #[cfg(feature = "engine-fjall")]
            Engine::Fjall(keyed) => Box::new(Fjall::open(path, keyed)?),
        };
        let recovered = store.read()?;
        Ok(Storage { store, recovered, writers: Vec::new() })
    }

    /// Whether the shards need not write anew what is live.
    pub fn keeps_live_only(&self) -> bool {
        self.store.keeps_live_only()
    }

    /// Starts the writers of `shards` shards. `wake` is called with a shard's index when there is something for it to read.
    ///
    /// # Errors
    /// A sentence: a file or a thread cannot be made.
    pub fn start(&mut self, shards: u16, backend: Backend, wake: Arc<dyn Fn(usize) + Send + Sync>) -> Result<Vec<Journal>, String> {
        let pair = |shard| {
            let wake = Arc::clone(&wake);
            journal::pair(Box::new(move || wake(shard)))
        };
        let (journals, ends) = (0..usize::from(shards)).map(pair).unzip();
        self.writers = self.store.start(ends, backend)?;
        Ok(journals)
    }

    /// Makes the commits of this run the ones that count, once every shard has written what it restored.
    ///
    /// # Errors
    /// A sentence; what the last run has left still counts then.
    pub fn commit_epoch(&mut self, shards: u16) -> Result<(), String> {
        self.store.commit_epoch(shards)
    }

    /// Waits until all writers have ended, which they do when their shards are gone.
    pub fn join(self) {
        for writer in self.writers {
            let _ = writer.join();
        }
    }
}
