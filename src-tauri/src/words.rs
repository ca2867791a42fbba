//! The texts of the tray, out of the message files that the page uses too.

use std::collections::BTreeMap;

const ENGLISH: &str = include_str!("../../ui/messages/en.json");
const CHINESE: &str = include_str!("../../ui/messages/zh-CN.json");

/// The texts of one language.
#[derive(Debug)]
pub struct Words {
    texts: BTreeMap<String, String>,
}

impl Words {
    /// The texts for a user whose language is `tag` (BCP 47): Chinese for every kind of Chinese, otherwise English. The page
    /// chooses by the same rule.
    pub fn of(tag: &str) -> Self {
        let tag = tag.to_ascii_lowercase();
        let chinese = tag.strip_prefix("zh").is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_', '.']));
        let mut texts: BTreeMap<String, String> =
            serde_json::from_str(if chinese { CHINESE } else { ENGLISH }).unwrap_or_default();
        // What the tray never shows need not stay in memory.
        texts.retain(|key, _| ["menu.", "state.", "problem.force"].iter().any(|shown| key.starts_with(shown)));
        Self { texts }
    }

    /// The text under a key. A missing one shows its key: a test sees to it that none is missing.
    pub fn text<'a>(&'a self, key: &'a str) -> &'a str {
        self.texts.get(key).map_or(key, String::as_str)
    }

    /// A text with `{name}` replaced by `value`.
    pub fn fill(&self, key: &str, name: &str, value: &str) -> String {
        self.text(key).replace(&format!("{{{name}}}"), value)
    }
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
}
