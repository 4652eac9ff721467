//! Follows an operator: what arrives on its feed is put into effect, what cannot be used is named to it, and how this data
//! plane fares is reported. The last good table is kept sealed, so that a start needs no operator.
//!
//! Streams, digests and what is older than what is held are the business of `feed`.

mod apply;
mod copies;
mod report;
mod shared;
pub mod standing;

use std::{io, sync::Arc, time::SystemTime};

use anyhow::Context;
use feed::{
    client::{Client, Times},
    connect::{Connector, bundle_file, token_file},
    rows,
    store::Keeping,
};
use http::uri::Authority;
use rand::seq::SliceRandom;
use tokio::{
    net::{TcpStream, lookup_host},
    sync::watch,
};
use tracing::{info, warn};

use self::{
    copies::{Copies, Copy},
    standing::Standing,
};
use crate::{app::App, config::follow::FollowConfig, relay::Relay};

/// Follows an operator from now on until the data plane has stopped. A last good table is in effect when this returns.
/// Errs where settings are wrong; an operator that is away is waited for, and a copy that cannot be used is told of.
pub async fn start(app: &App, config: &FollowConfig) -> anyhow::Result<()> {
    let relay = app.relay.clone();
    let key = config.seal_key()?;
    let unusable = watch::Sender::default();
    let (applying, told) = (relay.clone(), unusable.clone());
    let apply = move |update| apply::apply(&applying, update, &told);
    let client = Client::new(config.about(), Times::default(), connector(config)?, apply);
    let mut client = client.naming(unusable.clone());
    let mut refused = Vec::new();
    if let Some(key) = key {
        let copies = Arc::new(Copies::new(config, &relay.config.redis)?);
        let (found, wrong) = copies.load(&key).await;
        refused = wrong;
        if let Some(copy) = found {
            (client, refused) = restored(client, copy, config, refused).await?;
        }
        for words in &refused {
            warn!("a copy of the last good table is not used: {words}");
        }
        client = client.keeping(Keeping::new(key, move |sealed| {
            let copies = copies.clone();
            Box::pin(async move { copies.save(sealed).await })
        }));
    }
    relay.follows(Standing::new(client.state(), refused, config.max_staleness));
    let stop = relay.drain.until_expired();
    relay.drain.tasks.spawn(apply::watch(relay.clone(), unusable, stop));
    spawn(&relay, client);
    Ok(())
}

/// Runs the client and its reports until all streams of applications have ended.
fn spawn(relay: &Arc<Relay>, client: Client) {
    let (reports, stop) = (client.reports(), relay.drain.until_expired());
    let tasks = &relay.drain.tasks;
    tasks.spawn(report::run(relay.clone(), reports, stop.clone()));
    tasks.spawn(client.run(stop));
}

/// The client with a copy in effect, on a thread that may block. A copy that is too old or cannot be put into effect is
/// added to those that are refused.
async fn restored(
    mut client: Client,
    copy: Copy,
    config: &FollowConfig,
    mut refused: Vec<String>,
) -> anyhow::Result<(Client, Vec<String>)> {
    let age = standing::age_of(copy.header.confirmed_ms, SystemTime::now());
    let fleet = rows::sealed_settings(&copy.body).and_then(|settings| settings.pods.max_staleness);
    if let Some(most) = standing::most(fleet, config.max_staleness).filter(|most| age > *most) {
        let (age, most) = (age.as_secs(), most.as_secs());
        let setting = match fleet {
            Some(_) => "push.maxStaleness of the DataPlane",
            None => "--max-staleness (RELAY_MAX_STALENESS)",
        };
        refused.push(format!("{}: it was confirmed {age} s ago, and {setting} allows {most} s", copy.place));
        return Ok((client, refused));
    }
    let restoring = tokio::task::spawn_blocking(move || {
        let done = client.restore(copy.header, copy.body);
        (client, copy.place, done)
    });
    let (client, place, done) = restoring.await.context("reading the last good table")?;
    match done {
        Ok(()) => info!(age_s = age.as_secs(), "the last good table is in effect, from {place}"),
        Err(refusal) => refused.push(format!("{place}: {refusal}")),
    }
    Ok((client, refused))
}

fn connector(config: &FollowConfig) -> anyhow::Result<Connector> {
    let operator = config.operator.clone();
    let dial = move || dial(operator.clone());
    let (trust, token) = (bundle_file(config.operator_ca.clone()), token_file(config.operator_token_file.clone()));
    Connector::new(config.server_name(), dial, trust, token).context("--operator-name (RELAY_OPERATOR_NAME)")
}

/// Dials one of an operator's addresses, in any order, so that replicas behind one name share the streams.
async fn dial(operator: Authority) -> io::Result<TcpStream> {
    let mut addresses: Vec<_> = lookup_host(operator.as_str()).await?.collect();
    addresses.shuffle(&mut rand::rng());
    let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, format!("`{operator}` has no address")));
    for address in addresses {
        outcome = TcpStream::connect(address).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
