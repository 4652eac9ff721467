//! What a failure of one key costs the request that meets it: the provider fails every tenth conversation, another key
//! answers, and what that took is held against the conversations that met no failure, in the same run.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::ensure;
use tokio::time::sleep;

use crate::{client::Connection, gateway::Gateways, requests, sample::Values};

/// A way to fail: what its values are called, the model whose provider does it, and how many conversations are had.
const WAYS: [(&str, &str, usize); 3] =
    [("500", "bench-fails", 600), ("429", "bench-limits", 600), ("hang", "bench-hangs", 150)];

/// Pause after a failure: keys that were told to wait come back meanwhile.
const WAIT: Duration = Duration::from_millis(100);

/// Conversations before anything is measured: connections open, pools fill.
const WARM: usize = 40;

/// One conversation after the other over one connection, for each way to fail.
pub async fn one_failure(gateways: &Gateways, address: SocketAddr, token: &str) -> anyhow::Result<Values> {
    let mut values = Values::default();
    for (way, model, many) in WAYS {
        let request = requests::openai_of("", model, token, false);
        let mut connection = Connection::open(address).await?;
        let (mut usual, mut again) = (Vec::new(), Vec::new());
        for n in 0..many + WARM {
            let (before, begun) = (gateways.upstream.conversations(), Instant::now());
            connection.ask(&request).await?;
            let (took, tries) = (begun.elapsed(), gateways.upstream.conversations() - before);
            match tries {
                1 if n >= WARM => usual.push(took),
                2 if n >= WARM => again.push(took),
                1 | 2 => {}
                other => anyhow::bail!("{other} keys were tried for one answer, where one in ten conversations fails"),
            }
            if tries == 2 {
                // A key that is told to wait is left alone for a while; not all may be.
                sleep(WAIT).await;
            }
        }
        ensure!(!usual.is_empty() && !again.is_empty(), "some conversations of `{model}` fail and others do not");
        let (usual, again) = (median(usual), median(again));
        values.put(&format!("usual_{way}_us"), usual);
        values.put(&format!("more_{way}_us"), again - usual);
    }
    Ok(values)
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}
