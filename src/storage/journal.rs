//! The two ends between a shard and the writer of its log: jobs one way, outcomes the other, over SPSC rings.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::ring::{Consumer, Producer, ring};

/// Jobs that may wait for a writer. A shard that finds no room keeps gathering and tries again a turn later.
const CAPACITY: usize = 1_024;

/// What a writer is asked.
#[derive(Debug)]
pub enum Job {
    /// Make this durable under this number; numbers rise.
    Commit { number: u64, payload: Vec<u8> },
    /// Begin a new segment with the next commit.
    Rotate,
    /// Everything before this segment is written elsewhere by now: delete it.
    Free { before: u64 },
}

/// What a writer reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Everything up to this number is durable; it ends in this segment, `bytes` long by now. `payloads`: what was in the commits, for the memory to be used
    /// again.
    Committed { number: u64, segment: u64, bytes: u64, payloads: Vec<Vec<u8>> },
    /// A write failed; it is tried again until it succeeds. `full`: for want of room.
    Failing { full: bool },
}

/// Where a sleeping writer leaves its waker.
#[derive(Debug, Default)]
struct Slot {
    waker: Mutex<Option<Waker>>,
    closed: AtomicBool,
}

impl Slot {
    fn wake(&self) {
        // Pairs with the fence of the writer: either it sees the job, or its waker is here.
        fence(Ordering::SeqCst);
        let waker = self.waker.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The shard's end.
pub struct Journal {
    jobs: Producer<Job>,
    done: Consumer<Done>,
    slot: Arc<Slot>,
}

/// The writer's end.
pub struct WriterEnd {
    jobs: Consumer<Job>,
    done: Producer<Done>,
    slot: Arc<Slot>,
    wake: Box<dyn Fn() + Send>,
}

/// Makes both ends; `wake` wakes the shard.
pub fn pair(wake: Box<dyn Fn() + Send>) -> (Journal, WriterEnd) {
    let (job_in, job_out) = ring(CAPACITY);
    let (done_in, done_out) = ring(CAPACITY);
    let slot = Arc::new(Slot::default());
    (Journal { jobs: job_in, done: done_out, slot: Arc::clone(&slot) }, WriterEnd { jobs: job_out, done: done_in, slot, wake })
}

impl Journal {
    /// Hands a job over; gives it back if the writer lags too far behind.
    ///
    /// # Errors
    /// The job.
    pub fn submit(&mut self, job: Job) -> Result<(), Job> {
        self.jobs.push(job)?;
        self.slot.wake();
        Ok(())
    }

    /// The next outcome.
    pub fn poll(&mut self) -> Option<Done> {
        self.done.pop()
    }

    /// Whether an outcome waits: for the look before sleeping.
    pub fn has_done(&self) -> bool {
        !self.done.is_empty()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.slot.closed.store(true, Ordering::Release);
        self.slot.wake();
    }
}

impl WriterEnd {
    /// Waits for a job, then takes all that are there; `None` once the shard is gone and nothing is left.
    pub async fn take_all(&mut self) -> Option<Vec<Job>> {
        poll_fn(|context| self.poll_all(context)).await
    }

    /// The same, for a writer that waits for several shards at once.
    pub fn poll_all(&mut self, context: &Context<'_>) -> Poll<Option<Vec<Job>>> {
        // Read first: a shard that goes leaves its last jobs before it says so.
        let closed = self.slot.closed.load(Ordering::Acquire);
        let jobs: Vec<Job> = std::iter::from_fn(|| self.jobs.pop()).collect();
        if !jobs.is_empty() {
            return Poll::Ready(Some(jobs));
        }
        if closed {
            return Poll::Ready(None);
        }
        *self.slot.waker.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(context.waker().clone());
        fence(Ordering::SeqCst);
        if !self.jobs.is_empty() || self.slot.closed.load(Ordering::Acquire) {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Reports an outcome and wakes the shard.
    pub fn report(&mut self, done: Done) {
        // The shard drains its ring every turn. Should it be full all the same, a later report of a commit says what this one would have said.
        let _ = self.done.push(done);
        (self.wake)();
    }
}
