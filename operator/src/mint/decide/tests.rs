use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::*;
use crate::mint::{ISSUED_AT, MANAGED, TRIGGER};

const HOUR: i64 = 3_600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn token(seed: u8) -> String {
    token::mint(&[seed; token::RANDOM_BYTES]).token.expose().clone()
}

fn id_of(seed: u8) -> String {
    id(&token(seed)).unwrap()
}

/// A RelayKey with a Secret, and more of a spec.
fn key(more: Value) -> RelayKey {
    let mut spec = json!({"policyRefs": [{"name": "all"}], "secret": {"name": "app-token"}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let metadata = json!({"name": "app", "namespace": "team-a", "uid": "uid-1"});
    let manifest =
        json!({"apiVersion": "llmrelay.io/v1alpha1", "kind": "RelayKey", "metadata": metadata, "spec": spec});
    serde_json::from_value(manifest).unwrap()
}

/// A Secret as the API server might have it.
struct Stored(Secret);

impl Stored {
    fn ours() -> Self {
        let secret = secret::created(&key(json!({})), &spec(), &token::mint(&[1; token::RANDOM_BYTES]), at(0));
        Self(secret)
    }

    fn entry(mut self, name: &str, value: &str) -> Self {
        self.0.data.get_or_insert_default().insert(name.to_owned(), ByteString(value.as_bytes().to_vec()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.0.data.get_or_insert_default().remove(name);
        self
    }

    fn answers(mut self, trigger: Option<&str>) -> Self {
        let annotations = self.0.metadata.annotations.get_or_insert_default();
        annotations.remove(TRIGGER);
        annotations.extend(trigger.map(|trigger| (TRIGGER.to_owned(), trigger.to_owned())));
        self
    }

    fn edit(mut self, edit: impl FnOnce(&mut Secret)) -> Self {
        edit(&mut self.0);
        self
    }
}

fn spec() -> crds::TokenSecret {
    crds::TokenSecret { name: "app-token".to_owned(), key: None }
}

fn active(seed: u8) -> TokenStatus {
    let created_at = Some(instant(at(0)));
    TokenStatus { id: id_of(seed), state: TokenState::Active, created_at, expires_at: None }
}

fn live(tokens: Vec<TokenStatus>, next: Option<Timestamp>) -> Live {
    Live { tokens, next }
}

#[test]
fn a_key_without_its_secret_gets_one_and_only_then() {
    let now = at(10);
    assert_eq!(decide(&key(json!({})), None, now), Decision::Create);
    for ended in [json!({"revoked": true}), json!({"expiresAt": at(10).to_string()})] {
        assert_eq!(decide(&key(ended.clone()), None, now), Decision::None, "{ended}");
        let kept = decide(&key(ended), Some(&Stored::ours().0), now);
        assert_eq!(kept, Decision::Keep(live(vec![active(1)], None)), "what is there stays");
    }
    let mut brought = key(json!({"tokenHash": format!("sha256:{}", "a".repeat(64))}));
    brought.spec.secret = None;
    assert_eq!(decide(&brought, None, now), Decision::None);
    let mut leaving = key(json!({}));
    leaving.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    assert_eq!(decide(&leaving, None, now), Decision::None);
}

#[test]
fn a_secret_that_is_ours_is_kept() {
    let kept = decide(&key(json!({})), Some(&Stored::ours().0), at(10));
    assert_eq!(kept, Decision::Keep(live(vec![active(1)], None)));
}

#[test]
fn a_secret_of_somebody_else_is_left_alone() {
    let foreign: [fn(&mut Secret); 4] = [
        |secret| secret.metadata.owner_references = None,
        |secret| drop(secret.metadata.labels.take()),
        |secret| {
            let owner = &mut secret.metadata.owner_references.as_mut().unwrap()[0];
            (owner.uid, owner.name) = ("uid-2".to_owned(), "other".to_owned());
        },
        |secret| secret.metadata.owner_references.as_mut().unwrap()[0].kind = "Certificate".to_owned(),
    ];
    for (n, edit) in foreign.into_iter().enumerate() {
        let stored = Stored::ours().edit(edit);
        let decision = decide(&key(json!({})), Some(&stored.0), at(10));
        let Decision::Conflict(why) = decision else { panic!("{n}: {decision:?}") };
        assert!(why.starts_with("spec.secret.name `app-token`: namespace `team-a` has a Secret"), "{why}");
    }
}

#[test]
fn the_token_of_a_former_key_of_this_name_does_not_come_back() {
    let former =
        Stored::ours().edit(|secret| secret.metadata.owner_references.as_mut().unwrap()[0].uid = "uid-0".into());
    assert_eq!(decide(&key(json!({})), Some(&former.0), at(10)), Decision::Reissue);
    assert_eq!(decide(&key(json!({"revoked": true})), Some(&former.0), at(10)), Decision::None);
    let reissued = secret::reissued(former.0, &key(json!({})), &spec(), &token::mint(&[2; token::RANDOM_BYTES]), at(0));
    assert_eq!(decide(&key(json!({})), Some(&reissued), at(10)), Decision::Keep(live(vec![active(2)], None)));
}

#[test]
fn a_secret_that_lacks_its_token_gets_one() {
    assert_eq!(decide(&key(json!({})), Some(&Stored::ours().without("token").0), at(10)), Decision::Reissue);
    assert_eq!(decide(&key(json!({})), Some(&Stored::ours().entry("token", " \n").0), at(10)), Decision::Reissue);
    let renamed = key(json!({"secret": {"name": "app-token", "key": "api-key"}}));
    assert_eq!(decide(&renamed, Some(&Stored::ours().0), at(10)), Decision::Reissue);
}

#[test]
fn a_token_is_replaced_when_the_trigger_was_raised() {
    let wanted = |trigger: i64| key(json!({"rotation": {"trigger": trigger, "overlap": "1h"}}));
    let rotate = Decision::Rotate { until: at(10 + HOUR) };
    let of = |wanted: &RelayKey, answered| decide(wanted, Some(&Stored::ours().answers(answered).0), at(10));
    assert_eq!(of(&wanted(3), Some("2")), rotate);
    for answered in [Some("3"), Some("4"), None, Some("many")] {
        assert!(matches!(of(&wanted(3), answered), Decision::Keep(_)), "{answered:?}");
    }
    assert!(matches!(of(&key(json!({"rotation": {"trigger": 3}, "revoked": true})), Some("2")), Decision::Keep(_)));
}

#[test]
fn a_token_is_replaced_at_its_age_and_the_old_one_ends_with_the_next_at_the_latest() {
    let of = |rotation: Value, now| decide(&key(json!({"rotation": rotation})), Some(&Stored::ours().0), now);
    let kept = Decision::Keep(live(vec![active(1)], Some(at(2 * HOUR))));
    assert_eq!(of(json!({"every": "2h"}), at(2 * HOUR - 1)), kept);
    assert_eq!(of(json!({"every": "2h"}), at(2 * HOUR)), Decision::Rotate { until: at(4 * HOUR) });
    assert_eq!(of(json!({"every": "48h"}), at(48 * HOUR)), Decision::Rotate { until: at(72 * HOUR) });
    let short = of(json!({"every": "2h", "overlap": "10m"}), at(2 * HOUR));
    assert_eq!(short, Decision::Rotate { until: at(2 * HOUR + 600) });
}

#[test]
fn a_secret_without_its_date_is_as_old_as_it_is() {
    let undated = Stored::ours().edit(|secret| {
        secret.metadata.annotations.as_mut().unwrap().remove(ISSUED_AT);
        secret.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(-3 * HOUR)));
    });
    let hourly = key(json!({"rotation": {"every": "2h"}}));
    assert!(matches!(decide(&hourly, Some(&undated.0), at(0)), Decision::Rotate { .. }));
}

#[test]
fn a_replaced_token_stays_until_its_time_and_goes_then() {
    let stored = Stored::ours().entry("token-previous", &token(7)).entry("token-previous-until", &at(100).to_string());
    let retiring =
        TokenStatus { id: id_of(7), state: TokenState::Retiring, created_at: None, expires_at: Some(instant(at(100))) };
    let both = live(vec![active(1), retiring], Some(at(100)));
    assert_eq!(decide(&key(json!({})), Some(&stored.0), at(99)), Decision::Keep(both));
    assert_eq!(decide(&key(json!({})), Some(&stored.0), at(100)), Decision::Retire(live(vec![active(1)], None)));
    let endless = Stored::ours().entry("token-previous", &token(7));
    assert!(matches!(decide(&key(json!({})), Some(&endless.0), at(0)), Decision::Retire(_)));
    let retired = secret::retired(stored.0, &spec());
    assert_eq!(decide(&key(json!({})), Some(&retired), at(100)), Decision::Keep(live(vec![active(1)], None)));
}

#[test]
fn what_is_created_is_labelled_owned_and_holds_the_token_alone() {
    let Secret { metadata, data, type_, .. } = Stored::ours().0;
    assert_eq!(metadata.labels.unwrap(), BTreeMap::from([(MANAGED.to_owned(), "true".to_owned())]));
    let owner = &metadata.owner_references.unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str(), owner.controller), ("RelayKey", "uid-1", Some(true)));
    assert_eq!(owner.block_owner_deletion, None);
    assert_eq!(data.unwrap().into_keys().collect::<Vec<_>>(), ["token"]);
    assert_eq!((metadata.namespace.as_deref(), type_.as_deref()), (Some("team-a"), Some("Opaque")));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// What the API server holds: a Secret under a version that every write raises.
    #[derive(Clone)]
    struct Server {
        secret: Option<Secret>,
        version: u64,
        created: usize,
    }

    impl Server {
        /// Writes as `create` and `replace` with a version do; false: another was faster.
        fn write(&mut self, looked_at: Option<u64>, secret: Secret) -> bool {
            let is_fresh = match looked_at {
                None => self.secret.is_none(),
                Some(version) => self.secret.is_some() && self.version == version,
            };
            if is_fresh {
                self.created += usize::from(self.secret.is_none());
                self.secret = Some(secret);
                self.version += 1;
            }
            is_fresh
        }
    }

    /// One replica: what it saw last, perhaps long ago.
    #[derive(Clone, Default)]
    struct Replica {
        seen: Option<(Option<Secret>, u64)>,
    }

    impl Replica {
        fn look(&mut self, server: &Server) {
            self.seen = Some((server.secret.clone(), server.version));
        }

        /// Acts on what it saw. Gives whether a token was written.
        fn act(&mut self, server: &mut Server, key: &RelayKey, seed: u8, now: Timestamp) -> bool {
            let Some((found, version)) = self.seen.take() else { return false };
            let minted = token::mint(&[seed; token::RANDOM_BYTES]);
            let looked_at = found.as_ref().map(|_| version);
            match (decide(key, found.as_ref(), now), found) {
                (Decision::Create, _) => server.write(None, secret::created(key, &spec(), &minted, now)),
                (Decision::Reissue, Some(found)) => {
                    server.write(looked_at, secret::reissued(found, key, &spec(), &minted, now))
                }
                (Decision::Rotate { until }, Some(found)) => {
                    server.write(looked_at, secret::rotated(found, key, &spec(), &minted, now, until))
                }
                (Decision::Retire(_), Some(found)) => {
                    server.write(looked_at, secret::retired(found, &spec()));
                    false
                }
                _ => false,
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Event {
        Look(usize),
        Act(usize),
        Trigger,
        Pass(i64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..2_usize).prop_map(Event::Look),
            4 => (0..2_usize).prop_map(Event::Act),
            1 => Just(Event::Trigger),
            1 => (0..2 * HOUR).prop_map(Event::Pass),
        ]
    }

    proptest! {
        #[test]
        fn two_leaders_mint_once_and_rotate_once_for_each_reason(events in prop::collection::vec(event(), 1..60)) {
            let mut server = Server { secret: None, version: 1, created: 0 };
            let mut replicas = [Replica::default(), Replica::default()];
            let (mut trigger, mut now, mut written, mut reasons) = (0_i64, 0_i64, 0, 1);
            for (n, event) in events.into_iter().enumerate() {
                let key = key(json!({"rotation": {"trigger": trigger, "overlap": "1h"}}));
                match event {
                    Event::Look(who) => replicas[who].look(&server),
                    Event::Act(who) => {
                        let seed = u8::try_from(n + 1).unwrap();
                        written += usize::from(replicas[who].act(&mut server, &key, seed, at(now)));
                    }
                    Event::Trigger => { trigger += 1; reasons += 1; }
                    Event::Pass(seconds) => now += seconds,
                }
                prop_assert!(server.created <= 1, "minted twice");
                prop_assert!(written <= reasons, "{written} tokens for {reasons} reasons");
                let held = server.secret.as_ref().and_then(|secret| secret.data.as_ref()).map_or(0, BTreeMap::len);
                prop_assert!(held <= 3, "at most two tokens and a date");
            }
        }
    }
}
