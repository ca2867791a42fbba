//! Published ports: what a container offers, and where.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// A transport protocol of published ports. SCTP, the engine's third, has no sockets on most laptops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A stream.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// Its name in Docker's API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Tcp, Self::Udp].into_iter().find(|protocol| protocol.name() == name).ok_or(())
    }
}

/// One address, port and protocol under which a container can be reached: the same on the laptop as beside the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publication {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The address as it was given to Docker; unspecified for all of them.
    pub address: IpAddr,
    /// 1 to 65,535; 0 where the engine has yet to choose one.
    pub port: u16,
}

impl Publication {
    /// Address and port.
    pub const fn socket(self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// The same for this machine only.
    #[must_use]
    pub const fn on_loopback(self) -> Self {
        let address = match self.address {
            address if address.is_loopback() => address,
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        Self { address, ..self }
    }

    /// Whether both cannot be listened on at the same time.
    pub fn overlaps(self, other: Self) -> bool {
        let everywhere = self.address.is_unspecified() || other.address.is_unspecified();
        self.protocol == other.protocol
            && self.port == other.port
            && self.address.is_ipv4() == other.address.is_ipv4()
            && (everywhere || self.address == other.address)
    }
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.protocol.name(), self.socket())
    }
}

/// Reads what [`Publication`] writes, `tcp:127.0.0.1:8080`.
impl FromStr for Publication {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (protocol, socket) = text.split_once(':').ok_or(())?;
        let socket: SocketAddr = socket.parse().map_err(|_| ())?;
        if matches!(socket, SocketAddr::V6(v6) if v6.scope_id() != 0) {
            return Err(());
        }
        Ok(Self { protocol: protocol.parse()?, address: socket.ip(), port: socket.port() })
    }
}

/// Which of the laptop's ports containers reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HostAccess {
    /// Every one.
    #[default]
    All,
    /// These only; none if there are none.
    Ports(Vec<RangeInclusive<u16>>),
}

impl HostAccess {
    /// Reads `3000,8000-8100`; None if it is something else.
    pub fn of_ports(text: &str) -> Option<Self> {
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first > 0 && first <= last).then_some(first..=last)
        };
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        ranges.map(Self::Ports)
    }

    /// Whether a port may be reached.
    pub fn allows(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Ports(ranges) => ranges.iter().any(|range| range.contains(&port)),
        }
    }
}

/// As [`HostAccess::of_ports`] reads it.
impl fmt::Display for HostAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Ports(ranges) = self else { return f.write_str("1-65535") };
        for (index, range) in ranges.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(text: &str) -> Publication {
        text.parse().unwrap()
    }

    #[test]
    fn a_publication_is_written_and_read_back() {
        for text in ["tcp:127.0.0.1:80", "udp:0.0.0.0:53", "tcp:[::]:443", "udp:[fd00::1]:1"] {
            assert_eq!(publication(text).to_string(), text);
        }
        for text in ["", "tcp", "tcp:", "sctp:1.2.3.4:1", "tcp:localhost:1", "tcp:1.2.3.4", "tcp:1.2.3.4:65536"] {
            assert!(text.parse::<Publication>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_overlaps_with_itself_and_with_all_of_its_family() {
        let everywhere = publication("tcp:0.0.0.0:80");
        for (text, overlaps) in [
            ("tcp:127.0.0.1:80", true),
            ("tcp:0.0.0.0:80", true),
            ("tcp:127.0.0.1:81", false),
            ("udp:127.0.0.1:80", false),
            ("tcp:[::]:80", false),
        ] {
            assert_eq!(everywhere.overlaps(publication(text)), overlaps, "{text}");
            assert_eq!(publication(text).overlaps(everywhere), overlaps, "{text}");
        }
        assert!(!publication("tcp:127.0.0.1:80").overlaps(publication("tcp:127.0.0.2:80")));
    }

    #[test]
    fn ports_to_be_reached_are_numbers_and_ranges() {
        let some = HostAccess::of_ports("3000, 8000-8100").unwrap();
        assert!(some.allows(3000) && some.allows(8100) && !some.allows(3001));
        assert_eq!(some.to_string(), "3000,8000-8100");
        for text in ["", "0", "5-4", "a", "1-", "70000", "1,,2"] {
            assert_eq!(HostAccess::of_ports(text), None, "{text}");
        }
        assert!(HostAccess::All.allows(1) && !HostAccess::Ports(Vec::new()).allows(1));
    }

    #[test]
    fn on_loopback_stays_in_its_family() {
        for (text, loopback) in [
            ("tcp:0.0.0.0:80", "tcp:127.0.0.1:80"),
            ("tcp:192.0.2.1:80", "tcp:127.0.0.1:80"),
            ("tcp:127.0.0.9:80", "tcp:127.0.0.9:80"),
            ("udp:[::]:80", "udp:[::1]:80"),
        ] {
            assert_eq!(publication(text).on_loopback().to_string(), loopback);
        }
    }
}
