use protocol::WireShape;
use table::Pricing;

use super::*;
use build::{Tables, id, token};

fn row_of(named: Option<&Named>) -> Option<&ObjectRef> {
    match named? {
        Named::Usable(model) => Some(&model.id),
        Named::Invalid { id, .. } => Some(id),
    }
}

#[test]
fn a_token_finds_its_relay_key_and_no_other_does() {
    let world = Tables::new().open().world();
    let found = world.relay_key_of(&TokenHash::of(&token("app"))).map(|key| key.id.clone());
    assert_eq!(found.as_deref(), Some(&id("app")));
    assert!(world.relay_key_of(&TokenHash::of("something else")).is_none());
}

#[test]
fn an_id_beats_an_alias_of_the_same_text() {
    let world = Tables::new()
        .model("a", &[])
        .edit_model("a", |model| model.aliases = vec!["b".into(), "c".into()])
        .model("b", &[])
        .world();
    assert_eq!(row_of(world.model_named("team", "b")), Some(&id("b")));
    assert_eq!(row_of(world.model_named("team", "c")), Some(&id("a")));
    assert_eq!(row_of(world.model_named("other", "a")), None);
}

#[test]
fn an_invalid_model_is_known_by_the_name_of_its_object() {
    let mut tables = Tables::new();
    tables.table.models.insert(id("broken"), Row::Invalid { reason: "spec.hosts is empty".into() });
    let world = tables.world();
    let Some(Named::Invalid { reason, .. }) = world.model_named("team", "broken") else { panic!("it is known") };
    assert_eq!(reason, "spec.hosts is empty");
}

#[test]
fn a_key_whose_policy_is_missing_or_invalid_cannot_be_used_at_all() {
    let mut tables = Tables::new()
        .policy("good", &["*"], |_| ())
        .relay_key("one", &["good", "gone"], |_| ())
        .relay_key("two", &["good", "bad"], |_| ())
        .relay_key("three", &[], |_| ());
    tables.table.policies.insert(id("bad"), Row::Invalid { reason: "no".into() });
    let world = tables.world();
    let why = |name: &str| world.relay_key(&id(name)).and_then(|key| key.unusable.clone());
    assert_eq!(why("one").as_deref(), Some("its policy `team/gone` is missing"));
    assert_eq!(why("two").as_deref(), Some("its policy `team/bad` is invalid"));
    assert_eq!(why("three").as_deref(), Some("it has no policy"));
}

#[test]
fn a_pool_holds_the_keys_of_its_host() {
    let world = Tables::new()
        .host("x", WireShape::OpenaiChat)
        .host("y", WireShape::OpenaiChat)
        .host_key("x2", "x", |_| ())
        .world();
    let Some(Found::Usable(host)) = world.host(&id("x")) else { panic!("it is usable") };
    assert_eq!(host.pool.iter().map(|key| key.id.name.as_str()).collect::<Vec<_>>(), ["x", "x2"]);
}

#[test]
fn an_answer_of_another_model_has_the_price_of_a_model_in_the_same_namespace() {
    let priced = |source: &str| Some(Pricing { source: Some(source.into()), ..Pricing::default() });
    let world = Tables::new()
        .host("x", WireShape::OpenaiChat)
        .model("dated", &["x"])
        .edit_model("dated", |model| model.pricing = priced("ours"))
        .model("other/dated", &["x"])
        .edit_model("other/dated", |model| model.pricing = priced("theirs"))
        .world();
    let source = |namespace| world.price_of_answer(namespace, &id("x"), "dated").map(|price| &*price.source);
    assert_eq!(source("team"), Some("ours"));
    assert_eq!(source("nobody"), None);
}

#[test]
fn ten_thousand_keys_are_indexed() {
    let mut tables = Tables::new().policy("all", &["*"], |_| ());
    for n in 0..10_000 {
        tables = tables.relay_key(&format!("k{n}"), &["all"], |_| ());
    }
    let world = tables.world();
    assert!((0..10_000).all(|n| world.relay_key_of(&TokenHash::of(&token(&format!("k{n}")))).is_some()));
}
