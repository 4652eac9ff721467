//! Patterns over model ids and host names: `*` is any run of characters, `?` any one; all else stands for itself, also
//! the slashes, dots and brackets of model ids.

use table::Globs;

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

/// A pattern that may name a namespace: `team-b#claude-*` for models, `team-b/openai*` for hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scoped {
    /// Objects of this namespace alone.
    pub namespace: Option<String>,
    /// The pattern over the name or id.
    pub glob: Glob,
}

impl Scoped {
    fn new(pattern: &str, separator: char) -> Self {
        match pattern.split_once(separator) {
            Some((namespace, rest)) if !namespace.contains(['*', '?']) => {
                Self { namespace: Some(namespace.to_owned()), glob: Glob::new(rest) }
            }
            Some(("*", rest)) => Self { namespace: None, glob: Glob::new(rest) },
            Some(_) | None => Self { namespace: None, glob: Glob::new(pattern) },
        }
    }
}

/// An allow and a deny list, ready to match. What an empty allow list means is left to who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// What is let in.
    pub allow: Vec<Scoped>,
    /// What is kept out.
    pub deny: Vec<Scoped>,
}

impl Lists {
    /// Patterns over model ids: `namespace#pattern`, or a pattern alone.
    pub fn of_models(globs: &Globs) -> Self {
        Self::new(globs, '#')
    }

    /// Patterns over host names: `namespace/pattern`, or a pattern alone.
    pub fn of_hosts(globs: &Globs) -> Self {
        Self::new(globs, '/')
    }

    fn new(globs: &Globs, separator: char) -> Self {
        let read = |patterns: &[String]| patterns.iter().map(|pattern| Scoped::new(pattern, separator)).collect();
        Self { allow: read(&globs.allow), deny: read(&globs.deny) }
    }
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

    #[test]
    fn a_pattern_may_name_a_namespace() {
        let lists = Lists::of_models(&Globs { allow: vec!["team-b#claude-*".into(), "x/y".into()], deny: Vec::new() });
        assert_eq!(lists.allow[0], Scoped { namespace: Some("team-b".into()), glob: Glob::Prefix("claude-".into()) });
        assert_eq!(lists.allow[1], Scoped { namespace: None, glob: Glob::Exact("x/y".into()) });
    }
}
