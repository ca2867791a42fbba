//! The layer check: which package may name which.
//!
//! The directions are those of ARCHITECTURE.md. A new edge is added here first, with its reason in the commit.

use anyhow::{Result, bail};
use cargo_metadata::{Dependency, DependencyKind, Package};

use crate::workspace::Workspace;

/// The packages of the workspace that each package may depend on. `overside-testkit` may be everybody's dev-dependency.
const EDGES: &[(&str, &[&str])] = &[
    // pure: they see the words, and not each other
    ("overside-model", &[]),
    ("overside-session", &["overside-model"]),
    ("overside-docker-api", &["overside-model"]),
    ("overside-sync-core", &[]),
    // adapters: they see the words and `io`, and not each other; `docker-api` is the proxy's pure half
    ("overside-io", &["overside-model"]),
    ("overside-proxy", &["overside-model", "overside-io", "overside-docker-api"]),
    ("overside-tunnel", &["overside-model", "overside-io"]),
    ("overside-ports", &["overside-model", "overside-io"]),
    // `sync-core` is its pure half
    ("overside-sync", &["overside-sync-core"]),
    ("overside-config", &["overside-model", "overside-io"]),
    ("overside-control", &["overside-model", "overside-io"]),
    ("overside-ledger", &["overside-model"]),
    ("overside-keyring", &["overside-model"]),
    // runners
    ("overside-runner", &["overside-model", "overside-io"]),
    ("overside-runner-local", &["overside-model", "overside-io", "overside-runner"]),
    // its way leads through an SSH connection of its own, below the one to the agent, and may need a passphrase
    (
        "overside-runner-ssh",
        &["overside-model", "overside-io", "overside-runner", "overside-tunnel", "overside-keyring"],
    ),
    // programs: the engine knows providers by their contract only; `cli` wires the concrete ones
    (
        "overside-engine",
        &[
            "overside-model",
            "overside-session",
            "overside-docker-api",
            "overside-io",
            "overside-proxy",
            "overside-tunnel",
            "overside-ports",
            "overside-sync",
            "overside-sync-core",
            "overside-config",
            "overside-control",
            "overside-ledger",
            "overside-runner",
        ],
    ),
    (
        "overside-cli",
        &[
            "overside-model",
            "overside-io",
            "overside-config",
            "overside-control",
            "overside-ledger",
            "overside-keyring",
            "overside-engine",
            "overside-runner",
            "overside-runner-local",
            "overside-runner-ssh",
        ],
    ),
    // it is the far end of a sync
    ("overside-agent", &["overside-model", "overside-io", "overside-sync"]),
    ("overside-desktop", &["overside-model", "overside-io", "overside-config", "overside-control"]),
    // development
    ("overside-testkit", &["overside-model", "overside-io"]),
    (
        "overside-fuzz",
        &[
            "overside-model",
            "overside-docker-api",
            "overside-io",
            "overside-proxy",
            "overside-sync-core",
            "overside-sync",
        ],
    ),
    ("overside-e2e", &["overside-model", "overside-testkit"]),
    ("overside-conformance-bollard", &[]),
    (
        "overside-desktop-tests",
        &["overside-model", "overside-io", "overside-testkit", "overside-control", "overside-ledger"],
    ),
    // the packages' desktop app comes to the same display and bus as the one that is built
    ("overside-package-tests", &["overside-desktop-tests", "overside-testkit"]),
    ("xtask", &[]),
];

/// Foreign packages that only these may name: one place to change when the library changes.
const RESERVED: &[(&str, &[&str])] = &[
    ("russh", &["overside-tunnel", "overside-agent"]),
    ("hyper", &["overside-proxy", "overside-control", "overside-engine"]),
    ("hyper-util", &["overside-proxy", "overside-control", "overside-engine"]),
    ("keyring-core", &["overside-keyring"]),
    ("kube", &["overside-runner-kubernetes"]),
    ("rusqlite", &["overside-ledger"]),
    ("tauri", &["overside-desktop"]),
    ("tauri-build", &["overside-desktop"]),
];

/// Packages that hold rules and touch nothing.
const PURE: &[&str] = &["overside-model", "overside-session", "overside-docker-api", "overside-sync-core"];

/// What a pure package may use: nothing that opens, connects, waits, tells the time or throws dice.
const PURE_MAY_USE: &[&str] = &[
    "blake3",
    "bytes",
    "bytesize",
    "form_urlencoded",
    "globset",
    "icu_normalizer",
    "http",
    "humantime",
    "jiff",
    "memchr",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
    "ts-rs",
];

/// Fails with every edge that the lists do not have.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let faults: Vec<String> = workspace.packages().into_iter().flat_map(faults_of).collect();
    if !faults.is_empty() {
        bail!("the layers of ARCHITECTURE.md are broken:\n  {}", faults.join("\n  "));
    }
    Ok(())
}

fn faults_of(package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
        return vec![format!("{name} is in no layer; add it to xtask/src/layers.rs")];
    };
    package.dependencies.iter().filter_map(|dependency| fault(name, allowed, dependency)).collect()
}

fn fault(name: &str, allowed: &[&str], dependency: &Dependency) -> Option<String> {
    let other = dependency.name.as_str();
    let development = dependency.kind == DependencyKind::Development;
    if EDGES.iter().any(|(known, _)| *known == other) {
        let welcome = allowed.contains(&other) || (development && other == "overside-testkit");
        return (!welcome).then(|| format!("{name} must not see {other}"));
    }
    if let Some((_, owners)) = RESERVED.iter().find(|(reserved, _)| *reserved == other)
        && !owners.contains(&name)
    {
        return Some(format!("{name} must not name {other}: only {} may", owners.join(", ")));
    }
    if PURE.contains(&name) && !development && !PURE_MAY_USE.contains(&other) {
        return Some(format!("{name} is pure and must not use {other}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_keeps_its_layers() {
        check(&Workspace::find().unwrap()).unwrap();
    }

    #[test]
    fn every_allowed_edge_leads_to_a_package_that_has_a_layer() {
        for other in EDGES.iter().flat_map(|(_, allowed)| allowed.iter()) {
            assert!(EDGES.iter().any(|(name, _)| name == other), "{other}");
        }
    }

    #[test]
    fn no_two_packages_see_each_other() {
        let sees = |a: &str, b: &str| EDGES.iter().any(|(name, allowed)| *name == a && allowed.contains(&b));
        for (a, allowed) in EDGES {
            for b in *allowed {
                assert!(!sees(b, a), "{a} and {b}");
            }
        }
    }
}
