//! The certificate that applications are shown: read from files, and read again when they change, for connections that
//! begin from then on. A pair that cannot be used is told of, and the one before it stays. One that somebody else makes may
//! come later: until then there is nothing to show, and nobody to speak with.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, ensure};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{config::Config, metrics::Metrics};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The certificate that applications are shown.
pub(crate) struct Serving {
    chain: PathBuf,
    key: PathBuf,
    /// None: the pair has not come yet.
    shown: ArcSwapOption<CertifiedKey>,
    /// The pair that was found last, whether or not it could be used.
    found: Mutex<Fingerprint>,
}

/// Which bytes were read; none: they could not be.
type Fingerprint = Option<[u8; 32]>;

/// What a look at the files found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// What was there before.
    Same,
    /// Another pair, which is shown from now on.
    Renewed,
    /// Another pair or none, which cannot be used.
    Unusable,
}

impl Serving {
    /// Reads the pair that the settings name; none: they name none. Errs, naming the file, where it cannot be used.
    pub(crate) fn of(config: &Config) -> anyhow::Result<Option<Arc<Self>>> {
        let (Some(chain), Some(key)) = (&config.tls_cert, &config.tls_key) else { return Ok(None) };
        Self::new(chain.clone(), key.clone()).map(Arc::new).map(Some)
    }

    /// The pair that the second port has for itself; none: it has none.
    pub(crate) fn of_second_port(config: &Config) -> Option<Arc<Self>> {
        let (Some(chain), Some(key)) = (&config.tls_listen_cert, &config.tls_listen_key) else { return None };
        Some(Arc::new(Self::awaited(chain.clone(), key.clone())))
    }

    fn new(chain: PathBuf, key: PathBuf) -> anyhow::Result<Self> {
        let pair = Pair::read(&chain, &key)?;
        let (shown, found) = (pair.certified(&chain, &key)?, pair.fingerprint());
        Ok(Self { chain, key, shown: ArcSwapOption::from_pointee(shown), found: Mutex::new(Some(found)) })
    }

    /// As [`Serving::new`], where the pair need not be there yet.
    fn awaited(chain: PathBuf, key: PathBuf) -> Self {
        match Self::new(chain.clone(), key.clone()) {
            Ok(serving) => serving,
            Err(reason) => {
                warn!("connections with TLS are refused until there is a certificate: {reason:#}");
                Self { chain, key, shown: ArcSwapOption::empty(), found: Mutex::new(None) }
            }
        }
    }

    /// What a listener needs to show it.
    pub(crate) fn server_config(self: &Arc<Self>) -> anyhow::Result<Arc<ServerConfig>> {
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(server))
    }

    /// Looks at the files every two seconds until `stop`.
    pub(crate) async fn follow(self: Arc<Self>, metrics: Arc<Metrics>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let serving = self.clone();
            match tokio::task::spawn_blocking(move || serving.look()).await {
                Ok(Look::Same) => {}
                Ok(Look::Renewed) => metrics.tls_reloaded(true),
                Ok(Look::Unusable) => metrics.tls_reloaded(false),
                Err(_) => return,
            }
        }
    }

    /// Reads the files, and shows what is in them where it is another pair that can be used.
    pub(crate) fn look(&self) -> Look {
        let (mut found, mut certified) = self.read();
        if certified.is_err() {
            // A Secret may be swapped between the reads of its two files: a second look sees it whole.
            (found, certified) = self.read();
        }
        if found == std::mem::replace(&mut *self.found.lock(), found) {
            return Look::Same;
        }
        match certified {
            Ok(certified) => {
                self.shown.store(Some(Arc::new(certified)));
                info!("the certificate in {} is another: new connections are shown it", self.chain.display());
                Look::Renewed
            }
            Err(reason) => {
                let now =
                    if self.shown.load().is_some() { "the one before it is still shown" } else { "there is none" };
                error!("the serving certificate cannot be read, and {now}: {reason:#}");
                Look::Unusable
            }
        }
    }

    fn read(&self) -> (Fingerprint, anyhow::Result<CertifiedKey>) {
        let pair = Pair::read(&self.chain, &self.key);
        let found = pair.as_ref().ok().map(Pair::fingerprint);
        (found, pair.and_then(|pair| pair.certified(&self.chain, &self.key)))
    }
}

/// The key is nobody's to read.
impl fmt::Debug for Serving {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Serving").field("chain", &self.chain).field("key", &self.key).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown.load_full()
    }
}

/// The bytes of both files.
struct Pair {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    fn read(chain: &Path, key: &Path) -> anyhow::Result<Self> {
        let bytes = |path: &Path| fs::read(path).with_context(|| reading(path));
        Ok(Self { chain: bytes(chain)?, key: bytes(key)? })
    }

    fn fingerprint(&self) -> [u8; 32] {
        Sha256::new().chain_update(Sha256::digest(&self.chain)).chain_update(&self.key).finalize().into()
    }

    fn certified(&self, chain: &Path, key: &Path) -> anyhow::Result<CertifiedKey> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.chain).collect();
        let certificates = certificates.with_context(|| reading(chain))?;
        ensure!(!certificates.is_empty(), "{} holds no certificate", chain.display());
        // What the parser says of a private key could quote it.
        let private = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| anyhow!("{} holds no private key in PEM", key.display()))?;
        CertifiedKey::from_der(certificates, private, &provider()).with_context(|| {
            format!("the certificate in {} and the key in {} do not belong together", chain.display(), key.display())
        })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn reading(path: &Path) -> String {
    format!("reading {}", path.display())
}

#[cfg(test)]
mod tests {
    use rcgen::CertifiedKey as Made;
    use tempfile::TempDir;

    use super::*;

    fn made() -> (String, String) {
        let Made { cert, signing_key } = rcgen::generate_simple_self_signed(["relay.test".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    fn write(directory: &TempDir, (chain, key): (&str, &str)) {
        fs::write(directory.path().join("tls.crt"), chain).unwrap();
        fs::write(directory.path().join("tls.key"), key).unwrap();
    }

    fn serving(directory: &TempDir) -> anyhow::Result<Serving> {
        Serving::new(directory.path().join("tls.crt"), directory.path().join("tls.key"))
    }

    fn shown(serving: &Serving) -> Vec<u8> {
        serving.shown.load().as_ref().expect("there is one").cert[0].to_vec()
    }

    #[test]
    fn a_pair_that_comes_later_is_shown_then() {
        let directory = tempfile::tempdir().unwrap();
        let (chain, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
        let serving = Serving::awaited(chain, key);
        assert!(serving.shown.load().is_none() && serving.look() == Look::Same);
        let pair = made();
        write(&directory, (&pair.0, "no key"));
        assert_eq!((serving.look(), serving.look()), (Look::Unusable, Look::Same));
        assert!(serving.shown.load().is_none());
        write(&directory, (&pair.0, &pair.1));
        assert_eq!((serving.look(), serving.look()), (Look::Renewed, Look::Same));
        assert!(!shown(&serving).is_empty());
    }

    #[test]
    fn another_pair_is_shown_and_a_broken_one_is_told_of_once_and_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new, other) = (made(), made(), made());
        write(&directory, (&old.0, &old.1));
        let serving = serving(&directory).unwrap();
        let first = shown(&serving);
        assert_eq!(serving.look(), Look::Same);

        write(&directory, (&new.0, &other.1));
        assert_eq!((serving.look(), serving.look()), (Look::Unusable, Look::Same));
        fs::remove_file(directory.path().join("tls.key")).unwrap();
        assert_eq!((serving.look(), serving.look()), (Look::Unusable, Look::Same));
        assert_eq!(shown(&serving), first);

        write(&directory, (&new.0, &new.1));
        assert_eq!((serving.look(), serving.look()), (Look::Renewed, Look::Same));
        assert_ne!(shown(&serving), first);
        write(&directory, (&old.0, &old.1));
        assert_eq!((serving.look(), shown(&serving)), (Look::Renewed, first));
    }

    #[test]
    fn a_pair_that_cannot_be_used_at_the_start_is_named_without_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let (pair, other) = (made(), made());
        let cases = [
            (("", pair.1.as_str()), "tls.crt holds no certificate"),
            ((pair.0.as_str(), "sk-canary"), "tls.key holds no private key in PEM"),
            ((pair.0.as_str(), other.1.as_str()), "do not belong together"),
        ];
        for (files, expected) in cases {
            write(&directory, files);
            let error = format!("{:#}", serving(&directory).unwrap_err());
            assert!(error.contains(expected) && !error.contains("canary"), "{error}");
        }
    }
}
