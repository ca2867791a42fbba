//! Where a body names files outside of its container, in all the spellings that an engine knows.

use crate::{
    BodyKind, HostBind, IfMissing, Laptop, Refusal,
    json::Part,
    paths::{Meaning, clean},
};

/// A path that stands in a body.
pub(crate) struct Found<'a> {
    /// The string that it stands in, at its beginning.
    pub(crate) part: Part<'a>,
    /// What follows it in that string.
    pub(crate) rest: String,
    pub(crate) meaning: Meaning,
    /// All but its path and its masks.
    pub(crate) bind: HostBind,
}

pub(crate) struct Finder<'a, 'l> {
    laptop: Laptop<'l>,
    /// What is bound, whatever its path means.
    pub(crate) places: Vec<Found<'a>>,
    /// Names of the volumes that it uses.
    pub(crate) volumes: Vec<String>,
    /// Targets that volumes and temporary file systems are mounted over.
    pub(crate) over: Vec<String>,
}

impl<'a, 'l> Finder<'a, 'l> {
    /// Reads a body as the engine would.
    pub(crate) fn find(kind: BodyKind, root: Part<'a>, laptop: Laptop<'l>) -> Result<Self, Refusal> {
        let mut finder = Self { laptop, places: Vec::new(), volumes: Vec::new(), over: Vec::new() };
        match kind {
            BodyKind::Container => {
                // Engines before 23.0 take the host configuration's members from the top level where there is no other.
                finder.host_config(root)?;
                if let Some(host_config) = root.member("HostConfig")? {
                    finder.host_config(host_config)?;
                }
                finder.cover(root.member("Volumes")?)?;
            }
            BodyKind::Start => finder.host_config(root)?,
            BodyKind::Volume => finder.volume_driver(root, "Driver", "DriverOpts", String::new())?,
            BodyKind::Service => {
                if let Some(template) = root.member("TaskTemplate")?
                    && let Some(container) = template.member("ContainerSpec")?
                {
                    finder.mounts(container)?;
                }
            }
        }
        Ok(finder)
    }

    fn host_config(&mut self, host_config: Part<'a>) -> Result<(), Refusal> {
        for bind in elements(host_config, "Binds")? {
            self.bind(bind)?;
        }
        self.mounts(host_config)?;
        self.cover(host_config.member("Tmpfs")?)
    }

    /// The keys of a map are covered.
    fn cover(&mut self, map: Option<Part<'a>>) -> Result<(), Refusal> {
        for (target, _) in map.map_or(Ok(Vec::new()), Part::entries)? {
            self.over.extend(target.starts_with('/').then(|| clean(&target)));
        }
        Ok(())
    }

    /// A bind in `-v` syntax: a source, a target and options, or less.
    fn bind(&mut self, part: Part<'a>) -> Result<(), Refusal> {
        let Some(text) = part.text()? else { return Ok(()) };
        let Some(colon) = end_of_source(&text, self.laptop.windows) else {
            self.over.extend(text.starts_with('/').then(|| clean(&text)));
            return Ok(());
        };
        let (source, rest) = text.split_at(colon);
        let (target, options) = rest[1..].split_once(':').unwrap_or((&rest[1..], ""));
        let meaning = self.laptop.meaning(source)?;
        let is_whole = target.starts_with('/');
        if meaning == Meaning::Relative {
            // A volume's name, or something that the engine refuses.
            if is_whole {
                self.volumes.push(source.to_owned());
                self.over.push(clean(target));
            }
            return Ok(());
        }
        let bind = HostBind {
            source: source.to_owned(),
            path: String::new(),
            target: if is_whole { clean(target) } else { String::new() },
            read_only: options.split(',').any(|option| option == "ro"),
            // The engine refuses one without a target.
            if_missing: if is_whole { IfMissing::Create } else { IfMissing::Leave },
            through_volume: false,
            masks: Vec::new(),
        };
        self.places.push(Found { part, rest: rest.to_owned(), meaning, bind });
        Ok(())
    }

    fn mounts(&mut self, owner: Part<'a>) -> Result<(), Refusal> {
        for mount in elements(owner, "Mounts")? {
            let target = text(mount, "Target")?.filter(|target| target.starts_with('/'));
            let target = target.map(|target| clean(&target)).unwrap_or_default();
            match text(mount, "Type")?.as_deref() {
                Some("bind") => self.bind_mount(mount, target)?,
                Some("volume") => {
                    self.volumes.extend(text(mount, "Source")?.filter(|name| !name.is_empty()));
                    self.over.push(target.clone());
                    if let Some(options) = mount.member("VolumeOptions")?
                        && let Some(config) = options.member("DriverConfig")?
                    {
                        self.volume_driver(config, "Name", "Options", target)?;
                    }
                }
                Some("tmpfs" | "image") => self.over.push(target),
                _ => {}
            }
        }
        Ok(())
    }

    fn bind_mount(&mut self, mount: Part<'a>, target: String) -> Result<(), Refusal> {
        let Some(part) = mount.member("Source")? else { return Ok(()) };
        // Without a path it is the engine's to refuse.
        let Some(source) = part.text()?.filter(|source| !source.is_empty()) else { return Ok(()) };
        let meaning = self.laptop.meaning(&source)?;
        let creates = match mount.member("BindOptions")? {
            Some(options) => flag(options, "CreateMountpoint")?,
            None => false,
        };
        let bind = HostBind {
            source,
            path: String::new(),
            target,
            read_only: flag(mount, "ReadOnly")?,
            if_missing: if creates { IfMissing::Create } else { IfMissing::Refuse },
            through_volume: false,
            masks: Vec::new(),
        };
        self.places.push(Found { part, rest: String::new(), meaning, bind });
        Ok(())
    }

    /// A volume of the local driver with `o=bind` is a bind mount in disguise.
    fn volume_driver(&mut self, owner: Part<'a>, driver: &str, options: &str, target: String) -> Result<(), Refusal> {
        let driver = text(owner, driver)?.unwrap_or_default();
        let Some(options) = owner.member(options)?.filter(|_| driver.is_empty() || driver == "local") else {
            return Ok(());
        };
        let flags = options.entry("o")?.map_or(Ok(None), Part::text)?.unwrap_or_default();
        if !flags.split(',').any(|flag| matches!(flag, "bind" | "rbind")) {
            return Ok(());
        }
        let Some(part) = options.entry("device")? else { return Ok(()) };
        let Some(source) = part.text()?.filter(|source| !source.is_empty()) else { return Ok(()) };
        let meaning = self.laptop.meaning(&source)?;
        if meaning == Meaning::Relative {
            // The engine would look where it happens to run.
            return Err(Refusal::NoSuchKind { path: source, reason: "a volume's device must be an absolute path" });
        }
        let bind = HostBind {
            source,
            path: String::new(),
            target,
            read_only: flags.split(',').any(|flag| flag == "ro"),
            if_missing: IfMissing::Leave,
            through_volume: true,
            masks: Vec::new(),
        };
        self.places.push(Found { part, rest: String::new(), meaning, bind });
        Ok(())
    }
}

fn elements<'a>(owner: Part<'a>, name: &str) -> Result<Vec<Part<'a>>, Refusal> {
    owner.member(name)?.map_or(Ok(Vec::new()), Part::elements)
}

fn text(owner: Part<'_>, name: &str) -> Result<Option<String>, Refusal> {
    owner.member(name)?.map_or(Ok(None), Part::text)
}

fn flag(owner: Part<'_>, name: &str) -> Result<bool, Refusal> {
    Ok(owner.member(name)?.is_some_and(|part| part.json() == "true"))
}

/// Where the source of a bind in `-v` syntax ends; None if it has none. After a drive there is a colon, too: but `a:/b` is the
/// one-letter volume a, and `a:/b:ro` is that with an option.
fn end_of_source(bind: &str, windows: bool) -> Option<usize> {
    let first = bind.find(':')?;
    if !windows {
        return Some(first);
    }
    let verbatim = if bind.starts_with(r"\\?\") || bind.starts_with("//?/") { 4 } else { 0 };
    let bytes = &bind.as_bytes()[verbatim..];
    let drive =
        bytes.first().is_some_and(u8::is_ascii_alphabetic) && matches!(bytes.get(1..3), Some([b':', b'/' | b'\\']));
    if !drive {
        return Some(first);
    }
    let second = bind[verbatim + 2..].find(':').map(|at| at + verbatim + 2);
    // What is bound has a target.
    second.filter(|second| verbatim > 0 || bind[second + 1..].starts_with('/')).or(Some(first))
}
