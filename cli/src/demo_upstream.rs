//! `relay demo-upstream`: the demo upstream as a process of its own.

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use dataplane::drain::Drain;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{
    demo::{Demo, DemoConfig},
    outcome::Outcome,
    signals::Signals,
};

/// How long streams may go on after a signal.
const GRACE: Duration = Duration::from_secs(5);

/// Serves a made-up provider of both wire shapes, for trying Relay without a key
///
/// Answers the same to the same request: it says the last message back, calls a tool when a city is named, fills in
/// schemas, and streams with pauses. It takes any credential but those that ask it to fail.
#[derive(Debug, Args)]
#[command(after_help = "\
Once it serves, the first line on stdout is `relay: demo upstream listening on http://ADDR`.

Examples:
  relay demo-upstream
  relay demo-upstream --listen 127.0.0.1:0 --delay 50ms")]
pub(crate) struct DemoUpstream {
    #[command(flatten)]
    config: DemoConfig,
}

impl DemoUpstream {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
        runtime.block_on(self.serve())?;
        Ok(Outcome::default())
    }

    async fn serve(self) -> anyhow::Result<()> {
        let signals = Signals::take().context("taking over signals")?;
        let demo = Demo::bind(&self.config).await.with_context(|| format!("listening on {}", self.config.listen))?;
        // Whoever closed stdout does not want to know.
        let _ = writeln!(io::stdout(), "relay: demo upstream listening on http://{}", demo.address);
        let drain = Drain::new();
        let serving = tokio::spawn(demo.serve(drain.clone()));
        signals.first().await;
        // The connections are counted by the demo itself.
        drain.run(watch::Sender::default().subscribe(), &TaskTracker::new()).await;
        let _ = tokio::time::timeout(GRACE, serving).await;
        Ok(())
    }
}
