//! Who signs the certificates of the push port, and when the next takes its place: decided from plain values.
//!
//! The next authority is trusted for a while before it signs, and the one before for a while after, so that data planes
//! which read the bundle late never meet a stranger.

use std::{fmt, time::Duration};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use serde::{Deserialize, Serialize};

/// Clocks may differ by so much.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// How long things are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// An authority; at half of it the next is made.
    pub authority: Duration,
    /// A server's certificate; at half of it the next is made.
    pub leaf: Duration,
    /// The certificate that shared data planes show to sidecars; at half of it the next is made. Longer, so that sidecars are
    /// served on while there is no operator.
    pub serving: Duration,
    /// How long data planes may take to hear of an authority.
    pub overlap: Duration,
    /// How often is looked whether anything is due.
    pub look: Duration,
}

impl Default for Times {
    /// A year, a day, 30 days, an hour, 30 s.
    fn default() -> Self {
        const HOUR: u64 = 3600;
        Self {
            authority: Duration::from_secs(365 * 24 * HOUR),
            leaf: Duration::from_secs(24 * HOUR),
            serving: Duration::from_secs(30 * 24 * HOUR),
            overlap: Duration::from_secs(HOUR),
            look: Duration::from_secs(30),
        }
    }
}

/// Who may sign.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    name: String,
    certificate: String,
    key: String,
    created: Timestamp,
    expires: Timestamp,
}

/// Without the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({}, {} to {})", self.name, self.created, self.expires)
    }
}

/// Those who signed before, without their keys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Retired {
    certificate: String,
    until: Timestamp,
}

/// Without the certificate, which is long.
impl fmt::Debug for Retired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Retired(trusted until {})", self.until)
    }
}

/// Who signs, who will, and who did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorities {
    current: Authority,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Authority>,
    #[serde(default)]
    retired: Vec<Retired>,
}

impl Authorities {
    /// The first.
    pub fn new(now: Timestamp, times: &Times) -> anyhow::Result<Self> {
        Ok(Self { current: Authority::new(now, times)?, next: None, retired: Vec::new() })
    }

    /// What is to be instead, at `now`; absent: it is as it should be.
    pub fn due(&self, now: Timestamp, times: &Times) -> anyhow::Result<Option<Self>> {
        let mut due = self.clone();
        due.retired.retain(|retired| now < retired.until);
        match due.next.take() {
            Some(next) if now >= next.created + span(times.overlap) || now >= self.current.expires => {
                let until = now + span(times.leaf + times.overlap);
                let certificate = std::mem::replace(&mut due.current, next).certificate;
                due.retired.push(Retired { certificate, until });
            }
            Some(next) => due.next = Some(next),
            None if now >= half(self.current.created, self.current.expires) => {
                due.next = Some(Authority::new(now, times)?);
            }
            None => {}
        }
        Ok((due != *self).then_some(due))
    }

    /// The certificates of all who are to be trusted, PEM.
    pub fn bundle(&self) -> String {
        let signing = [Some(&self.current), self.next.as_ref()];
        let signing = signing.into_iter().flatten().map(|authority| authority.certificate.as_str());
        signing.chain(self.retired.iter().map(|retired| retired.certificate.as_str())).collect()
    }

    /// When the one who signs now ends.
    pub fn expires(&self) -> Timestamp {
        self.current.expires
    }

    /// The certificate of the one who signs now, PEM.
    pub fn signer(&self) -> &str {
        &self.current.certificate
    }

    /// A certificate for a push port of these names.
    pub fn issue(&self, names: &[String], now: Timestamp, times: &Times) -> anyhow::Result<Leaf> {
        self.issue_for("relay-operator", names, now, times.leaf).context("a certificate for the push port")
    }

    /// A certificate that says `who`, for a server of these names.
    pub fn issue_for(&self, who: &str, names: &[String], now: Timestamp, good: Duration) -> anyhow::Result<Leaf> {
        let authority = &self.current;
        let key = KeyPair::from_pem(&authority.key).context("reading the key of the authority")?;
        let issuer = Issuer::new(authority_params(&authority.name, authority.created, authority.expires)?, key);
        let mut params = CertificateParams::new(names).context("the names")?;
        let expires = (now + span(good)).min(authority.expires);
        within(&mut params, now, expires)?;
        params.distinguished_name.push(DnType::CommonName, who);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().context("making a key")?;
        let certificate = params.signed_by(&key, &issuer).context("signing a certificate")?;
        let (chain, signer) = (certificate.pem(), authority.certificate.clone());
        Ok(Leaf { chain, key: key.serialize_pem(), renew_at: half(now, expires), expires, signer })
    }
}

impl Authority {
    fn new(now: Timestamp, times: &Times) -> anyhow::Result<Self> {
        let name = format!("relay push authority {now}");
        let expires = now + span(times.authority);
        let key = KeyPair::generate().context("making the key of an authority")?;
        let certificate = authority_params(&name, now, expires)?.self_signed(&key).context("making an authority")?;
        Ok(Self { name, certificate: certificate.pem(), key: key.serialize_pem(), created: now, expires })
    }
}

fn authority_params(name: &str, created: Timestamp, expires: Timestamp) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    within(&mut params, created, expires)?;
    Ok(params)
}

fn within(params: &mut CertificateParams, from: Timestamp, until: Timestamp) -> anyhow::Result<()> {
    let seconds = |at: Timestamp| u64::try_from(at.as_second()).context("the clock stands before 1970");
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(seconds(from)?.saturating_sub(SKEW.as_secs()));
    params.not_after = epoch + Duration::from_secs(seconds(until)?);
    Ok(())
}

/// A server's certificate.
#[derive(Clone)]
pub struct Leaf {
    /// PEM.
    pub chain: String,
    /// Its private key, PEM.
    pub key: String,
    /// When another is to take its place.
    pub renew_at: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    signer: String,
}

impl Leaf {
    /// Whether another is to take its place.
    pub fn is_due(&self, authorities: &Authorities, now: Timestamp) -> bool {
        now >= self.renew_at || self.signer != authorities.current.certificate
    }
}

fn half(from: Timestamp, until: Timestamp) -> Timestamp {
    from + until.duration_since(from) / 2
}

fn span(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * HOUR).unwrap()
    }

    fn bundled(authorities: &Authorities) -> usize {
        authorities.bundle().matches("BEGIN CERTIFICATE").count()
    }

    #[test]
    fn the_next_is_trusted_before_it_signs_and_the_one_before_after_it_did() {
        let times = Times::default();
        let first = Authorities::new(at(0), &times).unwrap();
        assert_eq!((bundled(&first), first.due(at(4379), &times).unwrap()), (1, None));
        let both = first.due(at(4380), &times).unwrap().expect("half of its time is over");
        assert_eq!((bundled(&both), &both.current), (2, &first.current));
        assert!(both.bundle().contains(&first.current.certificate));
        assert_eq!(both.due(at(4380), &times).unwrap(), None, "data planes have not heard of it");
        let second = both.due(at(4381), &times).unwrap().expect("data planes have heard of it");
        assert_eq!((bundled(&second), Some(&second.current)), (2, both.next.as_ref()));
        assert_eq!(second.due(at(4405), &times).unwrap(), None, "certificates of the first may be in use");
        let alone = second.due(at(4406), &times).unwrap().expect("no certificate of the first is good any more");
        assert_eq!((bundled(&alone), &alone.current), (1, &second.current));
    }

    #[test]
    fn a_certificate_is_renewed_at_half_of_its_time_or_with_its_authority() {
        let times = Times::default();
        let first = Authorities::new(at(0), &times).unwrap();
        let leaf = first.issue(&["relay.test".to_owned()], at(10), &times).unwrap();
        assert!(!leaf.is_due(&first, at(21)) && leaf.is_due(&first, at(22)));
        let second = Authorities::new(at(0), &times).unwrap();
        assert!(leaf.is_due(&second, at(10)));
    }

    #[test]
    fn no_key_is_shown() {
        let first = Authorities::new(at(0), &Times::default()).unwrap();
        assert!(!format!("{first:?}").contains("PRIVATE"));
        assert!(!first.bundle().contains("PRIVATE"));
    }
}
