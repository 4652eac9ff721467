//! Which addresses are public: everything else may only be connected to where a Host allows it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is on the public internet: not loopback, private, link-local (cloud metadata among them), shared,
/// reserved, multicast or for documentation, also when it is an IPv4 address within an IPv6 one (mapped, compatible,
/// NAT64, 6to4). Source: the IANA special-purpose address registries.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let groups = address.segments();
    let tail = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    if groups[..6] == [0, 0, 0, 0, 0, 0xffff] || groups[..6] == [0; 6] || groups[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return is_public_v4(tail(groups[6], groups[7]));
    }
    if groups[0] == 0x2002 {
        return is_public_v4(tail(groups[1], groups[2]));
    }
    // Only 2000::/3 is global unicast; within it, 2001::/23 is for protocols and 2001:db8::/32 and 3fff::/20 for documents.
    let is_unicast = groups[0] & 0xe000 == 0x2000;
    let is_protocol = groups[0] == 0x2001 && groups[1] < 0x200;
    let is_documentation = (groups[0] == 0x2001 && groups[1] == 0xdb8) || (groups[0] == 0x3fff && groups[1] < 0x1000);
    is_unicast && !is_protocol && !is_documentation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_internet_are_public() {
        for text in ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn special_addresses_are_not_public_in_any_spelling() {
        for text in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "fe80::1",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }
}
