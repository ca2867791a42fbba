//! The tray by StatusNotifierItem over D-Bus: no GTK, no web toolkit, a few megabytes.

use std::{cell::Cell, time::Duration};

use anyhow::{Context as _, Result};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use ksni::{Handle, TrayMethods as _, menu::StandardItem};
use overside_config::Home;
use tokio::sync::{mpsc, watch};

use super::{Event, Panel, control, icon};
use crate::{
    menu::{Action, Item, Scene, View},
    notice::{Change, Told, file::NoticeFile},
    now::Now,
};

#[path = "notifications.rs"]
mod notifications;

/// How long a notification may take to go when the program ends.
const PARTING: Duration = Duration::from_secs(2);
/// How often a session bus that is not there is looked for, at first and after a while.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LAST_LOOK: Duration = Duration::from_secs(60);

pub(super) fn run(home: &Home, with_window: bool) -> Result<()> {
    // One thread: there is nothing to do at once, and each thread costs memory.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let (event, events) = mpsc::unbounded_channel();
        let (scene, scenes) = watch::channel(None);
        let (order, orders) = mpsc::unbounded_channel();
        tokio::spawn(draw(scenes, event.clone()));
        let announcer = tokio::spawn(notifications::announce(NoticeFile::of(home), orders, event));
        control(home, Desktop { scene, order }, events, with_window).await;
        // Where the server hangs, its notification stays.
        let _ = tokio::time::timeout(PARTING, announcer).await;
    });
    Ok(())
}

struct Desktop {
    /// The latest scene, for whatever draws it once there is a bus.
    scene: watch::Sender<Option<Scene>>,
    order: mpsc::UnboundedSender<notifications::Order>,
}

impl Panel for Desktop {
    async fn show(&mut self, scene: Scene) {
        self.scene.send_replace(Some(scene));
    }

    fn tell(&mut self, change: Change, told: Option<&Told>) {
        // Fails only while the program ends.
        let _ = self.order.send((change, told.cloned()));
    }
}

/// When a tray host that was not there is looked for once more. ksni asks for the host first and listens for its coming
/// afterwards: one that comes in between, as at a login, would otherwise never show the icon.
const SECOND_LOOKS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// Draws the scenes, for as long as there are any. A tray host that is not there yet, or that restarts, gets the icon when it
/// comes (ksni listens for it); a bus that is not there yet is looked for here.
async fn draw(mut scenes: watch::Receiver<Option<Scene>>, click: mpsc::UnboundedSender<Event>) {
    let mut looks =
        ExponentialBuilder::default().with_min_delay(FIRST_LOOK).with_max_delay(LAST_LOOK).without_max_times().build();
    let mut second_looks = SECOND_LOOKS.into_iter();
    let mut handle: Option<Handle<Drawn>> = None;
    let mut look_again = None;
    loop {
        let scene = scenes.borrow_and_update().clone();
        if let Some(scene) = scene {
            let drawn = match &handle {
                Some(handle) => handle.update(|drawn| drawn.change(scene.clone())).await.is_some(),
                None => false,
            };
            if !drawn {
                let view = scene.view(&Now::read());
                let tray = Drawn { scene, view, click: click.clone(), host_was_missing: Cell::new(false) };
                handle = match tray.assume_sni_available(true).spawn().await {
                    Ok(handle) => Some(handle),
                    Err(error) => {
                        let wait = looks.next().unwrap_or(LAST_LOOK);
                        if wait <= FIRST_LOOK {
                            tracing::warn!(%error, "no tray icon: there is no session bus; waiting for one");
                        }
                        tokio::time::sleep(wait).await;
                        continue;
                    }
                };
                look_again = second_looks.next().map(|wait| tokio::time::Instant::now() + wait);
            }
        }
        let second_look = async {
            match look_again {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = scenes.changed() => if changed.is_err() {
                return;
            },
            () = second_look => {
                look_again = None;
                if let Some(drawn) = &handle
                    && drawn.update(|drawn| drawn.host_was_missing.get()).await == Some(true)
                {
                    drawn.shutdown().await;
                    handle = None;
                }
            }
        }
    }
}

/// A scene as ksni asks for it.
struct Drawn {
    scene: Scene,
    /// The scene as it was when it was last looked at.
    view: View,
    click: mpsc::UnboundedSender<Event>,
    host_was_missing: Cell<bool>,
}

impl Drawn {
    fn change(&mut self, scene: Scene) {
        self.view = scene.view(&Now::read());
        self.scene = scene;
    }

    /// The icon in every size.
    fn pixmaps(&self) -> Vec<ksni::Icon> {
        icon(self.view.icon)
            .map(|pixmap| {
                let side = i32::try_from(pixmap.size).unwrap_or_default();
                ksni::Icon { width: side, height: side, data: argb(pixmap.rgba) }
            })
            .collect()
    }

    fn clicked(&self, action: Action) {
        // Fails only while the program ends.
        let _ = self.click.send(Event::Chosen(action));
    }
}

impl ksni::Tray for Drawn {
    fn id(&self) -> String {
        "overside".to_owned()
    }

    fn title(&self) -> String {
        self.view.title.clone()
    }

    fn tool_tip(&self) -> ksni::ToolTip {
        ksni::ToolTip { title: self.view.title.clone(), description: self.view.detail.clone(), ..Default::default() }
    }

    fn status(&self) -> ksni::Status {
        if self.view.attention { ksni::Status::NeedsAttention } else { ksni::Status::Active }
    }

    fn icon_pixmap(&self) -> Vec<ksni::Icon> {
        self.pixmaps()
    }

    fn attention_icon_pixmap(&self) -> Vec<ksni::Icon> {
        if self.view.attention { self.pixmaps() } else { Vec::new() }
    }

    fn activate(&mut self, _x: i32, _y: i32) {
        self.clicked(Action::OpenWindow);
    }

    /// Times in the menu are of the moment in which it opens.
    fn menu_about_to_show(&mut self) {
        self.view = self.scene.view(&Now::read());
    }

    fn menu(&self) -> Vec<ksni::MenuItem<Self>> {
        let item = |item: &Item| match item {
            Item::Separator => ksni::MenuItem::Separator,
            Item::Text(label) => StandardItem { label: escaped(label), enabled: false, ..Default::default() }.into(),
            Item::Choice { label, action } => {
                let action = *action;
                let activate = Box::new(move |drawn: &mut Self| drawn.clicked(action));
                StandardItem { label: escaped(label), activate, ..Default::default() }.into()
            }
        };
        self.view.menu.iter().map(item).collect()
    }

    fn watcher_online(&self) {
        if self.host_was_missing.take() {
            tracing::info!("a tray host is there");
        }
    }

    fn watcher_offline(&self, _reason: ksni::OfflineReason) -> bool {
        self.host_was_missing.set(true);
        tracing::info!("there is no tray host: the icon appears as soon as there is one");
        true
    }
}

/// The order that StatusNotifierItem wants: alpha, red, green, blue.
fn argb(rgba: &[u8]) -> Vec<u8> {
    let mut pixels = rgba.to_vec();
    for pixel in pixels.chunks_exact_mut(4) {
        pixel.rotate_right(1);
    }
    pixels
}

/// In a menu of D-Bus's an underscore marks an access key; two are one.
fn escaped(label: &str) -> String {
    label.replace('_', "__")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_keeps_its_colours() {
        assert_eq!(argb(&[1, 2, 3, 4, 5, 6, 7, 8]), [4, 1, 2, 3, 8, 5, 6, 7]);
    }

    #[test]
    fn an_underscore_in_an_error_is_shown() {
        assert_eq!(escaped("/run/my_home"), "/run/my__home");
    }
}
