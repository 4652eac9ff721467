//! HostKeys: which pool, what they may be used for, and where the credential is.

use crds::Kind;
use table::{Credential, Credentials, Globs, Host, HostKey, ObjectRef, Row, Rows};

use crate::{
    reports::{Reason, Reports},
    resolve::{Problem, World},
    shared,
};

pub(crate) fn rows(
    world: &World<'_>,
    hosts: &Rows<Host>,
    reports: &mut Reports,
    credentials: &mut Credentials,
) -> Rows<HostKey> {
    let mut rows = Rows::new();
    for (id, object) in &world.resources.host_keys {
        let host = world.follow(Kind::Host, "spec.hostRef", &id.namespace, &object.spec.host_ref);
        let credential = credential(world, id, &object.spec.source);
        let row = match (host, credential) {
            (Ok(host), Ok((credential, trimmed))) => {
                if trimmed {
                    let message = "white space around the credential in its Secret was left out".to_owned();
                    reports.note(Kind::HostKey, id, message);
                }
                note_host(reports, id, &host, hosts.get(&host));
                credentials.host_keys.insert(id.clone(), credential);
                if object.spec.suspend.unwrap_or(false) {
                    reports.unready(Kind::HostKey, id, Reason::Paused, "`spec.suspend` is true".to_owned());
                }
                Row::Usable(row(world, id, host, &object.spec))
            }
            (host, credential) => {
                let problems: Vec<Problem> = [host.err(), credential.err()].into_iter().flatten().collect();
                let reason = problems.iter().map(|(_, message)| message.as_str()).collect::<Vec<_>>().join("; ");
                for (reason, message) in problems {
                    match reason {
                        Reason::Invalid => reports.refuse(Kind::HostKey, id, reason, message),
                        _ => reports.unresolved(Kind::HostKey, id, reason, message),
                    }
                }
                Row::Invalid { reason }
            }
        };
        rows.insert(id.clone(), row);
    }
    rows
}

fn row(world: &World<'_>, id: &ObjectRef, host: ObjectRef, spec: &crds::HostKeySpec) -> HostKey {
    let models = spec.models.as_ref();
    HostKey {
        host,
        weight: spec.weight.unwrap_or(shared::WEIGHT),
        priority: spec.priority.unwrap_or(0),
        limits: shared::provider_limits(spec.limits.as_ref()),
        models: models
            .map_or(Globs::default(), |models| shared::restricted(models.allow.as_ref(), models.deny.as_ref())),
        expires_at: spec.expires_at.as_ref().and_then(crds::Instant::timestamp),
        suspended: spec.suspend.unwrap_or(false),
        allowed: world.grant(Kind::HostKey, id),
    }
}

fn note_host(reports: &mut Reports, id: &ObjectRef, host: &ObjectRef, row: Option<&Row<Host>>) {
    let name = &host.name;
    match row {
        Some(Row::Usable(row)) if row.suspended => {
            reports.unready(Kind::HostKey, id, Reason::HostDisabled, format!("Host `{name}` is suspended"));
        }
        Some(Row::Usable(_)) => {}
        Some(Row::Invalid { .. }) | None => {
            let message = format!("spec.hostRef: Host `{name}` cannot be used; its own conditions say why");
            reports.unresolved(Kind::HostKey, id, Reason::Invalid, message);
        }
    }
}

/// Where the credential is, and whether white space around it was cut off.
fn credential(world: &World<'_>, id: &ObjectRef, source: &crds::KeySource) -> Result<(Credential, bool), Problem> {
    let crds::KeySource { secret_key_ref, file, env } = source;
    match (secret_key_ref, file, env) {
        (Some(secret), None, None) => {
            let field = "spec.source.secretKeyRef";
            let (value, trimmed) = world.secret(field, &id.namespace, &secret.name, &secret.key)?;
            if value.expose().chars().any(|c| c.is_control() || !c.is_ascii()) {
                let message = format!(
                    "{field}: key `{}` of Secret `{}` holds characters that no HTTP header may hold",
                    secret.key, secret.name
                );
                return Err((Reason::Invalid, message));
            }
            Ok((Credential::Value(value), trimmed))
        }
        (None, Some(file), None) => Ok((Credential::File(file.path.clone()), false)),
        (None, None, Some(env)) => Ok((Credential::Env(env.name.clone()), false)),
        _ => {
            let message = "spec.source needs exactly one of `secretKeyRef`, `file` and `env`".to_owned();
            Err((Reason::Invalid, message))
        }
    }
}
