//! Whose key it is: the files of known host keys, as OpenSSH writes and reads them (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).

use std::{
    io,
    path::{Path, PathBuf},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use russh::keys::{HashAlg, PublicKey, ssh_key::Fingerprint};
use sha1::Sha1;

/// What the files say of one host.
#[derive(Debug, Default)]
pub(super) struct KnownHosts {
    keys: Vec<KnownKey>,
    /// Keys of the same host without its port: they vouch for a key, but do not contradict one.
    without_port: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
    /// Keys that may sign certificates for it.
    authorities: Vec<PublicKey>,
}

#[derive(Debug)]
struct KnownKey {
    key: PublicKey,
    file: PathBuf,
    line: usize,
}

/// What the files say of a key that a host shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the host's.
    Known,
    /// The host is not known.
    Unknown,
    /// The host is known by another key.
    Changed {
        /// That key's fingerprint.
        known: String,
        /// Where it stands: file and line.
        place: String,
    },
    /// The key is marked as stolen.
    Revoked,
}

impl KnownHosts {
    /// Looks a host up, by its name and, where that is another, its name without the port. Files that do not exist, and
    /// lines that are no keys, say nothing.
    ///
    /// # Errors
    /// A file that cannot be read: it might say that a key is another's.
    pub(super) fn look_up(name: &str, without_port: &str, files: &[PathBuf]) -> io::Result<Self> {
        let mut known = Self::default();
        for file in files {
            match fs_err::read(file) {
                Ok(bytes) => known.read(name, without_port, &String::from_utf8_lossy(&bytes), file),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(known)
    }

    fn read(&mut self, name: &str, without_port: &str, text: &str, file: &Path) {
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut fields = line.split_whitespace();
            let mut first = fields.next().unwrap_or_default();
            let marker = first.starts_with('@').then_some(first);
            if marker.is_some() {
                first = fields.next().unwrap_or_default();
            }
            let (Some(algorithm), Some(data)) = (fields.next(), fields.next()) else { continue };
            let named = matches(first, name);
            if !named && (name == without_port || !matches(first, without_port)) {
                continue;
            }
            let Ok(key) = PublicKey::from_openssh(&format!("{algorithm} {data}")) else { continue };
            match marker {
                Some("@revoked") => self.revoked.push(key),
                Some("@cert-authority") => self.authorities.push(key),
                Some(_) => {}
                None if named => self.keys.push(KnownKey { key, file: file.to_owned(), line: index + 1 }),
                None => self.without_port.push(key),
            }
        }
    }

    /// Judges a key that the host shows.
    pub(super) fn judge(&self, shown: &PublicKey) -> Verdict {
        let is = |key: &PublicKey| key.key_data() == shown.key_data();
        if self.revoked.iter().any(is) {
            return Verdict::Revoked;
        }
        if self.keys.iter().any(|known| is(&known.key)) || self.without_port.iter().any(is) {
            return Verdict::Known;
        }
        // One of the same kind says most. A host that shows another kind has lost the key it had: kinds that are known were
        // asked for first.
        let same_kind = self.keys.iter().find(|known| known.key.algorithm() == shown.algorithm());
        match same_kind.or_else(|| self.keys.first()) {
            None => Verdict::Unknown,
            Some(known) => Verdict::Changed {
                known: fingerprint(&known.key),
                place: format!("{}:{}", known.file.display(), known.line),
            },
        }
    }

    /// Kinds of keys that the host is known by: they are asked for first.
    pub(super) fn known_keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.iter().map(|known| &known.key).chain(&self.without_port)
    }

    /// Whose signatures make a certificate the host's.
    pub(super) fn authorities(&self) -> Vec<Fingerprint> {
        let revoked = |key: &&PublicKey| !self.revoked.iter().any(|other| other.key_data() == key.key_data());
        self.authorities.iter().filter(revoked).map(|key| key.fingerprint(HashAlg::Sha256)).collect()
    }
}

/// As OpenSSH shows it: `SHA256:…`.
pub(super) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// Whether a line's list of hosts names this one. `name` is in lower case.
fn matches(list: &str, name: &str) -> bool {
    if let Some(hashed) = list.strip_prefix("|1|") {
        return is_hash_of(hashed, name);
    }
    let mut found = false;
    for pattern in list.split(',') {
        let (negated, pattern) = pattern.strip_prefix('!').map_or((false, pattern), |pattern| (true, pattern));
        if wild_match(&pattern.to_lowercase(), name) {
            if negated {
                return false;
            }
            found = true;
        }
    }
    found
}

fn is_hash_of(hashed: &str, name: &str) -> bool {
    use russh::keys::ssh_encoding::base64::{Base64, Encoding as _};
    let Some((salt, hash)) = hashed.split_once('|') else { return false };
    let (Ok(salt), Ok(hash)) = (Base64::decode_vec(salt), Base64::decode_vec(hash)) else { return false };
    Hmac::<Sha1>::new_from_slice(&salt).is_ok_and(|hmac| hmac.chain_update(name).verify_slice(&hash).is_ok())
}

/// Whether a text is of a pattern's form: `*` stands for anything, `?` for one character.
pub fn wild_match(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(one) if *one == '?' || *one == text[t] => {
                p += 1;
                t += 1;
            }
            // The last star takes one character more.
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

/// Adds a key to a file of known hosts, for this user alone.
///
/// # Errors
/// The system's; the file is then as it was.
pub(super) fn remember(file: &Path, name: &str, key: &PublicKey) -> io::Result<()> {
    let mut text = match fs_err::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let line = PublicKey::from(key.key_data().clone()).to_openssh().map_err(io::Error::other)?;
    text.push_str(&format!("{name} {line}\n"));
    if let Some(parent) = file.parent() {
        fs_err::create_dir_all(parent)?;
    }
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes to set"))]
    let mut options = atomic_write_file::OpenOptions::new();
    #[cfg(unix)]
    {
        use atomic_write_file::unix::OpenOptionsExt;
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600).preserve_mode(true);
    }
    let mut file = options.open(file)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use russh::keys::{Algorithm, PrivateKey};

    use super::*;

    fn key() -> PublicKey {
        PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap().public_key().clone()
    }

    fn look_up(name: &str, text: &str) -> KnownHosts {
        let mut known = KnownHosts::default();
        let without_port = name.trim_start_matches('[').split("]:").next().unwrap();
        known.read(name, without_port, text, Path::new("known_hosts"));
        known
    }

    fn line(hosts: &str, key: &PublicKey) -> String {
        format!("{hosts} {}\n", key.to_openssh().unwrap())
    }

    #[test]
    fn a_key_is_known_unknown_changed_or_revoked() {
        let (right, wrong) = (key(), key());
        let text = format!("# comment\n\n{}nonsense\n", line("office,10.0.0.1", &right));
        assert_eq!(look_up("office", &text).judge(&right), Verdict::Known);
        assert_eq!(look_up("10.0.0.1", &text).judge(&right), Verdict::Known);
        assert_eq!(look_up("elsewhere", &text).judge(&right), Verdict::Unknown);
        let changed = look_up("office", &text).judge(&wrong);
        assert_eq!(changed, Verdict::Changed { known: fingerprint(&right), place: "known_hosts:3".into() });
        let text = format!("{text}@revoked * {}", line("", &right).trim_start());
        assert_eq!(look_up("office", &text).judge(&right), Verdict::Revoked);
    }

    #[test]
    fn a_host_that_shows_another_kind_of_key_than_the_known_ones_has_changed() {
        let rsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHwf2HMM5TRXvo2SQJjsNkiDD5KqiiNjrGVv3UUh+mMT5RHxiRtOnlqvjhQtBq0VpmpCV/PwUdhOig4vkbqAcEc=";
        assert!(matches!(look_up("office", &format!("office {rsa}\n")).judge(&key()), Verdict::Changed { .. }));
    }

    #[test]
    fn a_port_belongs_to_the_name_and_a_key_without_it_vouches_but_does_not_contradict() {
        let (right, other) = (key(), key());
        let text = line("[office]:2222", &right);
        assert_eq!(look_up("[office]:2222", &text).judge(&right), Verdict::Known);
        assert_eq!(look_up("office", &text).judge(&right), Verdict::Unknown);
        let text = line("office", &right);
        assert_eq!(look_up("[office]:2222", &text).judge(&right), Verdict::Known);
        assert_eq!(look_up("[office]:2222", &text).judge(&other), Verdict::Unknown);
    }

    #[test]
    fn patterns_match_as_in_openssh() {
        let right = key();
        let text = line("*.example.org,!bad.example.org,db?", &right);
        for (name, verdict) in [
            ("www.example.org", Verdict::Known),
            ("bad.example.org", Verdict::Unknown),
            ("example.org", Verdict::Unknown),
            ("db1", Verdict::Known),
            ("db12", Verdict::Unknown),
        ] {
            assert_eq!(look_up(name, &text).judge(&right), verdict, "{name}");
        }
        assert!(wild_match("a*b*c", "aXbYbc") && !wild_match("a*b*c", "aXbY") && wild_match("*", ""));
    }

    #[test]
    fn a_hashed_name_is_recognised() {
        // Made by `ssh-keygen -H` of a line for example.com, as russh's own test has it.
        let line = "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF\n";
        let right = PublicKey::from_openssh(line.split_once(' ').unwrap().1).unwrap();
        assert_eq!(look_up("example.com", line).judge(&right), Verdict::Known);
        assert_eq!(look_up("example.net", line).judge(&right), Verdict::Unknown);
    }

    #[test]
    fn what_is_remembered_is_known_from_then_on() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deep/known_hosts");
        let (one, two) = (key(), key());
        remember(&file, "[office]:2222", &one).unwrap();
        remember(&file, "farm", &two).unwrap();
        let look = |name: &str| KnownHosts::look_up(name, name, std::slice::from_ref(&file)).unwrap();
        assert_eq!(look("[office]:2222").judge(&one), Verdict::Known);
        assert_eq!(look("farm").judge(&two), Verdict::Known);
        assert!(KnownHosts::look_up("x", "x", &[directory.path().join("missing")]).is_ok());
        assert!(KnownHosts::look_up("x", "x", &[directory.path().to_owned()]).is_err());
    }
}
