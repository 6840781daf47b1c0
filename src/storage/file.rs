//! A segment's file, over glommio or over blocking calls: the same four operations.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use glommio::io::BufferedFile;

/// A file that a log is written to.
pub trait SegmentFile: Sized {
    /// Makes an empty file with room for `bytes`; the room is only a wish.
    async fn create(path: &Path, bytes: u64) -> io::Result<Self>;
    /// Writes all of `bytes` at `at`.
    async fn write_all_at(&self, bytes: Vec<u8>, at: u64) -> io::Result<()>;
    /// Makes what was written durable.
    async fn sync(&self) -> io::Result<()>;
    async fn close(self);
    /// Waits before a write is tried again.
    async fn pause(time: Duration);
}

/// A file of the executor.
pub struct Glommio(BufferedFile);

impl SegmentFile for Glommio {
    async fn create(path: &Path, bytes: u64) -> io::Result<Glommio> {
        let file = BufferedFile::create(path).await?;
        let _ = file.pre_allocate(bytes, false).await;
        Ok(Glommio(file))
    }

    async fn write_all_at(&self, bytes: Vec<u8>, at: u64) -> io::Result<()> {
        let length = bytes.len();
        match self.0.write_at(bytes, at).await? {
            written if written == length => Ok(()),
            // What follows would find no room.
            _ => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    async fn sync(&self) -> io::Result<()> {
        Ok(self.0.fdatasync().await?)
    }

    async fn close(self) {
        let _ = self.0.close().await;
    }

    async fn pause(time: Duration) {
        glommio::timer::sleep(time).await;
    }
}

/// A file of the standard library.
pub struct Blocking(File);

impl SegmentFile for Blocking {
    async fn create(path: &Path, _bytes: u64) -> io::Result<Blocking> {
        Ok(Blocking(File::create(path)?))
    }

    async fn write_all_at(&self, bytes: Vec<u8>, at: u64) -> io::Result<()> {
        self.0.write_all_at(&bytes, at)
    }

    async fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    async fn close(self) {}

    async fn pause(time: Duration) {
        // A thread of its own has nothing else to do meanwhile.
        std::thread::park_timeout(time);
    }
}
