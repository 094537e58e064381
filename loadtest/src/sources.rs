//! Source addresses. One address has some 28,000 ports for each destination, so many connections from
//! one machine need many addresses; on loopback all of 127.0.0.0/8 is ours.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// More addresses than this are surely a mistake in the range.
const ADDRESSES_MAX: usize = 4096;
/// Fewest addresses on loopback.
const ADDRESSES_MIN: usize = 59;
/// Addresses of one 127.0.x: 2 to 254.
const ADDRESSES_PER_NET: usize = 253;
/// One port of so many is used. The kernel tries the even ones first, one after another: of an address that
/// is more than half full each further connection costs a long search.
const PORTS_PER_CONNECTION: usize = 3;

/// The addresses to connect from, used in turn. Empty: the kernel chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Vec<Ipv4Addr>);

impl Sources {
    /// What is sensible for these destinations with so many connections to each, where an address has so many ports:
    /// on loopback as many addresses as leave two thirds of their ports free, else the kernel's choice.
    pub fn suitable_for(
        destinations: impl IntoIterator<Item = SocketAddr>,
        connections: usize,
        ports: usize,
    ) -> Self {
        let mut destinations = destinations.into_iter();
        if !destinations.all(|address| address.is_ipv4() && address.ip().is_loopback()) {
            return Self::default();
        }
        let count = connections.div_ceil((ports / PORTS_PER_CONNECTION).max(1));
        let count = count.clamp(ADDRESSES_MIN, ADDRESSES_MAX);
        let address = |index| {
            let (net, last) = (index / ADDRESSES_PER_NET, index % ADDRESSES_PER_NET + 2);
            Ipv4Addr::new(127, 0, net as u8, last as u8)
        };
        Self((0..count).map(address).collect())
    }

    /// Reads `A-B,C,…`.
    ///
    /// # Errors
    /// One line that names the wrong part.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut addresses = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let parse = |address: &str| {
                let address = address.trim();
                address
                    .parse::<Ipv4Addr>()
                    .map_err(|_| format!("'{address}' in --sources is not an IPv4 address"))
            };
            let (first, last) = (u32::from(parse(first)?), u32::from(parse(last)?));
            if last < first || (last - first) as usize + addresses.len() >= ADDRESSES_MAX {
                return Err(format!(
                    "'{part}' in --sources is not a range of at most {ADDRESSES_MAX} addresses"
                ));
            }
            addresses.extend((first..=last).map(Ipv4Addr::from));
        }
        Ok(Self(addresses))
    }

    /// The address for the connection with this number.
    pub fn pick(&self, number: usize) -> Option<IpAddr> {
        (!self.0.is_empty()).then(|| IpAddr::V4(self.0[number % self.0.len()]))
    }

    /// How many connections to one destination they allow, with this many ports each.
    pub fn capacity(&self, ports: usize) -> usize {
        self.0.len().max(1).saturating_mul(ports)
    }
}

/// How many local ports one address has: `net.ipv4.ip_local_port_range`.
pub fn ports_per_address() -> usize {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = range.split_whitespace().filter_map(|bound| bound.parse::<usize>().ok());
    match (bounds.next(), bounds.next()) {
        (Some(low), Some(high)) if high >= low => high - low + 1,
        _ => 28_232,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_loopback_no_address_uses_more_than_a_third_of_its_ports() {
        let here = || ["127.0.0.1:80".parse::<SocketAddr>().unwrap()];
        let count_for = |connections| Sources::suitable_for(here(), connections, 28_232).0.len();
        assert_eq!((count_for(1), count_for(500_000)), (59, 59));
        for connections in [600_000, 1_000_000, 3_000_000] {
            let count = count_for(connections);
            assert!(connections.div_ceil(count) <= 28_232 / 3 && connections / (count - 1) > 28_232 / 3);
        }
        let many = Sources::suitable_for(here(), usize::MAX, 28_232);
        assert_eq!(many.0.len(), ADDRESSES_MAX);
        let at = |number| many.pick(number).unwrap().to_string();
        assert_eq!(
            [at(0), at(58), at(252), at(253), at(4095)],
            ["127.0.0.2", "127.0.0.60", "127.0.0.254", "127.0.1.2", "127.0.16.49"]
        );
        assert!(many.0.iter().all(|address| (2..=254).contains(&address.octets()[3])));
        assert_eq!(Sources::suitable_for(["192.0.2.1:80".parse().unwrap()], 9, 9), Sources::default());
    }

    #[test]
    fn ranges_and_lists_are_read() {
        let sources = Sources::parse("127.0.0.2-127.0.0.4,127.1.0.1").unwrap();
        assert_eq!(sources.capacity(10), 40);
        assert_eq!(sources.pick(3), Some("127.1.0.1".parse().unwrap()));
        assert_eq!(sources.pick(4), Some("127.0.0.2".parse().unwrap()));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "x", "127.0.0.5-127.0.0.2", "127.0.0.0-127.9.0.0"] {
            assert!(Sources::parse(text).is_err(), "{text}");
        }
    }
}
