//! Service accounts: what a program in a pod is to the API server. Roles bind them, and their tokens are real ones.

use std::{
    fmt,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount},
};
use kube::{Api, Client, api::PostParams};
use serde_json::{Value, json};

use crate::{Plane, kubeconfig, plane};

/// A service account. It may do nothing until a role is bound to it.
pub struct Account<'a> {
    plane: &'a Plane,
    /// Of the administrator: an account may not even ask for its own tokens.
    client: Client,
    namespace: String,
    name: String,
}

/// A Pod object without containers that run: enough for tokens to be bound to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodObject {
    /// Its name, in the namespace of its account.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Plane {
    /// Makes a service account, unless there is one of that name.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Account<'_> {
        let client = self.client().await;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let account = object(json!({"metadata": {"name": name}}));
        match accounts.create(&PostParams::default(), &account).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => panic!("a service account is not made: {error}"),
        }
        Account { plane: self, client, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl Account<'_> {
    /// Makes a Pod object that runs as this account.
    pub async fn pod(&self, name: &str) -> PodObject {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let spec =
            json!({"serviceAccountName": self.name, "containers": [{"name": "relay", "image": "relay.test/none"}]});
        let pod = object(json!({"metadata": {"name": name}, "spec": spec}));
        let pod = pods.create(&PostParams::default(), &pod).await.expect("a pod is made");
        PodObject { name: name.to_owned(), uid: pod.metadata.uid.expect("what is stored has a uid") }
    }

    /// A token for this audience that is good as long as the pod exists, an hour at most: what a projected volume holds.
    pub async fn bound_token(&self, pod: &PodObject, audience: &str) -> String {
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.clone()),
        };
        self.request(Some(vec![audience.to_owned()]), Some(bound)).await
    }

    /// A token for the API server itself, good for an hour.
    pub async fn token(&self) -> String {
        self.request(None, None).await
    }

    /// A kubeconfig file with such a token: whoever uses it may do what the roles of this account let it do.
    pub async fn kubeconfig(&self) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}", self.namespace, self.name);
        kubeconfig::bearer(self.plane.directory(), self.plane.cluster(), &name, &self.token().await)
    }

    /// A client that may do what the roles of this account let it do.
    pub async fn client(&self) -> Client {
        plane::client(&self.kubeconfig().await).await
    }

    async fn request(&self, audiences: Option<Vec<String>>, bound_object_ref: Option<BoundObjectReference>) -> String {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let spec = TokenRequestSpec { audiences, bound_object_ref, expiration_seconds: Some(3_600) };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let answer = accounts.create_token_request(&self.name, &PostParams::default(), &request).await;
        let status = answer.expect("a token is issued").status.expect("an answer has a status");
        status.token.expect("a token that is issued is there")
    }
}

/// The user name of the account, as in TokenReview and in RBAC.
impl fmt::Display for Account<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

fn object<T: k8s_openapi::serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("it is an object of its kind")
}
