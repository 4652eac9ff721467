//! On what was measured: facts without which a number says nothing.

use std::{env, fs, process::Command};

use crate::{cores::Cores, gateway};

/// What stands beside the numbers, each with its name. `is_given`: cargo did not build what is measured.
pub fn facts(cores: Cores, is_given: bool) -> anyhow::Result<Vec<(&'static str, String)>> {
    Ok(vec![
        ("processor", processor()),
        ("cores", format!("gateway {}, load and upstream {}, Redis {}", cores.gateway, cores.load, cores.redis)),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("nginx", gateway::nginx_version()?),
        ("Redis", version("redis-server", &["--version"])),
        ("Relay", version("git", &["describe", "--always", "--dirty"])),
        ("compiler", version("rustc", &["--version"])),
        ("profile", if is_given { "of a program that was built before (`--relay`)".to_owned() } else { profile() }),
        ("load average at the start", load_average().to_string()),
        ("date", jiff::Timestamp::now().strftime("%F").to_string()),
    ])
}

/// The load average of the last minute.
pub fn load_average() -> f64 {
    first_line("/proc/loadavg").split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let many = text.lines().filter(|line| line.starts_with("processor")).count();
    format!("{} ({many} cores)", name.unwrap_or("unknown"))
}

/// The profile of this program, with what the environment changes of it.
fn profile() -> String {
    let folder =
        env::current_exe().ok().and_then(|path| Some(path.parent()?.file_name()?.to_string_lossy().into_owned()));
    let mut changed: Vec<String> = env::vars()
        .filter_map(|(name, value)| Some(format!("{}={value}", name.strip_prefix("CARGO_PROFILE_")?)))
        .collect();
    changed.sort();
    let changed = if changed.is_empty() { "as in Cargo.toml".to_owned() } else { changed.join(" ") };
    format!("{}, {changed}", folder.unwrap_or_default())
}

fn version(program: &str, arguments: &[&str]) -> String {
    let told = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let text = told.map(|told| String::from_utf8_lossy(&told.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}
