//! Archives that the engine sends of a container's files (tar), as far as one file is looked for in them.

/// Length of a header, and what contents are padded to, in bytes.
const BLOCK: usize = 512;

/// What stands first in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archived<'a> {
    /// An ordinary file's content.
    File(&'a [u8]),
    /// A symbolic link, and where it points to. A longer target than the header holds (100 bytes) is none that is known.
    Link(&'a str),
}

/// The first file or link in an archive; None if there is none, or it is not whole. What stands before it to say more about it
/// (extended headers) is passed over.
pub fn first_file(archive: &[u8]) -> Option<Archived<'_>> {
    let mut rest = archive;
    let mut is_said_before = false;
    loop {
        let (header, content) = rest.split_at_checked(BLOCK)?;
        let length = octal(&header[124..136])?;
        is_said_before |= header[156] == b'K';
        match header[156] {
            b'0' | 0 if header[0] != 0 => return content.get(..length).map(Archived::File),
            b'2' => {
                let target = header[157..257].split(|byte| *byte == 0).next()?;
                let is_whole = !is_said_before && !target.is_empty() && target.len() < 100;
                return str::from_utf8(target).ok().filter(|_| is_whole).map(Archived::Link);
            }
            b'x' | b'g' | b'L' | b'K' => rest = content.get(length.checked_next_multiple_of(BLOCK)?..)?,
            _ => return None,
        }
    }
}

fn octal(field: &[u8]) -> Option<usize> {
    let text = str::from_utf8(field).ok()?;
    usize::from_str_radix(text.trim_matches([' ', '\0']), 8).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(kind: u8, content: &[u8]) -> Vec<u8> {
        let mut entry = vec![0; BLOCK];
        entry[..6].copy_from_slice(b"passwd");
        entry[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        entry[156] = kind;
        entry.extend_from_slice(content);
        entry.resize(entry.len().next_multiple_of(BLOCK), 0);
        entry
    }

    #[test]
    fn a_file_is_found_behind_what_is_said_of_it() {
        let archive = [entry(b'x', &[b'a'; 600]), entry(b'0', b"root:x:0:0"), vec![0; 2 * BLOCK]].concat();
        assert_eq!(first_file(&archive), Some(Archived::File(b"root:x:0:0")));
        assert_eq!(first_file(&entry(0, b"")), Some(Archived::File(b"")));
    }

    #[test]
    fn a_link_is_told_by_its_target_if_that_is_whole() {
        let mut archive = entry(b'2', b"");
        archive[157..164].copy_from_slice(b"../x/pw");
        assert_eq!(first_file(&archive), Some(Archived::Link("../x/pw")));
        assert_eq!(first_file(&[entry(b'K', b"a longer one"), archive.clone()].concat()), None);
        archive[157..257].fill(b'a');
        assert_eq!(first_file(&archive), None);
    }

    #[test]
    fn ends_and_pieces_are_no_files() {
        let archive = entry(b'0', b"content");
        assert_eq!(first_file(&archive[..BLOCK + 3]), None);
        assert_eq!(first_file(&entry(b'2', b"")), None);
        assert_eq!(first_file(&[0; 2 * BLOCK]), None);
        assert_eq!(first_file(b""), None);
    }

    proptest! {
        #[test]
        fn no_archive_makes_the_reader_panic(length in "[0-7 ]{11}", kind: u8, content in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let mut archive = entry(kind, &content);
            archive[124..135].copy_from_slice(length.as_bytes());
            first_file(&archive);
            first_file(&content);
        }
    }
}
