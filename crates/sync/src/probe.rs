//! Finding out what a root's file system can hold, by trying it in a directory that is gone afterwards.

use std::{io, path::Path};

use overside_sync_core::{Alike, Refused, TEMPORARY, Time, Traits};

use crate::files::{Directory, Spot, dress, has_exactly, look, stat_of};

/// Bytes that some file system refuses in names. Of control characters one stands for all.
const REFUSED: &[u8] = b"\x01\"*:<>?\\|";
/// Rounding that there is, in nanoseconds: from a tenth of a microsecond to two seconds.
const ROUNDING: [u64; 6] = [100, 1_000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000];
/// Times that each of them changes, one of them by more than half of it.
const TIMES: [Time; 2] = [
    Time { seconds: 1_000_000_001, nanoseconds: 987_654_321 },
    Time { seconds: 1_000_000_000, nanoseconds: 12_345_678 },
];
/// Two names that differ in case, two that differ in composition.
const CASE: [&str; 2] = ["overside-Case", "overside-cASE"];
const COMPOSITION: [&str; 2] = ["overside-\u{e9}", "overside-e\u{301}"];

/// What the file system of a root can hold. It is tried in `stage` where that is on the same one, so that nothing of it is seen
/// in the root, and in the root otherwise, under a name that is part of no tree. A root that cannot be written is taken for an
/// ordinary one: nothing new comes there.
pub(crate) fn probe(root: &Directory, path: &Path, stage: &Directory) -> Traits {
    let place = if root.shares_file_system(stage) { stage } else { root };
    // One of the same root's that was interrupted is used again.
    let digits = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
    let name = format!("{TEMPORARY}probe-{}", &digits[..16]);
    let mut traits = within(place, name.as_bytes(), try_out).unwrap_or_else(|error| {
        tracing::debug!(%error, path = %path.display(), "what its file system can hold is not known");
        Traits::default()
    });
    // Some file systems fold cases in some directories only.
    if traits.case == Alike::Never && folds_case(root).unwrap_or(false) {
        traits.case = Alike::Kept;
    }
    if !traits.is_ordinary() {
        tracing::info!(path = %path.display(), ?traits, "the file system is not like the environment's");
    }
    traits
}

/// Does something in a directory that is made for it.
fn within<T>(place: &Directory, name: &[u8], what: impl FnOnce(&Directory) -> io::Result<T>) -> io::Result<T> {
    match place.make_directory(name) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let directory = place.open_directory(name)?;
    empty(&directory)?;
    let result = what(&directory);
    let emptied = empty(&directory);
    drop(directory);
    if let Err(error) = emptied.and_then(|()| place.remove_directory(name)) {
        tracing::warn!(%error, "a temporary directory stays");
    }
    result
}

fn empty(directory: &Directory) -> io::Result<()> {
    let names: Vec<Vec<u8>> =
        directory.entries()?.map(|entry| Ok(entry?.name().to_vec())).collect::<io::Result<_>>()?;
    for name in names.iter().filter(|name| !matches!(name.as_slice(), b"." | b"..")) {
        directory.remove(name)?;
    }
    Ok(())
}

fn try_out(directory: &Directory) -> io::Result<Traits> {
    let file = directory.create(CASE[0].as_bytes())?;
    let of_its_own = stat_of(&file)?.mode();
    let mut rounding = 0;
    for time in TIMES {
        dress(&file, None, of_its_own, time)?;
        rounding = rounding.max(difference(time, stat_of(&file)?.modified));
    }
    let keeps = |mode: u16| {
        let dressed = dress(&file, None, mode, TIMES[0]).and_then(|()| stat_of(&file));
        dressed.is_ok_and(|stat| stat.mode() == mode)
    };
    let no_permissions = !keeps(0o700) || !keeps(0o600);
    drop(file);
    let case = alike(directory, CASE)?;
    let composition = match directory.create(COMPOSITION[0].as_bytes()) {
        Ok(_) => alike(directory, COMPOSITION)?,
        // It has ways of its own of writing names, or none for these.
        Err(_) => Alike::Never,
    };
    let refuses = |name: &[u8]| Ok::<_, io::Error>(directory.create(name).is_err() || !has_exactly(directory, name)?);
    let mut refused =
        Refused { devices: refuses(b"nul.txt")?, other_than_text: refuses(b"overside-\xff")?, ..Refused::default() };
    for byte in REFUSED {
        if refuses(&[b'x', *byte, b'y'])? {
            refused.bytes.insert(*byte);
        }
    }
    if refused.bytes.contains(&1) {
        refused.bytes.extend(1..32);
    }
    for end in [b'.', b' '] {
        if refuses(&[b'x', end])? {
            refused.ends.insert(end);
        }
    }
    let target = b"overside/target";
    let linked =
        directory.make_link(b"overside-link", target, directory).and_then(|()| directory.read_link(b"overside-link"));
    let no_links = !linked.is_ok_and(|found| found.as_deref() == Some(target));
    let rounding = match rounding {
        0 => 0,
        _ => ROUNDING.into_iter().find(|most| rounding < *most).unwrap_or(u64::MAX),
    };
    Ok(Traits { case, composition, refused, no_links, no_permissions, rounding })
}

/// What two names are, the first of which was made.
fn alike(directory: &Directory, [made, other]: [&str; 2]) -> io::Result<Alike> {
    if look(&Spot { directory, name: other.as_bytes() })?.is_none() {
        return Ok(Alike::Never);
    }
    Ok(if has_exactly(directory, made.as_bytes())? { Alike::Kept } else { Alike::Lost })
}

fn difference(one: Time, other: Time) -> u64 {
    let nanoseconds = |time: Time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    u64::try_from((nanoseconds(one) - nanoseconds(other)).unsigned_abs()).unwrap_or(u64::MAX)
}

/// Whether an entry is found under its name in the other case, without making one.
fn folds_case(root: &Directory) -> io::Result<bool> {
    let swap =
        |byte: &u8| if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
    for entry in root.entries()? {
        let entry = entry?;
        let swapped: Vec<u8> = entry.name().iter().map(swap).collect();
        if swapped != entry.name() {
            let there = look(&Spot { directory: root, name: &swapped })?.is_some();
            return Ok(there && !has_exactly(root, &swapped)?);
        }
    }
    Ok(false)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_file_system_is_found_to_be_one() {
        let [root, stage] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [opened, staged] = [&root, &stage].map(|directory| Directory::open(directory.path()).unwrap());
        assert_eq!(probe(&opened, root.path(), &staged), Traits::default());
    }
}
