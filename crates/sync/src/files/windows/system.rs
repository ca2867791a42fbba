//! What Windows is asked for without a safe way: a move that replaces nothing, which file is open, and how much room there is.

#![expect(unsafe_code, reason = "std has these calls only unstable, or not at all")]

use std::{
    fs::File,
    io,
    os::windows::{ffi::OsStrExt, io::AsRawHandle},
    path::Path,
    ptr::null_mut,
};

use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, GetDiskFreeSpaceExW, GetFileInformationByHandle, MoveFileExW,
};

fn wide(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

fn succeeded(result: i32) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Moves an entry to a name that nothing has, on the same volume.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (wide(from), wide(to));
    // SAFETY: both end in a zero, and live until the call returns.
    succeeded(unsafe { MoveFileExW(from.as_ptr(), to.as_ptr(), 0) })
}

/// The volume's number and the file's there.
pub(super) fn identity(file: &File) -> io::Result<(u32, u64)> {
    let mut told = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open while it is borrowed, and the answer is as large as the system expects.
    succeeded(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut told) })?;
    Ok((told.dwVolumeSerialNumber, u64::from(told.nFileIndexHigh) << 32 | u64::from(told.nFileIndexLow)))
}

/// Bytes that this user may write on a directory's volume.
pub(super) fn room(directory: &Path) -> io::Result<u64> {
    let (directory, mut room) = (wide(directory), 0);
    // SAFETY: the path ends in a zero and lives until the call returns; what is not wanted may be null.
    succeeded(unsafe { GetDiskFreeSpaceExW(directory.as_ptr(), &raw mut room, null_mut(), null_mut()) })?;
    Ok(room)
}
