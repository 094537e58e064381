//! A range of IP addresses, such as those that the operator's proxies have.

use std::fmt;
use std::net::IpAddr;

/// The addresses that begin with the same bits: `10.0.0.0/8`, `2001:db8::/32`; one alone is `192.0.2.1/32`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    first: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// Reads an address, with or without `/` and the number of bits that count. An IPv4 address in IPv6 (RFC 4291
    /// §2.5.5.2) is not taken: addresses are compared as IPv4.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let example = || "write an address or a network, as in 10.0.0.0/8 or 2001:db8::/32".to_owned();
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| example())?;
        if address.to_canonical() != address {
            return Err(format!("write {} for IPv4", address.to_canonical()));
        }
        let width = width(address);
        let is_number = |bits: &&str| !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        let prefix_bits = match bits {
            None => width,
            Some(bits) => Some(bits)
                .filter(is_number)
                .and_then(|bits| bits.parse().ok())
                .filter(|bits| *bits <= width)
                .ok_or_else(example)?,
        };
        let first = masked(address, prefix_bits);
        if first != address {
            return Err(format!("write {first}/{prefix_bits}: the address has bits beyond its prefix"));
        }
        Ok(Self { first, prefix_bits })
    }

    /// Whether `address` is one of them; an IPv4 address in IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.prefix_bits) == self.first
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix_bits == width(self.first) {
            return self.first.fmt(f);
        }
        write!(f, "{}/{}", self.first, self.prefix_bits)
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// `address` with all bits after the first `bits` cleared.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits.into())).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a21_a_network_holds_what_begins_with_its_bits_and_nothing_else() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("192.0.2.128/25", "192.0.2.255", "192.0.2.127"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"),
            ("::1", "::1", "::2"),
            ("::/0", "ffff::", "127.0.0.1"),
            ("127.0.0.0/8", "::ffff:127.1.2.3", "::7f01:203"),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{inside} in {network}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{outside} in {network}");
            assert_eq!(parsed.to_string(), network);
            assert_eq!(Network::parse(&parsed.to_string()), Ok(parsed));
        }
    }

    #[test]
    fn what_is_no_network_is_told_what_to_write() {
        for bad in
            ["", "10", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "proxy", "10.0.0.0/8/8", " ::1"]
        {
            let fix = Network::parse(bad).unwrap_err();
            assert_eq!(fix, "write an address or a network, as in 10.0.0.0/8 or 2001:db8::/32", "{bad}");
        }
        let fix = Network::parse("10.1.2.3/8").unwrap_err();
        assert_eq!(fix, "write 10.0.0.0/8: the address has bits beyond its prefix");
        assert_eq!(Network::parse("::ffff:10.0.0.1").unwrap_err(), "write 10.0.0.1 for IPv4");
    }
}
