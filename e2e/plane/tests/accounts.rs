//! Service accounts are real ones: their tokens are for whom they were asked for, and their roles are in force.

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus},
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use plane::Plane;

const AUDIENCE: &str = "relay.test";

/// What the API server says of a token.
async fn review(client: Client, token: &str, audience: &str) -> TokenReviewStatus {
    let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![audience.to_owned()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    let answer = Api::<TokenReview>::all(client).create(&PostParams::default(), &review).await;
    answer.expect("a review is answered").status.expect("an answer has a status")
}

#[tokio::test]
async fn a_bound_token_names_its_account_and_its_pod() {
    let Some(plane) = Plane::shared() else { return };
    let account = plane.service_account(&plane.namespace(), "dataplane").await;
    let pod = account.pod("dataplane-0").await;
    let token = account.bound_token(&pod, AUDIENCE).await;
    let status = review(plane.client().await, &token, AUDIENCE).await;
    assert_eq!((status.authenticated, &status.error), (Some(true), &None));
    assert_eq!(status.audiences, Some(vec![AUDIENCE.to_owned()]));
    let user = status.user.expect("who is known has a name");
    assert_eq!(user.username, Some(account.to_string()));
    let extra = user.extra.expect("a bound token says to what");
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], ["dataplane-0"]);
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], [pod.uid]);
}

#[tokio::test]
async fn a_bound_token_is_no_token_for_another_audience() {
    let Some(plane) = Plane::shared() else { return };
    let account = plane.service_account(&plane.namespace(), "dataplane").await;
    let token = account.bound_token(&account.pod("dataplane-0").await, AUDIENCE).await;
    let status = review(plane.client().await, &token, "another.test").await;
    assert_ne!(status.authenticated, Some(true));
    assert!(status.error.is_some_and(|error| error.contains("audience")));
}

#[tokio::test]
async fn tokens_for_the_api_server_and_for_others_do_not_stand_in_for_each_other() {
    let Some(plane) = Plane::shared() else { return };
    let account = plane.service_account(&plane.namespace(), "dataplane").await;
    let token = account.bound_token(&account.pod("dataplane-0").await, AUDIENCE).await;
    let kubeconfig = account.kubeconfig().await;
    let ask = |arguments: &[&str]| plane.try_kubectl(&kubeconfig, arguments, "");
    assert!(ask(&["get", "--raw=/api"]).is_ok());
    let refused = ask(&["get", "--raw=/api", "--token", &token]).expect_err("it is for somebody else");
    assert!(refused.contains("Unauthorized"), "{refused}");
    let status = review(plane.client().await, &account.token().await, AUDIENCE).await;
    assert_ne!(status.authenticated, Some(true));
}

#[tokio::test]
async fn a_bound_token_ends_with_its_pod() {
    let Some(plane) = Plane::shared() else { return };
    let namespace = plane.namespace();
    let account = plane.service_account(&namespace, "dataplane").await;
    let token = account.bound_token(&account.pod("dataplane-0").await, AUDIENCE).await;
    let pods: Api<Pod> = Api::namespaced(plane.client().await, &namespace);
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete("dataplane-0", &at_once).await.expect("a pod is deleted");
    let status = review(plane.client().await, &token, AUDIENCE).await;
    assert_ne!(status.authenticated, Some(true));
}

#[tokio::test]
async fn an_account_may_do_what_its_roles_let_it_do() {
    let Some(plane) = Plane::shared() else { return };
    let namespace = plane.namespace();
    let account = plane.service_account(&namespace, "reader").await;
    let maps: Api<ConfigMap> = Api::namespaced(account.client().await, &namespace);
    let refusal = maps.list(&ListParams::default()).await.expect_err("nothing is bound to it");
    assert!(
        refusal.to_string().contains(&format!("User \"{account}\" cannot list resource \"configmaps\"")),
        "{refusal}"
    );

    plane.kubectl(&["create", "role", "reader", "--verb=list", "--resource=configmaps", "-n", &namespace]);
    let subject = format!("--serviceaccount={namespace}:reader");
    plane.kubectl(&["create", "rolebinding", "reader", "--role=reader", &subject, "-n", &namespace]);
    assert!(maps.list(&ListParams::default()).await.is_ok());
    let ask = ["auth", "can-i", "create", "configmaps", "-n", &namespace];
    assert_eq!(plane.try_kubectl(&account.kubeconfig().await, &ask, ""), Err("no\n".to_owned()));
}
