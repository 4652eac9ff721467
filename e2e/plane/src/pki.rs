//! The keys and certificates of one control plane: an authority, the API server's own certificate, an administrator's, and
//! the key that signs service-account tokens.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

/// The files that [`write`] makes.
pub(crate) const AUTHORITY: &str = "ca.pem";
pub(crate) const SERVER: [&str; 2] = ["server.pem", "server.key"];
pub(crate) const ADMINISTRATOR: [&str; 2] = ["administrator.pem", "administrator.key"];
pub(crate) const TOKENS: [&str; 2] = ["tokens.pub", "tokens.key"];

/// Writes all of them into the folder.
pub(crate) fn write(directory: &Path) {
    let key = key();
    let mut params = params(&[], &[(DnType::CommonName, "authority of a test")]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("an authority signs itself").pem();
    let issuer = Issuer::new(params, key);
    save(directory, AUTHORITY, &authority);
    let tokens = self::key();
    save(directory, TOKENS[0], &tokens.public_key_pem());
    save(directory, TOKENS[1], &tokens.serialize_pem());

    let server = self::params(&["localhost", "127.0.0.1"], &[(DnType::CommonName, "kube-apiserver")]);
    signed(directory, SERVER, server, ExtendedKeyUsagePurpose::ServerAuth, &issuer);
    // The one group that the API server lets do everything, whatever its roles say.
    let names = [(DnType::CommonName, "administrator"), (DnType::OrganizationName, "system:masters")];
    signed(directory, ADMINISTRATOR, self::params(&[], &names), ExtendedKeyUsagePurpose::ClientAuth, &issuer);
}

fn signed(
    directory: &Path,
    [certificate, private]: [&str; 2],
    mut params: CertificateParams,
    purpose: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) {
    let key = key();
    params.extended_key_usages = vec![purpose];
    let signed = params.signed_by(&key, issuer).expect("the authority signs");
    save(directory, certificate, &signed.pem());
    save(directory, private, &key.serialize_pem());
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key pair is generated")
}

fn params(hosts: &[&str], subject: &[(DnType, &str)]) -> CertificateParams {
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("the names are valid");
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), *value);
    }
    params
}

fn save(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join(name), text).expect("the plane's folder is writable");
}
