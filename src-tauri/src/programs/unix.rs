use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _};

use tokio::process::Command;

/// A process group of its own: neither Ctrl-C nor a closing terminal reaches it.
pub(super) fn detach(command: &mut Command) {
    command.process_group(0);
}

pub(super) fn private(builder: &mut DirBuilder) {
    builder.mode(0o700);
}
