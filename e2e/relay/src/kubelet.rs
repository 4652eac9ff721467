//! What a kubelet does for pods: writes their tokens, the operator's CA bundle and the key of their
//! copies into files, before the program starts, and keeps them fresh.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Secret, ServiceAccount},
};
use kube::{Api, Client, api::PostParams};
use parking_lot::Mutex;
use plane::PodObject;
use tokio::{task::JoinHandle, time::Instant};

use crate::wait::until;

/// How long a token is asked for, and after how long it is replaced: at four fifths of that, as a kubelet does.
const TOKEN: Duration = Duration::from_secs(3_600);
const REPLACE: Duration = Duration::from_secs(2_880);

/// How often everything is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The ConfigMap and the Secret that the operator makes and data planes mount.
const BUNDLE: &str = "relay-push-ca";
const SEAL_KEY: &str = "relay-lkg-key";

pub(crate) struct Kubelet {
    client: Client,
    namespace: String,
    mounts: Mounts,
    tokens: Arc<Mutex<Vec<Token>>>,
    looking: JoinHandle<()>,
}

/// Files that all pods of a namespace share.
#[derive(Clone, Debug)]
pub(crate) struct Mounts {
    /// The authorities that vouch for operators.
    pub(crate) bundle: PathBuf,
    /// What copies of the last good table are sealed with.
    pub(crate) seal_key: PathBuf,
}

/// A token that is to be kept fresh.
#[derive(Clone)]
struct Token {
    namespace: String,
    account: String,
    pod: BoundObjectReference,
    audience: String,
    file: PathBuf,
    asked: Instant,
}

impl Kubelet {
    /// Looks after pods of a namespace with an administrator's rights: the real one has a right of its own for tokens.
    pub(crate) fn start(client: Client, namespace: &str, directory: &Path) -> Self {
        let mounts = Mounts { bundle: directory.join("ca.crt"), seal_key: directory.join("seal.key") };
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let looking = look(client.clone(), namespace.to_owned(), mounts.clone(), tokens.clone());
        let (namespace, looking) = (namespace.to_owned(), tokio::spawn(looking));
        Self { client, namespace, mounts, tokens, looking }
    }

    /// The files that all pods share, once they are there: a kubelet starts no container before.
    pub(crate) async fn mounts(&self) -> Mounts {
        let Mounts { bundle, seal_key } = &self.mounts;
        let are_there = async || (bundle.exists() && seal_key.exists()).then_some(());
        until("the operator makes what data planes mount", are_there).await;
        self.mounts.clone()
    }

    /// Writes a token of a pod into a file, and keeps it fresh from now on.
    pub(crate) async fn token(&self, account: &str, pod: &PodObject, audience: &str, file: &Path) {
        self.token_in(&self.namespace, account, pod, audience, file).await;
    }

    /// As [`token`](Self::token), of a pod of another namespace.
    pub(crate) async fn token_in(&self, namespace: &str, account: &str, pod: &PodObject, audience: &str, file: &Path) {
        let pod = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
        };
        let (namespace, account) = (namespace.to_owned(), account.to_owned());
        let (audience, file) = (audience.to_owned(), file.to_owned());
        let token = Token { namespace, account, pod, audience, file, asked: Instant::now() };
        token.write(&self.client).await.expect("a token is issued");
        self.tokens.lock().push(token);
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

async fn look(client: Client, namespace: String, mounts: Mounts, tokens: Arc<Mutex<Vec<Token>>>) {
    let bundles: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    loop {
        // While the API server is away, what was written stays.
        let bundle = bundles.get_opt(BUNDLE).await.ok().flatten();
        if let Some(text) = bundle.and_then(|bundle| bundle.data?.remove("ca.crt")) {
            replace(&mounts.bundle, text.as_bytes()).expect("the site's folder is writable");
        }
        let seal_key = secrets.get_opt(SEAL_KEY).await.ok().flatten();
        if let Some(bytes) = seal_key.and_then(|secret| secret.data?.remove("key")) {
            replace(&mounts.seal_key, &bytes.0).expect("the site's folder is writable");
        }
        let due = tokens.lock().iter().position(|token| token.asked.elapsed() > REPLACE);
        if let Some(due) = due {
            let token = tokens.lock()[due].clone();
            if token.write(&client).await.is_ok() {
                tokens.lock()[due].asked = Instant::now();
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Token {
    async fn write(&self, client: &Client) -> Result<(), kube::Error> {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &self.namespace);
        let spec = TokenRequestSpec {
            audiences: Some(vec![self.audience.clone()]),
            bound_object_ref: Some(self.pod.clone()),
            expiration_seconds: i64::try_from(TOKEN.as_secs()).ok(),
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let answer = accounts.create_token_request(&self.account, &PostParams::default(), &request).await?;
        let token = answer.status.expect("an answer has a status").token.expect("a token that is issued is there");
        replace(&self.file, token.as_bytes()).expect("the site's folder is writable");
        Ok(())
    }
}

/// At once: whoever reads the file sees all of the old or all of the new.
fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(file).is_ok_and(|written| written == bytes) {
        return Ok(());
    }
    let new = file.with_extension("new");
    fs::write(&new, bytes)?;
    fs::rename(new, file)
}
