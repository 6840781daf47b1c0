//! The data directory: which files there are, and which of them count.
//!
//! ```text
//! lock                        held while a broker runs
//! CURRENT                     "ringmq 2 epoch 3": the epoch that counts
//! epoch-3/shard-0/<n>.log     segments of one shard, n in 16 hex digits, read in that order
//! ```
//!
//! Every start reads the current epoch and writes what is live into a new one, which counts from the moment that CURRENT is replaced. So the number of
//! shards may change between two runs, and a crash while starting leaves everything as it was.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::commits::Commits;
use super::frame::{self, Frame};

/// Version of what is written.
const FORMAT: u32 = 2;
/// What the other engine calls its part of a data directory.
pub const FJALL: &str = "fjall";
/// What is read at once of a segment that the disk cannot read as a whole, bytes.
const READ_BYTES: usize = 4_096;

/// A place in a log that could not be read, and where it was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub bytes: usize,
    /// The copy of the damaged bytes; `None` if it could not be made.
    pub set_aside: Option<PathBuf>,
}

/// What was read: the payloads of each former shard in the order in which they were written.
#[derive(Debug, Default)]
pub struct Recovered {
    pub shards: Vec<Vec<Vec<u8>>>,
    pub damage: Vec<Damage>,
    /// Bytes of segments read.
    pub bytes: u64,
}

/// A place in a log that could not be read, in a directory that is only looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedSegment {
    pub segment: PathBuf,
    /// Bytes before it.
    pub at: usize,
    pub bytes: usize,
}

/// What is in a data directory that no broker uses; nothing is changed there.
#[derive(Debug, Default)]
pub struct Contents {
    /// The commits of each shard in their order.
    pub shards: Vec<Vec<Vec<u8>>>,
    pub damage: Vec<DamagedSegment>,
    /// Bytes of segments read.
    pub bytes: u64,
}

impl Contents {
    /// Reads the epoch that counts.
    ///
    /// # Errors
    /// A sentence: there is none, a broker uses it, or it cannot be read.
    pub fn read(path: &Path) -> Result<Contents, String> {
        #[cfg(feature = "engine-fjall")]
        if let Some(contents) = super::fjall::contents(path)? {
            return Ok(contents);
        }
        if !path.join("CURRENT").is_file() && !path.join(FJALL).exists() {
            return Err(format!("{} is no data directory of ringmq: it holds no file CURRENT", path.display()));
        }
        let directory = Directory::open(path)?;
        let mut contents = Contents::default();
        let Some(current) = directory.current else { return Ok(contents) };
        directory.read_epoch(current, |read| match read {
            Read::Segment(bytes) => contents.bytes += bytes,
            Read::Commits(commits) => contents.shards.push(commits),
            Read::Damaged { segment, at, bytes } => {
                contents.damage.push(DamagedSegment { segment: segment.to_owned(), at, bytes: bytes.len() });
            }
        })?;
        Ok(contents)
    }
}

/// Makes a data directory with one log that holds these commits.
///
/// # Errors
/// A sentence: something is there already, or it cannot be written.
pub fn make(path: &Path, commits: Vec<Vec<u8>>) -> Result<(), String> {
    let explain = |error: io::Error| format!("cannot write to {}: {error}", path.display());
    if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!("{} is not empty: name a directory that is, or that is not there", path.display()));
    }
    let mut directory = Directory::open(path)?;
    let shard = directory.make_shard(0)?;
    let mut file = File::create_new(segment_path(&shard, 1)).map_err(explain)?;
    // All of it is durable before it counts.
    let synced = commits.len() as u64;
    for (number, payload) in (1..).zip(commits) {
        let mut bytes = Vec::with_capacity(payload.len() + frame::HEADER);
        frame::put(&mut bytes, 1, Frame { number, synced, payload: &payload });
        file.write_all(&bytes).map_err(explain)?;
    }
    file.sync_all().map_err(explain)?;
    directory.commit(1)
}

/// What is come across while an epoch is read.
enum Read<'a> {
    /// A segment of so many bytes.
    Segment(u64),
    /// All commits of a shard, when its segments are read.
    Commits(Vec<Vec<u8>>),
    Damaged {
        segment: &'a Path,
        at: usize,
        bytes: &'a [u8],
    },
}

/// An opened data directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Held for as long as the broker runs.
    _lock: File,
    current: Option<u64>,
    next: u64,
}

/// The path of a segment.
pub fn segment_path(shard: &Path, segment: u64) -> PathBuf {
    shard.join(format!("{segment:016x}.log"))
}

impl Directory {
    pub fn open(path: &Path) -> Result<Directory, String> {
        let lock = lock(path)?;
        if path.join(FJALL).exists() {
            return Err(format!(
                "storage.data_dir {}: it was written by a ringmq with storage.engine = \"fjall\"; start that one, or take another directory",
                path.display()
            ));
        }
        let current = read_current(path)?;
        let next = epochs(path)
            .map_err(|error| format!("storage.data_dir {}: cannot read it: {error}", path.display()))?
            .into_iter()
            .chain(current)
            .max()
            .map_or(1, |last| last + 1);
        Ok(Directory { path: path.to_owned(), _lock: lock, current, next })
    }

    /// Reads the epoch that counts, and sets aside what cannot be read.
    pub fn read_last_run(&mut self) -> Result<Recovered, String> {
        let mut recovered = Recovered::default();
        let Some(current) = self.current else { return Ok(recovered) };
        self.read_epoch(current, |read| match read {
            Read::Segment(bytes) => recovered.bytes += bytes,
            Read::Commits(commits) => recovered.shards.push(commits),
            Read::Damaged { segment, at, bytes } => {
                recovered.damage.push(Damage { bytes: bytes.len(), set_aside: self.set_aside(segment, at, bytes) });
            }
        })?;
        Ok(recovered)
    }

    fn read_epoch(&self, epoch: u64, mut take: impl FnMut(Read<'_>)) -> Result<(), String> {
        let epoch = self.epoch(epoch);
        for shard in (0..).map(|index| epoch.join(format!("shard-{index}"))) {
            if !shard.is_dir() {
                return Ok(());
            }
            read_shard(&shard, &mut take).map_err(|error| format!("storage: cannot read {}: {error}", shard.display()))?;
        }
        Ok(())
    }

    /// Copies damaged bytes to a file whose name says what it is.
    fn set_aside(&self, segment: &Path, at: usize, bytes: &[u8]) -> Option<PathBuf> {
        let dir = self.path.join("damaged");
        fs::create_dir_all(&dir).ok()?;
        let shard = segment.parent()?.file_name()?.to_str()?;
        let name = format!("epoch-{}-{shard}-{}-at-{at}.damaged", self.current?, segment.file_stem()?.to_str()?);
        let path = dir.join(name);
        fs::write(&path, bytes).ok()?;
        Some(path)
    }

    /// Makes the directory of a shard in the new epoch.
    pub fn make_shard(&self, shard: usize) -> Result<PathBuf, String> {
        let path = self.epoch(self.next).join(format!("shard-{shard}"));
        fs::create_dir_all(&path).map_err(|error| format!("storage: cannot make {}: {error}", path.display()))?;
        Ok(path)
    }

    /// Makes the new epoch the one that counts, and deletes all others.
    pub fn commit(&mut self, shards: u16) -> Result<(), String> {
        let explain = |error: io::Error| format!("storage: cannot switch to the new log in {}: {error}", self.path.display());
        for shard in 0..shards {
            sync_dir(&self.epoch(self.next).join(format!("shard-{shard}"))).map_err(explain)?;
        }
        sync_dir(&self.epoch(self.next)).map_err(explain)?;
        // A name may become durable before another one that was made earlier: CURRENT must not name an epoch that is not there.
        sync_dir(&self.path).map_err(explain)?;
        write_current(&self.path, self.next).map_err(explain)?;
        self.current = Some(self.next);
        for epoch in epochs(&self.path).map_err(explain)? {
            if epoch != self.next {
                fs::remove_dir_all(self.epoch(epoch)).map_err(explain)?;
            }
        }
        Ok(())
    }

    fn epoch(&self, number: u64) -> PathBuf {
        self.path.join(format!("epoch-{number}"))
    }
}

/// Takes a directory for this process, for as long as the file is held; makes it if it is not there.
pub fn lock(path: &Path) -> Result<File, String> {
    let explain = |what: &str, error: io::Error| format!("storage.data_dir {}: cannot {what}: {error}", path.display());
    make_dir(path).map_err(|error| explain("make it", error))?;
    let lock = File::create(path.join("lock")).map_err(|error| explain("write in it", error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(format!(
            "storage.data_dir {}: another ringmq uses it; stop that one, or give this one a directory of its own",
            path.display()
        )),
        Err(fs::TryLockError::Error(error)) => Err(explain("lock it", error)),
    }
}

/// Makes a directory whose name outlives a power loss.
fn make_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        make_dir(parent)?;
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_dir(parent.unwrap_or(Path::new("."))),
    }
}

/// Reads the segments of one shard in their order.
fn read_shard(shard: &Path, take: &mut impl FnMut(Read<'_>)) -> io::Result<()> {
    let mut segments: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(shard)? {
        let path = entry?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log")).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        segments.extend(number.map(|number| (number, path)));
    }
    segments.sort_unstable();
    let mut commits = Commits::default();
    for (number, path) in segments {
        let bytes = read_segment(&path)?;
        take(Read::Segment(bytes.len() as u64));
        let scan = frame::scan(&bytes, number);
        scan.frames.iter().for_each(|frame| commits.add(frame));
        for range in scan.damaged {
            take(Read::Damaged { segment: &path, at: range.start, bytes: &bytes[range.clone()] });
        }
    }
    take(Read::Commits(commits.finish()));
    Ok(())
}

/// Reads a segment, around the places that the disk cannot read any more.
fn read_segment(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if is_unreadable(&error) => {
            let file = File::open(path)?;
            read_around(file.metadata()?.len(), |part, at| file.read_exact_at(part, at))
        }
        other => other,
    }
}

/// Whether the disk has lost what it was asked for, and may well have the rest.
fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// Reads a piece at a time. What cannot be read is told as bytes that no log has, so that they count as damaged.
fn read_around(length: u64, mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0xFF; usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?];
    for (part, at) in bytes.chunks_mut(READ_BYTES).zip((0..).step_by(READ_BYTES)) {
        if let Err(error) = read(part, at) {
            if !is_unreadable(&error) {
                return Err(error);
            }
            part.fill(0xFF);
        }
    }
    Ok(bytes)
}

fn epochs(path: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_prefix("epoch-")?.parse::<u64>().ok()));
    }
    Ok(found)
}

fn read_current(path: &Path) -> Result<Option<u64>, String> {
    let file = path.join("CURRENT");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("storage: cannot read {}: {error}", file.display())),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["ringmq", format, "epoch", epoch] if format == FORMAT.to_string() => match epoch.parse() {
            Ok(epoch) => Ok(Some(epoch)),
            Err(_) => Err(format!(
                "storage: {} names no epoch: {text:?}; write `ringmq {FORMAT} epoch N` with the number of the last epoch-N directory",
                file.display()
            )),
        },
        ["ringmq", format, ..] => Err(format!(
            "storage: {} was written in format {format}, this version reads {FORMAT}; start the ringmq that wrote it, or take another directory",
            file.display()
        )),
        _ => Err(format!("storage: {} is none of ringmq's: {text:?}; take another directory, or restore the file", file.display())),
    }
}

fn write_current(path: &Path, epoch: u64) -> io::Result<()> {
    let new = path.join("CURRENT.new");
    let mut file = File::create(&new)?;
    writeln!(file, "ringmq {FORMAT} epoch {epoch}")?;
    file.sync_all()?;
    fs::rename(&new, path.join("CURRENT"))?;
    sync_dir(path)
}

/// Makes the names in a directory durable.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_cannot_be_read_costs_the_commits_there_and_no_others() {
        let mut log = Vec::new();
        for number in 1..=5 {
            frame::put(&mut log, 1, Frame { number, synced: number - 1, payload: &[number as u8; 3_000] });
        }
        let read = read_around(log.len() as u64, |part, at| {
            if at == 4_096 {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            part.copy_from_slice(&log[at as usize..][..part.len()]);
            Ok(())
        });
        let read = read.unwrap();
        let scan = frame::scan(&read, 1);
        let numbers: Vec<u64> = scan.frames.iter().map(|frame| frame.number).collect();
        assert_eq!((numbers, scan.damaged.len()), (vec![1, 4, 5], 1));
        assert!(read_around(1, |_, _| Err(io::ErrorKind::PermissionDenied.into())).is_err());
    }
}
