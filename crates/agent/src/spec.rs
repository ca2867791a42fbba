//! Reading and checking what the provider wants.

use std::{io::BufRead, path::Path};

use overside_model::{
    ErrorCode, Problem,
    agent::{EnvironmentSpec, MAX_LINE, PROTOCOL},
};
use russh::keys::PublicKey;

use crate::problem::internal;

/// Longest path of a Unix socket that every system can connect to.
const LONGEST_SOCKET_PATH: usize = 104;

/// Name of the agent's socket in the environment's directory.
pub(crate) const SOCKET: &str = "agent.sock";

/// Reads the one line and checks it.
pub(crate) fn read(input: impl BufRead) -> Result<(EnvironmentSpec, PublicKey), Problem> {
    let mut line = String::new();
    let mut input = input.take(u64::try_from(MAX_LINE).unwrap_or(u64::MAX) + 1);
    input.read_line(&mut line).map_err(|error| internal(format!("reading the specification failed: {error}")))?;
    if line.len() > MAX_LINE {
        return Err(internal(format!("the specification is longer than {MAX_LINE} bytes")));
    }
    let protocol = serde_json::from_str::<serde_json::Value>(&line).ok().and_then(|spec| spec["protocol"].as_u64());
    if let Some(protocol) = protocol
        && protocol != u64::from(PROTOCOL)
    {
        return Err(Problem::new(
            ErrorCode::AgentIncompatible,
            format!("this agent speaks protocol {PROTOCOL}, and is asked for protocol {protocol}"),
            "Install `overside` and `overside-agent` of the same version",
        ));
    }
    let spec: EnvironmentSpec =
        serde_json::from_str(&line).map_err(|error| internal(format!("the specification makes no sense: {error}")))?;
    check_directory(&spec.directory)?;
    let key = PublicKey::from_openssh(&spec.client_key)
        .map_err(|error| internal(format!("the client key of the specification cannot be read: {error}")))?;
    Ok((spec, key))
}

fn check_directory(directory: &Path) -> Result<(), Problem> {
    let normal = directory.is_absolute()
        && directory.parent().is_some()
        && !directory.components().any(|part| matches!(part, std::path::Component::ParentDir));
    if !normal {
        return Err(internal(format!("{} is not the absolute path of a directory", directory.display())));
    }
    let socket = directory.join(SOCKET);
    if socket.as_os_str().len() > LONGEST_SOCKET_PATH {
        return Err(Problem::new(
            ErrorCode::SocketPath,
            format!("the socket's path {} is longer than {LONGEST_SOCKET_PATH} bytes", socket.display()),
            "Let the runner keep its environments in a directory with a shorter path",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEDuGPi86mfs7j+GTuUUNzahWfSF4+Ihia/l1+3NHf5F";

    fn read_with(change: impl FnOnce(&mut serde_json::Value)) -> Result<(EnvironmentSpec, PublicKey), Problem> {
        let mut spec = serde_json::json!({
            "protocol": PROTOCOL, "id": "e-2345678923", "directory": "/tmp/e", "client_key": KEY,
            "limits": { "milli_cpus": 1000, "memory_bytes": 1 << 30, "pids": 100 },
            "lease": { "grace_ms": 1, "lost_contact_ms": 2 }, "from_the_future": true,
        });
        change(&mut spec);
        read(format!("{spec}\n").as_bytes())
    }

    #[test]
    fn a_specification_is_read_and_unknown_fields_are_ignored() {
        let (spec, key) = read_with(|_| ()).unwrap();
        assert_eq!(spec.id.as_str(), "e-2345678923");
        assert_eq!(key.algorithm(), russh::keys::Algorithm::Ed25519);
    }

    #[test]
    fn an_agent_of_another_protocol_says_so_even_if_it_cannot_read_the_rest() {
        let problem = read(&b"{\"protocol\":99,\"strange\":{}}\n"[..]).unwrap_err();
        assert_eq!(problem.code, ErrorCode::AgentIncompatible);
    }

    #[test]
    fn a_socket_path_that_is_too_long_is_refused() {
        let problem = read_with(|spec| spec["directory"] = format!("/tmp/{}", "x".repeat(100)).into()).unwrap_err();
        assert_eq!(problem.code, ErrorCode::SocketPath);
    }

    #[test]
    fn a_directory_that_is_not_one_absolute_path_is_refused() {
        for directory in ["relative", "/", "/tmp/../etc"] {
            assert!(read_with(|spec| spec["directory"] = directory.into()).is_err(), "{directory}");
        }
    }

    #[test]
    fn nonsense_and_endless_lines_are_refused() {
        assert!(read(&b""[..]).is_err());
        assert!(read(&b"Welcome to Ubuntu\n"[..]).is_err());
        assert!(read("x".repeat(MAX_LINE * 2).as_bytes()).is_err());
        assert!(read_with(|spec| spec["client_key"] = "ssh-rsa no".into()).is_err());
    }
}
