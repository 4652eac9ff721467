//! The settings of one operator process: each has a flag, an environment variable, a default and a unit in one place.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use rustls_pki_types::ServerName;

use crate::{
    leading,
    push::{
        self, authority,
        peers::{self, Advertise},
    },
};

/// What the operator watches, and where it can be asked how it is.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Namespace that the operator lives in [default: the one of the service account or of the kubeconfig]
    #[arg(long, env = "RELAY_OPERATOR_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,

    /// Namespaces that are watched, separated by commas; `*` stands for all [default: the operator's own]
    #[arg(long, env = "RELAY_WATCH_NAMESPACES", value_name = "NAMES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,

    /// Namespace whose Models every relay key sees after those of its own [default: the operator's own]
    #[arg(long, env = "RELAY_CATALOG_NAMESPACE", value_name = "NAME")]
    pub catalog_namespace: Option<String>,

    /// Where health, metrics and the table are served; port 0 picks a free one
    #[arg(long, env = "RELAY_ADMIN", default_value = "127.0.0.1:9091", value_name = "ADDR")]
    pub admin: SocketAddr,

    /// Where data planes connect; port 0 picks a free one
    #[arg(long, env = "RELAY_PUSH", default_value = "0.0.0.0:9443", value_name = "ADDR")]
    pub push: SocketAddr,

    /// Names under which data planes reach the push port, separated by commas [default: those of a Service
    /// `relay-operator` in the operator's namespace]
    #[arg(long, env = "RELAY_PUSH_NAMES", value_name = "NAMES", value_delimiter = ',')]
    pub push_names: Vec<String>,

    /// Service accounts whose pods are data planes, as `namespace/name`, or as `name` in the operator's namespace,
    /// separated by commas. They are given provider credentials
    #[arg(
        long,
        env = "RELAY_DATA_PLANE_ACCOUNTS",
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "relay-dataplane"
    )]
    pub data_plane_accounts: Vec<String>,

    /// Serves pods of watched namespaces with the label `llmrelay.io/inject: enabled` what is their namespace's own, whatever
    /// their service account
    #[arg(long, env = "RELAY_SIDECARS")]
    pub sidecars: bool,

    /// Names under which sidecars reach the shared data planes, separated by commas: for these a certificate is kept in
    /// Secret `relay-serving`, signed as that of the push port is [default: none is made]
    #[arg(long, env = "RELAY_SERVING_NAMES", value_name = "NAMES", value_delimiter = ',')]
    pub serving_names: Vec<String>,

    /// How long data planes may take to go to another replica at the end, in seconds
    #[arg(long, env = "RELAY_PUSH_GRACE_SECONDS", value_name = "SECONDS", default_value_t = 10)]
    pub push_grace_seconds: u64,

    /// Name of this replica, for people: its pod's [default: the host's name]
    #[arg(long, env = "RELAY_POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// File with a token of the operator's own service account for the audience `relay-peer.llmrelay.io`, as a projected
    /// volume has it: by it replicas tell the one that writes what their data planes hold [default: they do not]
    #[arg(long, env = "RELAY_PEER_TOKEN_FILE", value_name = "FILE")]
    pub peer_token_file: Option<PathBuf>,

    /// Where other replicas reach the push port of this one, as `IP` or `IP:PORT` [default: the address that it listens
    /// on, or the environment variable POD_IP where that is every address]
    #[arg(long, env = "RELAY_ADVERTISE", value_name = "ADDR", value_parser = advertise)]
    pub advertise: Option<Advertise>,

    /// How replicas agree on which of them writes.
    #[command(flatten)]
    pub leading: leading::Settings,

    /// Lifetimes of the push port's certificates; no flag, because the defaults suit everybody but tests.
    #[arg(skip)]
    pub push_times: authority::Times,
}

/// Which namespaces are watched, and which is what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespaces {
    /// The operator's own.
    pub own: String,
    /// The one whose Models all see.
    pub catalog: String,
    /// Those that are watched; an empty name alone stands for all.
    pub watched: BTreeSet<String>,
}

impl Namespaces {
    /// Those of an operator of the namespace `own`: `watch` as it was asked for, `*` for all, and its own where it is
    /// empty. The catalog's is always watched. Errs on a name that is none.
    pub fn new(own: String, catalog: Option<String>, watch: &[String]) -> anyhow::Result<Self> {
        let catalog = catalog.unwrap_or_else(|| own.clone());
        let mut watched: BTreeSet<String> = watch.iter().map(|name| name.trim().to_owned()).collect();
        watched.retain(|name| !name.is_empty());
        for name in watched.iter().filter(|name| *name != "*").chain([&own, &catalog]) {
            anyhow::ensure!(
                is_namespace(name),
                "`{name}` is not a namespace: write lower-case letters, digits and `-`, or `*` for all"
            );
        }
        if watched.contains("*") {
            watched = [String::new()].into();
        } else {
            if watched.is_empty() {
                watched.insert(own.clone());
            }
            watched.insert(catalog.clone());
        }
        Ok(Self { own, catalog, watched })
    }

    /// Whether a namespace is watched.
    pub fn is_watched(&self, name: &str) -> bool {
        self.watched.contains("") || self.watched.contains(name)
    }
}

/// Service accounts by namespace and name, each written as `namespace/name`, or as `name` in the namespace `own`. Errs on
/// one that is none.
pub fn accounts(own: &str, written: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let accounts = written.iter().map(|account| {
        let (namespace, name) = account.trim().split_once('/').unwrap_or((own, account.trim()));
        anyhow::ensure!(
            is_namespace(namespace) && !name.is_empty() && !name.contains(['/', '*']),
            "`{account}` is not a service account (setting `--data-plane-accounts`): write `namespace/name` or `name`"
        );
        Ok((namespace.to_owned(), name.to_owned()))
    });
    accounts.collect()
}

impl Config {
    /// The namespaces, where `default` is the one that the connection to the cluster says. Errs on a name that is none.
    pub fn namespaces(&self, default: &str) -> anyhow::Result<Namespaces> {
        let own = self.namespace.clone().unwrap_or_else(|| default.to_owned());
        Namespaces::new(own, self.catalog_namespace.clone(), &self.watch_namespaces)
    }

    /// The name of this replica.
    pub fn replica(&self) -> String {
        let host = || std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned());
        let name = self.pod_name.clone().or_else(host).filter(|name| !name.is_empty());
        name.unwrap_or_else(|| "relay-operator".to_owned())
    }

    /// Where other replicas reach this one. Errs where they have a token to show and nowhere to go.
    fn advertised(&self) -> anyhow::Result<Option<Advertise>> {
        let listened = Some(self.push.ip()).filter(|ip| !ip.is_unspecified());
        let pod = std::env::var("POD_IP").ok().and_then(|ip| ip.parse().ok());
        let found = self.advertise.or(listened.or(pod).map(|ip| Advertise { ip, port: None }));
        anyhow::ensure!(
            found.is_some() || self.peer_token_file.is_none(),
            "`--peer-token-file` is set, and it is not known where other replicas reach this one: set `--advertise` to the \
             IP address of its pod"
        );
        Ok(found)
    }

    /// How tables are pushed by an operator of these namespaces. Errs on a service account that is none.
    pub fn push(&self, namespaces: &Namespaces) -> anyhow::Result<push::Settings> {
        let own = &namespaces.own;
        let mut names = self.push_names.clone();
        if names.is_empty() {
            names = ["svc", "svc.cluster.local"].map(|end| format!("relay-operator.{own}.{end}")).into();
        }
        Ok(push::Settings {
            address: self.push,
            names,
            namespaces: namespaces.clone(),
            accounts: accounts(own, &self.data_plane_accounts)?,
            sidecars: self.sidecars,
            serving_names: serving_names(&self.serving_names)?,
            server_id: self.replica(),
            peers: peers::Settings { token_file: self.peer_token_file.clone(), advertise: self.advertised()? },
            grace: Duration::from_secs(self.push_grace_seconds),
            times: self.push_times,
        })
    }
}

/// Errs on a name that no certificate can be for.
fn serving_names(written: &[String]) -> anyhow::Result<Vec<String>> {
    let names = written.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
    let checked = names.map(|name| {
        anyhow::ensure!(
            ServerName::try_from(name).is_ok(),
            "`{name}` is not the name of a server (setting `--serving-names`): write one as `relay.relay-system.svc`"
        );
        Ok(name.to_owned())
    });
    checked.collect()
}

fn advertise(text: &str) -> Result<Advertise, String> {
    let ip = text.parse::<IpAddr>().ok().map(|ip| Advertise { ip, port: None });
    let socket = text.parse::<SocketAddr>().ok().map(|at| Advertise { ip: at.ip(), port: Some(at.port()) });
    ip.or(socket)
        .filter(|found| !found.ip.is_unspecified() && found.port != Some(0))
        .ok_or_else(|| "write an address that others can reach, such as `10.0.0.7` or `10.0.0.7:9443`".to_owned())
}

fn is_namespace(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(fits) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(watch: &[&str], catalog: Option<&str>) -> Config {
        Config {
            namespace: None,
            watch_namespaces: watch.iter().map(|name| (*name).to_owned()).collect(),
            catalog_namespace: catalog.map(str::to_owned),
            admin: ([127, 0, 0, 1], 0).into(),
            push: ([127, 0, 0, 1], 0).into(),
            push_names: Vec::new(),
            data_plane_accounts: vec!["relay-dataplane".to_owned()],
            sidecars: false,
            serving_names: Vec::new(),
            push_grace_seconds: 10,
            pod_name: None,
            peer_token_file: None,
            advertise: None,
            leading: leading::Settings::default(),
            push_times: Default::default(),
        }
    }

    fn watched(watch: &[&str], catalog: Option<&str>) -> Vec<String> {
        config(watch, catalog).namespaces("relay-system").unwrap().watched.into_iter().collect()
    }

    #[test]
    fn only_its_own_namespace_is_watched_unless_more_is_asked_for() {
        assert_eq!(watched(&[], None), ["relay-system"]);
        assert_eq!(watched(&["team-a", " team-b "], None), ["relay-system", "team-a", "team-b"]);
        assert_eq!(watched(&["team-a"], Some("shared")), ["shared", "team-a"]);
        assert_eq!(watched(&["team-a", "*"], None), [""]);
    }

    #[test]
    fn service_accounts_are_of_the_own_namespace_unless_they_say_another() {
        let mut config = config(&[], None);
        config.data_plane_accounts = vec!["edge".to_owned(), "team-a/relay".to_owned()];
        let namespaces = config.namespaces("relay-system").unwrap();
        let push = config.push(&namespaces).unwrap();
        let wanted = [("relay-system", "edge"), ("team-a", "relay")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(push.accounts, wanted);
        assert_eq!(push.names[0], "relay-operator.relay-system.svc");
        config.data_plane_accounts = vec!["team-a/*".to_owned()];
        let error = config.push(&namespaces).unwrap_err();
        assert!(error.to_string().starts_with("`team-a/*` is not a service account"), "{error}");
    }

    #[test]
    fn other_replicas_are_told_an_address_that_they_can_reach() {
        let mut config = config(&[], None);
        let namespaces = config.namespaces("relay-system").unwrap();
        let advertised = |config: &Config| config.push(&namespaces).unwrap().peers.advertise;
        let at = |ip: &str, port| Some(Advertise { ip: ip.parse().unwrap(), port });
        assert_eq!(advertised(&config), at("127.0.0.1", None), "where it listens");
        config.advertise = Some(advertise("[fd00::7]:9444").unwrap());
        assert_eq!(advertised(&config), at("fd00::7", Some(9444)));
        for wrong in ["0.0.0.0", "relay-operator", "10.0.0.7:0"] {
            assert!(advertise(wrong).unwrap_err().contains("such as `10.0.0.7`"), "{wrong}");
        }
    }

    #[test]
    fn a_name_of_the_shared_data_planes_that_is_none_is_refused() {
        let mut config = config(&[], None);
        let namespaces = config.namespaces("relay-system").unwrap();
        config.serving_names = vec![" relay.relay-system.svc".to_owned(), String::new()];
        assert_eq!(config.push(&namespaces).unwrap().serving_names, ["relay.relay-system.svc"]);
        config.serving_names.push("https://relay".to_owned());
        let error = config.push(&namespaces).unwrap_err();
        assert!(error.to_string().starts_with("`https://relay` is not the name of a server"), "{error}");
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let error = config(&["Team_A"], None).namespaces("relay-system").unwrap_err();
        assert!(error.to_string().starts_with("`Team_A` is not a namespace"), "{error}");
    }
}
