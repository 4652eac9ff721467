//! An object as a person names it on the command line.

use anyhow::{anyhow, bail};
use crds::Kind;

/// A kind and a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) kind: Kind,
    pub(super) name: String,
}

/// Reads `KIND/NAME`; the kind in singular, in plural or short, as kubectl takes it.
pub(super) fn named(text: &str) -> anyhow::Result<Wanted> {
    let Some((kind, name)) = text.split_once('/').filter(|(_, name)| !name.is_empty() && !name.contains('/')) else {
        bail!("`{text}` names no object: write KIND/NAME, such as `relaykey/checkout`");
    };
    let kind = kind_of(kind).ok_or_else(|| {
        let known = Kind::ALL.map(|kind| kind.as_str().to_lowercase());
        let hint = crds::nearest(&kind.to_lowercase(), known.iter().map(String::as_str));
        let hint = hint.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        anyhow!("`{kind}` is none of Relay's kinds ({}){hint}", known.join(", "))
    })?;
    Ok(Wanted { kind, name: name.to_owned() })
}

fn kind_of(text: &str) -> Option<Kind> {
    let text = text.to_lowercase();
    let text = text.strip_suffix(&format!(".{}", crds::GROUP)).unwrap_or(&text);
    let is_named = |kind: &Kind| kind.as_str().to_lowercase() == text || kind.plural() == text;
    let is_short = |kind: &Kind| {
        let names = crds::definition(*kind).spec.names;
        names.short_names.into_iter().flatten().any(|short| short == text)
    };
    Kind::ALL.into_iter().find(is_named).or_else(|| Kind::ALL.into_iter().find(is_short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_taken_as_kubectl_takes_them() {
        for text in ["relaykey/app", "RelayKey/app", "relaykeys/app", "rkey/app", "relaykeys.llmrelay.io/app"] {
            assert_eq!(named(text).unwrap(), Wanted { kind: Kind::RelayKey, name: "app".to_owned() }, "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused_with_what_would_be() {
        assert!(named("app").unwrap_err().to_string().contains("relaykey/checkout"));
        let error = named("relaykee/app").unwrap_err().to_string();
        assert!(error.contains("did you mean `relaykey`?"), "{error}");
    }
}
