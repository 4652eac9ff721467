//! The longer CEL rules. They use only what the API server and the evaluator in this process read alike, so text is
//! looked at as it was written: the two normalise URLs differently.

/// A URL whose host is not empty.
pub(crate) const URL_WITH_HOST: &str = r"isURL(self) && self.matches('^[a-z]+://([^/?#]*@)?[^/?#@:]')";

/// No user name or password before the host.
pub(crate) const NO_USERINFO: &str = r"!self.matches('^[a-zA-Z]+:/*[^/?#]*@')";

/// Hosts that end in a number are addresses to a resolver, in octal and hex too; only the usual form is let through.
pub(crate) const PLAIN_IPV4: &str = concat!(
    r"!self.matches('^[a-z]+://([^/:?#@]+\\.)?(0[xX][0-9a-fA-F]*|[0-9]+)\\.?(:[0-9]*)?(/|$)') || ",
    r"self.matches('^[a-z]+://((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\\.){3}",
    r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(:[0-9]*)?(/|$)')"
);

/// `isIP` refuses IPv6 addresses that stand for IPv4 ones, which would slip past the ranges below.
pub(crate) const PLAIN_IPV6: &str = r"!self.matches('^[a-z]+://\\[') || (isURL(self) && isIP(url(self).getHostname()))";

/// A literal address that is not public needs the guard to be off. Names are looked at when they are resolved.
pub(crate) const PUBLIC_BASE_URL: &str = concat!(
    "(has(self.network) && has(self.network.allowPrivateAddresses) && self.network.allowPrivateAddresses) || ",
    "!isURL(self.baseURL) || ",
    "(isIP(url(self.baseURL).getHostname()) ? ",
    "!ip(url(self.baseURL).getHostname()).isLoopback() && ",
    "!ip(url(self.baseURL).getHostname()).isUnspecified() && ",
    "!ip(url(self.baseURL).getHostname()).isLinkLocalUnicast() && ",
    "!['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7']",
    ".exists(range, cidr(range).containsIP(url(self.baseURL).getHostname())) : ",
    r"!url(self.baseURL).getHostname().matches('^(.*\\.)?[lL][oO][cC][aA][lL][hH][oO][sS][tT]\\.?$'))"
);

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
