//! Memory that a large plan needed for a while.

/// Gives what is free back to the system. The C library keeps it for the next time otherwise, which may never come.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the library's only way to do that; it is safe at any time and from any thread")]
pub(crate) fn give_back() {
    // SAFETY: it takes no pointers and locks what it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Elsewhere the allocator does it by itself.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) const fn give_back() {}
