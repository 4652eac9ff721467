//! Whether the operator's service account may do what the operator does, right by right, as the API server decides.

use std::collections::BTreeMap;

use crds::rights::{RIGHTS, Right, Scope};
use futures::{StreamExt, stream};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, api::PostParams};

use super::{
    finding::Finding,
    site::{self, Site},
};
use crate::cluster::{Cluster, Doing, Fault};

/// How many questions are open at the same time.
const AT_ONCE: usize = 16;

const CHECK: &str = "operator-rights";
const PAGE: &str = "docs/operator.md#rights";

/// One question: may this be done there? An absent namespace is the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    namespace: Option<String>,
    group: &'static str,
    resource: &'static str,
    name: Option<&'static str>,
    verb: &'static str,
}

pub(super) async fn findings(cluster: &Cluster, site: &Site) -> Vec<Finding> {
    if site.operator().is_none() {
        let said = "what the operator may do: it is not known as which service account it runs, and what it watches";
        return vec![Finding::unseen(CHECK, said)];
    }
    let questions = questions(site);
    let asked = questions.iter().map(|question| ask(cluster, site, question));
    let asked = stream::iter(asked.collect::<Vec<_>>());
    let answers: Vec<Result<bool, Fault>> = asked.buffered(AT_ONCE).collect().await;
    let mut missing: BTreeMap<Option<String>, Vec<&Question>> = BTreeMap::new();
    for (question, answer) in questions.iter().zip(answers) {
        match answer {
            Ok(true) => {}
            Ok(false) => missing.entry(question.namespace.clone()).or_default().push(question),
            Err(fault) => return vec![unknown(site, &fault)],
        }
    }
    if missing.is_empty() {
        return vec![all_given(site, questions.len())];
    }
    missing.iter().map(|(namespace, missing)| told(site, namespace.as_deref(), missing)).collect()
}

/// Everything that is asked, for the namespaces of this installation.
fn questions(site: &Site) -> Vec<Question> {
    let watched = site.watched();
    let mut trusting: Vec<String> = site.accounts().into_iter().map(|(namespace, _)| namespace).collect();
    trusting.extend(watched.iter().cloned().chain([site.namespace.clone()]));
    trusting.sort();
    trusting.dedup();
    let everywhere = vec![None];
    let places =
        |names: Vec<String>| if watched.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
    let mut all = Vec::new();
    for right in RIGHTS {
        let places = match right.scope {
            Scope::Cluster => everywhere.clone(),
            Scope::Own => vec![Some(site.namespace.clone())],
            Scope::Watched => places(watched.iter().cloned().collect()),
            Scope::Trusting => places(trusting.clone()),
        };
        for place in places {
            all.extend(of_right(right, place.as_ref()));
        }
    }
    all
}

fn of_right(right: &Right, namespace: Option<&String>) -> Vec<Question> {
    let names: Vec<Option<&'static str>> =
        if right.names.is_empty() { vec![None] } else { right.names.iter().copied().map(Some).collect() };
    let mut all = Vec::new();
    for resource in right.resources {
        for name in &names {
            all.extend(right.verbs.iter().map(|verb| Question {
                namespace: namespace.cloned(),
                group: right.group,
                resource,
                name: *name,
                verb,
            }));
        }
    }
    all
}

async fn ask(cluster: &Cluster, site: &Site, question: &Question) -> Result<bool, Fault> {
    let Question { namespace, group, resource, name, verb } = question;
    let (resource, subresource) = resource.split_once('/').map_or((*resource, None), |(all, sub)| (all, Some(sub)));
    let attributes = ResourceAttributes {
        namespace: namespace.clone(),
        group: Some((*group).to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(str::to_owned),
        name: name.map(str::to_owned),
        verb: Some((*verb).to_owned()),
        ..ResourceAttributes::default()
    };
    let own = &site.namespace;
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{own}"),
        "system:authenticated".to_owned(),
    ];
    let spec = SubjectAccessReviewSpec {
        user: Some(user(site)),
        groups: Some(groups.into()),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let api: Api<SubjectAccessReview> = Api::all(cluster.client.clone());
    let doing = Doing {
        verb: "create",
        group: "authorization.k8s.io",
        plural: "subjectaccessreviews",
        namespace: None,
        name: None,
    };
    let answer = cluster.ask(doing, api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

fn user(site: &Site) -> String {
    format!("system:serviceaccount:{}:{}", site.namespace, site.service_account())
}

fn unknown(site: &Site, fault: &Fault) -> Finding {
    if !site::is_forbidden(fault) {
        return Finding::failed(CHECK, fault.to_string());
    }
    let list = format!("kubectl auth can-i --list --as={} -n {}", user(site), site.namespace);
    Finding::unseen(CHECK, format!("what the operator may do: {fault}")).remedy(list).see(PAGE)
}

fn all_given(site: &Site, number: usize) -> Finding {
    let watched = site.watched();
    let place = match watched.len() {
        0 => "in all namespaces".to_owned(),
        _ => format!("where it watches ({})", watched.into_iter().collect::<Vec<_>>().join(", ")),
    };
    let account = format!("{}/{}", site.namespace, site.service_account());
    Finding::fine(CHECK, format!("service account `{account}` has all {number} rights of the operator {place}"))
}

fn told(site: &Site, namespace: Option<&str>, missing: &[&Question]) -> Finding {
    let place = namespace.map_or_else(|| "in the cluster".to_owned(), |name| format!("in namespace `{name}`"));
    let account = format!("{}/{}", site.namespace, site.service_account());
    let said = format!("service account `{account}` of the operator may not, {place}: {}", grouped(missing));
    Finding::failed(CHECK, said)
        .remedy(print(site))
        .hint("or `helm upgrade` with the namespace in `watchNamespaces`")
        .see(PAGE)
}

/// As `get, list secrets; create events.events.k8s.io`.
fn grouped(missing: &[&Question]) -> String {
    let mut by_resource: Vec<(String, Vec<&str>)> = Vec::new();
    for question in missing {
        let group = if question.group.is_empty() { String::new() } else { format!(".{}", question.group) };
        let name = question.name.map_or_else(String::new, |name| format!(" `{name}`"));
        let (resource, sub) = question.resource.split_once('/').unwrap_or((question.resource, ""));
        let sub = if sub.is_empty() { String::new() } else { format!("/{sub}") };
        let what = format!("{resource}{group}{sub}{name}");
        match by_resource.iter_mut().find(|(resource, _)| *resource == what) {
            Some((_, verbs)) => verbs.push(question.verb),
            None => by_resource.push((what, vec![question.verb])),
        }
    }
    let rights = by_resource.into_iter().map(|(what, verbs)| format!("{} {what}", verbs.join(", ")));
    rights.collect::<Vec<_>>().join("; ")
}

/// The command that gives it everything.
fn print(site: &Site) -> String {
    let watched = site.watched();
    let watched = if watched.is_empty() { "'*'".to_owned() } else { watched.into_iter().collect::<Vec<_>>().join(",") };
    let accounts: Vec<String> =
        site.accounts().into_iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
    format!(
        "relay-operator rbac --namespace {} --service-account {} --watch-namespaces {watched} --data-plane-accounts {} | \
         kubectl apply -f -",
        site.namespace,
        site.service_account(),
        accounts.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(watch: &str) -> Site {
        let container = serde_json::json!({"name": "x", "args": [format!("--watch-namespaces={watch}")]});
        let spec = serde_json::json!({"selector": {}, "template": {"spec": {"containers": [container]}}});
        let operator = serde_json::from_value(serde_json::json!({"metadata": {"name": "x"}, "spec": spec})).unwrap();
        Site { namespace: "own".to_owned(), operators: Ok(vec![operator]), data_planes: Ok(Vec::new()) }
    }

    fn places(of: &[Question], resource: &str, verb: &str) -> Vec<Option<String>> {
        let asked = of.iter().filter(|one| one.resource == resource && one.verb == verb && one.name.is_none());
        asked.map(|one| one.namespace.clone()).collect()
    }

    #[test]
    fn rights_are_asked_where_they_are_needed() {
        let questions = questions(&site("team-a"));
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(places(&questions, "secrets", "list"), [some("own"), some("team-a")]);
        assert_eq!(places(&questions, "dataplanes", "list"), [some("own")]);
        assert_eq!(places(&questions, "tokenreviews", "create"), [None]);
        assert_eq!(places(&self::questions(&site("*")), "secrets", "list"), [None]);
    }

    #[test]
    fn what_is_missing_is_told_once_for_each_resource() {
        let question = |resource, name, verb| Question { namespace: None, group: "", resource, name, verb };
        let missing =
            [question("secrets", None, "get"), question("secrets", None, "list"), question("leases", Some("x"), "get")];
        assert_eq!(grouped(&missing.iter().collect::<Vec<_>>()), "get, list secrets; get leases `x`");
    }
}
