//! A data directory while a broker runs: opened, read, and written to by a writer for each shard.

use std::path::Path;
use std::sync::Arc;

use super::directory::{Directory, Recovered};
use super::journal::{self, Journal, WriterEnd};
use super::{file, log};

/// How the writers do their work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// All writers on one glommio executor.
    Glommio,
    /// A thread with blocking calls for each: where io_uring is refused.
    Blocking,
}

/// An opened data directory: what was found in it, and a new log per shard that nothing refers to before [`Storage::commit_epoch`].
pub struct Storage {
    directory: Directory,
    /// What the log of the last run holds.
    pub recovered: Recovered,
    writers: Vec<std::thread::JoinHandle<()>>,
}

impl Storage {
    /// Opens a data directory, for one broker at a time, and reads what is there.
    ///
    /// # Errors
    /// A sentence: another broker uses it, it cannot be read or written, or it was written by a later version.
    pub fn open(path: &Path) -> Result<Storage, String> {
        let mut directory = Directory::open(path)?;
        let recovered = directory.read()?;
        Ok(Storage { directory, recovered, writers: Vec::new() })
    }

    /// Starts the writers of `shards` new logs. `wake` is called with a shard's index when there is something for it to read.
    ///
    /// # Errors
    /// A sentence: a file or a thread cannot be made.
    pub fn start(&mut self, shards: u16, backend: Backend, wake: Arc<dyn Fn(usize) + Send + Sync>) -> Result<Vec<Journal>, String> {
        let mut journals = Vec::new();
        let mut ends = Vec::new();
        for shard in 0..usize::from(shards) {
            let wake = Arc::clone(&wake);
            let (journal, end) = journal::pair(Box::new(move || wake(shard)));
            journals.push(journal);
            ends.push((self.directory.make_shard(shard)?, end));
        }
        self.writers = spawn(backend, ends)?;
        Ok(journals)
    }

    /// Makes the new logs the ones that count, once every shard has written what it restored; the old ones are deleted.
    ///
    /// # Errors
    /// A sentence; the old logs still count then.
    pub fn commit_epoch(&mut self, shards: u16) -> Result<(), String> {
        self.directory.commit(shards)
    }

    /// Waits until all writers have ended, which they do when their shards are gone.
    pub fn join(self) {
        for writer in self.writers {
            let _ = writer.join();
        }
    }
}

fn spawn(backend: Backend, ends: Vec<(std::path::PathBuf, WriterEnd)>) -> Result<Vec<std::thread::JoinHandle<()>>, String> {
    let explain = |error: std::io::Error| format!("cannot start the storage thread: {error}");
    match backend {
        Backend::Glommio => {
            let thread = std::thread::Builder::new().name("storage".to_owned());
            let (ready, started) = crossbeam_channel::bounded(1);
            let handle = thread.spawn(move || log::run_on_glommio(ends, &ready)).map_err(explain)?;
            started.recv().unwrap_or_else(|_| Err("the storage thread ended while it started".to_owned()))?;
            Ok(vec![handle])
        }
        Backend::Blocking => ends
            .into_iter()
            .enumerate()
            .map(|(index, (path, end))| {
                let thread = std::thread::Builder::new().name(format!("storage-{index}"));
                thread.spawn(move || futures_lite::future::block_on(log::run::<file::Blocking>(path, end))).map_err(explain)
            })
            .collect(),
    }
}
