//! What is behind the lock: keeping the machine's day, rules and accounts, and what users see of it all.

use std::{path::Path, sync::Arc, time::Duration};

use overside_config::{Home, Policy};
use overside_io::clock;
use overside_model::{DesktopSettings, Moment, Problem, Prompt, SessionStatus, State, Status, Usage};
use overside_session::Rules;

use super::{Inner, overrules};
use crate::{calendar::Calendar, environment::Environment};

/// Time of a session that is worth a write of its own.
const ENOUGH: Duration = Duration::from_secs(1);

impl Inner {
    pub(super) fn environment(&self) -> Option<Arc<Environment>> {
        self.current.as_ref()?.environment.clone()
    }

    /// Before an input that may end the session: afterwards its time is not known any more.
    pub(super) fn account_before(&mut self, now: Moment) {
        let enough = self.accounts.covered().is_some_and(|covered| now >= covered + ENOUGH);
        if self.session.state() == State::Running && enough {
            self.accounts.finish(now);
        }
    }

    /// The running minute counts as well.
    pub(super) fn account_now(&mut self) {
        if self.session.state() == State::Running {
            self.accounts.finish(clock::now());
        }
    }

    /// Writes the usage down where there is something new.
    pub(super) fn account(&mut self, now: Moment) {
        let (state, interval) = (self.session.state(), self.session.interval(now));
        let price = |runner: &str| self.runners.price_per_hour(runner).or(self.settings.price_per_hour);
        let session = self.current.as_ref().map(|current| (&current.record, price(&current.record.runner)));
        let changed = std::mem::replace(&mut self.accounted, state) != state;
        self.accounts.write(now, session, interval, self.session.ended(), changed);
    }

    /// Reads the policy again. One that cannot be used stops everything.
    pub(super) fn read_policy(&mut self, path: &Path) -> Result<(), Problem> {
        self.policy = Policy::load(path)?;
        self.settings = self.policy.apply(&self.own);
        self.tell_rules();
        Ok(())
    }

    pub(super) fn tell_rules(&mut self) {
        let rules = Rules { hard_stop: self.policy.hard_stop(), ..Rules::from(&self.settings) };
        self.session.handle_rules(rules);
        self.session.handle_overrules(overrules(&self.settings));
    }

    /// Notices that the clock or the time zone was changed.
    pub(super) fn look_at_calendar(&mut self, now: Moment) {
        if self.calendar.has_changed() {
            self.tell_day(now);
        }
    }

    pub(super) fn tell_day(&mut self, now: Moment) {
        self.calendar = Calendar::read();
        self.account_before(now);
        self.session.handle_timeout(now);
        let used = self.accounts.used_today(self.calendar.now());
        let used = used.unwrap_or_else(|| self.session.view(now).used_today);
        self.session.handle_day(now, used, now + self.calendar.left_of_day());
    }

    pub(super) fn status(&self, home: &Home, now: Moment) -> Status {
        let view = self.session.view(now);
        let whole = |duration: Duration| duration.as_secs();
        let up = |duration: Duration| duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
        let link_problem = self.current.as_ref().and_then(|current| current.link_problem.clone());
        Status {
            state: view.state,
            runner: self.settings.runner.clone(),
            socket: home.docker_socket().display().to_string(),
            session: self.current.as_ref().map(|current| SessionStatus {
                id: current.record.session.clone(),
                started_at: current.record.started_at.clone(),
                environment: Some(current.record.environment.clone()),
                notes: current.record.notes.clone(),
            }),
            progress: self.current.as_ref().and_then(|current| current.progress.clone()),
            awake_because: view.awake_because,
            ignored_pollers: view.ignored_pollers,
            idle_in_seconds: view.idle_in.map(up),
            grace_remaining_seconds: view.grace_remaining.map(up),
            prompt: view.prompt.map(|(reason, left)| Prompt { reason, answer_within_seconds: up(left) }),
            usage: Usage { today_seconds: whole(view.used_today), limit_seconds: whole(self.settings.daily_limit) },
            at_risk: match view.state {
                State::Suspended => self.current.as_ref().map(|current| current.work.clone()).unwrap_or_default(),
                _ => Vec::new(),
            },
            ports: self.environment().map(|environment| environment.containers.ports()).unwrap_or_default(),
            mounts: self.environment().map(|environment| environment.files().status()).unwrap_or_default(),
            error: self
                .blocked
                .clone()
                .or_else(|| self.files_left.clone())
                .or(view.error)
                .or(link_problem)
                .or_else(|| self.environment()?.containers.bindings.problem())
                .or_else(|| self.context_problem.clone())
                .or_else(|| self.login_problem.clone())
                .or_else(|| self.accounts.problem())
                .or_else(|| self.runners.problem()),
            first_use: self.first_use,
            desktop: DesktopSettings::of(&self.settings),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}
