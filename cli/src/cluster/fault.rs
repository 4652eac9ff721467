//! What goes wrong when a cluster is asked, in words that say what would help.

use std::{fmt, time::Duration};

use crds::{GROUP, Kind};
use kube::core::Status;

/// What was tried.
#[derive(Clone, Debug)]
pub(crate) struct Doing<'a> {
    /// The verb, as roles have it.
    pub(crate) verb: &'static str,
    /// The API group; empty: the core group.
    pub(crate) group: &'static str,
    /// The plural, as roles have it; or a path that is no resource.
    pub(crate) plural: &'static str,
    /// Absent: in the whole cluster.
    pub(crate) namespace: Option<&'a str>,
    /// Absent: no object in particular.
    pub(crate) name: Option<&'a str>,
}

/// Something went wrong.
#[derive(Debug)]
pub(crate) struct Fault {
    /// What, for programs.
    pub(crate) trouble: Trouble,
    said: String,
}

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The user may not.
    Forbidden,
    /// There is no such object.
    Missing,
    /// The cluster does not know the kind.
    NotInstalled,
    /// There is an object of that name already.
    Exists,
    /// Somebody else changed it meanwhile.
    Conflict,
    /// Anything else: nothing more is asked.
    Other,
}

impl<'a> Doing<'a> {
    /// Something with one of our kinds.
    pub(crate) fn of(verb: &'static str, kind: Kind, namespace: Option<&'a str>, name: Option<&'a str>) -> Self {
        Self { verb, group: GROUP, plural: kind.plural(), namespace, name }
    }

    fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    fn place(&self) -> String {
        self.namespace.map_or_else(|| "in all namespaces".to_owned(), |name| format!("in namespace `{name}`"))
    }
}

impl fmt::Display for Doing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.plural.starts_with('/') {
            return write!(f, "{} {}", self.verb, self.plural);
        }
        let name = self.name.map_or_else(String::new, |name| format!(" `{name}`"));
        write!(f, "{} {}{name} {}", self.verb, self.resource(), self.place())
    }
}

impl Fault {
    pub(super) fn of(error: &kube::Error, doing: &Doing<'_>, url: &str) -> Self {
        match error {
            kube::Error::Api(status) => Self::told(status, doing),
            other => {
                let said = format!(
                    "the API server at {url} cannot be asked to {doing}: {}; is the cluster up, and is the kubeconfig's \
                     context the one that you mean?",
                    causes(other)
                );
                Self { trouble: Trouble::Other, said }
            }
        }
    }

    pub(super) fn late(doing: &Doing<'_>, url: &str, timeout: Duration) -> Self {
        let said = format!(
            "the API server at {url} did not answer within {timeout:?} (--request-timeout) when asked to {doing}; is the \
             cluster up?"
        );
        Self { trouble: Trouble::Other, said }
    }

    fn told(status: &Status, doing: &Doing<'_>) -> Self {
        let is_about_object = status.details.as_ref().is_some_and(|details| !details.name.is_empty());
        let (trouble, said) = match status.code {
            401 => (
                Trouble::Other,
                format!(
                    "the API server does not accept the credentials of the kubeconfig when asked to {doing}: log in again"
                ),
            ),
            403 => (Trouble::Forbidden, forbidden(status, doing)),
            404 if is_about_object => (Trouble::Missing, status.message.clone()),
            404 if doing.group == GROUP => (Trouble::NotInstalled, not_installed(doing)),
            404 => (Trouble::Missing, format!("there is nothing to {doing}: {}", status.message)),
            409 if status.is_already_exists() => (Trouble::Exists, status.message.clone()),
            409 => (Trouble::Conflict, format!("to {doing}: {}", status.message)),
            _ => (Trouble::Other, format!("the API server refuses to {doing}: {}", status.message)),
        };
        Self { trouble, said }
    }
}

/// The right that is missing, as a rule of a role.
fn forbidden(status: &Status, doing: &Doing<'_>) -> String {
    let who = status.message.split("User \"").nth(1).and_then(|rest| rest.split('"').next());
    let who = who.map_or_else(|| "you".to_owned(), |who| format!("`{who}`"));
    let Doing { verb, group, plural, .. } = doing;
    let role = match (*group, *verb) {
        (GROUP, "get" | "list") => "; Relay's roles give it to whoever has `view`",
        (GROUP, _) if *plural == Kind::RelayKey.plural() => "; Relay's roles give it to whoever has `edit`",
        _ => "",
    };
    format!(
        "{who} may not {doing}: a role is needed with {{apiGroups: [\"{group}\"], resources: [{plural}], verbs: \
         [{verb}]}}{role}"
    )
}

fn not_installed(doing: &Doing<'_>) -> String {
    format!(
        "the cluster does not know {}: install Relay's definitions by `relay crds | kubectl apply --server-side -f -`",
        doing.resource()
    )
}

/// An error with all that caused it, without what repeats.
fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !words.contains(&said) {
            words = format!("{words}: {said}");
        }
        next = cause.source();
    }
    words
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: u16, message: &str) -> Fault {
        let status = Status { code, message: message.to_owned(), ..Status::default() };
        Fault::told(&status, &Doing::of("list", Kind::RelayKey, Some("team-a"), None))
    }

    #[test]
    fn a_right_that_is_missing_is_shown_as_a_rule() {
        let message = r#"relaykeys.llmrelay.io is forbidden: User "jane" cannot list resource "relaykeys""#;
        let fault = told(403, message);
        assert_eq!(fault.trouble, Trouble::Forbidden);
        assert_eq!(
            fault.to_string(),
            "`jane` may not list relaykeys.llmrelay.io in namespace `team-a`: a role is needed with {apiGroups: \
             [\"llmrelay.io\"], resources: [relaykeys], verbs: [list]}; Relay's roles give it to whoever has `view`"
        );
    }

    #[test]
    fn a_kind_that_is_not_known_is_told_from_an_object_that_is_missing() {
        assert_eq!(told(404, "404 page not found").trouble, Trouble::NotInstalled);
        let details = kube::core::response::StatusDetails {
            name: "app".to_owned(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        };
        let status = Status { code: 404, details: Some(details), ..Status::default() };
        let fault = Fault::told(&status, &Doing::of("get", Kind::RelayKey, Some("n"), Some("app")));
        assert_eq!(fault.trouble, Trouble::Missing);
    }
}
