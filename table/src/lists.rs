//! Lists of patterns over model ids and host names, where a pattern may name a namespace, and what they grant.

use crate::{Glob, Globs, ObjectRef};

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

/// The namespaces that patterns without one are about.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// The caller's own.
    pub own: &'a str,
    /// The catalog's.
    pub catalog: &'a str,
}

impl Local<'_> {
    fn has(self, id: Option<&ObjectRef>) -> bool {
        id.is_none_or(|id| id.namespace == self.own || id.namespace == self.catalog)
    }
}

/// A model in the eyes of a policy.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Its object; absent: no Model names it.
    pub id: Option<&'a ObjectRef>,
    /// Its id: a pattern that matches this or an alias matches the model.
    pub name: &'a str,
    /// Its aliases.
    pub aliases: &'a [String],
}

impl Subject<'_> {
    fn is_matched(&self, glob: &Glob) -> bool {
        glob.matches(self.name) || self.aliases.iter().any(|name| glob.matches(name))
    }
}

impl Lists {
    /// Whether a policy with these lists of models, which names `refs` by object, grants a model. A denial wins.
    pub fn grant_model(&self, refs: &[ObjectRef], subject: &Subject<'_>, local: Local<'_>) -> bool {
        let referred = subject.id.is_some_and(|id| refs.contains(id));
        let allows = |pattern: &Scoped| match &pattern.namespace {
            Some(namespace) => {
                subject.id.is_some_and(|id| id.namespace == *namespace) && subject.is_matched(&pattern.glob)
            }
            None if pattern.glob == Glob::Everything => true,
            None => local.has(subject.id) && subject.is_matched(&pattern.glob),
        };
        !self.deny_model(subject) && (referred || self.allow.iter().any(allows))
    }

    /// Whether a model is denied by name. A pattern without a namespace denies wherever the Model lives: a denial that is
    /// too wide is seen, one too narrow is not.
    pub fn deny_model(&self, subject: &Subject<'_>) -> bool {
        self.deny.iter().any(|pattern| {
            let is_there = match (&pattern.namespace, subject.id) {
                (Some(namespace), Some(id)) => id.namespace == *namespace,
                (Some(_), None) => false,
                (None, _) => true,
            };
            is_there && subject.is_matched(&pattern.glob)
        })
    }

    /// Whether a policy with these lists of hosts lets a host be used. An empty allow list grants every host.
    pub fn grant_host(&self, host: &ObjectRef) -> bool {
        let listed = |list: &[Scoped]| {
            list.iter().any(|pattern| {
                pattern.namespace.as_ref().is_none_or(|namespace| *namespace == host.namespace)
                    && pattern.glob.matches(&host.name)
            })
        };
        !listed(&self.deny) && (self.allow.is_empty() || listed(&self.allow))
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
