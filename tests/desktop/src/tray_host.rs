//! A tray host: the other side of StatusNotifierItem and of its menu.

use std::{
    collections::HashMap,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use zbus::{
    blocking::{Connection, Proxy, connection, proxy::Builder},
    proxy::CacheProperties,
    zvariant::{OwnedValue, Value},
};

use crate::{Desk, SOON};

/// A panel that shows tray items. Dropped, it is gone from the bus.
pub struct TrayHost {
    connection: Connection,
    registered: Receiver<String>,
}

struct Watcher {
    registered: Sender<String>,
}

#[zbus::interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    fn register_status_notifier_item(&self, service: &str) {
        // Nobody listens any more while the test ends.
        let _ = self.registered.send(service.to_owned());
    }

    #[zbus(property)]
    fn is_status_notifier_host_registered(&self) -> bool {
        true
    }

    #[zbus(property)]
    fn protocol_version(&self) -> i32 {
        0
    }
}

impl TrayHost {
    /// Comes to the desktop's bus.
    ///
    /// # Errors
    /// There is one already.
    pub fn start(desk: &Desk) -> Result<Self> {
        let (sender, registered) = channel();
        let connection = connection::Builder::address(desk.bus_address())?
            .serve_at("/StatusNotifierWatcher", Watcher { registered: sender })?
            .name("org.kde.StatusNotifierWatcher")?
            .build()?;
        Ok(Self { connection, registered })
    }

    /// Whether somebody on a desktop's bus has a name.
    ///
    /// # Errors
    /// The bus is gone.
    pub fn is_on_bus(desk: &Desk, name: &str) -> Result<bool> {
        let connection = connection::Builder::address(desk.bus_address())?.build()?;
        Ok(zbus::blocking::fdo::DBusProxy::new(&connection)?.name_has_owner(name.try_into()?)?)
    }

    /// Waits for the next item that wants to be shown.
    ///
    /// # Errors
    /// None came.
    pub fn item(&self) -> Result<TrayItem> {
        let service = self.registered.recv_timeout(SOON).context("no tray item came")?;
        TrayItem::of(&self.connection, &service)
    }

    /// Whether a program with a name that begins so is on the bus.
    ///
    /// # Errors
    /// The bus is gone.
    pub fn knows(&self, beginning: &str) -> Result<bool> {
        let names = zbus::blocking::fdo::DBusProxy::new(&self.connection)?.list_names()?;
        Ok(names.iter().any(|name| name.as_str().starts_with(beginning)))
    }
}

/// One item in the tray.
pub struct TrayItem {
    item: Proxy<'static>,
    menu: Proxy<'static>,
    changed: Receiver<()>,
}

/// An entry of a dbusmenu: number, properties, entries below.
type Layout = (i32, HashMap<String, OwnedValue>, Vec<OwnedValue>);

impl TrayItem {
    fn of(connection: &Connection, service: &str) -> Result<Self> {
        let service = service.to_owned();
        // A property of StatusNotifierItem's changes without the signal that a cache waits for.
        let item = Builder::<Proxy<'static>>::new(connection)
            .destination(service.clone())?
            .path("/StatusNotifierItem")?
            .interface("org.kde.StatusNotifierItem")?
            .cache_properties(CacheProperties::No)
            .build()?;
        let path: zbus::zvariant::OwnedObjectPath = item.get_property("Menu")?;
        let menu = Proxy::new(connection, service, path, "com.canonical.dbusmenu")?;
        let (sender, changed) = channel();
        for proxy in [&item, &menu] {
            let (signals, sender) = (proxy.receive_all_signals()?, sender.clone());
            // Ends with the connection.
            thread::spawn(move || signals.into_iter().try_for_each(|_| sender.send(())));
        }
        Ok(Self { item, menu, changed })
    }

    /// The texts of the menu, with `-` for a line and `(…)` around what cannot be chosen.
    ///
    /// # Errors
    /// The item is gone.
    pub fn menu(&self) -> Result<Vec<String>> {
        Ok(self.entries()?.into_iter().map(|(_, label)| label).collect())
    }

    /// Waits until the menu is as wished, told by the item's own signals.
    ///
    /// # Errors
    /// It does not become so; says what it is instead.
    pub fn wait_for_menu(&self, wished: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
        self.wait(|| self.menu(), |menu: &Vec<String>| wished(menu))
    }

    /// Chooses an entry of the menu.
    ///
    /// # Errors
    /// There is no such entry.
    pub fn choose(&self, label: &str) -> Result<()> {
        let entries = self.entries()?;
        let id = entries.iter().find(|(_, shown)| shown == label).map(|(id, _)| *id);
        let id = id.with_context(|| format!("no entry {label:?} in {entries:?}"))?;
        self.menu.call::<_, _, ()>("Event", &(id, "clicked", Value::I32(0), 0_u32))?;
        Ok(())
    }

    /// Tells the item that its menu is about to be shown, as panels do.
    ///
    /// # Errors
    /// The item is gone.
    pub fn open(&self) -> Result<()> {
        self.menu.call::<_, _, bool>("AboutToShow", &(0,))?;
        Ok(())
    }

    /// Waits until the item says `Active` or `NeedsAttention` of itself.
    ///
    /// # Errors
    /// It does not become so.
    pub fn wait_for_status(&self, wished: &str) -> Result<()> {
        let status = || Ok(self.item.get_property::<String>("Status")?);
        self.wait(status, |status: &String| status == wished).map(drop)
    }

    /// Clicks the icon itself.
    ///
    /// # Errors
    /// The item is gone.
    pub fn activate(&self) -> Result<()> {
        self.item.call::<_, _, ()>("Activate", &(0, 0))?;
        Ok(())
    }

    /// Waits until the icon of a size is a picture of icons/tray.
    ///
    /// # Errors
    /// It does not become so.
    pub fn wait_for_icon(&self, name: &str) -> Result<()> {
        const SIZE: i32 = 22;
        let file = format!("{}/../../icons/tray/{name}-{SIZE}.png", env!("CARGO_MANIFEST_DIR"));
        let wanted = argb(&file)?;
        let pixmap = || -> Result<Option<Vec<u8>>> {
            let pixmaps: Vec<(i32, i32, Vec<u8>)> = self.item.get_property("IconPixmap")?;
            Ok(pixmaps.into_iter().find(|(width, height, _)| (*width, *height) == (SIZE, SIZE)).map(|(.., data)| data))
        };
        self.wait(pixmap, |shown| shown.as_ref() == Some(&wanted)).map(drop).with_context(|| format!("not {name}"))
    }

    fn wait<T>(&self, look: impl Fn() -> Result<T>, wished: impl Fn(&T) -> bool) -> Result<T>
    where
        T: std::fmt::Debug,
    {
        let deadline = Instant::now() + SOON;
        loop {
            let seen = look()?;
            if wished(&seen) {
                return Ok(seen);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.changed.recv_timeout(left).with_context(|| format!("the tray shows {seen:?}"))?;
        }
    }

    fn entries(&self) -> Result<Vec<(i32, String)>> {
        let (_, (_, _, entries)): (u32, Layout) = self.menu.call("GetLayout", &(0, -1, Vec::<String>::new()))?;
        entries.into_iter().map(entry).collect()
    }
}

fn entry(value: OwnedValue) -> Result<(i32, String)> {
    let (id, properties, _) = Layout::try_from(value)?;
    let text = |name: &str| properties.get(name).and_then(|value| <&str>::try_from(value).ok()).unwrap_or_default();
    let can_be_chosen = properties.get("enabled").and_then(|value| bool::try_from(value).ok()).unwrap_or(true);
    let label = text("label").replace("__", "_");
    Ok(match (text("type"), can_be_chosen) {
        ("separator", _) => (id, "-".to_owned()),
        (_, true) => (id, label),
        (_, false) => (id, format!("({label})")),
    })
}

/// The pixels of a PNG as StatusNotifierItem has them.
fn argb(file: &str) -> Result<Vec<u8>> {
    let mut decoder = png::Decoder::new(std::io::BufReader::new(fs_err::File::open(file)?));
    decoder.set_transformations(png::Transformations::ALPHA | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().context("an image of no size")?];
    let info = reader.next_frame(&mut pixels)?;
    pixels.truncate(info.buffer_size());
    for pixel in pixels.chunks_exact_mut(4) {
        pixel.rotate_right(1);
    }
    Ok(pixels)
}
