//! A disk that fails on demand, for the tests of the writer: as the kernel does, and not as one would wish.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::file::SegmentFile;

/// What is still to fail.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub failing_writes: u32,
    /// Bytes that a failing write leaves.
    pub written_before_failing: usize,
    pub failing_syncs: u32,
    /// What a failing sync takes out of the file; the next one succeeds all the same.
    pub dropped: Range<usize>,
}

thread_local! {
    static FAULTS: RefCell<Faults> = RefCell::default();
}

/// What happens to the files of this thread.
pub fn plan(faults: Faults) {
    FAULTS.set(faults);
}

pub struct Faulty(File);

impl SegmentFile for Faulty {
    async fn create(path: &Path, _bytes: u64) -> io::Result<Faulty> {
        Ok(Faulty(File::create(path)?))
    }

    async fn write_all_at(&self, bytes: Vec<u8>, at: u64) -> io::Result<()> {
        let fails = FAULTS.with_borrow_mut(|faults| {
            let fails = faults.failing_writes > 0;
            faults.failing_writes = faults.failing_writes.saturating_sub(1);
            fails.then_some(faults.written_before_failing)
        });
        match fails {
            Some(written) => self.0.write_all_at(&bytes[..written], at).and(Err(io::ErrorKind::StorageFull.into())),
            None => self.0.write_all_at(&bytes, at),
        }
    }

    async fn sync(&self) -> io::Result<()> {
        let dropped = FAULTS.with_borrow_mut(|faults| {
            let fails = faults.failing_syncs > 0;
            faults.failing_syncs = faults.failing_syncs.saturating_sub(1);
            fails.then(|| faults.dropped.clone())
        });
        let Some(dropped) = dropped else { return Ok(()) };
        self.0.write_all_at(&vec![0; dropped.len()], dropped.start as u64)?;
        Err(io::ErrorKind::Other.into())
    }

    async fn close(self) {}

    async fn pause(_time: Duration) {}
}
