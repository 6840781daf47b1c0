//! What we tell the allocator, and the kernel that gives it pages: what is freed is to go back, and whether huge pages are worth it.

/// Gives the system back what this thread has freed, as far as whole pages are free. Looks at every page that the thread has, so it is not for a busy
/// shard; a busy one need not ask, because the allocator gives pages back by itself while it is used.
///
/// Does nothing where another allocator is in use, as it is in tests.
pub fn give_memory_back() {
    // SAFETY: takes a flag; it works on the calling thread's own heap and on free memory that nobody refers to.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Whether the process may have huge pages where its memory is large enough for one. The allocator asks for them, and there is no reason to tell it else
/// before the broker holds much.
pub fn allow_huge_pages(allow: bool) {
    let unused: libc::c_ulong = 0;
    // SAFETY: sets a flag of the process; all arguments are numbers.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, libc::c_ulong::from(!allow), unused, unused, unused) };
}
