//! Writing into a file that is there: where another one in its place would not be seen, and where it has only become longer, so
//! that who follows a log goes on following it.

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use overside_sync_core::{Entry, File, RelativePath, Side, Step};

use super::{Applying, Obstacle, written};
use crate::{
    files::{Spot, stat_of},
    scan::digest,
};

/// Bytes that are added to a file at once. Where more has come another file comes into its place, as a whole.
const LONGEST_END: u64 = 16 << 20;
/// The same for a file that was empty: nothing tells one that grows from one that is being replaced.
const LONGEST_BEGINNING: u64 = 64 << 10;

impl Applying<'_> {
    /// Makes the file itself what it is to be: what a container has mounted stays the same file.
    pub(super) fn write_into(
        &mut self,
        spot: &Spot<'_>,
        step: &Step,
        path: &RelativePath,
        file: &File,
    ) -> Result<(), Obstacle> {
        if let Some(Entry::File(old)) = &step.old
            && let Some(end) = self.end(old, file)?
            && self.append(spot, path, file, &end)?
        {
            return Ok(());
        }
        if step.old.is_some() && !self.is_as_known(spot, path)? {
            return Err(Obstacle::Changed);
        }
        let (_, mut source) =
            self.stage.open(&file.digest, false).map_err(Obstacle::Failed)?.ok_or(Obstacle::Changed)?;
        let mut target = spot.directory.open_to_write(spot.name)?;
        // Before the content, so that what a container writes right after it is not cut.
        target.set_len(file.size)?;
        io::copy(&mut source, &mut target)?;
        self.finish_file(path, file, &target)
    }

    /// What a file has at its end beyond what it was; None where it is not the same up to there, or has become too long.
    pub(super) fn end(&mut self, old: &File, new: &File) -> Result<Option<Vec<u8>>, Obstacle> {
        let longest = if old.size == 0 { LONGEST_BEGINNING } else { LONGEST_END };
        if new.size <= old.size || new.size - old.size > longest {
            return Ok(None);
        }
        let (_, mut content) =
            self.stage.open(&new.digest, false).map_err(Obstacle::Failed)?.ok_or(Obstacle::Changed)?;
        if digest(&mut content, old.size)?.0 != old.digest {
            return Ok(None);
        }
        content.seek(SeekFrom::Start(old.size))?;
        let mut end = Vec::new();
        content.read_to_end(&mut end)?;
        Ok(Some(end))
    }

    /// Adds to a file; false if it may not be written. Should somebody else do the same at this moment, both is there afterwards.
    pub(super) fn append(
        &mut self,
        spot: &Spot<'_>,
        path: &RelativePath,
        file: &File,
        end: &[u8],
    ) -> Result<bool, Obstacle> {
        if !self.is_as_known(spot, path)? {
            return Err(Obstacle::Changed);
        }
        let Ok(mut target) = spot.directory.open_to_append(spot.name) else { return Ok(false) };
        target.write_all(end)?;
        if self.side == Side::Laptop {
            target.sync_data()?;
        }
        self.finish_file(path, file, &target)?;
        Ok(true)
    }

    /// It has been this content, whatever somebody has written since: it is read again, and what is found then is a newer version
    /// of this one.
    fn finish_file(&mut self, path: &RelativePath, file: &File, target: &std::fs::File) -> Result<(), Obstacle> {
        self.dress(target, file)?;
        let made = stat_of(target)?;
        self.done(path, Some(Entry::File(written(file, &made, None))));
        Ok(())
    }
}
