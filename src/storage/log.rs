//! The store of the logs, and the writer of one shard's log: takes what has gathered, writes it in one piece, syncs, reports, and begins anew.

use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use glommio::{LocalExecutorBuilder, Placement};

use super::directory::{Directory, Recovered, segment_path, sync_dir};
use super::file::{Blocking, Glommio, SegmentFile};
use super::frame::{self, Frame};
use super::journal::{Done, Job, WriterEnd};
use super::store::{Backend, RETRY, Store};

/// Bytes at which a new segment is begun.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Memory that the executor pins, bytes; its default is ten times that, three times over.
const EXECUTOR_MEMORY: usize = 1 << 20;

impl Store for Directory {
    fn read(&mut self) -> Result<Recovered, String> {
        self.read_last_run()
    }

    fn start(&mut self, ends: Vec<WriterEnd>, backend: Backend) -> Result<Vec<JoinHandle<()>>, String> {
        let of_shard = |(shard, end)| Ok((self.make_shard(shard)?, end));
        spawn(backend, ends.into_iter().enumerate().map(of_shard).collect::<Result<_, String>>()?)
    }

    fn commit_epoch(&mut self, shards: u16) -> Result<(), String> {
        self.commit(shards)
    }

    fn keeps_live_only(&self) -> bool {
        false
    }
}

fn spawn(backend: Backend, ends: Vec<(PathBuf, WriterEnd)>) -> Result<Vec<JoinHandle<()>>, String> {
    let explain = |error: io::Error| format!("cannot start the storage thread: {error}");
    match backend {
        Backend::Glommio => {
            let thread = std::thread::Builder::new().name("storage".to_owned());
            let (ready, started) = crossbeam_channel::bounded(1);
            let handle = thread.spawn(move || run_on_glommio(ends, &ready)).map_err(explain)?;
            started.recv().unwrap_or_else(|_| Err("the storage thread ended while it started".to_owned()))?;
            Ok(vec![handle])
        }
        Backend::Blocking => ends
            .into_iter()
            .enumerate()
            .map(|(index, (path, end))| {
                let thread = std::thread::Builder::new().name(format!("storage-{index}"));
                thread.spawn(move || futures_lite::future::block_on(run::<Blocking>(path, end))).map_err(explain)
            })
            .collect(),
    }
}

/// Runs all writers on one executor; tells through `ready` whether it could be started.
pub fn run_on_glommio(ends: Vec<(PathBuf, WriterEnd)>, ready: &Sender<Result<(), String>>) {
    let executor = match LocalExecutorBuilder::new(Placement::Unbound).io_memory(EXECUTOR_MEMORY).make() {
        Ok(executor) => executor,
        Err(error) => return drop(ready.send(Err(format!("cannot start the storage executor: {error}")))),
    };
    let _ = ready.send(Ok(()));
    executor.run(async {
        let tasks: Vec<_> = ends.into_iter().map(|(path, end)| glommio::spawn_local(run::<Glommio>(path, end))).collect();
        for task in tasks {
            task.await;
        }
    });
}

/// The log of one shard while it is written.
struct Log<F> {
    dir: PathBuf,
    segment: u64,
    /// Bytes written to the segment.
    length: u64,
    file: Option<F>,
    /// The first segment that is not freed.
    first: u64,
    /// The last commit that is durable.
    synced: u64,
}

/// Writes one shard's log until the shard is gone.
pub async fn run<F: SegmentFile>(dir: PathBuf, mut end: WriterEnd) {
    let mut log = Log::<F> { dir, segment: 0, length: 0, file: None, first: 1, synced: 0 };
    while let Some(jobs) = end.take_all().await {
        log.carry_out(jobs, &mut end).await;
    }
    if let Some(file) = log.file {
        file.close().await;
    }
}

impl<F: SegmentFile> Log<F> {
    async fn carry_out(&mut self, jobs: Vec<Job>, end: &mut WriterEnd) {
        let mut commits = Vec::new();
        for job in jobs {
            match job {
                Job::Commit { number, payload } => commits.push((number, payload)),
                Job::Rotate => {
                    self.commit(std::mem::take(&mut commits), end).await;
                    self.begin_segment().await;
                }
                Job::Free { before } => self.free(before),
            }
        }
        self.commit(commits, end).await;
    }

    /// Makes commits durable, however often it has to be tried: the shard holds its answers back until then.
    async fn commit(&mut self, commits: Vec<(u64, Vec<u8>)>, end: &mut WriterEnd) {
        let Some(&(number, _)) = commits.last() else { return };
        loop {
            match self.write(&commits).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!("storage: cannot write to {}: {error}; trying again", self.dir.display());
                    end.report(Done::Failing { full: error.kind() == io::ErrorKind::StorageFull });
                    // What a failed sync has left of the file is unknown: the next try writes all of it to a new one.
                    self.give_up_segment().await;
                    F::pause(RETRY).await;
                }
            }
        }
        self.synced = number;
        let payloads = commits.into_iter().map(|(_, payload)| payload).collect();
        end.report(Done::Committed { number, segment: self.segment, bytes: self.length, payloads });
    }

    async fn write(&mut self, commits: &[(u64, Vec<u8>)]) -> io::Result<()> {
        if self.length >= SEGMENT_BYTES {
            self.begin_segment().await;
        }
        if self.file.is_none() {
            self.segment += 1;
            self.length = 0;
            let path = segment_path(&self.dir, self.segment);
            self.file = Some(F::create(&path, SEGMENT_BYTES).await?);
            sync_dir(&self.dir)?;
        }
        let Some(file) = &self.file else { return Ok(()) };
        let mut bytes = Vec::with_capacity(commits.iter().map(|(_, payload)| payload.len() + frame::HEADER).sum());
        for (number, payload) in commits {
            frame::put(&mut bytes, self.segment, Frame { number: *number, synced: self.synced, payload });
        }
        let length = bytes.len() as u64;
        file.write_all_at(bytes, self.length).await?;
        file.sync().await?;
        self.length += length;
        Ok(())
    }

    /// The next write goes to a new segment.
    async fn begin_segment(&mut self) {
        if let Some(file) = self.file.take() {
            file.close().await;
        }
    }

    /// A write to the segment failed. One that holds nothing durable is taken away again.
    async fn give_up_segment(&mut self) {
        self.begin_segment().await;
        if self.length == 0 && self.segment > 0 && remove(&segment_path(&self.dir, self.segment)).is_ok() {
            self.segment -= 1;
        }
    }

    /// Deletes segments, one after the other and the oldest first, durably: a message that stands in one must never outlive the word in a later one that it
    /// is done with. What cannot be deleted now is with the next ones.
    fn free(&mut self, before: u64) {
        while self.first < before {
            match remove(&segment_path(&self.dir, self.first)).and_then(|()| sync_dir(&self.dir)) {
                Ok(()) => self.first += 1,
                Err(error) => return tracing::warn!("storage: cannot delete from {}: {error}; later again", self.dir.display()),
            }
        }
    }
}

/// Deletes a file, which may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
