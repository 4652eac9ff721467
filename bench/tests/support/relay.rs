//! Relay within this process, so that what it does can be counted: the data plane as `relay run` builds it, over the
//! manifests of the measurements.

use std::{net::SocketAddr, sync::Arc};

use bench::gateway;
use clap::Parser;
use compiler::Resources;
use dataplane::{app, config::Config, meter::sinks::Target};
use serde_json::Value;
use table::{ObjectRef, Secret};

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    config: Config,
}

/// Starts one before an upstream, on the runtime of the caller. Says where it listens.
pub(crate) async fn start(upstream: SocketAddr) -> SocketAddr {
    let settings = Settings::parse_from(["relay", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let app = app::build(settings.config, Target::None).await.expect("free ports");
    let compilation = compiler::compile(&resources(&gateway::manifests(upstream)));
    app.installer().install(compilation.table, compilation.credentials);
    let address = app.listen;
    tokio::spawn(app.run(std::future::pending()));
    address
}

fn resources(manifests: &str) -> Resources {
    let mut resources = Resources::default();
    for document in serde_saphyr::from_multiple::<Value>(manifests).expect("the manifests are YAML") {
        let name = document["metadata"]["name"].as_str().expect("every object has a name");
        let id = ObjectRef::new("default", name);
        match document["kind"].as_str().expect("every object has a kind") {
            "Host" => drop(resources.hosts.insert(id, read(document))),
            "Model" => drop(resources.models.insert(id, read(document))),
            "HostKey" => drop(resources.host_keys.insert(id, read(document))),
            "RelayKey" => drop(resources.relay_keys.insert(id, read(document))),
            "Policy" => drop(resources.policies.insert(id, read(document))),
            "Secret" => {
                let texts = document["stringData"].as_object().expect("the Secret holds text");
                let text = |value: &Value| value.as_str().expect("the Secret holds text").as_bytes().to_vec();
                let data = texts.iter().map(|(key, value)| (key.clone(), Secret::new(text(value)))).collect();
                resources.secrets.insert(id, Arc::new(data));
            }
            other => panic!("the manifests have a `{other}`"),
        }
    }
    resources
}

fn read<T: serde::de::DeserializeOwned>(document: Value) -> T {
    serde_json::from_value(document).expect("the manifests are what the kinds say")
}
