//! The settings of one operator process: each has a flag, an environment variable, a default and a unit in one place.

use std::{collections::BTreeSet, net::SocketAddr};

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

impl Config {
    /// The namespaces, where `default` is the one that the connection to the cluster says. The catalog's is always
    /// watched. Errs on a name that is none.
    pub fn namespaces(&self, default: &str) -> anyhow::Result<Namespaces> {
        let own = self.namespace.clone().unwrap_or_else(|| default.to_owned());
        let catalog = self.catalog_namespace.clone().unwrap_or_else(|| own.clone());
        let mut watched: BTreeSet<String> = self.watch_namespaces.iter().map(|name| name.trim().to_owned()).collect();
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
        Ok(Namespaces { own, catalog, watched })
    }
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
    fn a_name_that_is_none_is_refused() {
        let error = config(&["Team_A"], None).namespaces("relay-system").unwrap_err();
        assert!(error.to_string().starts_with("`Team_A` is not a namespace"), "{error}");
    }
}
