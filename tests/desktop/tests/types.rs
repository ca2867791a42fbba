//! The page's types are the daemon's: ui/src/lib/generated/model.ts is made here, and compared everywhere else.

use std::path::Path;

use overside_model::{
    Answer, AwakeReason, DesktopSettings, Diagnosis, EnvironmentId, ErrorCode, Hop, HopStatus, HostKey, IgnoredPoller,
    Language, LogLine, MountDecision, MountState, MountStatus, PortStatus, Problem, Progress, Prompt, PromptReason,
    Protocol, Question, RunnerStatus, SessionId, SessionQuery, SessionStatus, State, Status, Usage, UsageDay,
    UsageDays, UsagePeriod, UsageReport, UsageSession, UsageSessions, UsageSpan, Work, WorkKind,
};
use ts_rs::{Config, TS};

fn declaration<T: TS>(config: &Config) -> String {
    format!("\n{}export {}\n", T::docs().unwrap_or_default(), T::decl(config))
}

fn typescript() -> String {
    // JSON numbers: no count of Overside's passes 2^53.
    let config = Config::new().with_large_int("number");
    let mut text = String::from(
        "// Made from crates/model by tests/desktop/tests/types.rs: BLESS=1 cargo test -p overside-desktop-tests --test types\n",
    );
    for declaration in [
        declaration::<State>,
        declaration::<Status>,
        declaration::<DesktopSettings>,
        declaration::<Language>,
        declaration::<SessionStatus>,
        declaration::<SessionId>,
        declaration::<EnvironmentId>,
        declaration::<Progress>,
        declaration::<AwakeReason>,
        declaration::<IgnoredPoller>,
        declaration::<Prompt>,
        declaration::<PromptReason>,
        declaration::<WorkKind>,
        declaration::<Work>,
        declaration::<Usage>,
        declaration::<UsageReport>,
        declaration::<UsagePeriod>,
        declaration::<UsageSpan>,
        declaration::<UsageDays>,
        declaration::<UsageDay>,
        declaration::<SessionQuery>,
        declaration::<UsageSessions>,
        declaration::<UsageSession>,
        declaration::<PortStatus>,
        declaration::<Protocol>,
        declaration::<MountStatus>,
        declaration::<MountState>,
        declaration::<MountDecision>,
        declaration::<RunnerStatus>,
        declaration::<Question>,
        declaration::<HostKey>,
        declaration::<Answer>,
        declaration::<Hop>,
        declaration::<HopStatus>,
        declaration::<Diagnosis>,
        declaration::<LogLine>,
        declaration::<Problem>,
        declaration::<ErrorCode>,
    ] {
        text.push_str(&declaration(&config));
    }
    text
}

#[test]
fn the_types_of_the_page_are_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui/src/lib/generated/model.ts");
    let wanted = typescript();
    if std::env::var_os("BLESS").is_some() {
        fs_err::write(&path, &wanted).unwrap();
    }
    let found = fs_err::read_to_string(&path).unwrap();
    assert_eq!(found, wanted, "run it once with BLESS=1 and commit the file");
}
