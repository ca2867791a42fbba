//! What stays on its side: `.oversideignore`, in the syntax of `.dockerignore`.

use globset::{Glob, GlobBuilder, GlobMatcher};

use crate::path::RelativePath;

/// The file in a root that says what is not to be brought to the other side.
pub const FILE: &str = ".oversideignore";

/// Longest file of rules, in bytes.
const LONGEST: usize = 256 * 1024;

/// A line that is no pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPattern {
    /// From 1 on.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

#[derive(Debug, Clone)]
struct Rule {
    matcher: GlobMatcher,
    /// Takes back what an earlier rule said.
    exception: bool,
}

/// Which paths stay on their side.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Whether something below an ignored directory may not be ignored.
    exceptions: bool,
    /// Paths at which containers have other things mounted.
    masks: Vec<RelativePath>,
}

impl Rules {
    /// Reads a file of rules; `masks` are ignored besides. Lines that are no pattern are left out, and told.
    pub fn new(text: &str, masks: Vec<RelativePath>) -> (Self, Vec<InvalidPattern>) {
        let (mut rules, mut invalid) = (Vec::new(), Vec::new());
        let mut end = text.len().min(LONGEST);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        for (index, line) in text[..end].trim_start_matches('\u{feff}').lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (exception, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let pattern = clean(pattern);
            if pattern.is_empty() {
                continue;
            }
            match glob(&pattern) {
                Ok(glob) => rules.push(Rule { matcher: glob.compile_matcher(), exception }),
                Err(error) => invalid.push(InvalidPattern { line: index + 1, reason: error.kind().to_string() }),
            }
        }
        let exceptions = rules.iter().any(|rule| rule.exception);
        (Self { rules, exceptions, masks }, invalid)
    }

    /// Whether the path stays on its side. Its parents are asked for as well: what lies in an ignored directory is ignored,
    /// unless a later rule takes that back.
    pub fn ignores(&self, path: &RelativePath) -> bool {
        if self.masks.iter().any(|mask| path.is_within(mask)) {
            return true;
        }
        if self.rules.is_empty() || path.is_root() {
            return false;
        }
        let text = String::from_utf8_lossy(path.as_bytes());
        if text == FILE {
            // Both sides go by the same rules.
            return false;
        }
        let mut ignored = false;
        for rule in &self.rules {
            if ignored != rule.exception {
                continue;
            }
            let ends = text.match_indices('/').map(|(at, _)| at).chain([text.len()]);
            if ends.into_iter().any(|end| rule.matcher.is_match(&text[..end])) {
                ignored = !rule.exception;
            }
        }
        ignored
    }

    /// Whether nothing below an ignored directory needs to be looked at.
    pub fn skips(&self, path: &RelativePath) -> bool {
        self.ignores(path) && (!self.exceptions || self.masks.iter().any(|mask| path.is_within(mask)))
    }
}

/// Without what means nothing in a path: `./a//b/` is `a/b`, and the root is where every pattern begins.
fn clean(pattern: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in pattern.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    // Braces are plain characters in this syntax.
    let escaped: String = pattern
        .chars()
        .flat_map(|character| match character {
            '{' | '}' => vec!['[', character, ']'],
            other => vec![other],
        })
        .collect();
    GlobBuilder::new(&escaped).literal_separator(true).backslash_escape(true).build()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ignored(rules: &str, path: &str) -> bool {
        Rules::new(rules, Vec::new()).0.ignores(&RelativePath::new(path.as_bytes()).unwrap())
    }

    #[test]
    fn patterns_are_those_of_dockerignore() {
        for (rules, path, expected) in [
            ("node_modules", "node_modules", true),
            ("node_modules", "node_modules/left-pad/index.js", true),
            ("node_modules", "packages/a/node_modules", false),
            ("**/node_modules", "packages/a/node_modules/x", true),
            ("**/node_modules", "node_modules", true),
            ("/target/", "target/debug", true),
            ("*.log", "a.log", true),
            ("*.log", "logs/a.log", false),
            ("**/*.log", "logs/deep/a.log", true),
            ("*/temp*", "a/temporary", true),
            ("*/temp*", "a/b/temporary", false),
            ("temp?", "temps", true),
            ("temp?", "temp", false),
            ("a[0-9]", "a7", true),
            ("# a\n\n  b  ", "b", true),
            ("# a", "# a", false),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md", "CHANGES.md", true),
            ("*.md\n!README.md\nREADME*", "README.md", true),
            ("docs\n!docs/keep", "docs/keep/x", false),
            ("docs\n!docs/keep", "docs/other", true),
            ("{a,b}", "a", false),
            ("{a,b}", "{a,b}", true),
            ("*", ".oversideignore", false),
            ("*", "a/b", true),
            ("..", "a", false),
        ] {
            assert_eq!(ignored(rules, path), expected, "{rules:?} and {path}");
        }
    }

    #[test]
    fn a_directory_is_left_out_unread_only_if_nothing_in_it_is_taken_back() {
        let path = RelativePath::new(b"docs").unwrap();
        assert!(Rules::new("docs", Vec::new()).0.skips(&path));
        assert!(!Rules::new("docs\n!docs/keep", Vec::new()).0.skips(&path));
        assert!(Rules::new("a\n!b", vec![path.clone()]).0.skips(&path));
    }

    #[test]
    fn a_line_that_is_no_pattern_is_told_with_its_number() {
        let (rules, invalid) = Rules::new("a\n[b\nc", Vec::new());
        assert_eq!(invalid.iter().map(|invalid| invalid.line).collect::<Vec<_>>(), [2]);
        assert!(rules.ignores(&RelativePath::new(b"c").unwrap()));
    }

    proptest! {
        #[test]
        fn no_rules_make_it_panic(text in "\\PC{0,60}", path in "[a-z/.]{0,20}") {
            if let Some(path) = RelativePath::new(path.as_bytes()) {
                let _ = Rules::new(&text, Vec::new()).0.ignores(&path);
            }
        }
    }
}
