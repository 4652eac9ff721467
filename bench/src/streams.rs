//! Many streams that are open and silent.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::sleep;

use crate::{client::Connection, load::Target};

/// How many are opened at the same time.
const AT_ONCE: usize = 50;

/// How long everything may take to be quiet.
const QUIET: Duration = Duration::from_millis(500);

/// Opens so many, each of which has had its first event. They close when they are dropped.
pub async fn open(target: &Target, many: usize) -> anyhow::Result<Vec<Connection>> {
    let one = |_| async {
        let mut connection = Connection::open(target.address).await?;
        connection.begin(&target.request).await?;
        anyhow::Ok(connection)
    };
    let streams = stream::iter(0..many).map(one).buffer_unordered(AT_ONCE).try_collect().await?;
    sleep(QUIET).await;
    Ok(streams)
}
