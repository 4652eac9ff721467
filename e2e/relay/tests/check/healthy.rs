//! An installation in which nothing is wrong.

use plane::Plane;

use crate::installed::Installed;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_wrong_with_a_healthy_installation() {
    // No other installation may come and go meanwhile.
    let Some(plane) = Plane::start() else { return };
    let redis = servers::Redis::start();
    let installed = Installed::on(&plane, &["--redis", &redis.url()]).await;
    let url = format!("http://{}", installed.data_planes[0].address);
    installed.fails(&[], &[]).await;
    let said = installed.check(&["--read-secrets", "--request", "--relay-key", "app", "--url", &url]);
    println!("{}", said.text);
    assert_eq!(said.code, 0, "{}", said.text);
    let lines = [
        "√ Kubernetes v1.",
        "√ the definitions of hosts, models, hostkeys, relaykeys, policies, dataplanes are those of this program",
        "√ the operator has the version of this program",
        "√ `operator-0` leads",
        "rights of the operator where it watches",
        "names who vouches for operators, until",
        "has the key of the copies of the last good table",
        "√ 2 data planes are connected to an operator",
        "√ all 2 data planes of fleet `default` serve what was published last",
        "√ Redis is used by 2 data planes",
        "√ all 2 objects that name a Secret find their key in it (each was read)",
        "√ 2 HostKeys in effect",
        "answers a request for `",
        "Nothing is wrong: ",
    ];
    let missing: Vec<_> = lines.iter().filter(|line| !said.text.contains(*line)).collect();
    assert!(missing.is_empty(), "{missing:#?}\n{}", said.text);
    assert!(!said.text.contains('×') && !said.text.contains('‼'), "{}", said.text);
    assert!(!said.text.contains("sk-"), "{}", said.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_role_is_enough_and_opens_no_secret() {
    let Some(plane) = Plane::start() else { return };
    let installed = Installed::on(&plane, &[]).await;
    let namespace = &installed.site.namespace;
    let account = installed.site.plane.service_account(namespace, "relay-check").await;
    installed.site.apply(&installed.check(&["--rbac"]).text);
    let kubeconfig = account.kubeconfig().await;
    installed.fails(&[], &[]).await;
    let said = installed.check_as(&kubeconfig, &["-o", "json"]);
    assert_eq!((said.code, said.findings("failed").len(), said.findings("warning").len()), (0, 0, 0), "{}", said.text);
    let unseen: Vec<String> = said.findings("unseen").into_iter().map(|finding| finding.check).collect();
    assert_eq!(unseen, ["seal-key"], "{}", said.text);
    let read = installed.site.plane.try_kubectl(&kubeconfig, &["get", "secrets", "-n", namespace], "");
    assert!(read.is_err_and(|error| error.contains("forbidden")));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_do_nothing_is_told_what_would_be_needed_and_is_told_of_no_fault() {
    let Some(installed) = Installed::new().await else { return };
    let nobody = installed.site.plane.service_account(&installed.site.namespace, "nobody").await.kubeconfig().await;
    let said = installed.check_as(&nobody, &["-o", "json"]);
    assert_eq!((said.code, said.findings("failed").len()), (0, 0), "{}", said.text);
    let unseen = said.findings("unseen");
    let rights = ["deployments", "pods", "leases", "configmaps", "relaykeys"];
    let missing: Vec<_> = rights
        .iter()
        .filter(|plural| !unseen.iter().any(|finding| finding.message.contains(&format!("resources: [{plural}]"))))
        .collect();
    assert!(missing.is_empty(), "{missing:?} {unseen:#?}");
}
