//! Reads `--redis`: `redis://[user[:password]@]host[:port][,host[:port]...][/db]`. No error quotes any of it.

use anyhow::{Context, bail, ensure};
use table::Secret;
use url::Url;

use super::RedisMode;
use crate::limit::redis::store::target::Address;

/// What the URL says.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) addresses: Vec<Address>,
    pub(super) is_encrypted: bool,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret<String>>,
    pub(super) database: i64,
}

impl Nodes {
    pub(super) fn parse(text: &Secret<String>, mode: RedisMode) -> anyhow::Result<Self> {
        let mut whole: Option<Self> = None;
        for (index, part) in text.expose().split(',').enumerate() {
            let part = Self::part(part.trim(), whole.as_ref(), mode)
                .with_context(|| format!("reading node {} of --redis (RELAY_REDIS)", index + 1))?;
            match &mut whole {
                None => whole = Some(part),
                Some(whole) => whole.join(part)?,
            }
        }
        let whole = whole.context("--redis (RELAY_REDIS) names no node")?;
        ensure!(
            mode != RedisMode::Standalone || whole.addresses.len() == 1,
            "--redis (RELAY_REDIS) names {} nodes, which needs --redis-mode cluster or sentinel (RELAY_REDIS_MODE)",
            whole.addresses.len()
        );
        Ok(whole)
    }

    /// One node. Those after the first may leave out the scheme.
    fn part(text: &str, first: Option<&Self>, mode: RedisMode) -> anyhow::Result<Self> {
        let (is_encrypted, rest) = match (text.strip_prefix("redis://"), text.strip_prefix("rediss://"), first) {
            (Some(rest), _, _) => (false, rest),
            (None, Some(rest), _) => (true, rest),
            (None, None, Some(first)) if !text.contains("://") => (first.is_encrypted, text),
            _ => bail!("it has to begin with redis:// or rediss://, as in redis://redis.relay.svc:6379"),
        };
        // What the parser says of a URL could quote it.
        let url = Url::parse(&format!("redis://{rest}")).ok().context(
            "it is no URL of the form redis://USER:PASSWORD@HOST:PORT/DB; write `@`, `/`, `,`, `#` and `%` in a password as %40, %2F, %2C, %23 and %25",
        )?;
        ensure!(
            url.query().is_none() && url.fragment().is_none(),
            "it has a `?` or `#`, and takes no options; in a password write them as %3F and %23"
        );
        Ok(Self {
            addresses: vec![address(&url, mode)?],
            is_encrypted,
            username: Some(decoded(url.username())?).filter(|name| !name.is_empty()),
            password: url.password().map(decoded).transpose()?.filter(|text| !text.is_empty()).map(Secret::new),
            database: database(url.path())?,
        })
    }

    fn join(&mut self, part: Self) -> anyhow::Result<()> {
        ensure!(
            part.is_encrypted == self.is_encrypted,
            "the nodes of --redis (RELAY_REDIS) are all redis:// or all rediss://"
        );
        let says_who = part.username.is_some() || part.password.is_some();
        let differs = part.username != self.username || part.password != self.password;
        ensure!(!says_who || !differs, "the nodes of --redis (RELAY_REDIS) name different users or passwords");
        if part.database != 0 {
            ensure!(
                self.database == 0 || self.database == part.database,
                "the nodes of --redis (RELAY_REDIS) name different databases"
            );
            self.database = part.database;
        }
        self.addresses.extend(part.addresses);
        Ok(())
    }
}

fn address(url: &Url, mode: RedisMode) -> anyhow::Result<Address> {
    let usual = match mode {
        RedisMode::Standalone | RedisMode::Cluster => 6379,
        RedisMode::Sentinel => 26379,
    };
    let port = url.port().unwrap_or(usual);
    match url.host() {
        Some(url::Host::Domain(name)) if !name.is_empty() => Ok(Address::new(name, port)),
        Some(url::Host::Ipv4(address)) => Ok(Address::new(address.to_string(), port)),
        Some(url::Host::Ipv6(address)) => Ok(Address::new(address.to_string(), port)),
        _ => bail!("it names no host, as in redis://redis.relay.svc:6379"),
    }
}

fn database(path: &str) -> anyhow::Result<i64> {
    match path.strip_prefix('/').unwrap_or(path) {
        "" => Ok(0),
        number => number
            .parse::<u32>()
            .ok()
            .map(i64::from)
            .context("what follows the port is no database: write its number, as in redis://redis.relay.svc:6379/0"),
    }
}

/// The text with each `%` and two hexadecimal digits as the byte that they mean.
fn decoded(text: &str) -> anyhow::Result<String> {
    const WRONG: &str =
        "its user or password has a `%` that no two hexadecimal digits follow, or is not UTF-8: write `%` as %25";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = after.split_at_checked(2).context(WRONG)?;
        bytes.extend(hex::decode(digits).ok().context(WRONG)?);
        rest = after;
    }
    String::from_utf8(bytes).ok().context(WRONG)
}
