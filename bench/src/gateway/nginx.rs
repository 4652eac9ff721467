//! nginx from Debian, as a plain reverse proxy with one process.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::Gateway;
use crate::{cores::Cores, process::Process};

const CONFIGURATION: &str = include_str!("nginx.conf");
const PATIENCE: Duration = Duration::from_secs(10);

/// Which nginx there is. Errs where there is none.
pub fn version() -> anyhow::Result<String> {
    let told = Command::new("nginx").arg("-v").output();
    let told = told.context("nginx is missing, beside which is measured: apt-get install nginx")?;
    // It says so on stderr, as `nginx version: nginx/1.22.1`.
    let text = String::from_utf8_lossy(&told.stderr);
    Ok(text.trim().rsplit('/').next().unwrap_or_default().to_owned())
}

pub(super) fn start(cores: Cores, directory: &Path, upstream: SocketAddr) -> anyhow::Result<Gateway> {
    version()?;
    let address = free_port()?;
    let directory = directory.join("nginx");
    fs::create_dir(&directory).context("making nginx's directory")?;
    let text = CONFIGURATION.replace("DIRECTORY", &directory.to_string_lossy());
    let text = text.replace("UPSTREAM", &upstream.to_string()).replace("LISTEN", &address.to_string());
    let path = directory.join("nginx.conf");
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    let mut command = cores.gateway("nginx");
    command.arg("-c").arg(&path).arg("-p").arg(&directory);
    let mut process = Process::start(command)?;
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        if !process.is_running() || begun.elapsed() > PATIENCE {
            bail!("nginx does not listen on {address}: what it said is above");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Gateway { address, process })
}

/// A port that is free now. nginx cannot choose one.
fn free_port() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?)
}
