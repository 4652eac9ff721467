//! Lists of patterns over model ids and host names, where a pattern may name a namespace.

use table::Globs;

pub use table::Glob;

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
    fn a_pattern_may_name_a_namespace() {
        let lists = Lists::of_models(&Globs { allow: vec!["team-b#claude-*".into(), "x/y".into()], deny: Vec::new() });
        assert_eq!(lists.allow[0], Scoped { namespace: Some("team-b".into()), glob: Glob::Prefix("claude-".into()) });
        assert_eq!(lists.allow[1], Scoped { namespace: None, glob: Glob::Exact("x/y".into()) });
    }
}
