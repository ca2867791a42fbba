//! The texts of the tray, out of the message files that the page uses too.

use std::collections::BTreeMap;

use overside_model::{ErrorCode, Language, Problem, PromptReason};

const ENGLISH: &str = include_str!("../../ui/messages/en.json");
const CHINESE: &str = include_str!("../../ui/messages/zh-CN.json");
/// What the tray shows. The rest is the page's, and need not stay in memory.
const SHOWN: [&str; 7] = ["menu.", "state.", "awake.", "step.", "time.", "notice.", "problem."];
/// Most names in one sentence.
const MOST_NAMES: usize = 3;

/// The texts of one language.
#[derive(Debug)]
pub struct Words {
    texts: BTreeMap<String, String>,
    /// The language is the daemon's, which speaks English.
    daemons: bool,
}

impl Words {
    /// The texts for a user whose language is `tag` (BCP 47): Chinese for every kind of Chinese, otherwise English. The page
    /// chooses by the same rule.
    pub fn of(tag: &str) -> Self {
        let tag = tag.to_ascii_lowercase();
        let chinese = tag.strip_prefix("zh").is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_', '.']));
        let mut texts: BTreeMap<String, String> =
            serde_json::from_str(if chinese { CHINESE } else { ENGLISH }).unwrap_or_default();
        texts.retain(|key, _| SHOWN.iter().any(|shown| key.starts_with(shown)));
        Self { texts, daemons: !chinese }
    }

    /// The texts that the setting `language` asks for.
    pub fn chosen(language: Language) -> Self {
        match language {
            Language::System => Self::of(&user_language()),
            chosen => Self::of(chosen.name()),
        }
    }

    /// The text under a key. A missing one shows its key: a test sees to it that none is missing.
    pub fn text<'a>(&'a self, key: &'a str) -> &'a str {
        self.find(key).unwrap_or(key)
    }

    /// The text under a key that need not have one.
    pub fn find(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }

    /// A text with each `{name}` replaced by its value.
    pub fn fill(&self, key: &str, values: &[(&str, &str)]) -> String {
        let mut filled = String::new();
        let mut rest = self.text(key);
        // From the left, so that braces in a value stay what they are.
        while let Some((before, (name, after))) =
            rest.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            filled.push_str(before);
            match values.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => filled.push_str(value),
                None => filled.extend(["{", name, "}"]),
            }
            rest = after;
        }
        filled + rest
    }

    /// Why the user is asked.
    pub fn why_asked(&self, reason: PromptReason) -> &str {
        self.text(match reason {
            PromptReason::Inactivity => "menu.prompt.inactivity",
            PromptReason::LongSession => "menu.prompt.long-session",
        })
    }

    /// What failed and, where there is something to do, the next step, a sentence each. In another language than the daemon's
    /// these are the title and the next step of the problem's code: the window has the daemon's own words besides.
    pub fn problem(&self, problem: &Problem) -> Vec<String> {
        let code = code(problem.code);
        let next = self.find(&format!("problem.{code}.next")).unwrap_or_default();
        if !self.daemons {
            let names: Vec<String> = problem.work.iter().map(|work| work.name.clone()).collect();
            let lost = (!names.is_empty()).then(|| self.fill("menu.not-saved", &[("names", &self.list(&names))]));
            let title = self.text(&format!("problem.{code}")).to_owned();
            return [Some(title), lost, Some(next.to_owned())].into_iter().flatten().collect();
        }
        let hint = if problem.hint.is_empty() { next } else { &problem.hint };
        vec![problem.message.clone(), hint.to_owned()]
    }

    /// The same as one text.
    pub fn failure(&self, problem: &Problem) -> String {
        self.problem(problem)
            .into_iter()
            .reduce(|title, next| self.fill("problem.in-one", &[("title", &title), ("next", &next)]))
            .unwrap_or_default()
    }

    /// The first few names, and how many more there are.
    pub fn list(&self, names: &[String]) -> String {
        let (named, more) = names.split_at(names.len().min(MOST_NAMES));
        let mut list = named.join(", ");
        if !more.is_empty() {
            list.push_str(&self.fill("menu.and-more", &[("count", &more.len().to_string())]));
        }
        list.replace(char::is_control, " ")
    }

    /// An amount of time in hours and minutes.
    pub fn minutes(&self, minutes: u64) -> String {
        let (hours, minutes) = ((minutes / 60).to_string(), (minutes % 60).to_string());
        let values = [("hours", hours.as_str()), ("minutes", minutes.as_str())];
        match values {
            [(_, "0"), _] => self.fill("time.minutes", &values),
            [_, (_, "0")] => self.fill("time.hours", &values),
            _ => self.fill("time.hours-minutes", &values),
        }
    }
}

/// The name of a code in the message files.
fn code(code: ErrorCode) -> String {
    serde_json::to_value(code).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The user's language as a BCP 47 tag; `en` where the system does not tell.
pub fn user_language() -> String {
    sys_locale::get_locale().unwrap_or_else(|| "en".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_chinese_is_chinese_and_everything_else_english() {
        for (tag, off) in
            [("zh", "已关闭"), ("zh-TW", "已关闭"), ("zh_CN.UTF-8", "已关闭"), ("zha", "Off"), ("de", "Off")]
        {
            assert_eq!(Words::of(tag).text("state.stopped"), off, "{tag}");
        }
    }

    #[test]
    fn a_value_with_braces_is_not_filled_again() {
        let filled = Words::of("en").fill("menu.awake", &[("kind", "{detail}"), ("detail", "{kind}")]);
        assert_eq!(filled, "Awake for: {detail} {kind}");
    }

    #[test]
    fn time_is_told_in_the_largest_units_that_it_has() {
        let (english, chinese) = (Words::of("en"), Words::of("zh"));
        for (minutes, in_english, in_chinese) in
            [(0, "0m", "0分钟"), (59, "59m", "59分钟"), (480, "8h", "8小时"), (125, "2h 5m", "2小时 5分钟")]
        {
            assert_eq!((english.minutes(minutes), chinese.minutes(minutes)), (in_english.into(), in_chinese.into()));
        }
    }
}
