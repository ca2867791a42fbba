//! Just enough of ELF to know which loader a program asks for.

/// What kind of file it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Executable<'a> {
    /// A program that needs nothing.
    Static,
    /// A program that is loaded by the interpreter at this path.
    Dynamic(&'a str),
    /// A script or something else.
    Other,
}

const PT_INTERP: u64 = 3;

/// Reads the head of a file (its program headers must be within `head`).
pub(crate) fn inspect(head: &[u8]) -> Executable<'_> {
    parse(head).unwrap_or(Executable::Other)
}

fn parse(head: &[u8]) -> Option<Executable<'_>> {
    if head.get(..4)? != b"\x7fELF" || *head.get(5)? != 1 {
        return None; // big-endian machines have never been seen with Docker's packages
    }
    let wide = match head.get(4)? {
        1 => false,
        2 => true,
        _ => return None,
    };
    let number = |at: usize, size: usize| {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (table, entry, count) = if wide {
        (number(32, 8)?, number(54, 2)?, number(56, 2)?)
    } else {
        (number(28, 4)?, number(42, 2)?, number(44, 2)?)
    };
    for index in 0..count {
        let at = usize::try_from(table.checked_add(index.checked_mul(entry)?)?).ok()?;
        if number(at, 4)? != PT_INTERP {
            continue;
        }
        let (offset, size) = if wide {
            (number(at.checked_add(8)?, 8)?, number(at.checked_add(32)?, 8)?)
        } else {
            (number(at.checked_add(4)?, 4)?, number(at.checked_add(16)?, 4)?)
        };
        let start = usize::try_from(offset).ok()?;
        let text = head.get(start..start.checked_add(usize::try_from(size).ok()?)?)?;
        let path = std::str::from_utf8(text.strip_suffix(b"\0").unwrap_or(text)).ok()?;
        return Some(Executable::Dynamic(path));
    }
    Some(Executable::Static)
}

/// The libraries in what `ld.so --list` prints: paths only, the kernel's own vdso has none.
pub(crate) fn listed_libraries(listing: &str) -> impl Iterator<Item = &str> {
    listing.lines().filter_map(|line| {
        let line = line.trim();
        let path = line.split_once("=> ").map_or(line, |(_, path)| path);
        let path = path.split(" (").next()?;
        path.starts_with('/').then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_of_this_test_is_found_or_it_is_static() {
        let program = fs_err::read(std::env::current_exe().unwrap()).unwrap();
        match inspect(&program[..4096]) {
            Executable::Dynamic(loader) => assert!(loader.contains("ld-"), "{loader}"),
            other => assert_eq!(other, Executable::Static),
        }
    }

    #[test]
    fn scripts_and_damaged_files_are_no_programs() {
        assert_eq!(inspect(b"#!/bin/sh\n"), Executable::Other);
        assert_eq!(inspect(b""), Executable::Other);
        let mut head = [0_u8; 128];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        head[56] = 9;
        assert_eq!(inspect(&head), Executable::Other, "a table beyond the end");
        head[32..40].copy_from_slice(&64_u64.to_le_bytes());
        head[56] = 0;
        assert_eq!(inspect(&head), Executable::Static);
    }

    #[test]
    fn the_paths_of_libraries_are_taken_from_the_listing_of_the_loader() {
        let listing = "\tlinux-vdso.so.1 (0x00007fff)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tlibgone.so => not found\n";
        let found: Vec<&str> = listed_libraries(listing).collect();
        assert_eq!(found, ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }
}
