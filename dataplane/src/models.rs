//! The lists of models of a key: exactly what it may reach, in the shape that the caller speaks.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use protocol::{Refusal, WireShape};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::{
    admit::{self, Grant},
    auth::Caller,
    denied::Denied,
    plan,
    resolve::{self, Meaning},
    world::{Model, World},
};

/// When models are said to be made: the table does not know.
const CREATED: Timestamp = Timestamp::UNIX_EPOCH;

const DEFAULT_PAGE: usize = 20;
const LARGEST_PAGE: usize = 1_000;

/// A model that the caller may reach, under one of its names.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The id or alias.
    pub id: String,
    /// The namespace that offers it.
    pub owner: String,
    /// The Model; absent: a host takes it by a pattern.
    pub model: Option<Arc<Model>>,
}

/// Which part of a list is asked for. Only Anthropic's shape knows pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// How many at most, 1 to 1000; absent: 20.
    pub limit: Option<usize>,
    /// Those behind this id.
    pub after: Option<String>,
    /// Those just before this id.
    pub before: Option<String>,
}

impl Page {
    /// Reads `limit`, `after_id` and `before_id` of a query; others do not count. Errs on a limit that is none.
    pub fn read(query: Option<&str>) -> Result<Self, Denied> {
        let mut page = Page::default();
        for (name, value) in form_urlencoded::parse(query.unwrap_or("").as_bytes()) {
            match name.as_ref() {
                "limit" => page.limit = Some(limit(&value)?),
                "after_id" => page.after = Some(value.into_owned()),
                "before_id" => page.before = Some(value.into_owned()),
                _ => {}
            }
        }
        Ok(page)
    }
}

fn limit(text: &str) -> Result<usize, Denied> {
    let parsed = text.parse().ok().filter(|limit| (1..=LARGEST_PAGE).contains(limit));
    let message = format!("`limit` must be a whole number from 1 to {LARGEST_PAGE}");
    parsed.ok_or_else(|| Denied::Refused(Refusal::malformed("limit", message)))
}

/// Everything that a caller may reach now by a name that the table knows, sorted by it.
pub fn reachable(world: &World, caller: &Caller, now: Timestamp) -> Vec<Listed> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for namespace in [caller.namespace(), world.catalog_namespace()] {
        names.extend(world.names_of(namespace).map(|(name, _)| name.to_owned()));
    }
    for model in resolve::elsewhere(world, caller) {
        names.extend(model.names().map(str::to_owned));
    }
    names.iter().filter_map(|name| find(world, caller, name, now).ok()).collect()
}

/// One model that a caller may reach. Errs like a request for it would, and where nobody could serve it now.
pub fn find(world: &World, caller: &Caller, id: &str, now: Timestamp) -> Result<Listed, Denied> {
    let grant: Grant = admit::admit(world, caller.clone(), id)?;
    let (owner, model) = match &grant.resolved().meaning {
        Meaning::Model(model) if plan::is_reachable(world, caller, model, now) => {
            (model.id.namespace.clone(), Some(model.clone()))
        }
        Meaning::Model(_) => return Err(Denied::UnknownModel { model: id.to_owned() }),
        Meaning::Family(hosts) => {
            let owner = hosts.first().map_or_else(String::new, |host| host.id.namespace.clone());
            (owner, None)
        }
    };
    Ok(Listed { id: id.to_owned(), owner, model })
}

/// A list in the caller's shape.
pub fn list(shape: WireShape, models: &[Listed], page: &Page) -> Value {
    match shape {
        WireShape::OpenaiChat => {
            json!({"object": "list", "data": models.iter().map(|listed| one(shape, listed)).collect::<Vec<_>>()})
        }
        WireShape::AnthropicMessages => {
            let (part, has_more) = cut(models, page);
            json!({
                "data": part.iter().map(|listed| one(shape, listed)).collect::<Vec<_>>(),
                "has_more": has_more,
                "first_id": part.first().map(|listed| &listed.id),
                "last_id": part.last().map(|listed| &listed.id),
            })
        }
    }
}

/// One model in the caller's shape.
pub fn one(shape: WireShape, listed: &Listed) -> Value {
    match shape {
        WireShape::OpenaiChat => json!({
            "id": listed.id,
            "object": "model",
            "created": CREATED.as_second(),
            "owned_by": listed.owner,
        }),
        WireShape::AnthropicMessages => json!({
            "type": "model",
            "id": listed.id,
            "display_name": listed.id,
            "created_at": CREATED.to_string(),
            "max_input_tokens": listed.model.as_ref().and_then(|model| model.row.context_window),
            "max_tokens": listed.model.as_ref().and_then(|model| model.row.max_output_tokens),
        }),
    }
}

/// The part that a page asks for, and whether more follows in its direction. Ids are sorted, so one that has gone since
/// the last page still says where to go on.
fn cut<'a>(models: &'a [Listed], page: &Page) -> (&'a [Listed], bool) {
    let limit = page.limit.unwrap_or(DEFAULT_PAGE);
    if let Some(before) = &page.before {
        let end = models.partition_point(|listed| listed.id < *before);
        let start = end.saturating_sub(limit);
        return (&models[start..end], start > 0);
    }
    let start = page.after.as_ref().map_or(0, |after| models.partition_point(|listed| listed.id <= *after));
    let end = models.len().min(start + limit);
    (&models[start..end], end < models.len())
}

#[cfg(test)]
mod tests {
    use WireShape::{AnthropicMessages, OpenaiChat};
    use table::{NamespaceGrant, VirtualStrategy, Visibility};

    use super::*;
    use crate::world::build::{Tables, caller, texts};

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn ids(tables: Tables) -> Vec<String> {
        let world = tables.world();
        reachable(&world, &caller(&world, "app"), NOW).into_iter().map(|listed| listed.id).collect()
    }

    fn listed(ids: &[&str]) -> Vec<Listed> {
        ids.iter().map(|id| Listed { id: (*id).to_owned(), owner: "team".into(), model: None }).collect()
    }

    fn page(query: &str) -> Page {
        Page::read(Some(query)).unwrap()
    }

    #[test]
    fn a_key_sees_what_it_may_reach_and_nothing_else() {
        let tables = Tables::new()
            .policy("p", &["*"], |policy| policy.models.deny = texts(&["denied"]))
            .relay_key("app", &["p"], |_| ())
            .host("h", OpenaiChat)
            .bare_host("keyless", OpenaiChat)
            .model("own", &["h"])
            .edit_model("own", |model| model.aliases = vec!["nick".into()])
            .model("denied", &["h"])
            .model("suspended", &["h"])
            .edit_model("suspended", |model| model.suspended = true)
            .model("internal", &["h"])
            .edit_model("internal", |model| model.visibility = Visibility::Internal)
            .model("without-key", &["keyless"])
            .virtual_model("auto", VirtualStrategy::Failover, &[("internal", 1)])
            .virtual_model("hollow", VirtualStrategy::Failover, &[("without-key", 1)])
            .model("catalog/shared", &["h"])
            .model("catalog/closed", &["h"])
            .edit_model("catalog/closed", |model| model.allowed = NamespaceGrant::Same)
            .model("other/theirs", &["h"]);
        assert_eq!(ids(tables), ["auto", "nick", "own", "shared"]);
    }

    #[test]
    fn one_model_is_found_by_any_of_its_names_and_others_are_refused_like_requests() {
        let world = Tables::new()
            .policy("p", &["own", "gpt-*"], |_| ())
            .relay_key("app", &["p"], |_| ())
            .host("h", OpenaiChat)
            .edit_host("h", |host| host.model_patterns = texts(&["gpt-*"]))
            .model("own", &["h"])
            .model("denied", &["h"])
            .world();
        let caller = caller(&world, "app");
        let find = |id: &str| find(&world, &caller, id, NOW).map(|listed| listed.id).map_err(|denied| denied.label());
        assert_eq!(find("own"), Ok("own".into()));
        assert_eq!(find("gpt-9"), Ok("gpt-9".into()));
        assert_eq!(find("denied"), Err("model_not_granted"));
        assert_eq!(find("gone"), Err("unknown_model"));
    }

    #[test]
    fn each_shape_has_its_own_list() {
        let models = listed(&["a", "b"]);
        let openai = list(OpenaiChat, &models, &Page::default());
        assert_eq!(openai["object"], "list");
        assert_eq!(openai["data"][1], json!({"id": "b", "object": "model", "created": 0, "owned_by": "team"}));
        let anthropic = list(AnthropicMessages, &models, &Page::default());
        assert_eq!(anthropic["data"][0]["type"], "model");
        assert_eq!(anthropic["data"][0]["created_at"], "1970-01-01T00:00:00Z");
        let ends = (&anthropic["first_id"], &anthropic["last_id"], &anthropic["has_more"]);
        assert_eq!(ends, (&json!("a"), &json!("b"), &json!(false)));
    }

    #[test]
    fn pages_lead_through_the_whole_list_in_both_directions() {
        let models = listed(&["a", "b", "c", "d", "e"]);
        let cases = [
            ("limit=2", "ab", true),
            ("limit=2&after_id=b", "cd", true),
            ("limit=2&after_id=d", "e", false),
            ("limit=2&after_id=bb", "cd", true),
            ("limit=2&before_id=e", "cd", true),
            ("limit=9&before_id=c", "ab", false),
            ("limit=2&after_id=e", "", false),
            ("beta=true", "abcde", false),
        ];
        for (query, expected, has_more) in cases {
            let list = list(AnthropicMessages, &models, &page(query));
            let ids: String = list["data"].as_array().unwrap().iter().filter_map(|one| one["id"].as_str()).collect();
            assert_eq!((ids.as_str(), &list["has_more"]), (expected, &json!(has_more)), "{query}");
        }
    }

    #[test]
    fn a_limit_that_is_none_is_refused_by_name() {
        for query in ["limit=0", "limit=1001", "limit=x", "limit="] {
            let wire = Page::read(Some(query)).unwrap_err().to_wire();
            assert_eq!((wire.status, wire.param.as_deref()), (400, Some("limit")), "{query}");
        }
    }
}
