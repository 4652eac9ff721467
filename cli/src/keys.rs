//! `relay keys`: tokens of applications, made here or by the operator of a cluster. A token is never read from the command
//! line, and printed only where it was made or where that was asked for.

mod create;
mod list;
mod revoke;
mod rotate;
pub(crate) mod secrets;
mod target;
mod wait;

use std::{
    fs,
    io::{self, Read},
    path::PathBuf,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use rand::{TryRng, rngs::SysRng};
use serde_json::json;
use table::token::{self, BROUGHT_MIN_CHARS, Form, Minted, RANDOM_BYTES, TokenHash};

use crate::outcome::{self, Format, Outcome};

/// Makes, lists, rotates and revokes relay keys; mints and hashes tokens without a cluster
#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Create(Box<create::Create>),
    List(list::List),
    Rotate(rotate::Rotate),
    Revoke(revoke::Revoke),
    Mint(Mint),
    Hash(Hash),
}

/// Makes a token and the manifest that admits it
///
/// The token is drawn from the system's random source and printed once: give it to the application. The manifest holds
/// only its SHA-256, so it can be committed.
#[derive(Debug, Args)]
#[command(after_help = "\
The first line of stdout is the token, the second its hash, the rest a RelayKey manifest.

Examples:
  relay keys mint --name checkout --policy team-a
  relay keys mint --name checkout --policy team-a | tail -n +3 > checkout.yaml   # the token is lost
  relay keys mint --name checkout --output json | jq -r .token | secret-store put checkout-relay-key")]
struct Mint {
    /// Name of the RelayKey in the manifest
    #[arg(long, default_value = "my-app", value_name = "NAME")]
    name: String,

    /// Namespace of the RelayKey in the manifest; absent: the manifest names none
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,

    /// Policy that the RelayKey refers to; may be repeated
    #[arg(long, default_value = "my-policy", value_name = "NAME")]
    policy: Vec<String>,

    /// How the result is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// Prints the hash of a token, for `spec.tokenHash` of a RelayKey
///
/// The token is read from stdin or a file, never from the command line, where other processes could see it. White space
/// around it is cut off. The hash is what `printf %s TOKEN | sha256sum` prints, after `sha256:`.
#[derive(Debug, Args)]
#[command(after_help = "\
A minted token whose checksum is wrong is refused, and so is one of your own with fewer than 32 characters.

Examples:
  relay keys hash < token.txt
  relay keys hash --file token.txt
  secret-store get my-token | relay keys hash")]
struct Hash {
    /// File that holds the token; absent: stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// How the result is printed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

impl Keys {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        match self.action {
            Action::Create(create) => create.run(),
            Action::List(list) => list.run(),
            Action::Rotate(rotate) => rotate.run(),
            Action::Revoke(revoke) => revoke.run(),
            Action::Mint(mint) => mint.run(),
            Action::Hash(hash) => hash.run(),
        }
    }
}

impl Mint {
    fn run(self) -> anyhow::Result<Outcome> {
        let minted = minted()?;
        let (token, hash) = (minted.token.expose(), hash_of(minted.token.expose()));
        let manifest = self.manifest(&hash);
        let out = match self.output {
            Format::Human => format!("{token}\n{hash}\n---\n{manifest}"),
            Format::Json => outcome::json(&json!({
                "token": token, "keyId": minted.key_id, "tokenHash": hash, "manifest": manifest,
            })),
        };
        Ok(Outcome { out, ..Outcome::default() })
    }

    fn manifest(&self, hash: &str) -> String {
        let namespace = self.namespace.as_ref().map_or_else(String::new, |name| format!("  namespace: {name}\n"));
        let policies: String = self.policy.iter().map(|name| format!("    - name: {name}\n")).collect();
        format!(
            "apiVersion: {}/{}\nkind: RelayKey\nmetadata:\n  name: {}\n{namespace}spec:\n  policyRefs:\n{policies}  \
             tokenHash: {hash}\n",
            crds::GROUP,
            crds::VERSION,
            self.name
        )
    }
}

/// A new token.
fn minted() -> anyhow::Result<Minted> {
    let mut random = [0; RANDOM_BYTES];
    SysRng.try_fill_bytes(&mut random).context("drawing from the system's random source")?;
    Ok(token::mint(&random))
}

impl Hash {
    fn run(self) -> anyhow::Result<Outcome> {
        let text = match &self.file {
            Some(file) => fs::read_to_string(file).with_context(|| format!("reading `{}`", file.display()))?,
            None => {
                let mut text = String::new();
                io::stdin().read_to_string(&mut text).context("reading the token from stdin")?;
                text
            }
        };
        let token = text.trim();
        if let Some(fault) = fault(token) {
            bail!("{fault}");
        }
        let hash = hash_of(token);
        let out = match self.output {
            Format::Human => format!("{hash}\n"),
            Format::Json => outcome::json(&json!({"tokenHash": hash})),
        };
        Ok(Outcome { out, ..Outcome::default() })
    }
}

/// Why a token cannot be one; never quotes it.
fn fault(token: &str) -> Option<String> {
    match token::form(token) {
        Form::Minted(_) => None,
        Form::Mistyped => {
            Some("the token starts like a minted one, but its checksum is wrong: it was cut or mistyped".to_owned())
        }
        Form::Brought if token.is_empty() => Some("no token was given".to_owned()),
        Form::Brought if token.chars().any(char::is_whitespace) => {
            Some("the token holds white space: give one token alone".to_owned())
        }
        Form::Brought if token.chars().count() < BROUGHT_MIN_CHARS => {
            Some(format!("the token has fewer than {BROUGHT_MIN_CHARS} characters: it could be guessed"))
        }
        Form::Brought => None,
    }
}

fn hash_of(token: &str) -> String {
    format!("sha256:{}", TokenHash::of(token))
}
