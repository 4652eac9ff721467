//! HostKeys: which pool, what they may be used for, and where the credential is.

use crds::Kind;
use table::{Credential, Credentials, HostKey, ObjectRef, Rows, Sealed};

use crate::{
    findings::{Findings, Problem, Reports},
    reports::Reason,
    resolve::World,
    shared,
};

pub(crate) fn rows(world: &World<'_>, reports: &mut Reports<'_>, credentials: &mut Credentials) -> Rows<HostKey> {
    world.rows(Kind::HostKey, &world.resources.host_keys, reports, |id, object, found| {
        let key = host_key(world, id, &object.spec, found);
        let credential = credential(world, id, &key.host, &object.spec.source, found);
        let credential = found.resolved(credential);
        let row = found.row_if_resolved(key);
        if let Some(credential) = credential.filter(|_| row.usable().is_some()) {
            credentials.host_keys.insert(id.clone(), credential);
        }
        row
    })
}

fn host_key(world: &World<'_>, id: &ObjectRef, spec: &crds::HostKeySpec, found: &mut Findings) -> HostKey {
    let host = world.follow(Kind::Host, "spec.hostRef", &id.namespace, &spec.host_ref);
    let models = spec.models.as_ref();
    HostKey {
        host: found.resolved(host).unwrap_or_else(|| world.target(&id.namespace, &spec.host_ref)),
        weight: spec.weight.unwrap_or(shared::WEIGHT),
        priority: spec.priority.unwrap_or(0),
        limits: shared::provider_limits(spec.limits.as_ref()),
        models: models
            .map(|models| shared::restricted(models.allow.as_ref(), models.deny.as_ref()))
            .unwrap_or_default(),
        expires_at: shared::instant("spec.expiresAt", spec.expires_at.as_ref(), found),
        suspended: spec.suspend.unwrap_or(false),
        allowed: world.grant(Kind::HostKey, id),
    }
}

/// Where the credential is.
fn credential(
    world: &World<'_>,
    id: &ObjectRef,
    host: &ObjectRef,
    source: &crds::KeySource,
    found: &mut Findings,
) -> Result<Credential, Problem> {
    let crds::KeySource { secret_key_ref, file, env, encrypted } = source;
    match (secret_key_ref, file, env, encrypted) {
        (Some(secret), None, None, None) => from_secret(world, id, secret, found),
        (None, Some(file), None, None) => Ok(Credential::File(file.path.clone())),
        (None, None, Some(env), None) => Ok(Credential::Env(env.name.clone())),
        (None, None, None, Some(encrypted)) => Ok(Credential::Sealed(sealed(host, encrypted))),
        _ => {
            let message = "spec.source needs exactly one of `secretKeyRef`, `file`, `env` and `encrypted`".to_owned();
            Err((Reason::Invalid, message))
        }
    }
}

/// As it was written: only data planes can say whether it opens.
fn sealed(host: &ObjectRef, encrypted: &crds::EncryptedSource) -> Sealed {
    let crds::EncryptedSource { key_id, wrapped_key, nonce, ciphertext } = encrypted.clone();
    Sealed { host: host.clone(), key_id, wrapped_key, nonce, ciphertext }
}

fn from_secret(
    world: &World<'_>,
    id: &ObjectRef,
    secret: &crds::SecretKeyRef,
    found: &mut Findings,
) -> Result<Credential, Problem> {
    let field = "spec.source.secretKeyRef";
    let crds::SecretKeyRef { name, key } = secret;
    let value = world.secret(field, &id.namespace, name, key)?;
    if !value.text.expose().bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        let message = format!(
            "{field}: key `{key}` of Secret `{name}` holds characters that no header may hold (is it two lines long?)"
        );
        return Err((Reason::Invalid, message));
    }
    if value.was_trimmed {
        found.note(format!(
            "{field}: white space around the credential in key `{key}` of Secret `{name}` (a newline at its end?) was \
             left out"
        ));
    }
    Ok(Credential::Value(value.text))
}
