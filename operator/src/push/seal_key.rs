//! The key that data planes seal their copies of the last good table with: made once, in a Secret that they mount, and
//! never written again. Who would change it under them would make their copies useless.

use std::collections::BTreeMap;

use anyhow::Context;
use crds::rights::SEAL_KEY;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, api::PostParams};
use rand::{TryRng, rngs::SysRng};
use tracing::info;

use super::bundles::ours;

/// The entry of the Secret, and so the name of the file where the Secret is mounted.
pub const ENTRY: &str = "key";

/// What data planes take for a key.
const BYTES: usize = 32;

/// Makes the Secret unless there is one. Errs where the one that is there holds no key; it is left as it is.
pub(super) async fn keep(secrets: &Api<Secret>) -> anyhow::Result<()> {
    let found = secrets.get_opt(SEAL_KEY).await.with_context(|| format!("reading Secret `{SEAL_KEY}`"))?;
    if let Some(found) = found {
        return check(&found);
    }
    match secrets.create(&PostParams::default(), &made()?).await {
        Ok(_) => info!("Secret `{SEAL_KEY}` was made, for data planes to seal copies of the last good table with"),
        // Another replica was quicker.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error).with_context(|| format!("making Secret `{SEAL_KEY}`")),
    }
    Ok(())
}

fn made() -> anyhow::Result<Secret> {
    let mut key = vec![0; BYTES];
    SysRng.try_fill_bytes(&mut key).context("drawing a key")?;
    let data = Some(BTreeMap::from([(ENTRY.to_owned(), ByteString(key))]));
    Ok(Secret { metadata: ours(SEAL_KEY), data, type_: Some("Opaque".to_owned()), ..Secret::default() })
}

fn check(found: &Secret) -> anyhow::Result<()> {
    let length = found.data.as_ref().and_then(|data| data.get(ENTRY)).map(|key| key.0.len());
    let wrong = match length {
        Some(BYTES) => return Ok(()),
        Some(length) => format!("has {length} bytes under `{ENTRY}`"),
        None => format!("has nothing under `{ENTRY}`"),
    };
    anyhow::bail!("Secret `{SEAL_KEY}` {wrong}, and {BYTES} random bytes would be right: delete it for a new one")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_another_and_one_that_is_none_is_told_of() {
        let (one, two) = (made().unwrap(), made().unwrap());
        assert_ne!(one.data, two.data);
        check(&one).unwrap();
        let short = Secret { data: Some([(ENTRY.to_owned(), ByteString(vec![1; 5]))].into()), ..Secret::default() };
        let error = check(&short).unwrap_err().to_string();
        assert!(error.starts_with("Secret `relay-lkg-key` has 5 bytes under `key`"), "{error}");
        check(&Secret::default()).unwrap_err();
    }
}
