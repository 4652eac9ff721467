//! `relay seal`: provider credentials that only data planes can open. A credential is read from stdin or a file, never from
//! the command line, and leaves this process sealed alone.

mod key;
mod patch;
mod rewrap;

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use crds::Kind;
use dataplane::{
    config::sealing::is_key_id,
    sealing::{self, SealingKey},
    upstream::credentials::HostSecret,
};
use table::{ObjectRef, Sealed, Secret};

pub(crate) use self::key::NamedKey;
use crate::{manifests::documents, outcome::Outcome};

/// Seals provider credentials, so that only data planes can open them
///
/// Reads a credential from stdin or a file and prints a HostKey whose `source.encrypted` holds it sealed (AES-256-GCM), or
/// writes it into a manifest. It opens only for that HostKey and that Host, and only where the key is: data planes get it
/// with --sealing-key or --sealing-keys. The operator cannot open it, and the manifest can be committed.
#[derive(Debug, Args)]
#[command(after_help = "\
The key is a file of 32 bytes. Its id is the file's name unless --key-id says otherwise, and a
directory of such files is what --sealing-keys of data planes takes.

To replace a key: make another, give data planes both, run `relay seal --rewrap`, apply the
manifests, and take the old key away from data planes once they have the new table.

Examples:
  relay seal --generate-key keys/2026-a
  relay seal --key-file keys/2026-a --namespace platform --name main --host anthropic < key.txt
  secret-store get anthropic | relay seal --key-file keys/2026-a --manifest hostkey.yaml
  relay seal --rewrap --old-key-file keys/2026-a --key-file keys/2026-b --manifest deploy/relay")]
pub(crate) struct Seal {
    /// Makes a key in a new file that only its owner can read, and does nothing else
    #[arg(long, value_name = "FILE", exclusive = true)]
    generate_key: Option<PathBuf>,

    /// File of the key to seal with
    #[arg(long, value_name = "FILE", required_unless_present = "generate_key")]
    key_file: Option<PathBuf>,

    /// Id under which data planes know that key; absent: the file's name
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,

    /// Name of the HostKey
    #[arg(long, value_name = "NAME", required_unless_present_any = ["generate_key", "manifest"])]
    name: Option<String>,

    /// Namespace of the HostKey; with --manifest only where the manifest names none
    #[arg(long, value_name = "NAME", required_unless_present_any = ["generate_key", "manifest"])]
    namespace: Option<String>,

    /// Host of the HostKey, as NAME or NAMESPACE/NAME
    #[arg(long, value_name = "HOST", required_unless_present_any = ["generate_key", "manifest"])]
    #[arg(conflicts_with = "manifest")]
    host: Option<String>,

    /// Manifest that is changed in place: the HostKey in it (--name chooses one of several) gets the sealed source
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    /// File that holds the credential; absent: stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Gives the sealed credentials of --manifest, a file or a directory, to another key, in place and without opening them
    #[arg(long, requires = "manifest", requires = "old", conflicts_with_all = ["name", "file"])]
    rewrap: bool,

    /// Key that --rewrap takes credentials from, as FILE or ID=FILE; may be repeated
    #[arg(long = "old-key-file", requires = "rewrap", value_name = "[ID=]FILE")]
    old: Vec<NamedKey>,
}

impl Seal {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        if let Some(path) = &self.generate_key {
            return generate(path);
        }
        let (id, key) = self.key()?;
        let out = match &self.manifest {
            Some(path) if self.rewrap => rewrap::run(path, &self.old, self.namespace.as_deref(), &id, &key)?,
            Some(path) => self.placed(path, &id, &key)?,
            None => self.printed(&id, &key)?,
        };
        Ok(Outcome { out, ..Outcome::default() })
    }

    fn key(&self) -> anyhow::Result<(String, SealingKey)> {
        let path = self.key_file.as_ref().context("--key-file is needed")?;
        let named = match &self.key_id {
            Some(id) if is_key_id(id) => NamedKey { id: id.clone(), path: path.clone() },
            Some(id) => bail!("--key-id `{id}`: {}", key::WRONG_ID),
            None => {
                NamedKey::of_file(path).map_err(|error| anyhow!("--key-file: {error}; --key-id gives it another"))?
            }
        };
        let key = named.read().context("--key-file")?;
        Ok((named.id, key))
    }

    fn printed(&self, id: &str, key: &SealingKey) -> anyhow::Result<String> {
        let missing = "--namespace, --name and --host are needed";
        let (namespace, name) = self.namespace.as_deref().zip(self.name.as_deref()).context(missing)?;
        let host = self.host.as_deref().context(missing)?;
        let host_key = ObjectRef::new(namespace, name);
        let host = match host.split_once('/') {
            Some((namespace, name)) => ObjectRef::new(namespace, name),
            None => ObjectRef::new(namespace, host),
        };
        let sealed = sealing::seal(&self.credential()?, &host_key, &host, id, key)?;
        let manifest = manifest(&host_key, &sealed);
        sound(&manifest)?;
        Ok(manifest)
    }

    fn placed(&self, path: &Path, id: &str, key: &SealingKey) -> anyhow::Result<String> {
        let text = fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()))?;
        let found = patch::host_keys(&text, self.namespace.as_deref()).with_context(|| path.display().to_string())?;
        let is_meant = |one: &&patch::Found| self.name.as_ref().is_none_or(|name| one.host_key.name == *name);
        let found: Vec<_> = found.iter().filter(is_meant).collect();
        let [one] = found[..] else {
            let named: Vec<_> = found.iter().map(|one| format!("`{}`", one.host_key)).collect();
            let held = if named.is_empty() { "none".to_owned() } else { named.join(", ") };
            bail!("`{}`: one HostKey is expected, and there is {held}; --name chooses one", path.display());
        };
        let sealed = sealing::seal(&self.credential()?, &one.host_key, &one.host, id, key)?;
        let text = patch::with_source(&text, one, &sealed).with_context(|| path.display().to_string())?;
        sound(&text)?;
        fs::write(path, text).with_context(|| format!("writing `{}`", path.display()))?;
        Ok(format!("HostKey {} in `{}` is sealed with key `{id}`\n", one.host_key, path.display()))
    }

    /// What is to be sealed; white space around it is left out, as data planes leave it out of files.
    fn credential(&self) -> anyhow::Result<Secret<String>> {
        let text = match &self.file {
            Some(file) => fs::read_to_string(file).with_context(|| format!("reading `{}`", file.display()))?,
            None => {
                let mut text = String::new();
                io::stdin().read_to_string(&mut text).context("reading the credential from stdin")?;
                text
            }
        };
        HostSecret::new(&text)?;
        Ok(Secret::new(text.trim().to_owned()))
    }
}

/// Makes a key. Errs where the file is there already: what was sealed with it would be lost.
fn generate(path: &Path) -> anyhow::Result<Outcome> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let key = SealingKey::generate()?;
    let naming = || format!("making the key `{}`", path.display());
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(naming)?;
    file.write_all(key.expose()).and_then(|()| file.sync_all()).with_context(naming)?;
    let aside = match is_key_id(&name) {
        true => String::new(),
        false => format!("`{name}` is no id of a key: give it one with --key-id and --sealing-key ID=FILE\n"),
    };
    Ok(Outcome { out: format!("a new key is in `{}`\n", path.display()), aside, ..Outcome::default() })
}

/// A manifest of a sealed HostKey.
fn manifest(host_key: &ObjectRef, sealed: &Sealed) -> String {
    let ObjectRef { namespace, name } = host_key;
    let host = &sealed.host;
    let elsewhere =
        if host.namespace == *namespace { String::new() } else { format!("    namespace: {}\n", host.namespace) };
    format!(
        "apiVersion: {}/{}\nkind: HostKey\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  hostRef:\n    name: \
         {}\n{elsewhere}{}",
        crds::GROUP,
        crds::VERSION,
        host.name,
        patch::source("  ", "\n", sealed)
    )
}

/// Errs where a HostKey in the text is not what an API server takes.
fn sound(text: &str) -> anyhow::Result<()> {
    for document in documents(text).into_iter().flatten() {
        if document.value["kind"] == "HostKey" {
            let violations = crds::validate_schema(Kind::HostKey, &document.value);
            let words: Vec<_> = violations.iter().map(ToString::to_string).collect();
            ensure!(words.is_empty(), "the HostKey would be refused: {}", words.join("; "));
        }
    }
    Ok(())
}
