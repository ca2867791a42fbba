//! The diagnosis for people: one line a hop, and where the way ends.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use overside_model::{Diagnosis, HopStatus};

/// Columns before a hop's words.
const INDENT: usize = 13;

/// The text, with colours, which `anstream` takes out where nobody wants them.
pub(super) fn diagnosis(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    for hop in &diagnosis.hops {
        let (mark, style) = mark(hop.status);
        let took = hop.took_ms.map(|took| format!(" ({took} ms)")).unwrap_or_default();
        let detail = if hop.detail.is_empty() { "not tried" } else { &hop.detail };
        let _ = writeln!(text, "{style}{mark}{style:#} {:<10} {detail}{took}", hop.name);
        if !hop.hint.is_empty() {
            let _ = writeln!(text, "{:INDENT$}{style}{}{style:#}", "", hop.hint);
        }
    }
    let bold = Style::new().bold();
    let _ = match diagnosis.failed() {
        Some(hop) => writeln!(text, "\n{bold}The way to the engine ends at: {}.{bold:#}", hop.name),
        None => writeln!(text, "\n{bold}The way to the engine is clear.{bold:#}"),
    };
    if let Some(bundle) = &diagnosis.bundle {
        let _ = writeln!(text, "Written to {bundle}. It holds no secret: look into it before you send it.");
    }
    text
}

fn mark(status: HopStatus) -> (&'static str, Style) {
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(anstyle::Color::Ansi(colour)));
    match status {
        HopStatus::Passed => ("✓", colour(AnsiColor::Green)),
        HopStatus::Noted => ("!", colour(AnsiColor::Yellow)),
        HopStatus::Failed => ("✗", colour(AnsiColor::Red)),
        HopStatus::Skipped => ("-", Style::new().dimmed()),
    }
}

#[cfg(test)]
mod tests {
    use overside_model::{ErrorCode, Hop, Problem};

    use super::*;

    #[test]
    fn the_hop_that_fails_is_named_with_its_next_step() {
        let hops = vec![
            Hop { took_ms: Some(3), ..Hop::passed("daemon", "overside 0.1.0 answers") },
            Hop::failed("agent", Problem::new(ErrorCode::AgentMissing, "it is not there", "Install it.")),
            Hop::skipped("engine", ""),
        ];
        let shown = diagnosis(&Diagnosis { hops, log: vec![], bundle: Some("/tmp/b.zip".to_owned()) });
        let plain = anstream::adapter::strip_str(&shown).to_string();
        assert_eq!(
            plain,
            "✓ daemon     overside 0.1.0 answers (3 ms)\n\
             ✗ agent      it is not there\n             Install it.\n\
             - engine     not tried\n\n\
             The way to the engine ends at: agent.\n\
             Written to /tmp/b.zip. It holds no secret: look into it before you send it.\n"
        );
        assert!(shown.contains("\u{1b}[31m✗"), "{shown:?}");
    }
}
