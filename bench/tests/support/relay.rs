//! Relay within this process, so that what it does can be counted: the data plane as `relay run` builds it, over the
//! manifests of the measurements.

use std::net::SocketAddr;

use bench::gateway;
use clap::Parser;
use dataplane::{app, config::Config, meter::sinks::Target};

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    config: Config,
}

/// Starts one before an upstream, on the runtime of the caller. Says where it listens.
pub(crate) async fn start(upstream: SocketAddr) -> SocketAddr {
    let settings = Settings::parse_from(["relay", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let app = app::build(settings.config, Target::None).await.expect("free ports");
    let compilation = compiler::compile(&gateway::resources(upstream).expect("the manifests are good"));
    app.installer().install(compilation.table, compilation.credentials);
    let address = app.listen;
    tokio::spawn(app.run(std::future::pending()));
    address
}
