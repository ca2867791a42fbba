//! The runners that settings can name: those of this machine, and those that were added.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use overside_config::RunnersFile;
use overside_model::{ErrorCode, Problem, RunnerEntry, RunnerStatus, is_runner_name};
use overside_runner::{MakeProvider, Provider, Suggest};

/// Changes at run time; every look is a short synchronous call.
pub(crate) struct Runners {
    file: RunnersFile,
    make: MakeProvider,
    suggest: Suggest,
    table: RwLock<BTreeMap<String, Runner>>,
    /// Why runners of the file are missing.
    problem: Option<Problem>,
}

struct Runner {
    provider: Arc<dyn Provider>,
    /// How it was added; none for one that is always there.
    entry: Option<RunnerEntry>,
}

impl Runners {
    /// Those that are always there, and those of the file. A file that cannot be used leaves the former, and is told.
    pub(crate) fn new(file: RunnersFile, fixed: Vec<Arc<dyn Provider>>, make: MakeProvider, suggest: Suggest) -> Self {
        let mut table = BTreeMap::new();
        let mut problem = None;
        match file.load() {
            Ok(entries) => {
                for entry in entries {
                    match make(&entry) {
                        Ok(provider) => {
                            table.insert(entry.name.clone(), Runner { provider, entry: Some(entry) });
                        }
                        // It may be of a newer version's making, and stays in the file.
                        Err(unusable) => problem = Some(unusable),
                    }
                }
            }
            Err(unusable) => problem = Some(unusable),
        }
        if let Some(problem) = &problem {
            tracing::warn!(%problem, "not all runners can be used");
        }
        for provider in fixed {
            table.insert(provider.name().to_owned(), Runner { provider, entry: None });
        }
        Self { file, make, suggest, table: RwLock::new(table), problem }
    }

    fn read<T>(&self, look: impl FnOnce(&BTreeMap<String, Runner>) -> T) -> T {
        look(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Why runners of the file are missing.
    pub(crate) fn problem(&self) -> Option<Problem> {
        self.problem.clone()
    }

    /// The provider behind a name.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownName`], with the names that there are.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<dyn Provider>, Problem> {
        self.read(|table| match table.get(name) {
            Some(runner) => Ok(runner.provider.clone()),
            None => {
                let known: Vec<_> = table.keys().map(String::as_str).collect();
                Err(Problem::new(
                    ErrorCode::UnknownName,
                    format!("there is no runner {name:?}; there are {}", known.join(", ")),
                    "Add one with `overside runner add NAME ADDRESS`.",
                ))
            }
        })
    }

    /// Addresses that may be meant by who adds a runner, without those that were added.
    pub(crate) fn suggestions(&self) -> Vec<String> {
        let mut addresses = (self.suggest)();
        self.read(|table| {
            let added: Vec<_> = table.values().filter_map(|runner| runner.entry.as_ref()).collect();
            addresses.retain(|address| added.iter().all(|entry| entry.address != *address));
        });
        addresses
    }

    /// What an hour on it costs, where that was said when it was added.
    pub(crate) fn price_per_hour(&self, name: &str) -> Option<f64> {
        self.read(|table| table.get(name)?.entry.as_ref()?.price_per_hour)
    }

    /// Those of this machine: asking them reaches out to nobody.
    pub(crate) fn fixed(&self) -> Vec<Arc<dyn Provider>> {
        let fixed = |runner: &&Runner| runner.entry.is_none();
        self.read(|table| table.values().filter(fixed).map(|runner| runner.provider.clone()).collect())
    }

    /// All of them, the chosen one marked.
    pub(crate) fn status(&self, selected: &str) -> Vec<RunnerStatus> {
        let status = |(name, runner): (&String, &Runner)| RunnerStatus {
            name: name.clone(),
            provider: runner.provider.kind().to_owned(),
            address: runner.provider.address(),
            selected: name == selected,
            removable: runner.entry.is_some(),
        };
        self.read(|table| table.iter().map(status).collect())
    }

    /// Adds a runner, for good.
    pub(crate) fn add(&self, entry: RunnerEntry) -> Result<(), Problem> {
        let refused = |message: String, hint: &str| Err(Problem::new(ErrorCode::InvalidSettings, message, hint));
        if !is_runner_name(&entry.name) {
            let message = format!("a runner cannot be called {:?}", entry.name);
            return refused(message, "Use 1 to 32 characters of a-z, 0-9 and '-'.");
        }
        if entry.price_per_hour.is_some_and(|price| !(0.0..=10_000.0).contains(&price)) {
            return refused("an hour on a runner cannot cost that".to_owned(), "Give a price from 0 to 10000.");
        }
        let provider = (self.make)(&entry)?;
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.contains_key(&entry.name) {
            let message = format!("there is a runner {:?} already", entry.name);
            return refused(message, "Choose another name, or remove that one with `overside runner rm`.");
        }
        self.file.put(&entry)?;
        table.insert(entry.name.clone(), Runner { provider, entry: Some(entry) });
        Ok(())
    }

    /// Forgets a runner that was added, and returns its provider.
    pub(crate) fn remove(&self, name: &str) -> Result<Arc<dyn Provider>, Problem> {
        let provider = self.get(name)?;
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.get(name).is_some_and(|runner| runner.entry.is_none()) {
            let message = format!("the runner {name:?} is this machine itself");
            return Err(Problem::new(ErrorCode::InvalidSettings, message, "It cannot be removed."));
        }
        self.file.remove(name)?;
        table.remove(name);
        Ok(provider)
    }
}
