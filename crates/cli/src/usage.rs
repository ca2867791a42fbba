//! `overside usage`: through the daemon, or out of the ledger's file where none runs.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
};

use jiff::{Zoned, civil::Date};
use overside_config::{Home, Policy, SettingsFile};
use overside_control::Client;
use overside_ledger::History;
use overside_model::{ErrorCode, Problem, UsagePeriod, UsageReport, UsageSpan};
use terminal_size::{Width, terminal_size};

use crate::arguments::Format;

/// Columns of something that is no terminal.
const COLUMNS: usize = 80;
/// Longest bar, and the shortest that is worth drawing.
const BAR: std::ops::RangeInclusive<usize> = 8..=40;

/// Shows today, this week and this month.
pub(crate) async fn show(home: &Home, client: &Client, format: Format) -> Result<(), Problem> {
    let report = match client.usage().await {
        Err(problem) if problem.code == ErrorCode::DaemonUnreachable => {
            // What was used can be read whatever is wrong with the rest.
            let own = SettingsFile::new(home.settings_file()).load().unwrap_or_default();
            let settings = Policy::load(&Policy::system_path()).unwrap_or_default().apply(&own);
            History::read(&home.usage_file())?.report(&Zoned::now(), settings.daily_limit)?
        }
        result => result?,
    };
    match format {
        Format::Json => print(format!("{}\n", serde_json::to_string(&report).unwrap_or_default()).as_bytes()),
        Format::Pretty => {
            let columns = terminal_size().map_or(COLUMNS, |(Width(columns), _)| columns.into());
            print(table(&report, columns).as_bytes())?;
            if let Some(problem) = &report.problem {
                eprintln!("overside: {}", problem.sentence());
            }
            Ok(())
        }
    }
}

/// Writes every session as CSV to a file, or to standard output for `-`.
pub(crate) async fn export(home: &Home, client: &Client, file: &Path) -> Result<(), Problem> {
    let csv = match client.usage_csv().await {
        Err(problem) if problem.code == ErrorCode::DaemonUnreachable => {
            History::read(&home.usage_file())?.csv()?.into_bytes().into()
        }
        result => result?,
    };
    if file == Path::new("-") {
        return print(&csv);
    }
    fs_err::write(file, &csv).map_err(|error| unwritable(&error, "Choose another file."))
}

/// Writes to standard output. A reader that has seen enough is no error.
fn print(bytes: &[u8]) -> Result<(), Problem> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritable(&error, "")),
        _ => Ok(()),
    }
}

fn unwritable(error: &io::Error, hint: &str) -> Problem {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let code = if full { ErrorCode::DiskFull } else { ErrorCode::InvalidSettings };
    Problem::new(code, format!("cannot write the usage: {error}"), hint)
}

/// One line: what, how long, what it cost, and how much of `whole` that is.
struct Row {
    label: String,
    used: String,
    cost: Option<f64>,
    bar: Option<(u64, u64)>,
}

/// The report in so many columns: letters and figures only, so that it reads the same everywhere.
fn table(report: &UsageReport, columns: usize) -> String {
    let limit = report.limit_seconds;
    let today = &report.today;
    let busiest = report.week.days.iter().chain(&report.month.days).map(|day| day.seconds).max().unwrap_or_default();
    let mut rows = vec![Row {
        label: format!("Today, {}", dates(today)),
        used: length(today.seconds),
        cost: today.cost,
        bar: Some((today.seconds, limit.max(today.seconds))),
    }];
    let past = |span: &&UsageSpan| span.first <= today.first;
    let part = |label: String, span: &UsageSpan, whole| Row {
        label: format!("  {label}"),
        used: length(span.seconds),
        cost: span.cost,
        bar: Some((span.seconds, whole)),
    };
    let total = |label: &str, period: &UsagePeriod| Row {
        label: format!("{label} {}", period.total.name),
        used: length(period.total.seconds),
        cost: period.total.cost,
        bar: None,
    };
    rows.push(total("Week", &report.week));
    rows.extend(report.week.days.iter().filter(past).map(|day| part(dates(day), day, limit.max(busiest))));
    rows.push(total("Month", &report.month));
    let fullest = report.month.weeks.iter().map(|week| week.seconds).max().unwrap_or_default();
    let weeks = report.month.weeks.iter().filter(past);
    rows.extend(weeks.map(|week| part(format!("{} {}", week_of_year(&week.name), dates(week)), week, fullest)));
    let mut text = draw(&rows, columns);
    let _ = match today.seconds.checked_sub(limit) {
        Some(over) if over > 0 => writeln!(text, "Today's limit of {} is passed by {}.", length(limit), length(over)),
        _ => writeln!(text, "Of today's {}, {} are left.", length(limit), length(limit - today.seconds.min(limit))),
    };
    text
}

fn draw(rows: &[Row], columns: usize) -> String {
    let width = |cell: fn(&Row) -> usize| rows.iter().map(cell).max().unwrap_or_default();
    let label_width = width(|row| row.label.len());
    let used_width = width(|row| row.used.len());
    let cost = |row: &Row| row.cost.map(|cost| format!("{cost:.2}")).unwrap_or_default();
    let cost_width = rows.iter().map(|row| cost(row).len()).max().unwrap_or_default();
    let mut text = String::new();
    for row in rows {
        if row.bar.is_none() {
            text.push('\n');
        }
        let mut line = format!("{:<label_width$}  {:>used_width$}", row.label, row.used);
        if cost_width > 0 {
            let _ = write!(line, "  {:>cost_width$}", cost(row));
        }
        let room = columns.saturating_sub(line.len() + 2).min(*BAR.end());
        if let Some((part, whole)) = row.bar.filter(|_| BAR.contains(&room)) {
            let _ = write!(line, "  {}", bar(part, whole, room));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push('\n');
    text
}

/// As many of `room` characters as `part` is of `whole`; at least one for anything at all.
fn bar(part: u64, whole: u64, room: usize) -> String {
    let room = room as u64;
    let length = part.saturating_mul(room).checked_div(whole).unwrap_or_default().min(room);
    "#".repeat(usize::try_from(length.max(u64::from(part > 0))).unwrap_or_default())
}

/// `Sat 21 Nov`, or `16-21 Nov` for several days of a month.
fn dates(span: &UsageSpan) -> String {
    match (span.first.parse::<Date>(), span.last.parse::<Date>()) {
        (Ok(first), Ok(last)) if first == last => first.strftime("%a %d %b").to_string(),
        (Ok(first), Ok(last)) => format!("{}-{}", first.strftime("%d"), last.strftime("%d %b")),
        _ => span.name.clone(),
    }
}

/// `W47` of `2026-W47`.
fn week_of_year(name: &str) -> &str {
    name.split_once('-').map_or(name, |(_, week)| week)
}

/// Hours and minutes; seconds below a minute.
fn length(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m"),
        (_, 0) => format!("{hours}h"),
        _ => format!("{hours}h {minutes:02}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(name: &str, first: &str, last: &str, seconds: u64, cost: Option<f64>) -> UsageSpan {
        UsageSpan { name: name.to_owned(), first: first.to_owned(), last: last.to_owned(), seconds, cost }
    }

    fn day(date: &str, seconds: u64, cost: Option<f64>) -> UsageSpan {
        span(date, date, date, seconds, cost)
    }

    fn report(cost: Option<f64>) -> UsageReport {
        let days =
            vec![day("2026-11-02", 9 * 3600, cost), day("2026-11-03", 2 * 3600 + 62, cost), day("2026-11-04", 0, None)];
        let weeks = vec![
            span("2026-W44", "2026-11-01", "2026-11-01", 0, None),
            span("2026-W45", "2026-11-02", "2026-11-08", 11 * 3600 + 62, cost),
            span("2026-W46", "2026-11-09", "2026-11-15", 0, None),
        ];
        UsageReport {
            zone: "UTC".to_owned(),
            made_at: "2026-11-03T12:00:00Z".to_owned(),
            limit_seconds: 8 * 3600,
            today: days[1].clone(),
            week: UsagePeriod {
                total: span("2026-W45", "2026-11-02", "2026-11-08", 11 * 3600 + 62, cost),
                days: days.clone(),
                weeks: vec![],
            },
            month: UsagePeriod {
                total: span("2026-11", "2026-11-01", "2026-11-30", 11 * 3600 + 62, cost),
                days,
                weeks,
            },
            problem: None,
        }
    }

    #[test]
    fn the_table_has_a_bar_for_every_day_and_week_so_far() {
        let expected = "\
Today, Tue 03 Nov   2h 01m  #####

Week 2026-W45      11h 01m
  Mon 02 Nov            9h  ####################
  Tue 03 Nov        2h 01m  ####

Month 2026-11      11h 01m
  W44 Sun 01 Nov        0s
  W45 02-08 Nov    11h 01m  ####################

Of today's 8h, 5h 58m are left.
";
        assert_eq!(table(&report(None), 48), expected);
    }

    #[test]
    fn a_known_price_adds_a_column_and_a_narrow_terminal_leaves_the_bars_out() {
        let text = table(&report(Some(1.5)), 30);
        assert!(text.contains("  Tue 03 Nov        2h 01m  1.50\n"), "{text}");
        assert!(!text.contains('#'), "{text}");
        assert!(table(&report(Some(1.5)), 200).lines().all(|line| line.len() < 80));
    }

    #[test]
    fn a_limit_that_is_passed_is_named_with_how_far() {
        let mut report = report(None);
        report.today.seconds = 9 * 3600;
        assert!(table(&report, 80).ends_with("Today's limit of 8h is passed by 1h.\n"));
        report.limit_seconds = 0;
        assert!(table(&report, 80).contains("passed by 9h"));
    }

    #[tokio::test]
    async fn without_a_daemon_the_file_is_exported_and_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let client = Client::new(home.control_socket());
        let file = directory.path().join("usage.csv");
        export(&home, &client, &file).await.unwrap();
        assert_eq!(fs_err::read_to_string(&file).unwrap().lines().count(), 1);
        assert!(!home.usage_file().exists());
        let problem = export(&home, &client, &directory.path().join("gone/usage.csv")).await.unwrap_err();
        assert!(problem.message.contains("gone/usage.csv"), "{problem}");
    }
}
