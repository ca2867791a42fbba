//! OpenSSH's client configuration, ssh_config(5): what it says of one host.
//!
//! Read as OpenSSH reads it: the first value that is found holds, `Host` and `Match` begin sections, `Include` reads further
//! files at its place. What a `Match` asks that only OpenSSH itself could answer (`exec`, `final`, …) does not match.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use overside_model::{ErrorCode, Problem};

/// Files that include each other deeper than this are refused, as OpenSSH does.
const DEPTH: usize = 16;

/// Keywords whose values add up.
const LISTS: &[&str] = &["identityfile", "certificatefile"];

/// What decides which sections apply, besides the host.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// The user's home directory.
    pub(crate) home: PathBuf,
    /// The user of this computer.
    pub(crate) local_user: String,
    /// The user that the address names.
    pub(crate) user: Option<String>,
}

/// What the configuration says of one host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    values: BTreeMap<String, Vec<Vec<String>>>,
}

impl Options {
    /// Reads the files in order, the user's before the administrator's. Files that do not exist say nothing.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidSettings`] with file and line.
    pub(crate) fn read(host: &str, asker: &Asker, user_file: &Path, system: &Path) -> Result<Self, Problem> {
        let base = user_file.parent().unwrap_or(user_file);
        let mut reader = Reader { options: Self::default(), names: Vec::new(), host, asker, base };
        reader.file(user_file, true, 0)?;
        reader.base = system;
        reader.file(&system.join("ssh_config"), true, 0)?;
        Ok(reader.options)
    }

    /// The first word of a keyword's value. `none` is no value, where the keyword knows that word.
    pub(crate) fn word(&self, keyword: &str) -> Option<&str> {
        self.values.get(keyword)?.first()?.first().map(String::as_str)
    }

    /// All words of a keyword's value.
    pub(crate) fn words(&self, keyword: &str) -> Option<&[String]> {
        self.values.get(keyword)?.first().map(Vec::as_slice)
    }

    /// The values of a keyword that adds up.
    pub(crate) fn list(&self, keyword: &str) -> impl Iterator<Item = &str> {
        let values = self.values.get(keyword).map(Vec::as_slice).unwrap_or_default();
        values.iter().filter_map(|words| words.first().map(String::as_str))
    }

    /// A keyword that is yes or no.
    pub(crate) fn is_yes(&self, keyword: &str) -> bool {
        self.word(keyword).is_some_and(|word| word.eq_ignore_ascii_case("yes") || word.eq_ignore_ascii_case("true"))
    }

    fn set(&mut self, keyword: String, words: Vec<String>) {
        let values = self.values.entry(keyword.clone()).or_default();
        if values.is_empty() || LISTS.contains(&&*keyword) && !values.contains(&words) {
            values.push(words);
        }
    }
}

/// The hosts that a file and those that it includes have sections for, in their order. Patterns are no names.
///
/// # Errors
/// As [`Options::read`].
pub(crate) fn hosts(asker: &Asker, user_file: &Path) -> Result<Vec<String>, Problem> {
    let base = user_file.parent().unwrap_or(user_file);
    let mut reader = Reader { options: Options::default(), names: Vec::new(), host: "", asker, base };
    reader.file(user_file, true, 0)?;
    Ok(reader.names)
}

struct Reader<'a> {
    options: Options,
    /// The names in `Host` lines so far, whether they apply or not.
    names: Vec<String>,
    host: &'a str,
    asker: &'a Asker,
    /// Where relative includes lie.
    base: &'a Path,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, applies: bool, depth: usize) -> Result<(), Problem> {
        if depth > DEPTH {
            return Err(unusable(path, 0, "files include each other too deeply"));
        }
        let text = match fs_err::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            Err(error) => return Err(unusable(path, 0, &error.to_string())),
        };
        let mut active = applies;
        for (index, line) in text.lines().enumerate() {
            let wrong = |reason: &str| unusable(path, index + 1, reason);
            let Some((keyword, words)) = split(line).map_err(wrong)? else { continue };
            if words.is_empty() {
                return Err(wrong(&format!("{keyword} has no value")));
            }
            match &*keyword {
                "host" => {
                    active = applies && self.is_host(&words);
                    let name = |word: &String| !word.contains(['*', '?', '!']) && !self.names.contains(word);
                    let names: Vec<String> = words.into_iter().filter(name).collect();
                    self.names.extend(names);
                }
                "match" => active = applies && self.matches(&words),
                "include" => {
                    for pattern in &words {
                        for included in self.included(pattern).map_err(|reason| wrong(&reason))? {
                            self.file(&included, active, depth + 1)?;
                        }
                    }
                }
                _ if active => self.options.set(keyword, words),
                _ => {}
            }
        }
        Ok(())
    }

    /// The section `Host` with these patterns.
    fn is_host(&self, patterns: &[String]) -> bool {
        in_list(patterns.iter().map(String::as_str), self.host)
    }

    fn matches(&self, words: &[String]) -> bool {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (negated, criterion) = word.strip_prefix('!').map_or((false, &**word), |rest| (true, rest));
            let user = self.asker.user.as_deref().or_else(|| self.options.word("user"));
            let is = |text: Option<&str>, list: Option<&String>| {
                list.is_some_and(|list| in_list(list.split(','), text.unwrap_or(&self.asker.local_user)))
            };
            let holds = match &*criterion.to_ascii_lowercase() {
                "all" => true,
                "host" => is(Some(self.options.word("hostname").unwrap_or(self.host)), words.next()),
                "originalhost" => is(Some(self.host), words.next()),
                "user" => is(user, words.next()),
                "localuser" => is(Some(&self.asker.local_user), words.next()),
                // Neither they nor their opposite can be told.
                _ => return false,
            };
            if holds == negated {
                return false;
            }
        }
        true
    }

    fn included(&self, pattern: &str) -> Result<Vec<PathBuf>, String> {
        let pattern = match pattern.strip_prefix("~/") {
            Some(rest) => self.asker.home.join(rest),
            None => self.base.join(pattern),
        };
        let pattern = pattern.to_str().ok_or("the path of an Include is not UTF-8")?;
        let found = glob::glob(pattern).map_err(|error| format!("Include {pattern}: {error}"))?;
        Ok(found.filter_map(Result::ok).filter(|path| !path.is_dir()).collect())
    }
}

/// Whether a list of patterns, some of them negated, names this text.
fn in_list<'a>(patterns: impl Iterator<Item = &'a str>, text: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        let (negated, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |rest| (true, rest));
        if overside_tunnel::outer::wild_match(pattern, text) {
            if negated {
                return false;
            }
            found = true;
        }
    }
    found
}

/// A line's keyword, in lower case, and its words. None for empty lines and comments.
fn split(line: &str) -> Result<Option<(String, Vec<String>)>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    Ok(Some((keyword.to_ascii_lowercase(), words(rest)?)))
}

/// Splits as OpenSSH's argv_split does: quotes of both kinds, a backslash before a quote, a backslash or a space.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        match chars.peek() {
            None | Some('#') => return Ok(words),
            Some(_) => {}
        }
        let (mut word, mut quote) = (String::new(), None);
        loop {
            match (chars.next(), quote) {
                (None, Some(_)) => return Err("a quote is not closed"),
                (None, None) => break,
                (Some('\\'), _) => {
                    let taken = chars.next_if(|c| matches!(c, '\'' | '"' | '\\') || *c == ' ' && quote.is_none());
                    word.push(taken.unwrap_or('\\'));
                }
                (Some(c), None) if c.is_whitespace() => break,
                (Some(c @ ('\'' | '"')), None) => quote = Some(c),
                (Some(c), Some(open)) if c == open => quote = None,
                (Some(c), _) => word.push(c),
            }
        }
        words.push(word);
    }
}

fn unusable(path: &Path, line: usize, reason: &str) -> Problem {
    let place = if line == 0 { path.display().to_string() } else { format!("{}:{line}", path.display()) };
    Problem::new(
        ErrorCode::InvalidSettings,
        format!("the SSH configuration cannot be used: {place}: {reason}"),
        "Correct it, then try again.",
    )
}

#[cfg(test)]
mod tests;
