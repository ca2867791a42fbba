//! A real OpenSSH server whose accounts, home directories and sudo rules are the test's own.

use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    TempHome,
    process::{LIMIT, Running, run},
};

/// The ordinary user's name.
pub const USER: &str = "runner";
/// That user's number: nobody's on any machine.
const USER_ID: u32 = 4_321;
/// Ports are taken by others between the choice and the use; so often another is tried.
const ATTEMPTS: usize = 5;

/// What is special about a server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup<'a> {
    /// Further lines of its configuration.
    pub config: &'a str,
    /// What the login shells run first.
    pub bashrc: &'a str,
    /// Rules for sudo; without any, the ordinary user may do nothing with it.
    pub sudoers: &'a str,
    /// Shell lines that are run as root before it starts, where mounts concern it alone. `$1` is its directory, below which
    /// every user has `home/NAME`.
    pub before: &'a str,
    /// The network namespace that it lives in, and its address there; without one it is on the machine's loopback.
    pub network: Option<(&'a Path, Ipv4Addr)>,
    /// Whether the ordinary user runs it, who is then the only one whom it lets in.
    pub ordinary: bool,
}

/// The server. Dropped, it is killed with all of its connections.
///
/// It runs in a mount namespace with files of its own in /etc: root's home directory is not the machine's, the ordinary user
/// [`USER`] exists nowhere else, and /var/lib is empty. What it starts is found by [`TempHome`] as the home's own.
pub struct Sshd {
    /// Its users' files.
    place: PathBuf,
    /// Its own, which do not make it a part of Overside.
    own: PathBuf,
    process: Running,
    address: SocketAddrV4,
}

impl Sshd {
    /// Starts one and waits until it listens. The home's user has a key that both users of the server accept.
    ///
    /// # Errors
    /// It ended instead; says why. It needs root.
    pub fn start(home: &TempHome, setup: Setup<'_>) -> Result<Self> {
        Self::named(home, "", setup)
    }

    /// [`Self::start`], where there is another server in the same home already.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn named(home: &TempHome, name: &str, setup: Setup<'_>) -> Result<Self> {
        // Begins with the path of Overside's own directory, by which everything of the home's is found, and is not inside of
        // it, since that is closed to other users.
        let mut place = home.overside_home().into_os_string();
        place.push(format!("-host{name}"));
        let place = PathBuf::from(place);
        let own = home.scratch().join(format!("sshd{name}"));
        prepare(home, &place, &own, setup)?;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let address = SocketAddrV4::new(setup.network.map_or(Ipv4Addr::LOCALHOST, |(_, address)| address), port);
            match begin(&place, &own, setup, address) {
                Ok(process) => return Ok(Self { place, own, process, address }),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt was made")?)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The address of a runner there.
    pub fn address(&self, user: &str) -> String {
        address(user, self.address)
    }

    /// The fingerprint of its host key.
    ///
    /// # Errors
    /// ssh-keygen fails.
    pub fn fingerprint(&self) -> Result<String> {
        let mut list = Command::new("ssh-keygen");
        let listed = run(list.arg("-lf").arg(self.own.join("host-key.pub")), LIMIT)?.success()?.out();
        Ok(listed.split(' ').nth(1).context("ssh-keygen lists no fingerprint")?.to_owned())
    }

    /// The line that makes its host key known.
    ///
    /// # Errors
    /// The key cannot be read.
    pub fn known_hosts_line(&self) -> Result<String> {
        let key = fs_err::read_to_string(self.own.join("host-key.pub"))?;
        Ok(format!("[{}]:{} {key}", self.address.ip(), self.address.port()))
    }

    /// The home directory of one of its users.
    pub fn user_home(&self, user: &str) -> PathBuf {
        self.place.join("home").join(user)
    }

    /// Everything below its users' home directories and its /var/lib, as paths from there.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut open = vec![self.place.join("home"), self.place.join("lib")];
        while let Some(directory) = open.pop() {
            for entry in fs_err::read_dir(directory)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    open.push(entry.path());
                }
                found.push(entry.path().strip_prefix(&self.place)?.display().to_string());
            }
        }
        found.sort();
        Ok(found)
    }

    /// What it has said so far.
    ///
    /// # Errors
    /// It does not say `text` within `limit`.
    pub fn wait_for_log(&self, text: &str, limit: Duration) -> Result<String> {
        self.process.wait_for_error(text, limit)
    }
}

/// The address of a runner.
pub(crate) fn address(user: &str, place: SocketAddrV4) -> String {
    format!("ssh://{user}@{place}")
}

/// Writes everything that the server needs, and the user's key.
fn prepare(home: &TempHome, place: &Path, own: &Path, setup: Setup<'_>) -> Result<()> {
    let open = |path: &Path| fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755));
    for directory in ["", "etc", "home", "home/root", "home/runner", "lib"] {
        fs_err::create_dir(place.join(directory))?;
        open(&place.join(directory))?;
    }
    fs_err::create_dir(own)?;
    // Ordinary users go through the directories above.
    for directory in [own, home.scratch()] {
        open(directory)?;
    }
    let ssh = home.scratch().join("user/.ssh");
    fs_err::create_dir_all(&ssh)?;
    let keygen = |path: &Path| {
        let mut keygen = home.command("ssh-keygen");
        run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path), LIMIT)?.success()
    };
    keygen(&own.join("host-key"))?;
    if !ssh.join("id_ed25519").exists() {
        keygen(&ssh.join("id_ed25519"))?;
    }
    fs_err::copy(ssh.join("id_ed25519.pub"), own.join("authorized"))?;
    open(&own.join("authorized"))?;
    if setup.ordinary {
        chown(own.join("host-key"), Some(USER_ID), Some(USER_ID))?;
    }
    let homes = place.join("home").display().to_string();
    let write = |name: &str, text: String| fs_err::write(place.join("etc").join(name), text);
    write(
        "passwd",
        format!(
            "root:x:0:0::{homes}/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n\
             {USER}:x:{USER_ID}:{USER_ID}::{homes}/{USER}:/bin/bash\n"
        ),
    )?;
    write("shadow", format!("root:*:19000:0:99999:7:::\n{USER}:*:19000:0:99999:7:::\n"))?;
    write("group", format!("root:x:0:\nnogroup:x:65534:\n{USER}:x:{USER_ID}:\n"))?;
    write("subuid", format!("{USER}:1200000000:65536\n"))?;
    write("subgid", format!("{USER}:1200000000:65536\n"))?;
    write("sudoers", setup.sudoers.to_owned())?;
    fs_err::set_permissions(place.join("etc/sudoers"), std::fs::Permissions::from_mode(0o440))?;
    for user in ["root", USER] {
        let bashrc = place.join("home").join(user).join(".bashrc");
        fs_err::write(&bashrc, setup.bashrc)?;
    }
    chown(place.join("home").join(USER), Some(USER_ID), Some(USER_ID))?;
    Ok(())
}

/// Puts the files into their places, then becomes the server.
const SCRIPT: &str = r#"cd "$1"
for f in passwd shadow group subuid subgid sudoers; do
  [ -e /etc/$f ] || touch /etc/$f
  mount --bind etc/$f /etc/$f
done
mknod tun c 10 200 2>/dev/null || true
chmod 666 tun
mkdir -p /run/sshd /dev/net
[ -e /dev/net/tun ] || touch /dev/net/tun
mount --bind tun /dev/net/tun
mount --bind lib /var/lib
"#;

fn begin(place: &Path, own: &Path, setup: Setup<'_>, address: SocketAddrV4) -> Result<Running> {
    let at = own.display();
    let configuration = format!(
        "ListenAddress {address}\nHostKey {at}/host-key\nAuthorizedKeysFile {at}/authorized\nPidFile none\nUsePAM no\n\
         StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
         MaxStartups 100:30:200\n{}\n",
        setup.config
    );
    let file = own.join("sshd_config");
    fs_err::write(&file, configuration)?;
    let _ = fs_err::remove_file(place.join("tun"));
    let mut command = Command::new(if setup.network.is_some() { "nsenter" } else { "env" });
    command.args(setup.network.map(|(network, _)| format!("--net={}", network.display())));
    command.args(["unshare", "--mount", "--propagation", "private", "sh", "-euc"]);
    let by = if setup.ordinary {
        format!("setpriv --reuid {USER_ID} --regid {USER_ID} --clear-groups ")
    } else {
        String::new()
    };
    // sshd wants to know its own absolute path, since it starts itself again for each connection.
    command.arg(format!("{SCRIPT}\n{}\nexec {by}/usr/sbin/sshd -D -e -f {}", setup.before, file.display()));
    command.arg("sh").arg(place);
    let mut process = Running::spawn(&mut command)?;
    process.close_stdin();
    if let Err(error) = process.wait_for_error("Server listening", LIMIT) {
        bail!("no OpenSSH server: {error:#}");
    }
    Ok(process)
}
