//! Who a token belongs to: asked of the API server, and remembered for minutes.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use data_encoding::BASE64URL_NOPAD;
use feed::{
    fleet::{Bound, Identity},
    server::Denied,
};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::{Api, Client, api::PostParams};
use parking_lot::Mutex;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use table::Secret;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tracing::warn;

use super::metrics::{ReviewMetrics, Reviewed};

/// For so long an answer is remembered. A pod that is deleted keeps what it has anyway.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// So many answers are remembered.
const MOST: usize = 16_384;

/// So many are asked about at once: when all data planes come back at the same time, the others wait for their turn, and
/// the API server is asked over few connections.
const AT_ONCE: usize = 32;

/// Longest time that the API server may take.
const LIMIT: Duration = Duration::from_secs(10);

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Reviews tokens. A handle: clones share what is remembered.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    reviews: Api<TokenReview>,
    audience: String,
    places: Semaphore,
    /// By the hash of a token, so that no token stays in memory.
    known: Mutex<HashMap<[u8; 32], (Identity, Instant)>>,
    metrics: ReviewMetrics,
}

impl Tokens {
    /// Asks through `client`, for tokens that must be for `audience`.
    pub(super) fn new(client: Client, audience: impl Into<String>, metrics: ReviewMetrics) -> Self {
        let (reviews, audience) = (Api::all(client), audience.into());
        let (places, known) = (Semaphore::new(AT_ONCE), Mutex::default());
        Self(Arc::new(Inner { reviews, audience, places, known, metrics }))
    }

    /// Who a token belongs to. Refuses one that is for something else, and one that is bound to no pod.
    pub async fn identity(&self, token: &Secret<String>) -> Result<Identity, Denied> {
        let hash: [u8; 32] = Sha256::digest(token.expose().as_bytes()).into();
        if let Some(identity) = self.known(&hash) {
            return Ok(identity);
        }
        let begun = std::time::Instant::now();
        let count = |result| self.0.metrics.count(result, begun);
        let status = self.review(token).await.inspect_err(|_| count(Reviewed::Failed))?;
        let reviewed = identity(&status, &self.0.audience);
        count(if reviewed.is_ok() { Reviewed::Good } else { Reviewed::Refused });
        let expires = expiry(token.expose());
        let identity = Identity { expires, ..reviewed? };
        let left = expires.map_or(FRESH, |at| at.duration_since(SystemTime::now()).unwrap_or_default());
        self.remember(hash, identity.clone(), Instant::now() + left.min(FRESH));
        Ok(identity)
    }

    fn known(&self, hash: &[u8; 32]) -> Option<Identity> {
        let known = self.0.known.lock();
        known.get(hash).filter(|(_, until)| Instant::now() < *until).map(|(identity, _)| identity.clone())
    }

    fn remember(&self, hash: [u8; 32], identity: Identity, until: Instant) {
        let mut known = self.0.known.lock();
        if known.len() >= MOST {
            let now = Instant::now();
            known.retain(|_, (_, until)| now < *until);
        }
        if known.len() < MOST {
            known.insert(hash, (identity, until));
        }
    }

    async fn review(&self, token: &Secret<String>) -> Result<TokenReviewStatus, Denied> {
        let audiences = Some(vec![self.0.audience.clone()]);
        let spec = TokenReviewSpec { audiences, token: token.expose().clone() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let unavailable = || Denied::Unavailable("the API server does not say who the token belongs to".to_owned());
        let _place = self.0.places.acquire().await.map_err(|_| unavailable())?;
        let params = PostParams::default();
        let Ok(answer) = timeout(LIMIT, self.0.reviews.create(&params, &review)).await else {
            warn!("the API server did not review a token within {LIMIT:?}");
            return Err(unavailable());
        };
        let answer = answer.map_err(|error| {
            warn!(%error, "the API server did not review a token: {error}");
            unavailable()
        })?;
        answer.status.ok_or_else(unavailable)
    }
}

/// Who the API server says that a token belongs to.
fn identity(status: &TokenReviewStatus, audience: &str) -> Result<Identity, Denied> {
    let is_meant = status.audiences.iter().flatten().any(|known| known == audience);
    if status.authenticated != Some(true) || !is_meant {
        let words = format!("the token is unknown, expired or not for the audience `{audience}`");
        return Err(Denied::Unauthenticated(words));
    }
    let user = status.user.clone().unwrap_or_default();
    let account = user.username.as_deref().and_then(|name| name.strip_prefix("system:serviceaccount:"));
    let Some((namespace, service_account)) = account.and_then(|account| account.split_once(':')) else {
        return Err(Denied::Forbidden("the token is not of a service account".to_owned()));
    };
    let (Some(name), Some(uid)) = (extra(&user, POD_NAME), extra(&user, POD_UID)) else {
        return Err(Denied::Forbidden("the token is not bound to a pod: use a projected volume".to_owned()));
    };
    Ok(Identity {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        pod: Some(Bound { name, uid }),
        expires: None,
    })
}

fn extra(user: &UserInfo, key: &str) -> Option<String> {
    user.extra.as_ref()?.get(key)?.first().cloned()
}

/// When a token that was found to be good expires; absent where it does not say.
fn expiry(token: &str) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let claims = token.split('.').nth(1)?;
    let claims: Claims = serde_json::from_slice(&BASE64URL_NOPAD.decode(claims.as_bytes()).ok()?).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(claims.exp))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn review(change: impl FnOnce(&mut Value)) -> Result<Identity, Denied> {
        let mut status = json!({
            "authenticated": true,
            "audiences": ["push"],
            "user": {
                "username": "system:serviceaccount:relay:edge",
                "extra": {POD_NAME: ["edge-0"], POD_UID: ["uid-0"]},
            },
        });
        change(&mut status);
        identity(&serde_json::from_value(status).unwrap(), "push")
    }

    #[test]
    fn a_token_speaks_for_the_pod_that_it_is_bound_to() {
        let identity = review(|_| {}).unwrap();
        assert_eq!((identity.namespace.as_str(), identity.service_account.as_str()), ("relay", "edge"));
        assert_eq!(identity.pod, Some(Bound { name: "edge-0".into(), uid: "uid-0".into() }));
    }

    #[test]
    fn a_token_for_something_else_of_somebody_else_or_of_no_pod_is_refused() {
        let unauthenticated = |change: fn(&mut Value)| matches!(review(change), Err(Denied::Unauthenticated(_)));
        let forbidden = |change: fn(&mut Value)| matches!(review(change), Err(Denied::Forbidden(_)));
        assert!(unauthenticated(|status| status["authenticated"] = json!(false)));
        assert!(unauthenticated(|status| status["audiences"] = json!(["other"])));
        // A server that knows nothing of audiences says none.
        assert!(unauthenticated(|status| status["audiences"] = Value::Null));
        assert!(forbidden(|status| status["user"]["username"] = json!("admin")));
        assert!(forbidden(|status| status["user"]["extra"] = json!({POD_NAME: ["edge-0"]})));
    }

    #[test]
    fn the_expiry_is_read_from_the_claims() {
        let token = format!("e30.{}.sig", BASE64URL_NOPAD.encode(br#"{"exp":1700000000,"aud":["push"]}"#));
        assert_eq!(expiry(&token), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
        assert_eq!(expiry("opaque"), None);
    }
}
