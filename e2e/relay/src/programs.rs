//! The programs that are run: built by cargo when a test process first asks, so that they are never older than the code.

use std::{
    env,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use cargo_metadata::Message;

/// Where the programs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// `relay-operator`
    pub operator: PathBuf,
    /// `relay-dataplane`
    pub data_plane: PathBuf,
    /// `relay`
    pub relay: PathBuf,
}

impl Programs {
    /// Those of this workspace, in the profile in which the tests were built; or those in the folder that
    /// RELAY_E2E_PROGRAMS names, such as `target/release`, from the top of the workspace.
    pub fn built() -> &'static Self {
        static BUILT: OnceLock<Programs> = OnceLock::new();
        BUILT.get_or_init(|| env::var_os("RELAY_E2E_PROGRAMS").map_or_else(build, |folder| within(Path::new(&folder))))
    }
}

fn within(folder: &Path) -> Programs {
    // Cargo runs tests in the folder of their crate.
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(folder);
    let named = |name: &str| {
        let path = folder.join(name);
        path.canonicalize().unwrap_or_else(|error| panic!("RELAY_E2E_PROGRAMS: {}: {error}", path.display()))
    };
    Programs { operator: named("relay-operator"), data_plane: named("relay-dataplane"), relay: named("relay") }
}

fn build() -> Programs {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    // A whole workspace and one test of it: dependencies then have the features that `cargo test --workspace` gives them,
    // and what that has built is taken as it is. This test is the smallest that there is.
    command.args(["build", "--quiet", "--locked", "--workspace", "--bins", "--test", "layering"]);
    command.args(["--message-format=json-render-diagnostics", "--profile", &profile()]);
    let mut cargo = command.stdout(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let output = cargo.stdout.take().expect("its output is a pipe");
    let mut programs = Vec::new();
    for message in Message::parse_stream(BufReader::new(output)) {
        if let Message::CompilerArtifact(artifact) = message.expect("cargo's output is read")
            && artifact.target.is_bin()
        {
            programs.extend(artifact.executable.map(|path| (artifact.target.name, path.into_std_path_buf())));
        }
    }
    assert!(cargo.wait().expect("a child is waited for").success(), "the programs are not built: {command:?}");
    let named = |name: &str| {
        let found = programs.iter().find(|(built, _)| built == name);
        found.map(|(_, path)| path.clone()).unwrap_or_else(|| panic!("cargo built no `{name}`: {programs:?}"))
    };
    Programs { operator: named("relay-operator"), data_plane: named("relay-dataplane"), relay: named("relay") }
}

/// The profile of this test: cargo puts it into `<profile>/deps`.
fn profile() -> String {
    let test = env::current_exe().expect("a process knows its program");
    let folder = test.parent().and_then(Path::parent).and_then(Path::file_name);
    match folder.expect("cargo puts tests into folders").to_string_lossy().as_ref() {
        "debug" => "dev".to_owned(),
        other => other.to_owned(),
    }
}
