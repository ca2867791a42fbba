//! Xfce's panel and notification server, as people have them, on a desktop that has nothing else of Xfce.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use overside_testkit::{Running, run};

use crate::{Desk, SOON, TrayHost};

/// The panel at the top of the screen, with a place for tray items at its right end.
const PANEL: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<channel name="xfce4-panel" version="1.0">
  <property name="configver" type="int" value="2"/>
  <property name="panels" type="array">
    <value type="int" value="1"/>
    <property name="panel-1" type="empty">
      <property name="position" type="string" value="p=6;x=0;y=0"/>
      <property name="position-locked" type="bool" value="true"/>
      <property name="length" type="uint" value="100"/>
      <property name="size" type="uint" value="28"/>
      <property name="plugin-ids" type="array"><value type="int" value="1"/><value type="int" value="2"/></property>
    </property>
  </property>
  <property name="plugins" type="empty">
    <property name="plugin-1" type="string" value="separator">
      <property name="expand" type="bool" value="true"/>
      <property name="style" type="uint" value="0"/>
    </property>
    <property name="plugin-2" type="string" value="systray">
      <property name="square-icons" type="bool" value="true"/>
    </property>
  </property>
</channel>
"#;

/// Programs of Xfce on a desktop. Dropped, they are gone.
pub struct Xfce<'a> {
    desk: &'a Desk,
    // In the order in which they are dropped: who asks for settings before who has them.
    _program: Running,
    _settings: Running,
}

impl<'a> Xfce<'a> {
    /// Starts the panel and waits until it takes tray items.
    ///
    /// # Errors
    /// It is missing, or does not start.
    pub fn panel(desk: &'a Desk) -> Result<Self> {
        let place = desk.home().scratch().join("user/.config/xfce4/xfconf/xfce-perchannel-xml");
        fs_err::create_dir_all(&place)?;
        fs_err::write(place.join("xfce4-panel.xml"), PANEL)?;
        let mut panel = desk.home().command("xfce4-panel");
        panel.arg("--disable-wm-check");
        Self::start(desk, &mut panel, "org.kde.StatusNotifierWatcher")
    }

    /// Starts the notification server and waits until it serves.
    ///
    /// # Errors
    /// It is missing, or does not start.
    pub fn notifications(desk: &'a Desk) -> Result<Self> {
        let mut server = desk.home().command(library("notifyd/xfce4-notifyd")?);
        Self::start(desk, &mut server, "org.freedesktop.Notifications")
    }

    fn start(desk: &'a Desk, program: &mut Command, name: &str) -> Result<Self> {
        // The bus starts nothing by itself.
        let settings = Running::spawn(&mut desk.home().command(library("xfconf/xfconfd")?))?;
        desk.wait_until("settings are served", || TrayHost::is_on_bus(desk, "org.xfce.Xfconf"))?;
        let program = Running::spawn(program)?;
        desk.wait_until(&format!("{name} is served"), || TrayHost::is_on_bus(desk, name))?;
        Ok(Self { desk, _program: program, _settings: settings })
    }

    /// Waits until a notification is on the screen, and tells where: left, top, width, height.
    ///
    /// # Errors
    /// None comes.
    pub fn notification(&self) -> Result<[i32; 4]> {
        self.desk.wait_until("a notification is on the screen", || Ok(self.shown()?.is_some()))?;
        self.shown()?.context("the notification has gone")
    }

    /// Waits until no notification is on the screen.
    ///
    /// # Errors
    /// One stays.
    pub fn wait_until_empty(&self) -> Result<()> {
        self.desk.wait_until("no notification is on the screen", || Ok(self.shown()?.is_none()))
    }

    /// Clicks a place of the screen.
    ///
    /// # Errors
    /// `xdotool` is missing.
    pub fn click(&self, left: i32, top: i32, button: u8) -> Result<()> {
        let (left, top, button) = (left.to_string(), top.to_string(), button.to_string());
        let mut click = self.desk.home().command("xdotool");
        run(click.args(["mousemove", "--sync", &left, &top, "click", &button]), SOON)?.success().map(drop)
    }

    /// Waits until the panel has opened a menu.
    ///
    /// # Errors
    /// It opens none.
    pub fn wait_for_menu(&self) -> Result<()> {
        self.desk.wait_until("the panel opens a menu", || {
            let mut search = self.desk.home().command("xdotool");
            let found = run(search.args(["search", "--onlyvisible", "--class", "Wrapper"]), SOON)?.out();
            // The place of tray items is one such window itself.
            Ok(found.lines().count() > 1)
        })
    }

    fn shown(&self) -> Result<Option<[i32; 4]>> {
        let xdotool = |arguments: &[&str]| run(self.desk.home().command("xdotool").args(arguments), SOON);
        let found = xdotool(&["search", "--onlyvisible", "--class", "xfce4-notifyd"])?.out();
        let Some(window) = found.lines().next() else { return Ok(None) };
        let geometry = xdotool(&["getwindowgeometry", "--shell", window])?.out();
        let value = |name: &str| {
            geometry.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')?.parse::<i32>().ok())
        };
        Ok(value("X").zip(value("Y")).zip(value("WIDTH").zip(value("HEIGHT"))).map(|((x, y), (w, h))| [x, y, w, h]))
    }
}

/// A program that Debian keeps below the directory of libraries, which is named by the kind of machine.
fn library(path: &str) -> Result<PathBuf> {
    let places = fs_err::read_dir("/usr/lib")?.flatten().map(|entry| entry.path().join("xfce4").join(path));
    places.into_iter().find(|file| file.exists()).with_context(|| format!("there is no xfce4/{path}"))
}
