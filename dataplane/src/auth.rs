//! Who calls: finds the relay key of a token and whether it may be used now, from there. What it may reach is left to
//! `admit`.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use jiff::Timestamp;
use table::token::{self, Form, TokenHash};

use crate::{
    denied::Denied,
    inbound::Bearers,
    world::{RelayKey, World},
};

/// A caller whose relay key is good.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its relay key.
    pub key: Arc<RelayKey>,
    /// Where it calls from.
    pub address: IpAddr,
}

impl Caller {
    /// The tenant: the namespace of its relay key.
    pub fn namespace(&self) -> &str {
        &self.key.id.namespace
    }
}

/// Finds out who calls. Of several tokens the first that is a relay key counts. Errs where there is none, or where its
/// key may not be used now or from this address.
pub fn authenticate(world: &World, bearers: &Bearers<'_>, address: IpAddr, now: Timestamp) -> Result<Caller, Denied> {
    if bearers.is_empty() {
        return Err(Denied::MissingKey);
    }
    let mut fault = Denied::UnknownKey;
    for bearer in bearers.iter() {
        match token::form(bearer) {
            Form::Mistyped => fault = Denied::MistypedKey,
            Form::Minted(_) | Form::Brought => {
                let hash = TokenHash::of(bearer);
                if let Some(key) = world.relay_key_of(&hash) {
                    let caller = usable(key, address, now)?;
                    return match key.replaced_at(&hash, now) {
                        Some(at) => Err(Denied::ExpiredKey { key: key.id.name.clone(), at }),
                        None => Ok(caller),
                    };
                }
            }
        }
    }
    Err(fault)
}

/// The caller that holds a relay key. Errs where it may not be used now or from this address.
pub fn usable(key: &Arc<RelayKey>, address: IpAddr, now: Timestamp) -> Result<Caller, Denied> {
    let name = || key.id.name.clone();
    if key.row.revoked {
        return Err(Denied::RevokedKey { key: name() });
    }
    if let Some(at) = key.row.expires_at.filter(|at| *at <= now) {
        return Err(Denied::ExpiredKey { key: name(), at });
    }
    if key.row.suspended {
        return Err(Denied::SuspendedKey { key: name() });
    }
    let cidrs = &key.row.allowed_cidrs;
    if !cidrs.is_empty() && !cidrs.iter().any(|cidr| cidr.contains(&address)) {
        return Err(Denied::AddressNotAllowed { key: name(), address });
    }
    if let Some(reason) = &key.unusable {
        return Err(Denied::UnusableKey { key: name(), reason: reason.clone() });
    }
    Ok(Caller { key: key.clone(), address })
}

/// Where a request comes from: the peer, or where that is a trusted proxy, the last hop of `X-Forwarded-For` that is
/// none. A hop that cannot be read ends the search at the proxy that reported it, so that nobody can claim to be
/// somebody by sending nonsense.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let mut address = peer.to_canonical();
    if !is_trusted(&address) {
        return address;
    }
    let lines: Vec<&[u8]> = headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes).collect();
    // Byte by byte: what a client wrote into the line must not hide what a proxy has added to it.
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b',')) {
        if !is_trusted(&address) {
            break;
        }
        let Some(before) = std::str::from_utf8(hop).ok().and_then(|hop| hop_address(hop.trim())) else { break };
        address = before;
    }
    address
}

/// An address as proxies write it: with or without a port, IPv6 with or without brackets.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = || hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop).parse::<IpAddr>();
    let address = bare().or_else(|_| hop.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::build::{Tables, token as token_of};

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn here() -> IpAddr {
        "192.0.2.7".parse().unwrap()
    }

    fn world() -> World {
        Tables::new()
            .policy("all", &["*"], |_| ())
            .relay_key("good", &["all"], |_| ())
            .relay_key("fresh", &["all"], |key| key.expires_at = Some(NOW + jiff::SignedDuration::from_secs(1)))
            .relay_key("stale", &["all"], |key| key.expires_at = Some(NOW))
            .relay_key("revoked", &["all"], |key| (key.revoked, key.suspended) = (true, true))
            .relay_key("suspended", &["all"], |key| key.suspended = true)
            .relay_key("inside", &["all"], |key| key.allowed_cidrs = vec!["192.0.2.0/24".parse().unwrap()])
            .relay_key("outside", &["all"], |key| key.allowed_cidrs = vec!["10.0.0.0/8".parse().unwrap()])
            .relay_key("broken", &["all"], |key| key.unusable = Some("its policy `p` is gone".into()))
            .world()
    }

    fn outcome(tokens: &[&str]) -> Result<String, Denied> {
        let bearers = Bearers::of(tokens);
        authenticate(&world(), &bearers, here(), NOW).map(|caller| caller.key.id.name.clone())
    }

    #[test]
    fn each_state_of_a_key_has_an_answer_of_its_own() {
        let key = |name: &str| name.to_owned();
        let cases = [
            ("good", Ok("good".to_owned())),
            ("fresh", Ok("fresh".to_owned())),
            ("inside", Ok("inside".to_owned())),
            ("stale", Err(Denied::ExpiredKey { key: key("stale"), at: NOW })),
            ("revoked", Err(Denied::RevokedKey { key: key("revoked") })),
            ("suspended", Err(Denied::SuspendedKey { key: key("suspended") })),
            ("outside", Err(Denied::AddressNotAllowed { key: key("outside"), address: here() })),
            ("broken", Err(Denied::UnusableKey { key: key("broken"), reason: "its policy `p` is gone".into() })),
        ];
        for (name, expected) in cases {
            assert_eq!(outcome(&[&token_of(name)]), expected, "{name}");
        }
    }

    #[test]
    fn a_replaced_token_is_good_until_its_overlap_ends_and_the_new_one_after_it() {
        let replaced = |name: &str, until| table::PreviousToken {
            token_sha256: TokenHash::of(&token_of(name)).to_string(),
            until,
        };
        let world = Tables::new()
            .policy("all", &["*"], |_| ())
            .relay_key("overlap", &["all"], |key| {
                key.previous = Some(replaced("old", NOW + jiff::SignedDuration::from_secs(1)));
            })
            .relay_key("over", &["all"], |key| key.previous = Some(replaced("older", NOW)))
            .world();
        let outcome = |token: &str| {
            let caller = authenticate(&world, &Bearers::of(&[token_of(token).as_str()]), here(), NOW);
            caller.map(|caller| caller.key.id.name.clone())
        };
        assert_eq!(outcome("old"), Ok("overlap".to_owned()));
        assert_eq!(outcome("overlap"), Ok("overlap".to_owned()));
        assert_eq!(outcome("older"), Err(Denied::ExpiredKey { key: "over".to_owned(), at: NOW }));
        assert_eq!(outcome("over"), Ok("over".to_owned()));
    }

    #[test]
    fn missing_mistyped_and_unknown_tokens_are_told_apart() {
        assert_eq!(outcome(&[]), Err(Denied::MissingKey));
        assert_eq!(outcome(&["sk-relay-oops"]), Err(Denied::MistypedKey));
        assert_eq!(outcome(&["sk-proj-of-somebody-else"]), Err(Denied::UnknownKey));
    }

    #[test]
    fn of_several_tokens_the_one_that_is_a_relay_key_counts() {
        assert_eq!(outcome(&["sk-ant-placeholder", &token_of("good")]), Ok("good".into()));
        assert_eq!(outcome(&["sk-relay-oops", &token_of("good")]), Ok("good".into()));
        assert_eq!(outcome(&[&token_of("good"), &token_of("inside")]), Ok("good".into()));
    }

    #[test]
    fn odd_bytes_of_a_client_do_not_hide_the_hop_that_a_proxy_added() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_bytes(b"\xff, 203.0.113.9").unwrap());
        assert_eq!(client_address("10.0.0.1".parse().unwrap(), &headers, &trusted).to_string(), "203.0.113.9");
    }

    #[test]
    fn the_last_hop_that_no_trusted_proxy_made_is_the_caller() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let cases: [(&str, &[&str], &str); 9] = [
            ("198.51.100.1", &["203.0.113.9"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9:4711"], "203.0.113.9"),
            ("10.0.0.1", &["[2001:db8::1]:443, fd00::1"], "2001:db8::1"),
            ("10.0.0.1", &["203.0.113.9, nonsense, 10.0.0.3"], "10.0.0.3"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &[], "10.0.0.1"),
        ];
        for (peer, lines, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            let found = client_address(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(found.to_string(), expected, "{peer} {lines:?}");
        }
    }
}
