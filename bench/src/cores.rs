//! Which core does what: the gateway one, the load and the upstream another, Redis a third where there is one.

use std::{ffi::OsStr, process::Command, str::FromStr};

use anyhow::{Context, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// Of the gateway that is measured.
    pub gateway: usize,
    /// Of the load and the upstream: this process.
    pub load: usize,
    /// Of Redis.
    pub redis: usize,
}

impl Cores {
    /// The first cores that this process may use.
    pub fn of_this_machine() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None).context("asking which cores may be used")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let (Some(gateway), Some(load)) = (cores.next(), cores.next()) else {
            anyhow::bail!("a measurement needs two cores: one for the gateway, one for the load");
        };
        Ok(Self { gateway, load, redis: cores.next().unwrap_or(load) })
    }

    /// Binds this process to the core of the load. Threads and programs that it starts from now on inherit that.
    pub fn pin_load(self) -> anyhow::Result<()> {
        let mut cores = CpuSet::new();
        cores.set(self.load);
        sched_setaffinity(None, &cores).with_context(|| format!("binding the load to core {}", self.load))
    }

    /// A program on the gateway's core, which ends with this process whatever ends that.
    pub fn gateway(self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "taskset", "-c", &self.gateway.to_string()]).arg(program);
        command
    }
}

impl FromStr for Cores {
    type Err = anyhow::Error;

    /// Reads `GATEWAY,LOAD` or `GATEWAY,LOAD,REDIS`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let cores: Result<Vec<usize>, _> = text.split(',').map(str::parse).collect();
        let cores = cores.unwrap_or_default();
        ensure!(
            matches!(cores.len(), 2 | 3) && cores[0] != cores[1] && cores.iter().all(|core| *core < CpuSet::MAX_CPU),
            "`{text}` does not name cores: write the gateway's, the load's and, where there is one, that of Redis, as `0,1,2`"
        );
        Ok(Self { gateway: cores[0], load: cores[1], redis: *cores.get(2).unwrap_or(&cores[1]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_shares_the_core_of_the_load_where_there_is_no_third() {
        assert_eq!("2,3".parse::<Cores>().unwrap(), Cores { gateway: 2, load: 3, redis: 3 });
        assert_eq!("2,3,0".parse::<Cores>().unwrap(), Cores { gateway: 2, load: 3, redis: 0 });
    }

    #[test]
    fn what_names_no_cores_is_refused() {
        for text in ["", "1", "1,1", "a,b", "0,1,2,3", "0,99999"] {
            assert!(text.parse::<Cores>().is_err(), "{text}");
        }
    }
}
