//! An entry of XDG autostart.

use std::{
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::write_atomically;

/// Says that the file is ours to change.
const MARK: &str = "X-Overside=true";

pub(super) fn set(program: &Path, moved: Option<&Path>, on: bool) -> io::Result<()> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "this user has no directory for settings");
    let directory = dirs::config_dir().ok_or_else(missing)?.join("autostart");
    set_in(&directory, program, moved, on)
}

fn set_in(directory: &Path, program: &Path, moved: Option<&Path>, on: bool) -> io::Result<()> {
    let path = directory.join(name(moved));
    let present = match fs_err::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let is_ours = present.as_ref().is_none_or(|text| text.lines().any(|line| line == MARK));
    match (on, present) {
        _ if !is_ours => Ok(()),
        // Desktops that list these entries switch one off so.
        (true, Some(text)) if text.lines().any(|line| line.trim() == "Hidden=true") => Ok(()),
        (true, Some(text)) if text == entry(program, moved) => Ok(()),
        (true, _) => write_atomically(&path, entry(program, moved).as_bytes()),
        (false, Some(_)) => fs_err::remove_file(&path),
        (false, None) => Ok(()),
    }
}

/// One file for each home.
fn name(moved: Option<&Path>) -> PathBuf {
    match moved {
        None => "overside.desktop".into(),
        Some(home) => {
            let digest = Sha256::digest(home.as_os_str().as_encoded_bytes());
            format!("overside-{:02x}{:02x}{:02x}{:02x}.desktop", digest[0], digest[1], digest[2], digest[3]).into()
        }
    }
}

fn entry(program: &Path, moved: Option<&Path>) -> String {
    let home = moved.map(|home| format!("env {} ", quoted(&format!("OVERSIDE_HOME={}", home.display()))));
    let command = format!("{}{} --background", home.unwrap_or_default(), quoted(&program.display().to_string()));
    format!(
        "[Desktop Entry]\nType=Application\nName=Overside\nComment=Containers elsewhere, as if they were here\n\
         Exec={command}\nIcon=overside\nTerminal=false\n{MARK}\n"
    )
}

/// An argument as a desktop entry has it: its own quotes, within a string with escapes, with no field codes.
fn quoted(argument: &str) -> String {
    let mut quoted = String::from("\"");
    for character in argument.chars() {
        match character {
            '\\' => quoted.push_str(r"\\\\"),
            '"' | '`' | '$' => quoted.extend([r"\\", character.encode_utf8(&mut [0; 4])]),
            '%' => quoted.push_str("%%"),
            '\n' => quoted.push_str(r"\n"),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        directory: tempfile::TempDir,
        program: PathBuf,
    }

    impl Fixture {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap(), program: "/opt/overside/overside-desktop".into() }
        }

        fn set(&self, moved: Option<&str>, on: bool) {
            set_in(&self.directory.path().join("autostart"), &self.program, moved.map(Path::new), on).unwrap();
        }

        fn file(&self) -> PathBuf {
            self.directory.path().join("autostart/overside.desktop")
        }

        fn text(&self) -> Option<String> {
            fs_err::read_to_string(self.file()).ok()
        }
    }

    #[test]
    fn the_entry_comes_and_goes_and_follows_the_program() {
        let mut f = Fixture::new();
        f.set(None, false);
        f.set(None, true);
        f.set(None, true);
        let text = f.text().unwrap();
        assert!(text.contains("\nExec=\"/opt/overside/overside-desktop\" --background\n"), "{text}");
        f.program = "/usr/bin/overside-desktop".into();
        f.set(None, true);
        assert!(f.text().unwrap().contains("\"/usr/bin/overside-desktop\""));
        f.set(None, false);
        assert_eq!(f.text(), None);
    }

    #[test]
    fn what_the_user_switched_off_in_the_desktop_stays_off() {
        let f = Fixture::new();
        f.set(None, true);
        let hidden = f.text().unwrap() + "Hidden=true\n";
        fs_err::write(f.file(), &hidden).unwrap();
        f.set(None, true);
        assert_eq!(f.text(), Some(hidden));
    }

    #[test]
    fn an_entry_of_the_users_own_is_left_alone() {
        let f = Fixture::new();
        f.set(None, true);
        let own = "[Desktop Entry]\nExec=overside-desktop\n".to_owned();
        fs_err::write(f.file(), &own).unwrap();
        for on in [true, false] {
            f.set(None, on);
            assert_eq!(f.text().as_ref(), Some(&own));
        }
    }

    #[test]
    fn a_home_of_its_own_has_an_entry_of_its_own() {
        let f = Fixture::new();
        f.set(Some("/srv/one 100% \"$HOME\""), true);
        f.set(Some("/srv/two"), true);
        assert_eq!(f.text(), None);
        let entries: Vec<String> = fs_err::read_dir(f.directory.path().join("autostart"))
            .unwrap()
            .map(|entry| fs_err::read_to_string(entry.unwrap().path()).unwrap())
            .collect();
        assert_eq!(entries.len(), 2);
        let exec = "Exec=env \"OVERSIDE_HOME=/srv/one 100%% \\\\\"\\\\$HOME\\\\\"\" \"/opt/overside/overside-desktop\"";
        assert!(entries.iter().any(|entry| entry.contains(exec)), "{entries:?}");
    }
}
