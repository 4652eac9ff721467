//! Writes the definitions of all kinds into a directory: `cargo run -p relay-crds --example generate [DIR]`.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let checked_in = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("yaml");
    let dir = std::env::args_os().nth(1).map_or_else(checked_in, PathBuf::from);
    std::fs::create_dir_all(&dir)?;
    for kind in crds::Kind::ALL {
        std::fs::write(dir.join(crds::file_name(kind)), crds::yaml(kind))?;
    }
    Ok(())
}
