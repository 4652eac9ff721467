//! Whether the policies of a relay key grant a model: every one must allow it, and a denial wins. Hosts are judged by the
//! same rules, one by one, when a plan is made.

use std::sync::Arc;

use table::{Local, Subject};

use crate::{
    auth::Caller,
    denied::Denied,
    resolve::{self, Meaning, Resolved},
    world::{Host, Model, Policy, World},
};

/// A model that a caller may use.
#[derive(Clone, Debug)]
pub struct Grant {
    caller: Caller,
    resolved: Resolved,
}

impl Grant {
    /// Who may use it.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What it is.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// The policies that allow it, all of which hold.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.caller.key.policies
    }

    /// The public id under which limits count it: the Model's own, whatever alias or pin was used.
    pub fn public_model(&self) -> &str {
        match &self.resolved.meaning {
            Meaning::Model(model) => &model.row.model_name,
            Meaning::Family(_) => &self.resolved.name,
        }
    }

    /// The same, to be kept.
    pub fn told_model(&self) -> Arc<str> {
        match &self.resolved.meaning {
            Meaning::Model(model) => model.public.clone(),
            Meaning::Family(_) => self.resolved.name.clone(),
        }
    }
}

/// Finds a model and whether the caller may use it. Errs with "unknown" where its namespace may not see the model, and
/// with "not granted" where it may, but a policy does not allow it.
pub fn admit(world: &World, caller: Caller, model: &str) -> Result<Grant, Denied> {
    let resolved = resolve::resolve(world, &caller, model)?;
    let subject = match &resolved.meaning {
        Meaning::Model(model) => subject(model),
        Meaning::Family(_) => Subject { id: None, name: &resolved.name, aliases: &[] },
    };
    let local = local(world, &caller);
    match caller.key.policies.iter().find(|policy| !grants(policy, &subject, local)) {
        Some(policy) => {
            Err(Denied::ModelNotGranted { model: resolved.name.to_string(), policy: policy.id.name.clone() })
        }
        None => Ok(Grant { caller, resolved }),
    }
}

/// Whether every policy of the caller allows a Model and none denies it.
pub(crate) fn is_granted(world: &World, caller: &Caller, model: &Model) -> bool {
    let (subject, local) = (subject(model), local(world, caller));
    caller.key.policies.iter().all(|policy| grants(policy, &subject, local))
}

/// The policy, if any, that denies a Model by name. Models behind a virtual one need not be allowed, but not denied.
pub(crate) fn denier<'a>(policies: &'a [Arc<Policy>], model: &Model) -> Option<&'a Arc<Policy>> {
    let subject = subject(model);
    policies.iter().find(|policy| policy.models.deny_model(&subject))
}

/// The policy, if any, that keeps a host from being used. An empty allow list grants every host.
pub(crate) fn host_denier<'a>(policies: &'a [Arc<Policy>], host: &Host) -> Option<&'a Arc<Policy>> {
    policies.iter().find(|policy| !policy.hosts.grant_host(&host.id))
}

fn subject(model: &Model) -> Subject<'_> {
    Subject { id: Some(&model.id), name: &model.row.model_name, aliases: &model.row.aliases }
}

/// The namespaces that patterns without one are about.
fn local<'a>(world: &'a World, caller: &'a Caller) -> Local<'a> {
    Local { own: caller.namespace(), catalog: world.catalog_namespace() }
}

fn grants(policy: &Policy, subject: &Subject<'_>, local: Local<'_>) -> bool {
    policy.models.grant_model(&policy.row.model_refs, subject, local)
}

#[cfg(test)]
mod tests {
    use protocol::WireShape::OpenaiChat;

    use super::*;
    use crate::world::build::{Tables, caller, id, texts};

    /// The policy that does not grant `model`; `None`: it is granted.
    fn refuser(tables: &Tables, model: &str) -> Option<String> {
        let world = tables.clone().world();
        match admit(&world, caller(&world, "app"), model) {
            Ok(_) => None,
            Err(Denied::ModelNotGranted { policy, .. }) => Some(policy),
            Err(other) => panic!("{other}"),
        }
    }

    fn with(allow: &[&str], deny: &[&str]) -> Tables {
        Tables::new()
            .host("h", OpenaiChat)
            .model("gpt-5", &["h"])
            .edit_model("gpt-5", |model| model.aliases = vec!["smart".into()])
            .model("other/gpt-5", &["h"])
            .model("catalog/claude", &["h"])
            .policy("p", allow, |policy| policy.models.deny = texts(deny))
            .relay_key("app", &["p"], |_| ())
    }

    #[test]
    fn an_empty_allow_list_grants_nothing_and_a_denial_wins() {
        let cases: [(&[&str], &[&str], bool); 8] = [
            (&[], &[], false),
            (&["*"], &[], true),
            (&["gpt-*"], &[], true),
            (&["gpt-4*"], &[], false),
            (&["*"], &["gpt-*"], false),
            (&["gpt-5"], &["*-5"], false),
            (&["*"], &["claude*"], true),
            (&["smart"], &[], true),
        ];
        for (allow, deny, expected) in cases {
            assert_eq!(refuser(&with(allow, deny), "gpt-5").is_none(), expected, "allow {allow:?} deny {deny:?}");
        }
    }

    #[test]
    fn an_alias_is_granted_and_denied_like_the_id_that_it_means() {
        assert_eq!(refuser(&with(&["gpt-*"], &[]), "smart"), None);
        assert_eq!(refuser(&with(&["*"], &["gpt-*"]), "smart").as_deref(), Some("p"));
        assert_eq!(refuser(&with(&["*"], &["smart"]), "gpt-5").as_deref(), Some("p"));
    }

    #[test]
    fn every_policy_of_the_key_must_allow() {
        let two = |second: &[&str]| with(&["*"], &[]).policy("q", second, |_| ()).relay_key("app", &["p", "q"], |_| ());
        assert_eq!(refuser(&two(&["gpt-*"]), "gpt-5"), None);
        assert_eq!(refuser(&two(&["claude"]), "gpt-5").as_deref(), Some("q"));
    }

    #[test]
    fn a_pattern_speaks_of_its_own_namespace_and_the_catalog_unless_it_names_another() {
        assert_eq!(refuser(&with(&["claude"], &[]), "claude"), None);
        let elsewhere = |allow: &[&str]| {
            let mut tables = with(allow, &[]);
            tables.table.models.remove(&id("gpt-5"));
            tables.policy("q", &[], |policy| policy.model_refs = vec![id("other/gpt-5")]).relay_key(
                "app",
                &["q", "p"],
                |_| (),
            )
        };
        assert_eq!(refuser(&elsewhere(&["gpt-*"]), "gpt-5").as_deref(), Some("p"));
        assert_eq!(refuser(&elsewhere(&["other#gpt-*"]), "gpt-5"), None);
        assert_eq!(refuser(&elsewhere(&["*"]), "gpt-5"), None);
    }

    #[test]
    fn a_reference_grants_unless_a_pattern_denies() {
        let referring = |deny: &[&str]| {
            let tables = with(&[], deny);
            let deny = texts(deny);
            tables.policy("p", &[], |policy| (policy.model_refs, policy.models.deny) = (vec![id("gpt-5")], deny))
        };
        assert_eq!(refuser(&referring(&[]), "gpt-5"), None);
        assert_eq!(refuser(&referring(&["gpt-5"]), "gpt-5").as_deref(), Some("p"));
    }

    #[test]
    fn a_family_is_granted_by_the_name_that_was_asked_for() {
        let tables = with(&["claude-*"], &[]).edit_host("h", |host| host.model_patterns = texts(&["*"]));
        assert_eq!(refuser(&tables, "claude-9"), None);
        assert_eq!(refuser(&tables, "llama-9").as_deref(), Some("p"));
        assert_eq!(refuser(&tables, "claude-9@h"), None);
    }

    #[test]
    fn hosts_are_allowed_by_name_or_by_namespace_and_name() {
        let cases: [(&[&str], &[&str], bool); 7] = [
            (&[], &[], true),
            (&["h"], &[], true),
            (&["team/h"], &[], true),
            (&["catalog/*"], &[], false),
            (&["x*"], &[], false),
            (&[], &["*"], false),
            (&["h"], &["team/*"], false),
        ];
        for (allow, deny, expected) in cases {
            let world = Tables::new()
                .host("h", OpenaiChat)
                .policy("p", &["*"], |policy| (policy.hosts.allow, policy.hosts.deny) = (texts(allow), texts(deny)))
                .relay_key("app", &["p"], |_| ())
                .world();
            let host = world.hosts().next().unwrap();
            let is_open = host_denier(&caller(&world, "app").key.policies, host).is_none();
            assert_eq!(is_open, expected, "allow {allow:?} deny {deny:?}");
        }
    }
}
