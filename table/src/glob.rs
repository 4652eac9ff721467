//! Patterns over model ids and host names: `*` is any run of characters, `?` any one; all else stands for itself, also
//! the slashes, dots and brackets of model ids.

/// One pattern, ready to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Glob {
    /// `*`.
    Everything,
    /// No wildcard: this text.
    Exact(String),
    /// `text*`.
    Prefix(String),
    /// Anything else.
    General(Vec<char>),
}

impl Glob {
    /// Reads a pattern. Every text is one.
    pub fn new(pattern: &str) -> Self {
        let wild = |text: &str| text.contains(['*', '?']);
        match pattern.strip_suffix('*') {
            Some("") => Glob::Everything,
            Some(prefix) if !wild(prefix) => Glob::Prefix(prefix.to_owned()),
            None if !wild(pattern) => Glob::Exact(pattern.to_owned()),
            Some(_) | None => Glob::General(pattern.chars().collect()),
        }
    }

    /// Whether the whole of `text` is as the pattern says.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Glob::Everything => true,
            Glob::Exact(exact) => exact == text,
            Glob::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Glob::General(pattern) => walk(pattern, text),
        }
    }
}

/// Matches with one point of return, the latest `*`, so that no pattern takes longer than its length times the text's.
fn walk(pattern: &[char], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut seen) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == text[seen] => (at, seen) = (at + 1, seen + 1),
            Some(_) | None => {
                let Some((after, taken)) = star else { return false };
                star = Some((after, taken + 1));
                (at, seen) = (after + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_slashes_dots_and_brackets_and_all_else_stands_for_itself() {
        let cases = [
            ("*", "", true),
            ("*", "anthropic/claude-sonnet-4.5", true),
            ("claude-*", "claude-sonnet-4.5[1m]", true),
            ("claude-*", "anthropic/claude-x", false),
            ("*/claude-*", "anthropic/claude-x", true),
            ("gpt-?", "gpt-5", true),
            ("gpt-?", "gpt-51", false),
            ("gpt-[45]", "gpt-4", false),
            ("gpt-[45]", "gpt-[45]", true),
            ("gpt.5", "gpt-5", false),
            ("*mini*", "gpt-5-mini-2026", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*é?", "caféX", true),
            ("", "", true),
            ("", "x", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(Glob::new(pattern).matches(text), expected, "`{pattern}` on `{text}`");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_ends_soon() {
        let pattern = Glob::new(&"a*".repeat(100).replace("a*a*a*b", "b"));
        assert!(!pattern.matches(&format!("{}b", "a".repeat(99))));
    }
}
