//! The file: making it, opening it, and setting aside one that is no good.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};
use rusqlite::{Connection, OpenFlags, backup::Backup};

use crate::trouble::Trouble;

/// Marks the file as a ledger in SQLite's header: "OVSD".
const APPLICATION: i64 = 0x4f56_5344;
/// The schema's version. A change of the schema raises it and brings older files up in [`prepare`].
const VERSION: i64 = 1;
/// How long a write waits for another program that holds the file. Short, because the session waits with it; what could not
/// be written is written next time.
const BUSY: Duration = Duration::from_millis(100);

/// Times are microseconds since 1970 in UTC, durations microseconds.
///
/// `run` is the moment that the caller named for an interval, by which it is found again when it has grown; an interval that
/// had to make way for others is several rows.
const SCHEMA: &str = "
    CREATE TABLE sessions (
        id TEXT NOT NULL PRIMARY KEY,
        user TEXT NOT NULL,
        runner TEXT NOT NULL,
        price_per_hour REAL,
        started INTEGER NOT NULL,
        ended INTEGER,
        reason TEXT,
        containers INTEGER NOT NULL DEFAULT 0
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sessions_by_start ON sessions (started);
    CREATE TABLE images (
        session TEXT NOT NULL,
        image TEXT NOT NULL,
        PRIMARY KEY (session, image)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE intervals (
        start INTEGER NOT NULL PRIMARY KEY,
        lasting INTEGER NOT NULL CHECK (lasting > 0),
        session TEXT NOT NULL,
        run INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX intervals_by_session ON intervals (session, run, lasting);
";

/// Opens the ledger to write, and makes it where there is none.
pub(crate) fn open(path: &Path) -> Result<Connection, Trouble> {
    make_private(path)?;
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE,
    )?;
    prepare(&mut connection)?;
    Ok(connection)
}

/// Opens the ledger to read. None where there is none, or nothing in it: a daemon was killed as it made it.
pub(crate) fn open_to_read(path: &Path) -> Result<Option<Connection>, Trouble> {
    if !path.try_exists()? {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let open = |connection: Connection| -> Result<Option<Connection>, Trouble> {
        connection.busy_timeout(BUSY)?;
        if is_new(&connection)? {
            return Ok(None);
        }
        check(&connection)?;
        Ok(Some(connection))
    };
    let opened = Connection::open_with_flags(path, flags).map_err(Trouble::from).and_then(open);
    // A write-ahead log needs files beside it even to be read. Where none can be made, nobody writes either.
    if opened.as_ref().is_err_and(Trouble::is_about_the_directory) {
        let uri = format!("file:{}?immutable=1", encode(path));
        return open(Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?);
    }
    opened
}

/// A ledger in memory, with what can still be read of the file.
pub(crate) fn in_memory(path: &Path) -> Result<Connection, Trouble> {
    let copy = || -> Result<Connection, Trouble> {
        let mut connection = Connection::open_in_memory()?;
        if let Some(source) = open_to_read(path)? {
            Backup::new(&source, &mut connection)?.run_to_completion(1000, Duration::ZERO, None)?;
        }
        prepare(&mut connection)?;
        Ok(connection)
    };
    copy().or_else(|_| empty())
}

/// A ledger in memory with nothing in it.
pub(crate) fn empty() -> Result<Connection, Trouble> {
    let mut connection = Connection::open_in_memory()?;
    prepare(&mut connection)?;
    Ok(connection)
}

/// Renames a file that is no good, with what SQLite keeps beside it. Nothing is written over. Returns its new path.
pub(crate) fn set_aside(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let time = now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ");
    let mut aside = with_suffix(path, &format!(".unusable-{time}"));
    let mut number = 1;
    while aside.symlink_metadata().is_ok() {
        number += 1;
        aside = with_suffix(path, &format!(".unusable-{time}-{number}"));
    }
    fs_err::rename(path, &aside)?;
    // The log belongs to the old file: it may hold the last minute, and must not meet the new one.
    for suffix in ["-wal", "-shm"] {
        match fs_err::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Makes the file, for this user alone, before SQLite would with the mode of everybody; its companions take after it.
fn make_private(path: &Path) -> io::Result<()> {
    let mut options = fs_err::OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    {
        use fs_err::os::unix::fs::OpenOptionsExt;
        use std::os::unix::fs::PermissionsExt;
        options.mode(0o600);
        if let Ok(metadata) = fs_err::metadata(path)
            && metadata.is_file()
            && metadata.permissions().mode() & 0o777 != 0o600
        {
            // Somebody else's file stays as it is, and opening it tells whether it is of use.
            let _ = fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o600));
        }
    }
    options.open(path).map(|_| ())
}

/// Makes the schema in a new file, and checks an old one before anything in it is changed.
fn prepare(connection: &mut Connection) -> Result<(), Trouble> {
    connection.busy_timeout(BUSY)?;
    let new = is_new(connection)?;
    if !new {
        check(connection)?;
    }
    // A killed daemon loses nothing that was committed. A power cut loses what the system had not written out yet, which is
    // half a minute on Linux; in return no call waits for the disk. Where the file system cannot have a write-ahead log,
    // SQLite keeps its older journal, which is as safe and slower.
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    if new {
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction
            .execute_batch(&format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"))?;
        transaction.commit()?;
    }
    Ok(())
}

/// Whether nothing was ever made in it.
fn is_new(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(pragma(connection, "user_version")? == 0 && pragma(connection, "schema_version")? == 0)
}

/// Whether it is a ledger of this version, with sound pages. Milliseconds for years of use.
fn check(connection: &Connection) -> Result<(), Trouble> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Trouble::Unsound(verdict));
    }
    match (pragma(connection, "application_id")?, pragma(connection, "user_version")?) {
        (APPLICATION, VERSION) => Ok(()),
        (APPLICATION, version) => {
            Err(Trouble::Unsound(format!("it was made by another version of Overside (schema {version})")))
        }
        _ => Err(Trouble::Unsound("it is a database, but no ledger of Overside's".to_owned())),
    }
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

/// A path as SQLite's URIs have it.
fn encode(path: &Path) -> String {
    let text = path.as_os_str().as_encoded_bytes();
    text.iter().fold(String::with_capacity(text.len()), |mut uri, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
        uri
    })
}
