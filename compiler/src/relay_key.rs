//! RelayKeys: the hash of a token, and what binds it. Which of two keys with one token wins is decided in `precedence`.

use std::collections::HashMap;

use crds::Kind;
use foldhash::fast::RandomState;
use table::{
    ObjectRef, Policy, PreviousToken, RelayKey, Row, Rows,
    token::{self, Form, TokenHash},
};

use crate::{
    findings::{Findings, Problem, Reports},
    reports::Reason,
    resolve::World,
    shared,
};

pub(crate) fn rows(world: &World<'_>, policies: &Rows<Policy>, reports: &mut Reports<'_>) -> Rows<RelayKey> {
    let mut policies = Policies { world, rows: policies, good: HashMap::default() };
    world.rows(Kind::RelayKey, &world.resources.relay_keys, reports, |id, object, found| {
        let token_sha256 = found.resolved(token_sha256(world, id, &object.spec));
        let has_token = token_sha256.is_some();
        let key = relay_key(world, &mut policies, id, &object.spec, token_sha256.unwrap_or_default(), found);
        if has_token { found.row_if_accepted(key) } else { found.row_if_resolved(key) }
    })
}

fn relay_key<'a>(
    world: &World<'_>,
    policies: &mut Policies<'a>,
    id: &'a ObjectRef,
    spec: &'a crds::RelayKeySpec,
    token_sha256: String,
    found: &mut Findings,
) -> RelayKey {
    let (policies, unusable) = policies.binding(id, spec, found);
    RelayKey {
        token_sha256,
        previous: spec.secret.as_ref().and_then(|secret| previous(world, id, secret, found)),
        policies,
        expires_at: shared::instant("spec.expiresAt", spec.expires_at.as_ref(), found),
        revoked: spec.revoked.unwrap_or(false),
        suspended: spec.suspend.unwrap_or(false),
        limits: spec.limits.as_ref().map(shared::limits).unwrap_or_default(),
        budget: spec.budget.as_ref().and_then(|written| shared::budget("spec.budget", written, found)),
        allowed_cidrs: allowed_cidrs(spec, found),
        attributes: spec.attributes.clone().unwrap_or_default(),
        unusable,
    }
}

/// Policies as keys name them. There are many more keys than policies.
struct Policies<'a> {
    world: &'a World<'a>,
    rows: &'a Rows<Policy>,
    /// Those that were found to be open and usable, by the namespace of a key and the words of its reference.
    good: HashMap<(&'a str, &'a crds::ObjectRef), ObjectRef, RandomState>,
}

impl<'a> Policies<'a> {
    /// The policies that are there, and why the key cannot be used where one is not: what that one forbids is not known.
    fn binding(
        &mut self,
        id: &'a ObjectRef,
        spec: &'a crds::RelayKeySpec,
        found: &mut Findings,
    ) -> (Vec<ObjectRef>, Option<String>) {
        if spec.policy_refs.is_empty() {
            found.refuse("spec.policyRefs names no Policy: a key without one reaches nothing".to_owned());
        }
        let mut bound = Vec::with_capacity(spec.policy_refs.len());
        let mut unusable: Option<String> = None;
        for (at, reference) in spec.policy_refs.iter().enumerate() {
            let words = (id.namespace.as_str(), reference);
            if let Some(policy) = self.good.get(&words) {
                bound.push(policy.clone());
                continue;
            }
            // Written out only where something is wrong.
            let field = format_args!("spec.policyRefs[{at}]");
            match self.world.follow(Kind::Policy, field, &id.namespace, reference) {
                Ok(policy) => {
                    match self.rows.get(&policy).and_then(Row::usable) {
                        Some(_) => drop(self.good.insert(words, policy.clone())),
                        None => {
                            unusable.get_or_insert_with(|| shared::broken(Kind::Policy, field, &policy));
                        }
                    }
                    bound.push(policy);
                }
                Err(problem) => {
                    unusable.get_or_insert_with(|| problem.1.clone());
                    found.unresolved(problem);
                }
            }
        }
        (bound, unusable)
    }
}

fn allowed_cidrs(spec: &crds::RelayKeySpec, found: &mut Findings) -> Vec<ipnet::IpNet> {
    let mut networks = Vec::new();
    for (at, written) in spec.allowed_cidrs.iter().flatten().enumerate() {
        match written.parse() {
            Ok(network) => networks.push(network),
            Err(_) => found.refuse(format!(
                "spec.allowedCIDRs[{at}] `{written}` is not a network: write one as `10.0.0.0/8`, and one address as \
                 `192.0.2.7/32`"
            )),
        }
    }
    networks
}

fn token_sha256(world: &World<'_>, id: &ObjectRef, spec: &crds::RelayKeySpec) -> Result<String, Problem> {
    let crds::RelayKeySpec { secret, token_hash, token_secret_ref, .. } = spec;
    let (field, name, key) = match (secret, token_hash, token_secret_ref) {
        (None, Some(hash), None) => return written_hash(hash),
        (Some(secret), None, None) if world.resources.foreign.contains(id) => return Err(not_made_for_it(id, secret)),
        (Some(secret), None, None) => ("spec.secret", &secret.name, secret.key.as_deref().unwrap_or(token::SECRET_KEY)),
        (None, None, Some(secret)) => ("spec.tokenSecretRef", &secret.name, secret.key.as_str()),
        _ => {
            let message = "spec needs exactly one of `secret`, `tokenHash` and `tokenSecretRef`".to_owned();
            return Err((Reason::Invalid, message));
        }
    };
    let token = world.secret(field, &id.namespace, name, key)?.text;
    let fault = match token::form(token.expose()) {
        Form::Minted(_) => None,
        Form::Mistyped => Some(format!(
            "begins with `{}` but was cut or mistyped: its checksum is wrong. Copy it again, or mint another one",
            token::PREFIX
        )),
        Form::Brought if token.expose().chars().count() < token::BROUGHT_MIN_CHARS => Some(format!(
            "is shorter than {} characters and could be guessed: make one with `relay keys mint`",
            token::BROUGHT_MIN_CHARS
        )),
        Form::Brought => None,
    };
    match fault {
        None => Ok(TokenHash::of(token.expose()).to_string()),
        Some(fault) => Err((Reason::Invalid, format!("{field}: the token in key `{key}` of Secret `{name}` {fault}"))),
    }
}

/// Whoever may write a Secret, and no RelayKey, must not say what a RelayKey's token is.
fn not_made_for_it(id: &ObjectRef, secret: &crds::TokenSecret) -> Problem {
    let (name, namespace) = (&secret.name, &id.namespace);
    let message = format!(
        "spec.secret.name `{name}`: the Secret of that name in namespace `{namespace}` was not made for this RelayKey, so \
         no token in it counts; a token that is brought is named by `spec.tokenSecretRef`"
    );
    (Reason::SecretNotFound, message)
}

/// The token that was replaced, where the Secret still has it and says until when it is good.
fn previous(
    world: &World<'_>,
    id: &ObjectRef,
    secret: &crds::TokenSecret,
    found: &mut Findings,
) -> Option<PreviousToken> {
    if world.resources.foreign.contains(id) {
        return None;
    }
    let data = world.resources.secrets.get(&ObjectRef::new(&id.namespace, &secret.name))?;
    let key = secret.key.as_deref().unwrap_or(token::SECRET_KEY);
    let text = |key: &str| data.get(key).and_then(|value| std::str::from_utf8(value.expose()).ok()).map(str::trim);
    let (key, until_key) = (token::previous_key(key), token::previous_until_key(key));
    let previous = text(&key).filter(|token| matches!(token::form(token), Form::Minted(_)))?;
    let Some(until) = text(&until_key).and_then(|until| until.parse().ok()) else {
        found.note(format!(
            "spec.secret: key `{key}` of Secret `{}` is not used, because key `{until_key}` does not say until when, such \
             as `2030-01-31T00:00:00Z`",
            secret.name
        ));
        return None;
    };
    Some(PreviousToken { token_sha256: TokenHash::of(previous).to_string(), until })
}

/// The hash as it stands in a manifest. It is not repeated when it is wrong: somebody may have written the token itself.
fn written_hash(written: &str) -> Result<String, Problem> {
    let hash = written.strip_prefix("sha256:").filter(|hash| TokenHash::is_written(hash));
    hash.map(str::to_owned).ok_or_else(|| {
        let wanted = "spec.tokenHash must be `sha256:` and 64 lower-case hex digits, as `relay keys hash` prints it";
        (Reason::Invalid, wanted.to_owned())
    })
}
