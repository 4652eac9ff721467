//! Who the masters are now: asks the sentinels, or the nodes of the cluster, all at once, and believes the newest answer.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use redis_client::{Value, pipe};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    error::StoreError, greeting::Credentials, line::Line, opener::Opener, reply, slots::Chart, target::Address,
};

/// How much longer than the first answer the others are waited for. They may know more, or be gone without a trace.
const OTHERS: Duration = Duration::from_millis(50);

/// Where the master that the sentinels watch under a name may be, the likeliest place first.
pub(super) async fn masters(opener: &Opener, name: &str) -> Result<Vec<Address>, StoreError> {
    let asked = opener.target.nodes.iter().map(|sentinel| ask_sentinel(opener, sentinel, name));
    let mut answers = answers(asked).await?;
    answers.sort_by_key(|answer| std::cmp::Reverse(answer.epoch));
    let promoted: Vec<_> = answers.iter().filter_map(|answer| answer.promoted.clone()).collect();
    let master = answers.into_iter().next().map(|answer| answer.master);
    Ok(promoted.into_iter().chain(master).collect())
}

/// What a sentinel knows.
struct Watched {
    epoch: u64,
    master: Address,
    /// The replica that is becoming the master. The sentinel that leads a failover knows it long before the others, and
    /// long before it calls it the master.
    promoted: Option<Address>,
}

async fn ask_sentinel(opener: &Opener, sentinel: &Address, name: &str) -> Result<Watched, StoreError> {
    let mut commands = pipe();
    commands.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    commands.cmd("SENTINEL").arg("MASTER").arg(name);
    commands.cmd("SENTINEL").arg("REPLICAS").arg(name);
    let mut heard = opener.ask(sentinel, &Credentials::default(), &commands).await?;
    if heard.iter().any(wants_credentials) {
        // Sentinels have users of their own; that theirs are ours is the best guess there is.
        let credentials = Credentials { database: 0, ..opener.credentials().await? };
        heard = opener.ask(sentinel, &credentials, &commands).await?;
    }
    let [address, details, replicas] = heard.as_slice() else {
        return Err(StoreError::Refused(format!("sentinel {sentinel} gave {} answers", heard.len())));
    };
    if let Value::ServerError(error) = address {
        return Err(reply::failure(error));
    }
    let unknown = || StoreError::Refused(format!("sentinel {sentinel} watches no master `{name}`"));
    let epoch = reply::named(details, "config-epoch").and_then(|epoch| epoch.parse().ok());
    Ok(Watched {
        master: reply::address(address).ok_or_else(unknown)?,
        epoch: epoch.ok_or_else(unknown)?,
        promoted: reply::promoted(replicas),
    })
}

fn wants_credentials(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOAUTH")
}

/// What the cluster looks like. Asks over the lines that are open, and the named nodes where none answers.
pub(super) async fn chart(opener: &Opener, lines: &[Arc<Line>]) -> Result<Chart, StoreError> {
    let open = lines.iter().filter(|line| line.is_alive());
    let known = answers(open.map(|line| ask_line(opener, line))).await.unwrap_or_default();
    if let Some(newest) = newest(known) {
        return Ok(newest);
    }
    let credentials = opener.credentials().await?;
    let named = opener.target.nodes.iter().map(|node| ask_node(opener, node, &credentials));
    newest(answers(named).await?).ok_or_else(|| StoreError::Lost("no node of the cluster answered".to_owned()))
}

fn newest(charts: Vec<Chart>) -> Option<Chart> {
    charts.into_iter().max_by_key(|chart| chart.epoch)
}

async fn ask_line(opener: &Opener, line: &Line) -> Result<Chart, StoreError> {
    let heard = timeout(opener.target.timeout, line.send_all(&chart_commands())).await;
    read_chart(&heard.map_err(|_| StoreError::Timeout)??, line.address())
}

async fn ask_node(opener: &Opener, node: &Address, credentials: &Credentials) -> Result<Chart, StoreError> {
    read_chart(&opener.ask(node, credentials, &chart_commands()).await?, node)
}

fn chart_commands() -> redis_client::Pipeline {
    let mut commands = pipe();
    commands.cmd("CLUSTER").arg("INFO");
    commands.cmd("CLUSTER").arg("SLOTS");
    commands
}

fn read_chart(heard: &[Value], from: &Address) -> Result<Chart, StoreError> {
    match heard {
        [info, slots] => reply::chart(info, slots, from),
        _ => Err(StoreError::Refused(format!("node {from} gave {} answers", heard.len()))),
    }
}

/// The good answers, or the first error where there is none.
async fn answers<T>(
    asked: impl Iterator<Item = impl Future<Output = Result<T, StoreError>>>,
) -> Result<Vec<T>, StoreError> {
    let mut asked: FuturesUnordered<_> = asked.collect();
    let (mut good, mut bad, mut until) = (Vec::new(), None, None);
    loop {
        let next = match until {
            None => asked.next().await,
            Some(until) => timeout_at(until, asked.next()).await.unwrap_or(None),
        };
        match next {
            Some(Ok(answer)) => {
                good.push(answer);
                until.get_or_insert_with(|| Instant::now() + OTHERS);
            }
            Some(Err(error)) => drop(bad.get_or_insert(error)),
            None if good.is_empty() => return bad.map_or(Ok(good), Err),
            None => return Ok(good),
        }
    }
}
