//! Files that are no good, and places where there can be none.

use jiff::tz::TimeZone;
use overside_ledger::{EndReason, History, Ledger};
use overside_model::{ErrorCode, Problem};

use crate::{Fixture, MINUTE, at, id, new};

const NOW: &str = "2026-11-21T12:00:00Z";
const ASIDE: &str = "usage.sqlite.unusable-20261121T120000Z";

/// An hour of use in a ledger that was closed.
fn hour(f: &Fixture) {
    let mut ledger = f.open();
    let started = at("2026-11-21T10:00:00Z");
    ledger.begin(new(1, started, None)).unwrap();
    ledger.cover(&id(1), started, 60 * MINUTE).unwrap();
    ledger.end(&id(1), at("2026-11-21T11:00:00Z"), EndReason::Stopped).unwrap();
}

fn used_today(ledger: &Ledger) -> u64 {
    ledger.history().used_on("2026-11-21".parse().unwrap(), &TimeZone::UTC).unwrap().used.as_secs() / 60
}

fn open_with_problem(f: &Fixture) -> (Ledger, Problem) {
    let (ledger, problem) = Ledger::open(&f.path, at(NOW)).unwrap();
    assert_eq!(ledger.problem(), problem.as_ref());
    (ledger, problem.unwrap())
}

/// The ledger works, and what it records is in the file.
fn records(f: &Fixture, ledger: &mut Ledger) {
    let started = at("2026-11-21T11:30:00Z");
    ledger.begin(new(2, started, None)).unwrap();
    ledger.cover(&id(2), started, 5 * MINUTE).unwrap();
    assert_eq!(History::read(&f.path).unwrap().sessions().unwrap().len(), 1);
}

#[test]
fn a_file_that_is_no_ledger_is_set_aside_untouched_and_a_new_one_begun() {
    let other = |version: &str, application: &str| {
        let f = Fixture::new();
        let connection = rusqlite::Connection::open(&f.path).unwrap();
        connection.execute_batch(&format!("CREATE TABLE t (a); {version}; {application};")).unwrap();
        drop(connection);
        f
    };
    let text = Fixture::new();
    fs_err::write(&text.path, "Dear diary, today I have used nothing. ".repeat(40)).unwrap();
    for f in [
        text,
        other("", ""),
        other("PRAGMA user_version = 99", "PRAGMA application_id = 0x4f565344"),
        other("PRAGMA user_version = 1", ""),
    ] {
        let before = fs_err::read(&f.path).unwrap();
        let (mut ledger, problem) = open_with_problem(&f);
        assert!(problem.message.contains(&*f.path.to_string_lossy()), "{problem}");
        assert!(problem.message.contains(ASIDE), "{problem}");
        assert_eq!(fs_err::read(f.path.with_file_name(ASIDE)).unwrap(), before);
        records(&f, &mut ledger);
    }
}

#[test]
fn damaged_pages_are_found_at_the_start_and_both_files_are_kept() {
    let f = Fixture::new();
    hour(&f);
    let mut bytes = fs_err::read(&f.path).unwrap();
    let page = 4096;
    assert!(bytes.len() > 3 * page);
    bytes[page..].fill(0xa5);
    fs_err::write(&f.path, &bytes).unwrap();
    drop(open_with_problem(&f));
    // And again in the same second: the first one is not written over.
    fs_err::write(&f.path, &bytes).unwrap();
    let (mut ledger, problem) = open_with_problem(&f);
    assert!(problem.message.contains(&format!("{ASIDE}-2")), "{problem}");
    records(&f, &mut ledger);
    drop(ledger);
    assert_eq!(f.names(), ["usage.sqlite", ASIDE, &format!("{ASIDE}-2")]);
    assert_eq!(fs_err::read(f.path.with_file_name(ASIDE)).unwrap(), bytes);
}

#[test]
fn a_file_that_was_cut_off_is_set_aside_and_an_empty_one_is_new() {
    let f = Fixture::new();
    hour(&f);
    let bytes = fs_err::read(&f.path).unwrap();
    fs_err::write(&f.path, &bytes[..bytes.len() / 2]).unwrap();
    let (mut ledger, _) = open_with_problem(&f);
    records(&f, &mut ledger);
    drop(ledger);
    fs_err::write(&f.path, "").unwrap();
    f.open();
}

#[test]
fn a_directory_in_the_files_place_is_moved_away() {
    let f = Fixture::new();
    fs_err::create_dir(&f.path).unwrap();
    let (mut ledger, problem) = open_with_problem(&f);
    assert!(problem.message.contains(ASIDE), "{problem}");
    records(&f, &mut ledger);
}

#[test]
fn without_a_directory_usage_is_counted_in_memory_and_the_problem_says_so() {
    let mut f = Fixture::new();
    f.path = f.directory.path().join("gone/usage.sqlite");
    let (mut ledger, problem) = open_with_problem(&f);
    assert!(problem.message.contains("in memory only"), "{problem}");
    let started = at("2026-11-21T11:30:00Z");
    ledger.begin(new(2, started, None)).unwrap();
    ledger.cover(&id(2), started, 5 * MINUTE).unwrap();
    assert_eq!(used_today(&ledger), 5);
    assert_eq!(f.names(), [""; 0]);
}

#[test]
fn what_is_not_there_reads_as_no_usage_and_is_not_made() {
    let f = Fixture::new();
    assert_eq!(History::read(&f.path).unwrap().sessions().unwrap(), []);
    assert_eq!(f.names(), [""; 0]);
    // A daemon that was killed as it made the file has used nothing either.
    fs_err::write(&f.path, "").unwrap();
    assert_eq!(History::read(&f.path).unwrap().sessions().unwrap(), []);
    let made = rusqlite::Connection::open(&f.path).unwrap();
    made.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
    drop(made);
    assert_eq!(History::read(&f.path).unwrap().sessions().unwrap(), []);
    f.open();
}

#[test]
fn reading_a_damaged_ledger_fails_with_its_path_and_leaves_it_alone() {
    let f = Fixture::new();
    fs_err::write(&f.path, "no ledger").unwrap();
    let problem = History::read(&f.path).unwrap_err();
    assert!(problem.message.contains(&*f.path.to_string_lossy()), "{problem}");
    assert_eq!(fs_err::read_to_string(&f.path).unwrap(), "no ledger");
}

#[test]
fn a_reader_sees_what_the_daemon_has_written_while_it_writes() {
    let f = Fixture::new();
    hour(&f);
    let mut ledger = f.open();
    ledger.begin(new(2, at(NOW), None)).unwrap();
    assert_eq!(History::read(&f.path).unwrap().sessions().unwrap().len(), 2);
}

#[test]
fn what_another_program_holds_up_is_written_with_the_next_call() {
    let f = Fixture::new();
    let mut ledger = f.open();
    let started = at("2026-11-21T10:00:00Z");
    let other = rusqlite::Connection::open(&f.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let problem = ledger.begin(new(1, started, None)).unwrap_err();
    assert_eq!(ledger.problem(), Some(&problem));
    for minutes in [1, 3, 2] {
        ledger.cover(&id(1), started, minutes * MINUTE).unwrap_err();
    }
    ledger.saw(&id(1), &["alpine:3".to_owned()], 2).unwrap_err();
    other.execute_batch("ROLLBACK").unwrap();
    ledger.saw(&id(1), &["redis:7".to_owned()], 1).unwrap();
    assert_eq!(ledger.problem(), None);
    assert_eq!(used_today(&ledger), 3);
    let session = ledger.history().sessions().unwrap().remove(0);
    assert_eq!((session.images.join(" ").as_str(), session.containers), ("alpine:3 redis:7", 2));
}

#[cfg(unix)]
#[test]
fn the_ledger_and_its_companions_are_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let f = Fixture::new();
    hour(&f);
    fs_err::set_permissions(&f.path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut ledger = f.open();
    ledger.begin(new(2, at(NOW), None)).unwrap();
    assert!(f.names().len() > 1, "{:?}", f.names());
    for name in f.names() {
        let mode = fs_err::metadata(f.directory.path().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// Root writes everywhere; without the capability that lets it, a thread of root's is as anybody's.
#[cfg(target_os = "linux")]
#[test]
fn in_a_read_only_directory_the_past_still_counts_and_the_future_is_kept_in_memory() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    use std::os::unix::fs::PermissionsExt;
    let f = Fixture::new();
    hour(&f);
    let mode = |mode| fs_err::set_permissions(f.directory.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o500);
    let as_anybody = || {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH);
        set_capabilities(None, sets).unwrap();
        assert_eq!(History::read(&f.path).unwrap().sessions().unwrap().len(), 1);
        let (mut ledger, problem) = open_with_problem(&f);
        assert_eq!(problem.code, ErrorCode::InvalidSettings);
        assert!(problem.message.contains("in memory only"), "{problem}");
        let started = at("2026-11-21T11:30:00Z");
        ledger.begin(new(2, started, None)).unwrap();
        ledger.cover(&id(2), started, 5 * MINUTE).unwrap();
        assert_eq!(used_today(&ledger), 65);
    };
    std::thread::scope(|scope| scope.spawn(as_anybody).join()).unwrap();
    mode(0o700);
    assert_eq!(f.names(), ["usage.sqlite"]);
    assert_eq!(used_today(&f.open()), 60);
}
