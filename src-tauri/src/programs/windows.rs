use std::fs::DirBuilder;

use tokio::process::Command;

/// Without the console of this program, and not ended by its Ctrl-C.
pub(super) fn detach(command: &mut Command) {
    const DETACHED_PROCESS: u32 = 0x0000_0008;
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x0000_0200;
    command.creation_flags(DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP);
}

/// Directories of a user's profile are the user's alone.
pub(super) fn private(_builder: &mut DirBuilder) {}
