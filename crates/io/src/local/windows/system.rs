//! What Windows is asked for without a safe way: whether a pipe is broken, who we are, and pipes for one user only.

#![expect(unsafe_code, reason = "neither std nor tokio has these calls, or not as safe ones")]

use std::{
    ffi::{OsStr, c_void},
    io,
    os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle},
    ptr::null_mut,
};

use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};
use windows_sys::Win32::{
    Foundation::{ERROR_SUCCESS, LocalFree},
    Security::{
        Authorization::{
            ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo,
            SDDL_REVISION_1, SE_KERNEL_OBJECT,
        },
        GetTokenInformation, OWNER_SECURITY_INFORMATION, PSID, SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER, TokenUser,
    },
    System::{
        Pipes::PeekNamedPipe,
        Threading::{GetCurrentProcess, OpenProcessToken},
    },
};

/// Whether the peer has closed the pipe, and nothing that it sent is unread in the system. Does not wait.
pub(super) fn is_broken(pipe: BorrowedHandle<'_>) -> bool {
    // SAFETY: the handle is open while it is borrowed, and nothing is asked for but whether there is an answer.
    unsafe { PeekNamedPipe(pipe.as_raw_handle(), null_mut(), 0, null_mut(), null_mut(), null_mut()) == 0 }
}

/// The user of this process, as `S-1-5-21-…`. The same with and without an administrator's elevation.
pub(super) fn user() -> io::Result<String> {
    // A TOKEN_USER is followed by the identifier that it points to, of at most 68 bytes. In words, for the alignment.
    let mut answer = [0_u64; 16];
    let mut token = null_mut();
    let mut length = 0;
    // SAFETY: the process's own handle is always valid and needs no closing, the token is closed by its owner, the system
    // is told how large the answer may be, and the identifier is read while the answer lives.
    unsafe {
        succeeded(OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token))?;
        let token = OwnedHandle::from_raw_handle(token);
        let (room, size) = (answer.as_mut_ptr().cast(), size_of_val(&answer) as u32);
        succeeded(GetTokenInformation(token.as_raw_handle(), TokenUser, room, size, &raw mut length))?;
        text((*answer.as_ptr().cast::<TOKEN_USER>()).User.Sid)
    }
}

/// The user who owns the pipe, in the same form. On a client's end it is who has made the pipe: nobody can make it another's.
pub(super) fn owner(pipe: BorrowedHandle<'_>) -> io::Result<String> {
    let (mut owner, mut descriptor) = (null_mut(), null_mut());
    // SAFETY: the handle is open while it is borrowed; the owner points into the descriptor, which is freed after it was read.
    unsafe {
        let status = GetSecurityInfo(
            pipe.as_raw_handle(),
            SE_KERNEL_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &raw mut owner,
            null_mut(),
            null_mut(),
            null_mut(),
            &raw mut descriptor,
        );
        if status != ERROR_SUCCESS {
            return Err(io::Error::from_raw_os_error(status.cast_signed()));
        }
        let descriptor = Allocated(descriptor);
        let text = text(owner);
        drop(descriptor);
        text
    }
}

/// Who may do what with a pipe.
#[derive(Debug)]
pub(super) struct Permissions {
    text: String,
}

impl Permissions {
    /// The pipe is this user's. It lets in this user, elevated or not, and the system itself, as root is let in on Unix.
    /// Without it, Windows would make a pipe of an elevated process the administrators', and let everyone read.
    pub(super) fn for_this_user() -> io::Result<Self> {
        let user = user()?;
        Ok(Self { text: format!("O:{user}D:P(A;;GA;;;{user})(A;;GA;;;SY)") })
    }

    #[cfg(test)]
    pub(super) fn from_text(text: &str) -> Self {
        Self { text: text.to_owned() }
    }

    /// Makes an instance of a pipe with these permissions.
    pub(super) fn create(&self, options: &ServerOptions, name: &OsStr) -> io::Result<NamedPipeServer> {
        let text: Vec<u16> = self.text.encode_utf16().chain([0]).collect();
        let mut descriptor = null_mut();
        // SAFETY: the text ends with a zero; the descriptor lives until the pipe is made, which copies it.
        unsafe {
            let made = ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                null_mut(),
            );
            succeeded(made)?;
            let descriptor = Allocated(descriptor);
            let mut attributes = SECURITY_ATTRIBUTES {
                nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
                lpSecurityDescriptor: descriptor.0,
                bInheritHandle: 0,
            };
            options.create_with_security_attributes_raw(name, (&raw mut attributes).cast())
        }
    }
}

/// Memory that the system has allocated for an answer, freed with this.
struct Allocated(*mut c_void);

impl Drop for Allocated {
    fn drop(&mut self) {
        // SAFETY: the system handed it out to be freed like this, and nothing else does.
        unsafe { LocalFree(self.0) };
    }
}

fn succeeded(result: i32) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// # Safety
/// The identifier must be a valid one.
unsafe fn text(identifier: PSID) -> io::Result<String> {
    let mut text = null_mut();
    // SAFETY: what the system allocates ends with a zero, and is freed after it was copied.
    unsafe {
        succeeded(ConvertSidToStringSidW(identifier, &raw mut text))?;
        let text = Allocated(text.cast());
        let start = text.0.cast_const().cast::<u16>();
        let length = (0..).take_while(|&at| *start.add(at) != 0).count();
        Ok(String::from_utf16_lossy(std::slice::from_raw_parts(start, length)))
    }
}
