//! The data directory: which files there are, and which of them count.
//!
//! ```text
//! lock                        held while a broker runs
//! CURRENT                     "ringmq 1 epoch 3": the epoch that counts
//! epoch-3/shard-0/<n>.log     segments of one shard, n in 16 hex digits, read in that order
//! ```
//!
//! Every start reads the current epoch and writes what is live into a new one, which counts from the moment that CURRENT is replaced. So the number of
//! shards may change between two runs, and a crash while starting leaves everything as it was.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::frame;

/// Version of what is written.
const FORMAT: u32 = 1;

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
        let explain = |what: &str, error: io::Error| format!("storage.data_dir {}: cannot {what}: {error}", path.display());
        fs::create_dir_all(path).map_err(|error| explain("make it", error))?;
        let lock = File::create(path.join("lock")).map_err(|error| explain("write in it", error))?;
        if let Err(error) = lock.try_lock() {
            return Err(match error {
                fs::TryLockError::WouldBlock => {
                    format!(
                        "storage.data_dir {}: another ringmq uses it; stop that one, or give this one a directory of its own",
                        path.display()
                    )
                }
                fs::TryLockError::Error(error) => explain("lock it", error),
            });
        }
        let current = read_current(path)?;
        let next = epochs(path).map_err(|error| explain("read it", error))?.into_iter().chain(current).max().map_or(1, |last| last + 1);
        Ok(Directory { path: path.to_owned(), _lock: lock, current, next })
    }

    /// Reads the epoch that counts.
    pub fn read(&mut self) -> Result<Recovered, String> {
        let mut recovered = Recovered::default();
        let Some(current) = self.current else { return Ok(recovered) };
        let epoch = self.epoch(current);
        for index in 0.. {
            let shard = epoch.join(format!("shard-{index}"));
            if !shard.is_dir() {
                break;
            }
            let payloads =
                self.read_shard(&shard, &mut recovered).map_err(|error| format!("storage: cannot read {}: {error}", shard.display()))?;
            recovered.shards.push(payloads);
        }
        Ok(recovered)
    }

    fn read_shard(&self, shard: &Path, recovered: &mut Recovered) -> io::Result<Vec<Vec<u8>>> {
        let mut segments: Vec<(u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(shard)? {
            let path = entry?.path();
            let number =
                path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log")).and_then(|hex| u64::from_str_radix(hex, 16).ok());
            segments.extend(number.map(|number| (number, path)));
        }
        segments.sort_unstable();
        let mut payloads = Vec::new();
        let mut last = 0;
        for (number, path) in segments {
            let bytes = fs::read(&path)?;
            recovered.bytes += bytes.len() as u64;
            let scan = frame::scan(&bytes, number);
            for frame in &scan.frames {
                // A commit whose sync failed was written once more, to the next segment.
                if frame.number > last {
                    last = frame.number;
                    payloads.push(frame.payload.to_vec());
                }
            }
            for range in scan.damaged {
                let set_aside = self.set_aside(&path, range.start, &bytes[range.clone()]);
                recovered.damage.push(Damage { bytes: range.len(), set_aside });
            }
        }
        Ok(payloads)
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
