//! What the `model` of a request means to its caller: a Model, or a family that a host takes by pattern; pinned to a
//! host or a shape, or not. Whether the caller may have it is left to `admit`.

use std::sync::Arc;

use protocol::WireShape;
use table::{ObjectRef, Route, Visibility};

use crate::{
    auth::Caller,
    denied::Denied,
    world::{Found, Host, Model, Named, World},
};

/// Virtual models may stand for virtual models, this deep.
pub(crate) const MAX_DEPTH: usize = 8;

/// No model has a longer name, in bytes: a pattern of a host must not take in whatever a caller makes up.
const LONGEST_NAME: usize = 512;

/// What a model means to a caller.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The model as the caller wrote it, without what pinned it.
    pub name: Arc<str>,
    /// What serves it.
    pub meaning: Meaning,
    /// What narrows its hosts.
    pub pin: Option<Pin>,
}

/// What serves a model.
#[derive(Clone, Debug)]
pub enum Meaning {
    /// A Model.
    Model(Arc<Model>),
    /// Hosts that take it under its own name, because a pattern of theirs matches; never empty.
    Family(Vec<Arc<Host>>),
}

/// What narrows the hosts of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Hosts of this name.
    Host(String),
    /// Hosts of this shape.
    Shape(WireShape),
}

impl Pin {
    /// Whether a host is among those that are left.
    pub fn takes(&self, host: &Host) -> bool {
        match self {
            Pin::Host(name) => host.id.name == *name,
            Pin::Shape(shape) => host.row.shape == *shape,
        }
    }
}

/// Finds out what `model` means: an exact id or alias before any other reading, the caller's own namespace before the
/// catalog, and both before Models that its policies name elsewhere. What the caller's namespace may not see is unknown.
pub fn resolve(world: &World, caller: &Caller, model: &str) -> Result<Resolved, Denied> {
    if model.len() > LONGEST_NAME {
        return Err(Denied::UnknownModel { model: shown(model) });
    }
    let found = |name: &str, meaning, pin| Resolved { name: shared(name, &meaning), meaning, pin };
    if let Some(exact) = named(world, caller, model)? {
        return Ok(found(model, Meaning::Model(exact), None));
    }
    for (name, pin) in readings(model) {
        if let Some(exact) = named(world, caller, name)?.filter(|model| is_served(world, model, &pin)) {
            return Ok(found(name, Meaning::Model(exact), Some(pin)));
        }
        if let Some(hosts) = family(world, caller, name, |host| pin.takes(host)) {
            return Ok(found(name, Meaning::Family(hosts), Some(pin)));
        }
    }
    match family(world, caller, model, |_| true) {
        Some(hosts) => Ok(found(model, Meaning::Family(hosts), None)),
        None => Err(Denied::UnknownModel { model: shown(model) }),
    }
}

/// A name to be kept: the Model's own, where it was called by its id.
fn shared(name: &str, meaning: &Meaning) -> Arc<str> {
    match meaning {
        Meaning::Model(model) if *model.public == *name => model.public.clone(),
        Meaning::Model(_) | Meaning::Family(_) => name.into(),
    }
}

/// The ways in which a text that is no id can name a model and a pin: `model@host`, `host/model`, `provider:model`.
fn readings(text: &str) -> Vec<(&str, Pin)> {
    let at = text.rsplit_once('@').map(|(model, host)| (model, Pin::Host(host.to_owned())));
    let slash = text.split_once('/').map(|(host, model)| (model, Pin::Host(host.to_owned())));
    let colon = text.split_once(':').and_then(|(provider, model)| {
        let shape = WireShape::ALL.into_iter().find(|shape| shape.provider() == provider)?;
        Some((model, Pin::Shape(shape)))
    });
    at.into_iter().chain(slash).chain(colon).filter(|(model, _)| !model.is_empty()).collect()
}

/// The public Model of a name that the caller sees.
fn named(world: &World, caller: &Caller, name: &str) -> Result<Option<Arc<Model>>, Denied> {
    let own = caller.namespace();
    for namespace in [own, world.catalog_namespace()] {
        match world.model_named(namespace, name) {
            Some(Named::Usable(model)) if is_visible(model, own) => return Ok(Some(model.clone())),
            Some(Named::Invalid { reason, .. }) => return Err(invalid(name, reason, namespace == own)),
            Some(Named::Usable(_)) | None => {}
        }
    }
    Ok(elsewhere(world, caller).find(|model| model.names().any(|known| known == name)))
}

/// What is wrong with a Model is told to those who wrote it.
fn invalid(model: &str, reason: &str, is_own: bool) -> Denied {
    let reason = if is_own { reason } else { "its manifest is refused" };
    Denied::InvalidModel { model: shown(model), reason: reason.to_owned() }
}

/// Models of other namespaces than the caller's and the catalog's, as far as its policies name them and it sees them.
pub(crate) fn elsewhere<'a>(world: &'a World, caller: &'a Caller) -> impl Iterator<Item = Arc<Model>> + 'a {
    let by_reference = caller.key.policies.iter().flat_map(|policy| &policy.row.model_refs);
    let referred = by_reference.filter_map(|id| match world.model(id)? {
        Found::Usable(model) => Some(model.clone()),
        Found::Invalid(_) => None,
    });
    let patterns = caller.key.policies.iter().flat_map(|policy| &policy.models.allow);
    let scoped = patterns.filter_map(|pattern| Some((pattern.namespace.as_deref()?, &pattern.glob)));
    let matching = scoped.flat_map(|(namespace, glob)| {
        world.names_of(namespace).filter(|(name, _)| glob.matches(name)).filter_map(|(_, named)| match named {
            Named::Usable(model) => Some(model.clone()),
            Named::Invalid { .. } => None,
        })
    });
    referred.chain(matching).filter(|model| is_visible(model, caller.namespace()))
}

/// Whether callers of a namespace may name a Model at all.
pub(crate) fn is_visible(model: &Model, namespace: &str) -> bool {
    let is_public = match model.row.visibility {
        Visibility::Public => true,
        Visibility::Internal => false,
    };
    is_public && model.row.allowed.permits(&model.id.namespace, namespace)
}

/// Hosts of the caller's namespace, then of the catalog, that take `name` by a pattern; absent where there is none.
fn family(world: &World, caller: &Caller, name: &str, is_wanted: impl Fn(&Host) -> bool) -> Option<Vec<Arc<Host>>> {
    let own = caller.namespace();
    let of = |namespace: &str| {
        let hosts = world.families().iter().filter(|host| host.id.namespace == namespace);
        let open = hosts.filter(|host| host.row.allowed.permits(&host.id.namespace, own));
        open.filter(|host| host.takes(name) && is_wanted(host)).cloned().collect::<Vec<_>>()
    };
    let mut hosts = of(own);
    if own != world.catalog_namespace() {
        hosts.extend(of(world.catalog_namespace()));
    }
    (!hosts.is_empty()).then_some(hosts)
}

/// Whether any host of a Model, or of the Models that it stands for, is among those of a pin.
fn is_served(world: &World, model: &Model, pin: &Pin) -> bool {
    fn at(world: &World, model: &Model, pin: &Pin, depth: usize) -> bool {
        let usable = |id: &ObjectRef| match world.model(id) {
            Some(Found::Usable(model)) => Some(model.clone()),
            Some(Found::Invalid(_)) | None => None,
        };
        match &model.row.route {
            Route::Bindings(bindings) => bindings.iter().any(|binding| match world.host(&binding.host) {
                Some(Found::Usable(host)) => pin.takes(host),
                Some(Found::Invalid(_)) | None => *pin == Pin::Host(binding.host.name.clone()),
            }),
            Route::Virtual { .. } if depth == 0 => false,
            Route::Virtual { targets, .. } => targets
                .iter()
                .filter_map(|target| usable(&target.model))
                .any(|target| at(world, &target, pin, depth - 1)),
        }
    }
    at(world, model, pin, MAX_DEPTH)
}

/// A model as it may stand in a message: bounded.
fn shown(model: &str) -> String {
    model.chars().take(256).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use WireShape::{AnthropicMessages, OpenaiChat};
    use table::{NamespaceGrant, Row, VirtualStrategy};

    use super::*;
    use crate::world::build::{Tables, caller, id, texts};

    /// `namespace/name` of the Model, or `family:` and the hosts; then the pin.
    fn meaning(tables: &Tables, model: &str) -> Result<String, Denied> {
        let world = tables.clone().world();
        resolve(&world, &caller(&world, "app"), model).map(|resolved| {
            let meaning = match resolved.meaning {
                Meaning::Model(model) => model.id.to_string(),
                Meaning::Family(hosts) => {
                    let hosts: Vec<_> = hosts.iter().map(|host| host.id.to_string()).collect();
                    format!("family {} at {}", resolved.name, hosts.join(" "))
                }
            };
            match resolved.pin {
                Some(Pin::Host(host)) => format!("{meaning} pinned to {host}"),
                Some(Pin::Shape(shape)) => format!("{meaning} pinned to {shape}"),
                None => meaning,
            }
        })
    }

    fn unknown(model: &str) -> Result<String, Denied> {
        Err(Denied::UnknownModel { model: model.to_owned() })
    }

    fn served() -> Tables {
        Tables::new()
            .open()
            .host("east", OpenaiChat)
            .host("west", AnthropicMessages)
            .model("m", &["east", "west"])
            .edit_model("m", |model| model.aliases = vec!["nick".into()])
    }

    #[test]
    fn a_pattern_of_a_host_does_not_take_in_names_without_bounds() {
        let world = Tables::new()
            .host("h", OpenaiChat)
            .edit_host("h", |host| host.model_patterns = vec!["gpt-*".into()])
            .policy("all", &["*"], |_| ())
            .relay_key("app", &["all"], |_| ())
            .world();
        let caller = caller(&world, "app");
        assert!(resolve(&world, &caller, "gpt-9").is_ok());
        let long = format!("gpt-{}", "9".repeat(LONGEST_NAME));
        let Err(Denied::UnknownModel { model }) = resolve(&world, &caller, &long) else { panic!("it is no name") };
        assert_eq!(model.len(), 256);
    }

    #[test]
    fn ids_aliases_pins_and_providers_are_read_in_this_order() {
        let tables = served();
        for (model, expected) in [
            ("m", "team/m"),
            ("nick", "team/m"),
            ("m@west", "team/m pinned to west"),
            ("east/m", "team/m pinned to east"),
            ("nick@east", "team/m pinned to east"),
            ("openai:m", "team/m pinned to openai-chat"),
            ("anthropic:nick", "team/m pinned to anthropic-messages"),
        ] {
            assert_eq!(meaning(&tables, model).as_deref(), Ok(expected), "{model}");
        }
        for model in ["M", "m@north", "north/m", "google:m", "m@", "/m", "@east", ""] {
            assert_eq!(meaning(&tables, model), unknown(model), "{model}");
        }
    }

    #[test]
    fn an_exact_id_or_alias_beats_every_other_reading() {
        for text in ["east/m", "m@west", "openai:m"] {
            let tables = served().model("x", &["east"]).edit_model("x", |model| model.model_name = text.to_owned());
            assert_eq!(meaning(&tables, text).as_deref(), Ok("team/x"), "{text}");
        }
    }

    #[test]
    fn a_name_is_looked_up_in_the_own_namespace_then_the_catalog_and_nowhere_else() {
        let tables = served().model("catalog/m", &["west"]).model("catalog/c", &["west"]).model("other/o", &["west"]);
        assert_eq!(meaning(&tables, "m").as_deref(), Ok("team/m"));
        assert_eq!(meaning(&tables, "c").as_deref(), Ok("catalog/c"));
        assert_eq!(meaning(&tables, "o"), unknown("o"));
    }

    #[test]
    fn a_model_of_another_namespace_is_reached_where_a_policy_names_it() {
        let tables = served().model("other/o", &["west"]);
        let by_reference = tables.clone().policy("all", &[], |policy| policy.model_refs = vec![id("other/o")]);
        assert_eq!(meaning(&by_reference, "o").as_deref(), Ok("other/o"));
        let by_pattern = tables.clone().policy("all", &["other#o*"], |_| ());
        assert_eq!(meaning(&by_pattern, "o").as_deref(), Ok("other/o"));
        let closed = by_pattern.edit_model("other/o", |model| model.allowed = NamespaceGrant::Same);
        assert_eq!(meaning(&closed, "o"), unknown("o"));
    }

    #[test]
    fn internal_models_and_those_of_a_closed_catalog_entry_are_unknown() {
        let internal = served().edit_model("m", |model| model.visibility = Visibility::Internal);
        assert_eq!(meaning(&internal, "m"), unknown("m"));
        let closed = served()
            .model("catalog/c", &["west"])
            .edit_model("catalog/c", |model| model.allowed = NamespaceGrant::Listed(["someone".to_owned()].into()));
        assert_eq!(meaning(&closed, "c"), unknown("c"));
    }

    #[test]
    fn a_family_reaches_hosts_by_pattern_where_no_model_has_the_name() {
        let families = |tables: Tables| {
            tables
                .edit_host("east", |host| host.model_patterns = texts(&["gpt-*"]))
                .edit_host("west", |host| host.model_patterns = texts(&["gpt-*", "claude-*"]))
                .host("catalog/hub", OpenaiChat)
                .edit_host("catalog/hub", |host| host.model_patterns = texts(&["*"]))
        };
        let tables = families(served());
        for (model, expected) in [
            ("m", "team/m"),
            ("gpt-9", "family gpt-9 at team/east team/west catalog/hub"),
            ("claude-9", "family claude-9 at team/west catalog/hub"),
            ("gpt-9@west", "family gpt-9 at team/west pinned to west"),
            ("openai:gpt-9", "family gpt-9 at team/east catalog/hub pinned to openai-chat"),
            ("org/model", "family org/model at catalog/hub"),
        ] {
            assert_eq!(meaning(&tables, model).as_deref(), Ok(expected), "{model}");
        }
        let closed = tables.edit_host("catalog/hub", |host| host.allowed = NamespaceGrant::Same);
        assert_eq!(meaning(&closed, "org/model"), unknown("org/model"));
    }

    #[test]
    fn a_virtual_model_may_be_pinned_to_a_host_of_its_targets() {
        let tables = served().virtual_model("inner", VirtualStrategy::Failover, &[("m", 1)]).virtual_model(
            "outer",
            VirtualStrategy::Failover,
            &[("outer", 1), ("inner", 1)],
        );
        assert_eq!(meaning(&tables, "outer@west").as_deref(), Ok("team/outer pinned to west"));
        assert_eq!(meaning(&tables, "outer@north"), unknown("outer@north"));
    }

    #[test]
    fn what_is_wrong_with_a_model_is_told_to_its_own_namespace_alone() {
        let mut tables = served();
        let broken = || Row::Invalid { reason: "spec.hosts[0].hostRef names no Host".to_owned() };
        tables.table.models.insert(id("bad"), broken());
        tables.table.models.insert(id("catalog/worse"), broken());
        let why = |model: &str| match meaning(&tables, model) {
            Err(Denied::InvalidModel { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(why("bad"), "spec.hosts[0].hostRef names no Host");
        assert_eq!(why("worse"), "its manifest is refused");
    }
}
