//! RelayKeys: the hash of a token, and what binds it.

use crds::Kind;
use table::{
    ObjectRef, Policy, RelayKey, Row, Rows,
    token::{self, Form, TokenHash},
};

use crate::{
    precedence::{Claim, losers},
    reports::{Reason, Reports},
    resolve::{Problem, World},
    shared,
};

pub(crate) fn rows(world: &World<'_>, policies: &Rows<Policy>, reports: &mut Reports) -> Rows<RelayKey> {
    let keys = &world.resources.relay_keys;
    let mut rows = Rows::new();
    for (id, object) in keys {
        let row = match row(world, policies, id, &object.spec, reports) {
            Ok(key) => {
                note_state(&key, id, reports);
                Row::Usable(key)
            }
            Err((reason, message)) => {
                match reason {
                    Reason::Invalid => reports.refuse(Kind::RelayKey, id, reason, message.clone()),
                    _ => reports.unresolved(Kind::RelayKey, id, reason, message.clone()),
                }
                Row::Invalid { reason: message }
            }
        };
        rows.insert(id.clone(), row);
    }
    let hashes: Vec<(ObjectRef, String)> =
        rows.iter().filter_map(|(id, row)| Some((id.clone(), row.usable()?.token_sha256.clone()))).collect();
    let claims = hashes.iter().filter_map(|(id, hash)| Some(Claim::new(hash.as_str(), id, keys.get(id)?)));
    for (loser, _) in losers(claims.collect()) {
        // Whose token it is stays unsaid: it may be of another namespace.
        let message = "another RelayKey, which is older, has the same token".to_owned();
        reports.refuse(Kind::RelayKey, loser, Reason::Conflicted, message.clone());
        rows.insert(loser.clone(), Row::Invalid { reason: message });
    }
    rows
}

fn row(
    world: &World<'_>,
    policies: &Rows<Policy>,
    id: &ObjectRef,
    spec: &crds::RelayKeySpec,
    reports: &mut Reports,
) -> Result<RelayKey, Problem> {
    let invalid = |message: String| (Reason::Invalid, message);
    let token_sha256 = token_hash(world, id, spec)?;
    let mut unusable = None;
    let mut references = Vec::new();
    for (at, reference) in spec.policy_refs.iter().enumerate() {
        let field = format!("spec.policyRefs[{at}]");
        let problem = match world.follow(Kind::Policy, &field, &id.namespace, reference) {
            Ok(policy) if policies.get(&policy).and_then(Row::usable).is_some() => {
                references.push(policy);
                continue;
            }
            Ok(policy) => {
                let name = &policy.name;
                (Reason::Invalid, format!("{field}: Policy `{name}` cannot be used; its own conditions say why"))
            }
            Err(problem) => problem,
        };
        reports.unresolved(Kind::RelayKey, id, problem.0, problem.1.clone());
        unusable.get_or_insert(problem.1);
    }
    let mut allowed_cidrs = Vec::new();
    for (at, written) in spec.allowed_cidrs.iter().flatten().enumerate() {
        let network = written.parse().map_err(|_| {
            invalid(format!("spec.allowedCIDRs[{at}] `{written}` is not a network: write one as `10.0.0.0/8`"))
        })?;
        allowed_cidrs.push(network);
    }
    Ok(RelayKey {
        token_sha256,
        policies: references,
        expires_at: spec.expires_at.as_ref().and_then(crds::Instant::timestamp),
        revoked: spec.revoked.unwrap_or(false),
        suspended: spec.suspend.unwrap_or(false),
        limits: spec.limits.as_ref().map(shared::limits).unwrap_or_default(),
        budget: spec
            .budget
            .as_ref()
            .map(|written| shared::budget("spec.budget", written))
            .transpose()
            .map_err(invalid)?,
        allowed_cidrs,
        attributes: spec.attributes.clone().unwrap_or_default(),
        unusable,
    })
}

fn note_state(key: &RelayKey, id: &ObjectRef, reports: &mut Reports) {
    if key.revoked {
        reports.revoked(id);
        reports.unready(Kind::RelayKey, id, Reason::Revoked, "`spec.revoked` is true".to_owned());
    } else if key.suspended {
        reports.unready(Kind::RelayKey, id, Reason::Paused, "`spec.suspend` is true".to_owned());
    }
}

fn token_hash(world: &World<'_>, id: &ObjectRef, spec: &crds::RelayKeySpec) -> Result<String, Problem> {
    let crds::RelayKeySpec { secret, token_hash, token_secret_ref, .. } = spec;
    let (field, name, key) = match (secret, token_hash, token_secret_ref) {
        (None, Some(hash), None) => return written_hash(hash),
        (Some(secret), None, None) => ("spec.secret", &secret.name, secret.key.as_deref().unwrap_or("token")),
        (None, None, Some(secret)) => ("spec.tokenSecretRef", &secret.name, secret.key.as_str()),
        _ => {
            let message = "spec needs exactly one of `secret`, `tokenHash` and `tokenSecretRef`".to_owned();
            return Err((Reason::Invalid, message));
        }
    };
    let (token, _) = world.secret(field, &id.namespace, name, key)?;
    let fault = match token::form(token.expose()) {
        Form::Minted(_) => None,
        Form::Mistyped => {
            Some("looks like a minted token but its checksum is wrong: it was cut or mistyped".to_owned())
        }
        Form::Brought if token.expose().chars().count() < token::BROUGHT_MIN_CHARS => {
            Some(format!("is shorter than {} characters: it could be guessed", token::BROUGHT_MIN_CHARS))
        }
        Form::Brought => None,
    };
    match fault {
        None => Ok(TokenHash::of(token.expose()).to_string()),
        Some(fault) => Err((Reason::Invalid, format!("{field}: the token in key `{key}` of Secret `{name}` {fault}"))),
    }
}

fn written_hash(written: &str) -> Result<String, Problem> {
    let hex = written.strip_prefix("sha256:").unwrap_or_default();
    TokenHash::parse(hex).map(|hash| hash.to_string()).ok_or_else(|| {
        let message = format!(
            "spec.tokenHash `{written}` is not `sha256:` and 64 lower-case hex digits: make it with `relay keys hash`"
        );
        (Reason::Invalid, message)
    })
}
