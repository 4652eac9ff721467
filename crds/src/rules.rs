//! The longer CEL rules. They look at text as it was written, with patterns: the API server and the evaluator in this
//! process normalise URLs differently, and the server refuses a rule that goes on with a part of a URL, because it takes
//! the length of that part for unbounded.

/// A URL whose host is not empty, and ASCII: other names have to be given as DNS has them.
pub(crate) const URL_WITH_HOST: &str = concat!(
    r"self.matches('^[a-zA-Z]+://([^/?#]*@)?([A-Za-z0-9._-]+|\\[[^/?#]*\\])",
    r"(:([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?",
    r"(/([A-Za-z0-9._~:@!$&*+,;=/-]|%[0-9a-fA-F]{2})*)?([?#]|$)')"
);

/// No user name or password before the host.
pub(crate) const NO_USERINFO: &str = r"!self.matches('^[a-zA-Z]+:/*[^/?#]*@')";

/// Hosts that end in a number are addresses to a resolver, in octal and hex too; only the usual form is let through.
pub(crate) const PLAIN_IPV4: &str = concat!(
    r"!self.matches('^[a-z]+://([^/:?#@]+\\.)?(0[xX][0-9a-fA-F]*|[0-9]+)\\.?(:[0-9]*)?(/|$)') || ",
    r"self.matches('^[a-z]+://((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\\.){3}",
    r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(:[0-9]*)?(/|$)')"
);

/// An IPv6 address that stands for an IPv4 one would slip past the ranges below.
pub(crate) const PLAIN_IPV6: &str = concat!(
    r"!self.matches('^[a-z]+://\\[') || ",
    r"(self.matches('^[a-z]+://\\[([0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}\\](:[0-9]*)?(/|$)') && ",
    r"!self.matches('^[a-z]+://\\[[0:]*:[fF]{4}:'))"
);

/// A literal address that is not public, or `localhost`, needs the guard to be off. Other names are looked at when they
/// are resolved.
pub(crate) const PUBLIC_BASE_URL: &str = concat!(
    "(has(self.network) && has(self.network.allowPrivateAddresses) && self.network.allowPrivateAddresses) || ",
    r"!(self.baseURL.matches('^[a-z]+://(0|10|127|169\\.254|192\\.168|172\\.(1[6-9]|2[0-9]|3[01])|",
    r"100\\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7]))(\\.[0-9]+){2,3}(:[0-9]*)?(/|$)') || ",
    r"self.baseURL.matches('^[a-z]+://\\[([0:]*1?\\]|[fF][eE][89abAB][0-9a-fA-F]:|[fF][cCdD][0-9a-fA-F]{2}:)') || ",
    r"self.baseURL.matches('^[a-z]+://([^/:?#]*\\.)?[lL][oO][cC][aA][lL][hH][oO][sS][tT]\\.?(:[0-9]*)?(/|$)'))"
);

/// `isCIDR` takes leading zeros in this process, which the API server does not.
pub(crate) const ADDRESS_RANGES: &str =
    r"self.all(range, isCIDR(range) && !range.matches('^0[0-9]+[.]|[.]0[0-9]|/0[0-9]'))";

/// The headers that no list may name: credentials, and those that belong to one connection.
macro_rules! reserved_headers {
    () => {
        "['authorization', 'proxy-authorization', 'proxy-authenticate', 'x-api-key', 'api-key', 'x-goog-api-key', \
         'cookie', 'set-cookie', 'host', 'content-length', 'connection', 'keep-alive', 'proxy-connection', 'te', \
         'trailer', 'transfer-encoding', 'upgrade', 'expect']"
    };
}

pub(crate) const HEADERS_SET: &str =
    concat!("!has(self.set) || self.set.all(header, !(header.name.lowerAscii() in ", reserved_headers!(), "))");
pub(crate) const HEADERS_REMOVE: &str =
    concat!("!has(self.remove) || self.remove.all(name, !(name.lowerAscii() in ", reserved_headers!(), "))");
pub(crate) const HEADERS_FORWARD: &str =
    concat!("!has(self.forward) || self.forward.all(name, !(name.lowerAscii() in ", reserved_headers!(), "))");

/// Taking the field away is let through: the operator remembers how far it was.
pub(crate) const TRIGGER_RISES: &str = concat!(
    "!has(oldSelf.rotation) || !has(oldSelf.rotation.trigger) || !has(self.rotation) || !has(self.rotation.trigger) || ",
    "self.rotation.trigger >= oldSelf.rotation.trigger"
);
