//! What the engine tells of a container, and of its ports: those that it is to have, and those that it has.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use overside_model::{Protocol, Publication};
use serde_json::{Map, Value};

use crate::Mounted;

/// Most ports that are read of one container. One published range may have thousands.
const MOST: usize = 16_384;

/// A port that a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Where.
    pub at: Publication,
    /// The container's own port.
    pub container_port: u16,
}

/// A port that a container is to have when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The addresses: both unspecified ones where none was given.
    pub addresses: Vec<IpAddr>,
    /// The numbers that the engine may choose from; None for its own range.
    pub ports: Option<RangeInclusive<u16>>,
}

impl Wanted {
    /// Where it will be, if that is known beforehand.
    pub fn fixed(&self) -> Vec<Publication> {
        let port = self.ports.clone().filter(|ports| ports.start() == ports.end()).map(|ports| *ports.start());
        let at = |port| self.addresses.iter().map(move |address| (*address, port));
        port.into_iter()
            .flat_map(at)
            .map(|(address, port)| Publication { protocol: self.protocol, address, port })
            .collect()
    }
}

/// What `GET /containers/{}/json` tells, as far as ports and the laptop's files depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// Its full identifier.
    pub id: String,
    /// Its name without the leading slash.
    pub name: String,
    /// Its image, as it was named.
    pub image: String,
    /// Whether it runs; a paused one does.
    pub running: bool,
    /// Its first process beside the engine, if it has the engine's own network.
    pub host_process: Option<u32>,
    /// The engine removes it when it has ended.
    pub removes_itself: bool,
    /// The ports that it is to have.
    pub wanted: Vec<Wanted>,
    /// The ports that it has.
    pub published: Vec<Published>,
    /// Who its processes are, as it was named.
    pub user: String,
    /// What it mounts from outside.
    pub mounted: Mounted,
}

impl Container {
    /// Reads the answer to an inspection. What makes no sense is left out.
    pub fn of(inspection: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let host = &inspection["HostConfig"];
        let running = inspection["State"]["Running"].as_bool().unwrap_or(false);
        let mut wanted: Vec<Wanted> = ports(&host["PortBindings"])
            .flat_map(|(protocol, _, bindings)| bindings.iter().filter_map(move |binding| want(protocol, binding)))
            .take(MOST)
            .collect();
        if host["PublishAllPorts"].as_bool() == Some(true) {
            let bound: BTreeSet<(Protocol, u16)> =
                ports(&host["PortBindings"]).map(|(protocol, port, _)| (protocol, port)).collect();
            let exposed = inspection["Config"]["ExposedPorts"].as_object().into_iter().flat_map(Map::keys);
            let others = exposed.filter_map(|key| port_key(key)).filter(|key| !bound.contains(key));
            wanted.extend(others.map(|(protocol, _)| Wanted { protocol, addresses: everywhere(), ports: None }));
        }
        // Of a container that has ended the engine may still tell the ports that it had.
        let settings = if running { &inspection["NetworkSettings"]["Ports"] } else { &Value::Null };
        let published = ports(settings)
            .flat_map(|(protocol, container_port, bindings)| {
                bindings.iter().filter_map(move |binding| publication(protocol, container_port, binding))
            })
            .take(MOST)
            .collect();
        let on_host = running && host["NetworkMode"].as_str() == Some("host");
        let process = inspection["State"]["Pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        Self {
            id: text(&inspection["Id"]),
            name: text(&inspection["Name"]).trim_start_matches('/').to_owned(),
            image: text(&inspection["Config"]["Image"]),
            running,
            host_process: process.filter(|pid| on_host && *pid > 0),
            removes_itself: host["AutoRemove"].as_bool().unwrap_or(false),
            wanted,
            published,
            user: text(&inspection["Config"]["User"]),
            mounted: Mounted::of(inspection),
        }
    }
}

fn everywhere() -> Vec<IpAddr> {
    vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
}

/// `80/tcp`, as the engine names a container's port.
fn port_key(key: &str) -> Option<(Protocol, u16)> {
    let (port, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    Some((protocol.parse().ok()?, port.parse().ok()?))
}

fn ports(map: &Value) -> impl Iterator<Item = (Protocol, u16, &Vec<Value>)> {
    map.as_object().into_iter().flatten().filter_map(|(key, bindings)| {
        let (protocol, port) = port_key(key)?;
        Some((protocol, port, bindings.as_array()?))
    })
}

fn want(protocol: Protocol, binding: &Value) -> Option<Wanted> {
    let addresses = match binding["HostIp"].as_str().unwrap_or_default() {
        "" => everywhere(),
        // What is no address the engine refuses by itself.
        address => vec![address.parse().ok()?],
    };
    let ports = match binding["HostPort"].as_str().unwrap_or_default() {
        "" | "0" => None,
        text => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
            (first != 0 || last != 0).then_some(first..=last)
        }
    };
    Some(Wanted { protocol, addresses, ports })
}

fn publication(protocol: Protocol, container_port: u16, binding: &Value) -> Option<Published> {
    let port = binding["HostPort"].as_str()?.parse().ok().filter(|port| *port != 0)?;
    let address = match binding["HostIp"].as_str()? {
        "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        address => address.parse().ok()?,
    };
    Some(Published { at: Publication { protocol, address, port }, container_port })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn inspection(host: &Value, ports: &Value) -> Value {
        json!({
            "Id": "abc", "Name": "/web", "State": { "Running": true }, "HostConfig": host,
            "Config": { "Image": "nginx", "ExposedPorts": { "80/tcp": {}, "53/udp": {}, "9/sctp": {} } },
            "NetworkSettings": { "Ports": ports },
        })
    }

    #[test]
    fn what_a_container_is_to_have_is_read_with_addresses_ranges_and_choices() {
        let host = json!({ "AutoRemove": true, "PortBindings": {
            "80/tcp": [{ "HostIp": "", "HostPort": "8080" }, { "HostIp": "127.0.0.1", "HostPort": "" }],
            "53/udp": [{ "HostIp": "::1", "HostPort": "8000-8010" }],
            "9/sctp": [{ "HostIp": "", "HostPort": "9" }],
            "1/tcp": null,
        }});
        let container = Container::of(&inspection(&host, &json!({})));
        assert!(container.removes_itself);
        let fixed: Vec<String> =
            container.wanted.iter().flat_map(Wanted::fixed).map(|publication| publication.to_string()).collect();
        assert_eq!(fixed, ["tcp:0.0.0.0:8080", "tcp:[::]:8080"]);
        let ranges: Vec<_> = container.wanted.iter().map(|wanted| wanted.ports.clone()).collect();
        assert_eq!(ranges.len(), 3);
        assert!(ranges.contains(&None) && ranges.contains(&Some(8000..=8010)));
    }

    #[test]
    fn publishing_everything_wants_what_the_image_exposes() {
        let host = json!({ "PublishAllPorts": true, "PortBindings": { "80/tcp": [{ "HostPort": "8080" }] } });
        let wanted = Container::of(&inspection(&host, &json!({}))).wanted;
        assert_eq!(wanted.len(), 2);
        assert_eq!(wanted[1], Wanted { protocol: Protocol::Udp, addresses: everywhere(), ports: None });
    }

    #[test]
    fn what_a_container_has_is_read_only_while_it_runs() {
        let ports = json!({
            "80/tcp": [{ "HostIp": "0.0.0.0", "HostPort": "8080" }, { "HostIp": "::", "HostPort": "8080" }],
            "53/udp": [{ "HostIp": "127.0.0.1", "HostPort": "0" }], "81/tcp": null,
        });
        let mut inspection = inspection(&json!({}), &ports);
        let published: Vec<String> =
            Container::of(&inspection).published.iter().map(|published| published.at.to_string()).collect();
        assert_eq!(published, ["tcp:0.0.0.0:8080", "tcp:[::]:8080"]);
        inspection["State"]["Running"] = false.into();
        assert!(Container::of(&inspection).published.is_empty());
    }

    #[test]
    fn the_process_is_told_of_a_container_that_runs_in_the_engines_network() {
        let mut inspection = inspection(&json!({ "NetworkMode": "host" }), &json!({}));
        inspection["State"]["Pid"] = 77.into();
        assert_eq!(Container::of(&inspection).host_process, Some(77));
        inspection["HostConfig"]["NetworkMode"] = "bridge".into();
        assert_eq!(Container::of(&inspection).host_process, None);
        inspection["HostConfig"]["NetworkMode"] = "host".into();
        inspection["State"]["Running"] = false.into();
        assert_eq!(Container::of(&inspection).host_process, None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic(key in "[0-9]{0,6}/?[a-z]{0,4}", address in "\\PC{0,12}", port in "[0-9-]{0,12}") {
            let binding = json!({ key: [{ "HostIp": address, "HostPort": port }] });
            Container::of(&inspection(&json!({ "PortBindings": binding }), &binding));
        }
    }
}
