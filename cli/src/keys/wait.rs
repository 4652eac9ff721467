//! Waits until the operator and the fleet have done what was asked of them.

use std::time::Duration;

use clap::{ArgAction, Args};
use crds::Kind;
use kube::core::DynamicObject;
use table::ObjectRef;
use tokio::time::{Instant, sleep};

use crate::cluster::{self, Cluster, Said, Standing};

/// Pause between two looks at an object.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Whether to wait, and how long.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Patience {
    /// Waits until it is in effect; `--wait=false` does not
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = true,
          default_missing_value = "true", value_name = "BOOL")]
    pub(super) wait: bool,

    /// How long at most
    #[arg(long, default_value = "60s", value_parser = cluster::duration, value_name = "DURATION")]
    pub(super) timeout: Duration,
}

/// How an object is on its way.
pub(super) enum Step {
    /// It is there.
    Done,
    /// It may get there.
    Waiting,
    /// It will not get there by waiting, and why.
    Never(String),
}

/// What became of waiting.
pub(super) enum Waited {
    /// It is there, and this is the object.
    Done(Box<DynamicObject>),
    /// Nobody was asked to wait.
    Not,
    /// It is not there, and why.
    InVain(String),
}

impl Patience {
    /// Waits until an object is such. Whatever keeps from looking is told as a reason: what was asked for is done already.
    pub(super) async fn until(
        self,
        cluster: &Cluster,
        id: &ObjectRef,
        what: &str,
        step: impl Fn(&DynamicObject, &Said) -> Step,
    ) -> Waited {
        if !self.wait {
            return Waited::Not;
        }
        let begun = Instant::now();
        loop {
            let object = match cluster.get(Kind::RelayKey, id).await {
                Ok(object) => object,
                Err(fault) => return Waited::InVain(fault.to_string()),
            };
            let said = Said::of(&object);
            match step(&object, &said) {
                Step::Done => return Waited::Done(Box::new(object)),
                Step::Never(reason) => return Waited::InVain(reason),
                Step::Waiting if begun.elapsed() >= self.timeout => {
                    let timeout = self.timeout;
                    return Waited::InVain(format!("{what} within {timeout:?} (--timeout): {}", why(&said)));
                }
                Step::Waiting => sleep(LOOK_EVERY).await,
            }
        }
    }
}

/// What is in the way.
pub(super) fn why(said: &Said) -> String {
    match said.standing() {
        Standing::Ready => "nothing is in the way that is known".to_owned(),
        Standing::Off(why) | Standing::NotReady(why) => format!("{} {}: {}", why.condition, why.reason, why.message),
    }
}

/// What will not get better by waiting: the spec is refused, or names what is not there.
pub(super) fn is_refused(said: &Said) -> Option<String> {
    const FINAL: [&str; 2] = ["RefNotFound", "RefNotPermitted"];
    let resolved = said.fails("ResolvedRefs").filter(|condition| FINAL.contains(&condition.reason.as_str()));
    let condition = said.fails("Accepted").or(resolved)?;
    Some(format!("{}=False {}: {}", condition.type_, condition.reason, condition.message))
}
