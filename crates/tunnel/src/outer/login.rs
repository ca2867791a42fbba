//! Logging in: with the SSH agent's keys, those of files, and certificates for either, in OpenSSH's order.

use overside_model::{ErrorCode, Problem, Question};
use russh::{
    MethodKind, Signer,
    client::{AuthResult, Handle},
    keys::{Algorithm, Certificate, HashAlg, PrivateKeyWithHashAlg, PublicKey, agent::AgentIdentity},
};

use super::{
    Blocked, Host,
    agent::{self, Agent},
    connect::Handler,
    identity::{Identity, Keys, Secret, load_certificate},
    known_hosts::fingerprint,
};

/// What an attempt came to.
enum Attempt {
    /// In; by what.
    In(String),
    /// The server does not want this key.
    Refused,
    /// It does, and wants something else besides.
    Partial(String),
    /// It does, but the key is encrypted.
    Locked,
}

/// Logs in.
///
/// # Errors
/// [`ErrorCode::KeyLocked`] with its question, where a passphrase would help; else [`ErrorCode::RunnerRefused`], with what was
/// tried.
pub(super) async fn log_in(handle: &mut Handle<Handler>, host: &Host, keys: &Keys) -> Result<String, Blocked> {
    let offered = match handle.authenticate_none(&host.user).await.map_err(|error| broken(host, &error))? {
        AuthResult::Success => return Ok("without any key".to_owned()),
        AuthResult::Failure { remaining_methods, .. } => remaining_methods,
    };
    if !offered.contains(&MethodKind::PublicKey) {
        let methods: Vec<&str> = offered.iter().map(<&str>::from).collect();
        return Err(Problem::new(
            ErrorCode::RunnerRefused,
            format!("{} lets {} in by {} only, not by a key", host.name, host.user, methods.join(" or ")),
            "Allow PubkeyAuthentication in its sshd_config, and add your public key to ~/.ssh/authorized_keys there.",
        )
        .into());
    }
    let mut attempts = Attempts { handle, host, tried: Vec::new(), rsa: None };
    let mut locked = None;
    let identities: Vec<Identity> = host.identities.iter().filter_map(|path| Identity::load(path, keys)).collect();
    let certificates: Vec<Certificate> = host.certificates.iter().filter_map(|path| load_certificate(path)).collect();
    let mut in_agent: Vec<PublicKey> = Vec::new();
    if let Some(mut agent) = agent::connect(&host.agent).await {
        for known in agent_identities(&mut agent, &identities, host.identities_only).await {
            let key = key_of(&known).clone();
            let beside = identities.iter().filter(|identity| identity.public().is_some_and(|public| is(public, &key)));
            let matching = beside.flat_map(|identity| &identity.certificates).chain(&certificates);
            for certificate in matching.filter(|certificate| *certificate.public_key() == *key.key_data()) {
                let attempt = attempts.with_agent(certified(certificate), &mut agent).await?;
                if let Some(end) = attempts.end(attempt)? {
                    return Ok(end);
                }
            }
            let attempt = attempts.with_agent(known, &mut agent).await?;
            if let Some(end) = attempts.end(attempt)? {
                return Ok(end);
            }
            in_agent.push(key);
        }
    }
    for identity in &identities {
        if identity.public().is_some_and(|public| in_agent.iter().any(|key| is(key, public))) {
            continue;
        }
        match attempts.with_file(identity, &certificates).await? {
            Attempt::Locked => {
                locked.get_or_insert_with(|| identity.path.display().to_string());
            }
            attempt => {
                if let Some(end) = attempts.end(attempt)? {
                    return Ok(end);
                }
            }
        }
    }
    Err(match locked {
        Some(key) => Blocked {
            problem: Problem::new(
                ErrorCode::KeyLocked,
                format!("{} lets {} in by the key {key}, which is encrypted", host.name, host.user),
                "Enter its passphrase with `overside runner unlock`, or add it to your SSH agent with `ssh-add`.",
            ),
            question: Some(Box::new(Question::Passphrase { key })),
        },
        None => attempts.refused().into(),
    })
}

struct Attempts<'a> {
    handle: &'a mut Handle<Handler>,
    host: &'a Host,
    tried: Vec<String>,
    /// What the server can do with RSA keys, once that was asked.
    rsa: Option<Option<HashAlg>>,
}

impl Attempts<'_> {
    /// Whether this was the end.
    fn end(&mut self, attempt: Attempt) -> Result<Option<String>, Blocked> {
        match attempt {
            Attempt::In(how) => Ok(Some(how)),
            Attempt::Refused | Attempt::Locked => Ok(None),
            Attempt::Partial(what) => Err(Problem::new(
                ErrorCode::RunnerRefused,
                format!("{} wants more than a key of {}: {what} as well", self.host.name, self.host.user),
                "Overside has no way to answer that; allow the key alone for this user.",
            )
            .into()),
        }
    }

    fn of(&self, result: &AuthResult, how: String) -> Attempt {
        match result {
            AuthResult::Success => Attempt::In(how),
            AuthResult::Failure { partial_success: true, remaining_methods } => {
                let methods: Vec<&str> = remaining_methods.iter().map(<&str>::from).collect();
                Attempt::Partial(methods.join(" or "))
            }
            AuthResult::Failure { .. } => Attempt::Refused,
        }
    }

    /// Fails where the server has hung up: it takes a few keys only.
    fn still_there(&self) -> Result<(), Blocked> {
        if self.handle.is_closed() { Err(self.refused().into()) } else { Ok(()) }
    }

    /// The hash for a key: RSA keys have a choice.
    async fn hash(&mut self, algorithm: Algorithm) -> Option<HashAlg> {
        if !matches!(algorithm, Algorithm::Rsa { .. }) {
            return None;
        }
        if self.rsa.is_none() {
            let best = self.handle.best_supported_rsa_hash().await.ok().flatten();
            // A server that does not say what it can do mostly can do this.
            self.rsa = Some(best.unwrap_or(Some(HashAlg::Sha256)));
        }
        self.rsa.flatten()
    }

    async fn with_file(&mut self, identity: &Identity, certificates: &[Certificate]) -> Result<Attempt, Blocked> {
        self.still_there()?;
        let path = identity.path.display();
        match &identity.secret {
            Secret::Open(key) => {
                let ours = |certificate: &&Certificate| *certificate.public_key() == *key.public_key().key_data();
                for certificate in identity.certificates.iter().chain(certificates).filter(ours) {
                    self.tried.push(format!("the certificate for {path}"));
                    let (key, certificate) = (key.clone(), certificate.clone());
                    let result = self.handle.authenticate_openssh_cert(&self.host.user, key, certificate).await;
                    let result = result.map_err(|error| broken(self.host, &error))?;
                    match self.of(&result, format!("with the certificate for {path}")) {
                        Attempt::Refused => self.still_there()?,
                        attempt => return Ok(attempt),
                    }
                }
                self.tried.push(path.to_string());
                let hash = self.hash(key.algorithm()).await;
                let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
                let result = self.handle.authenticate_publickey(&self.host.user, key).await;
                let result = result.map_err(|error| broken(self.host, &error))?;
                Ok(self.of(&result, format!("with the key {path}")))
            }
            // Nobody is asked for the passphrase of a key that would not help.
            Secret::Locked(Some(public)) => {
                self.tried.push(format!("{path} (encrypted)"));
                let hash = self.hash(public.algorithm()).await;
                let mut probe = Probe { wanted: false };
                let user = &self.host.user;
                let _ = self.handle.authenticate_publickey_with(user, public.clone(), hash, &mut probe).await;
                Ok(if probe.wanted { Attempt::Locked } else { Attempt::Refused })
            }
            Secret::Locked(None) => Ok(Attempt::Locked),
        }
    }

    /// One attempt with something that the agent signs for.
    async fn with_agent(&mut self, identity: AgentIdentity, agent: &mut Agent) -> Result<Attempt, Blocked> {
        self.still_there()?;
        let public = key_of(&identity);
        let hash = self.hash(public.algorithm()).await;
        let user = &self.host.user;
        let result = match identity {
            AgentIdentity::PublicKey { key, .. } => {
                self.handle.authenticate_publickey_with(user, key, hash, agent).await
            }
            AgentIdentity::Certificate { certificate, .. } => {
                self.handle.authenticate_certificate_with(user, certificate, hash, agent).await
            }
        };
        let name = format!("the agent's {}", fingerprint(&public));
        self.tried.push(name.clone());
        match result {
            Ok(result) => Ok(self.of(&result, format!("with {name}"))),
            Err(error) => {
                // Locked, or the person at it said no; there may be other keys.
                tracing::debug!(%error, "the SSH agent does not sign");
                Ok(Attempt::Refused)
            }
        }
    }

    fn refused(&self) -> Problem {
        let Host { name, user, .. } = self.host;
        let tried = if self.tried.is_empty() { "there is no key to try".to_owned() } else { self.tried.join(", ") };
        let hint = if self.tried.is_empty() {
            format!("Make a key with `ssh-keygen`, and add it with `ssh-copy-id {user}@{name}`.")
        } else {
            format!("Check with `ssh {user}@{name}`; `ssh-copy-id {user}@{name}` adds your key there.")
        };
        Problem::new(ErrorCode::RunnerRefused, format!("{name} does not let {user} in (tried: {tried})"), hint)
    }
}

/// The agent's keys in the order to try them: those that the configuration names first, others only where they may be used.
async fn agent_identities(agent: &mut Agent, wanted: &[Identity], only: bool) -> Vec<AgentIdentity> {
    let identities = match agent.request_identities().await {
        Ok(identities) => identities,
        Err(error) => {
            tracing::debug!(%error, "the SSH agent does not say which keys it has");
            return Vec::new();
        }
    };
    let place = |identity: &AgentIdentity| {
        let key = key_of(identity);
        wanted.iter().position(|wanted| wanted.public().is_some_and(|public| is(public, &key)))
    };
    let (mut first, others): (Vec<_>, Vec<_>) = identities.into_iter().partition(|identity| place(identity).is_some());
    first.sort_by_key(place);
    if !only {
        first.extend(others);
    }
    first
}

fn certified(certificate: &Certificate) -> AgentIdentity {
    AgentIdentity::Certificate { certificate: certificate.clone(), comment: String::new() }
}

fn key_of(identity: &AgentIdentity) -> PublicKey {
    match identity {
        AgentIdentity::PublicKey { key, .. } => key.clone(),
        AgentIdentity::Certificate { certificate, .. } => PublicKey::from(certificate.public_key().clone()),
    }
}

fn is(one: &PublicKey, other: &PublicKey) -> bool {
    one.key_data() == other.key_data()
}

fn broken(host: &Host, error: &russh::Error) -> Problem {
    Problem::new(
        ErrorCode::RunnerUnreachable,
        format!("the connection to {} broke at the login: {error}", host.name),
        "Try again; its sshd's log says more.",
    )
}

/// Asked to sign, it has found out that the server wants the key, which is all it is for.
struct Probe {
    wanted: bool,
}

/// It never signs.
#[derive(Debug)]
struct OnlyAsking;

impl From<russh::SendError> for OnlyAsking {
    fn from(_: russh::SendError) -> Self {
        Self
    }
}

impl Signer for Probe {
    type Error = OnlyAsking;

    async fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        _hash: Option<HashAlg>,
        _data: Vec<u8>,
    ) -> Result<Vec<u8>, OnlyAsking> {
        self.wanted = true;
        Err(OnlyAsking)
    }
}
