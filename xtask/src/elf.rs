//! What a program is: an ELF file without an interpreter starts on any distribution, of the machine that it is for.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Type of the program header that names a dynamic linker.
const PT_INTERP: u32 = 3;
/// Kinds of machines with their numbers in ELF files.
const MACHINES: [(&str, u16); 2] = [("x86_64", 0x3e), ("aarch64", 0xb7)];

/// Fails unless the file is a 64-bit little-endian ELF program without an interpreter, for a machine of this kind, as
/// [`std::env::consts::ARCH`] names kinds.
pub(crate) fn require_static(path: &Path, machine: &str) -> Result<()> {
    let bytes = fs_err::read(path)?;
    if has_interpreter(&bytes).with_context(|| format!("{} is not a 64-bit ELF program", path.display()))? {
        bail!("{} is not static: it asks for a dynamic linker", path.display());
    }
    let number = MACHINES.iter().find(|(name, _)| *name == machine).map(|(_, number)| *number);
    // e_machine
    if bytes.get(18..20).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]])) != number {
        bail!("{} is not for {machine}", path.display());
    }
    Ok(())
}

fn has_interpreter(elf: &[u8]) -> Option<bool> {
    // ELF64: magic, class 2, little-endian; e_phoff at 32, e_phentsize at 54, e_phnum at 56.
    if elf.get(..6)? != [0x7f, b'E', b'L', b'F', 2, 1] {
        return None;
    }
    let table = usize::try_from(u64::from_le_bytes(elf.get(32..40)?.try_into().ok()?)).ok()?;
    let size = usize::from(u16::from_le_bytes(elf.get(54..56)?.try_into().ok()?));
    let count = usize::from(u16::from_le_bytes(elf.get(56..58)?.try_into().ok()?));
    for index in 0..count {
        let at = table.checked_add(index.checked_mul(size)?)?;
        let kind = u32::from_le_bytes(elf.get(at..at.checked_add(4)?)?.try_into().ok()?);
        if kind == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_itself_is_dynamic() {
        let me = std::env::current_exe().unwrap();
        let error = require_static(&me, std::env::consts::ARCH).unwrap_err().to_string();
        assert!(error.contains("is not static"), "{error}");
    }

    #[test]
    fn a_text_file_is_no_program() {
        assert_eq!(has_interpreter(b"#!/bin/sh\nexit 0\n"), None);
        assert_eq!(has_interpreter(&[0x7f, b'E', b'L', b'F', 2, 1]), None);
    }
}
