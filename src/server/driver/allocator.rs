//! The one word that we have with the allocator: what is freed is to go back to the system.

/// Gives the system back what this thread has freed, as far as whole pages are free. Looks at every page that the thread has, so it is not for a busy
/// shard; a busy one need not ask, because the allocator gives pages back by itself while it is used.
///
/// Does nothing where another allocator is in use, as it is in tests.
pub fn give_memory_back() {
    // SAFETY: takes a flag; it works on the calling thread's own heap and on free memory that nobody refers to.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
