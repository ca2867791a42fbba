//! What users do.

use std::sync::Arc;

use overside_config::Source;
use overside_io::clock;
use overside_model::{
    ErrorCode, Problem, RunnerStatus, SessionQuery, Settings, UsageDays, UsageReport, UsageSessions,
    agent::Operation as AgentOperation,
};
use overside_runner::Provider;
use serde_json::Value;

use super::{Hub, lease, patience};

impl Hub {
    /// Turns on. What could not be used is read again first.
    pub(crate) fn enable(self: &Arc<Self>) -> Result<(), Problem> {
        {
            let mut inner = self.lock();
            if inner.blocked.is_some() {
                inner.own = self.settings_file.load()?;
            }
            inner.read_policy(&self.policy_file)?;
            inner.blocked = None;
        }
        self.set_setting("enabled", &true.into())
    }

    /// Turns off, for good (`keep`: only until the daemon starts again).
    pub(crate) fn disable(self: &Arc<Self>, keep: bool) -> Result<(), Problem> {
        if keep {
            self.input(|session, now| session.handle_disable(now));
            return Ok(());
        }
        let saved = self.set_setting("enabled", &false.into());
        // Turning off must not fail for a full disk.
        self.input(|session, now| session.handle_disable(now));
        saved
    }

    /// Has the next start go on with the user's session of another computer, where there is one.
    ///
    /// # Errors
    /// There is a session here already.
    pub(crate) fn take_over_next(self: &Arc<Self>) -> Result<(), Problem> {
        let mut inner = self.lock();
        if inner.current.is_some() {
            return Err(Problem::new(
                ErrorCode::RequestRefused,
                "this computer has a session of its own",
                "End it with `overside stop` first.",
            ));
        }
        inner.take_over = true;
        Ok(())
    }

    pub(crate) fn idle_now(self: &Arc<Self>) -> Result<(), Problem> {
        self.input(|session, now| session.handle_idle_now(now))
    }

    pub(crate) fn resume(self: &Arc<Self>) -> Result<(), Problem> {
        self.input(|session, now| session.handle_resume(now))
    }

    pub(crate) fn later(self: &Arc<Self>) {
        self.input(|session, now| session.handle_later(now));
    }

    pub(crate) fn retry(self: &Arc<Self>) {
        self.input(|session, now| session.handle_retry(now));
    }

    /// What the settings say at the start of the daemon.
    pub(crate) fn begin(self: &Arc<Self>) {
        let (enabled, usable) = {
            let mut inner = self.lock();
            if inner.blocked.is_none() {
                inner.login_problem = self.follow_login(inner.settings.start_at_login);
            }
            (inner.settings.enabled, inner.blocked.is_none())
        };
        if enabled && usable {
            self.input(|session, now| session.handle_enable(now));
        } else {
            // A daemon that was killed while it was on may have left its context selected.
            let mut inner = self.lock();
            inner.context_problem = self.point_clients(false, &inner.settings);
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    /// What was used.
    pub(crate) fn usage(&self) -> Result<UsageReport, Problem> {
        let mut inner = self.lock();
        inner.account_now();
        inner.accounts.report(inner.settings.daily_limit)
    }

    /// What each of the last days came to.
    pub(crate) fn usage_days(&self, count: u32) -> Result<UsageDays, Problem> {
        let mut inner = self.lock();
        inner.account_now();
        inner.accounts.days(count, inner.settings.daily_limit)
    }

    /// The sessions that a query asks for.
    pub(crate) fn usage_sessions(&self, query: &SessionQuery) -> Result<UsageSessions, Problem> {
        let mut inner = self.lock();
        inner.account_now();
        inner.accounts.sessions(query)
    }

    /// Every session, as CSV.
    pub(crate) fn usage_csv(&self) -> Result<String, Problem> {
        let mut inner = self.lock();
        inner.account_now();
        inner.accounts.csv()
    }

    /// A setting's value, where it comes from, and what the policy says of it.
    pub(crate) fn setting(&self, name: &str) -> (Value, Source, Option<String>) {
        let inner = self.lock();
        let (source, rule) = (inner.policy.source(name, &inner.own), inner.policy.rule(name, &inner.own));
        (inner.settings.get(name).unwrap_or_default(), source, rule)
    }

    /// The runners, the chosen one marked.
    pub(crate) fn runners(&self) -> Vec<RunnerStatus> {
        let selected = self.lock().settings.runner.clone();
        self.runners.status(&selected)
    }

    /// Forgets a runner that nothing uses, and returns its provider.
    pub(crate) fn remove_runner(&self, name: &str) -> Result<Arc<dyn Provider>, Problem> {
        let inner = self.lock();
        let in_use =
            |hint: &str| Err(Problem::new(ErrorCode::InvalidSettings, format!("the runner {name:?} is in use"), hint));
        if inner.current.as_ref().is_some_and(|current| current.record.runner == name) {
            return in_use("Delete its environment with `overside stop` first.");
        }
        if inner.own.runner == name {
            return in_use("Choose another with `overside runner default NAME` first.");
        }
        self.runners.remove(name)
    }

    /// Changes a setting: saved first, then applied.
    pub(crate) fn set_setting(self: &Arc<Self>, name: &str, value: &Value) -> Result<(), Problem> {
        let mut inner = self.lock();
        if let Some(problem) = &inner.blocked {
            return Err(problem.clone());
        }
        let mut own = inner.own.clone();
        own.set(name, value)?;
        let settings = inner.policy.apply(&own);
        // Also where the user's own value stays as it was: what does not take effect is not accepted in silence.
        if own != inner.own || settings.get(name)? != own.get(name)? {
            inner.policy.check(name, &own)?;
        }
        self.runners.get(&settings.runner)?;
        if own != inner.own {
            self.settings_file.save(&own)?;
        }
        inner.own = own;
        let before = std::mem::replace(&mut inner.settings, settings.clone());
        inner.tell_rules();
        self.patience.send_replace(patience(&settings));
        let now = clock::now();
        match settings.enabled {
            true if name == "enabled" => inner.session.handle_enable(now),
            false if name == "enabled" => inner.session.handle_disable(now),
            _ => {}
        }
        let pointed = |settings: &Settings| (settings.select_context, settings.default_socket);
        if pointed(&before) != pointed(&settings) && inner.session.is_enabled() {
            inner.context_problem = self.point_clients(true, &settings);
        }
        if before.start_at_login != settings.start_at_login {
            inner.login_problem = self.follow_login(settings.start_at_login);
        }
        if lease(&before) != lease(&settings)
            && let Some(environment) = inner.environment()
        {
            let terms = lease(&settings);
            tokio::spawn(async move {
                if let Err(error) = environment.link.operate(AgentOperation::Lease(terms)).await {
                    tracing::warn!(%error, "the environment did not take its new lease");
                }
            });
        }
        self.settle(&mut inner, now);
        Ok(())
    }
}
