//! What a new RelayKey shall be, as flags say it.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::Args;
use crds::{Amount, Budget, CallerLimits, Instant, Period, RelayKey, RelayKeySpec, Rotation, TokenSecret};
use jiff::{SignedDuration, Timestamp, Unit};
use table::{ObjectRef, token::TokenHash};

/// What a new RelayKey shall be.
#[derive(Debug, Args)]
#[command(next_help_heading = "Key")]
pub(super) struct Shape {
    /// Policy that binds it, as NAME or NAMESPACE/NAME; may be repeated
    #[arg(long, required = true, value_name = "POLICY")]
    policy: Vec<String>,

    /// Secret into which the operator writes the token [default: NAME-token]
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,

    /// Requests per minute
    #[arg(long, value_name = "N")]
    rpm: Option<u64>,

    /// Requests per day
    #[arg(long, value_name = "N")]
    rpd: Option<u64>,

    /// Tokens per minute
    #[arg(long, value_name = "N")]
    tpm: Option<u64>,

    /// Tokens per day
    #[arg(long, value_name = "N")]
    tpd: Option<u64>,

    /// Requests in flight at the same time
    #[arg(long, value_name = "N")]
    concurrency: Option<u64>,

    /// Money that it may spend, such as 50/Month: US dollars a Day, Week, Month or in Total
    #[arg(long, value_parser = budget, value_name = "USD/PERIOD")]
    budget: Option<Budget>,

    /// When it ends, such as 2030-01-31T00:00:00Z
    #[arg(long, value_parser = instant, value_name = "TIME")]
    expires_at: Option<Instant>,

    /// How long from now it ends, such as 720h
    #[arg(long, conflicts_with = "expires_at", value_parser = crate::cluster::duration, value_name = "DURATION")]
    expires_in: Option<std::time::Duration>,

    /// Age at which the token is replaced, at least 1h
    #[arg(long, value_name = "DURATION")]
    rotate_every: Option<String>,

    /// Address range from which it is taken, such as 10.0.0.0/8; may be repeated
    #[arg(long, value_name = "CIDR")]
    allow_cidr: Vec<String>,

    /// Label for cost and usage, in every usage record; may be repeated
    #[arg(long, value_parser = pair, value_name = "NAME=VALUE")]
    attribute: Vec<(String, String)>,

    /// Label of the object, such as a DataPlane selects by; may be repeated
    #[arg(long, value_parser = pair, value_name = "NAME=VALUE")]
    label: Vec<(String, String)>,
}

impl Shape {
    /// The RelayKey; by the hash of `token`, where it was made here.
    pub(super) fn relay_key(&self, id: &ObjectRef, token: Option<&str>) -> anyhow::Result<RelayKey> {
        let secret = self.secret.clone().unwrap_or_else(|| format!("{}-token", id.name));
        let attributes: BTreeMap<_, _> = self.attribute.iter().cloned().collect();
        let every = self.rotate_every.as_deref().map(crds::Duration::from);
        let spec = RelayKeySpec {
            policy_refs: self.policy.iter().map(|policy| reference(policy)).collect(),
            secret: token.is_none().then_some(TokenSecret { name: secret, key: None }),
            token_hash: token.map(|token| format!("sha256:{}", TokenHash::of(token))),
            token_secret_ref: None,
            rotation: every.map(|every| Rotation { every: Some(every), overlap: None, trigger: None }),
            expires_at: self.ends()?,
            revoked: None,
            suspend: None,
            limits: self.limits(),
            budget: self.budget.clone(),
            allowed_cidrs: Some(self.allow_cidr.clone()).filter(|ranges| !ranges.is_empty()),
            attributes: Some(attributes).filter(|attributes| !attributes.is_empty()),
        };
        let mut key = RelayKey::new(&id.name, spec);
        key.metadata.namespace = Some(id.namespace.clone());
        let labels: BTreeMap<_, _> = self.label.iter().cloned().collect();
        key.metadata.labels = Some(labels).filter(|labels| !labels.is_empty());
        Ok(key)
    }

    fn limits(&self) -> Option<CallerLimits> {
        let Self { rpm, rpd, tpm, tpd, concurrency, .. } = *self;
        let limits = CallerLimits { rpm, rpd, tpm, tpd, concurrency, ..CallerLimits::default() };
        Some(limits).filter(|limits| *limits != CallerLimits::default())
    }

    fn ends(&self) -> anyhow::Result<Option<Instant>> {
        let Some(within) = self.expires_in else { return Ok(self.expires_at.clone()) };
        let end = SignedDuration::try_from(within).ok().and_then(|within| Timestamp::now().checked_add(within).ok());
        let end = end.and_then(|end| end.round(Unit::Second).ok()).context("--expires-in ends too far from now")?;
        Ok(Some(Instant(end.to_string())))
    }
}

fn reference(policy: &str) -> crds::ObjectRef {
    match policy.split_once('/') {
        Some((namespace, name)) => crds::ObjectRef { name: name.to_owned(), namespace: Some(namespace.to_owned()) },
        None => crds::ObjectRef { name: policy.to_owned(), namespace: None },
    }
}

fn budget(text: &str) -> Result<Budget, String> {
    let wanted = || "write dollars and a period, such as `50/Month` or `12.50/Day`".to_owned();
    let (amount, period) = text.split_once('/').ok_or_else(wanted)?;
    let period = [Period::Day, Period::Week, Period::Month, Period::Total]
        .into_iter()
        .find(|known| format!("{known:?}").eq_ignore_ascii_case(period))
        .ok_or_else(|| format!("`{period}` is no period: Day, Week, Month and Total are"))?;
    let amount = Amount::from(amount);
    amount.nano_usd().ok_or_else(wanted)?;
    Ok(Budget { amount, period, timezone: None, on_exceeded: None, alert_at_percent: None })
}

fn instant(text: &str) -> Result<Instant, String> {
    let instant = Instant::from(text);
    instant.timestamp().ok_or_else(|| "write a time as `2030-01-31T00:00:00Z`".to_owned())?;
    Ok(instant)
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| "write NAME=VALUE".to_owned())?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        shape: Shape,
    }

    fn key(flags: &[&str], token: Option<&str>) -> serde_json::Value {
        let cli = Cli::try_parse_from([&["create"], flags].concat()).unwrap_or_else(|error| panic!("{error}"));
        let key = cli.shape.relay_key(&ObjectRef::new("team-a", "app"), token).unwrap();
        let value = serde_json::to_value(key).unwrap();
        assert_eq!(crds::validate_schema(crds::Kind::RelayKey, &value), []);
        value["spec"].clone()
    }

    #[test]
    fn the_least_that_is_said_makes_a_key_with_a_secret() {
        let expected = json!({"policyRefs": [{"name": "all"}], "secret": {"name": "app-token"}});
        assert_eq!(key(&["--policy", "all"], None), expected);
    }

    #[test]
    fn every_flag_has_its_field() {
        let flags = "--policy one --policy shared/two --secret s --rpm 1 --rpd 2 --tpm 3 --tpd 4 --concurrency 5 --budget \
                     12.50/week --expires-at 2030-01-31T00:00:00Z --rotate-every 720h --allow-cidr 10.0.0.0/8 --attribute \
                     team=search";
        let expected = json!({
            "policyRefs": [{"name": "one"}, {"name": "two", "namespace": "shared"}],
            "secret": {"name": "s"},
            "rotation": {"every": "720h"},
            "expiresAt": "2030-01-31T00:00:00Z",
            "limits": {"rpm": 1, "rpd": 2, "tpm": 3, "tpd": 4, "concurrency": 5},
            "budget": {"amount": "12.50", "period": "Week"},
            "allowedCIDRs": ["10.0.0.0/8"],
            "attributes": {"team": "search"},
        });
        assert_eq!(key(&flags.split_whitespace().collect::<Vec<_>>(), None), expected);
    }

    #[test]
    fn a_token_that_was_made_here_is_in_the_key_by_its_hash_alone() {
        let spec = key(&["--policy", "all"], Some("quickstart-token-not-for-production"));
        let hash = "sha256:393c73a38480b083eb4670bdbb1493eac319b57501b891f81dd14b66dc00d1ff";
        assert_eq!(spec, json!({"policyRefs": [{"name": "all"}], "tokenHash": hash}));
    }

    #[test]
    fn a_budget_that_is_none_is_refused_with_what_would_be() {
        assert!(budget("50").unwrap_err().contains("50/Month"));
        assert!(budget("50/Year").unwrap_err().contains("Day, Week, Month and Total"));
        assert!(budget("x/Day").unwrap_err().contains("50/Month"));
    }
}
