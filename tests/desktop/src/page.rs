//! The window, driven as a person would: by Debian's WebKitWebDriver.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use overside_testkit::{Running, product};
use serde_json::{Value, json};

use crate::{Desk, SOON, picture};

/// What the WebDriver standard calls an element in JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The window's page. Dropped, the window closes.
pub struct Page {
    agent: ureq::Agent,
    session: String,
    _driver: Running,
}

impl Page {
    /// Opens `overside-window` on a desktop.
    ///
    /// # Errors
    /// `WebKitWebDriver` is missing, or the window does not open.
    pub fn open(desk: &Desk) -> Result<Self> {
        Self::open_with(desk, &[])
    }

    /// Opens `overside-window` with arguments.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(desk: &Desk, arguments: &[&str]) -> Result<Self> {
        // There is one window at a time: one that is just about to end, since its driver has, would be shown instead.
        let windows = || desk.home().traces().programs("overside-window").len();
        desk.wait_until("the window before is gone", || Ok(windows() == 0))?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = desk.home().command("WebKitWebDriver");
        command.args(["--host=127.0.0.1", &format!("--port={port}")]).env("TAURI_WEBVIEW_AUTOMATION", "true");
        let driver = Running::spawn(&mut command)?;
        // It does not tell when it listens.
        let answers = || Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        desk.wait_until("WebKitWebDriver listens", answers)?;

        let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(2 * SOON)).build();
        let driver_address = format!("http://127.0.0.1:{port}/session");
        let mut page = Self { agent: config.into(), session: driver_address, _driver: driver };
        let window = json!({ "binary": product("overside-window")?, "args": arguments });
        let opened = page.call("", &json!({"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": window}}}))?;
        let id = opened.get("sessionId").and_then(Value::as_str).context("WebKitWebDriver gave no session")?;
        page.session = format!("{}/{id}", page.session);
        page.call("timeouts", &json!({ "script": SOON.as_millis() }))?;
        // Scripts of the empty page that comes first are lost when the real one comes.
        let deadline = Instant::now() + SOON;
        while let Err(error) = page.wait_for("document.querySelector('main')") {
            ensure!(Instant::now() < deadline, "the page does not come: {error:#}");
        }
        Ok(page)
    }

    /// Waits until a JavaScript expression is true, looking at every frame that the page draws, and returns its value.
    ///
    /// # Errors
    /// It does not become true; says what the page shows instead.
    pub fn wait_for(&self, expression: &str) -> Result<Value> {
        let script = format!(
            "const done = arguments[arguments.length - 1];
             const look = () => {{
               let value;
               try {{ value = {expression}; }} catch {{ value = null; }}
               if (value) done(typeof value === 'object' ? true : value); else requestAnimationFrame(look);
             }};
             look();"
        );
        self.call("execute/async", &json!({ "script": script, "args": [] })).with_context(|| {
            let shown = self.text("body").unwrap_or_else(|error| error.to_string());
            format!("not so: {expression}\nthe page shows: {shown}")
        })
    }

    /// Waits until the page shows a state (`stopped`, `idle`, …, `away`).
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn wait_for_state(&self, state: &str) -> Result<()> {
        self.wait_for(&format!("document.querySelector('main').dataset.state === '{state}'")).map(drop)
    }

    /// Goes to a page by its tab: `session`, `settings`, `usage`, `ports`, `mounts`, `diagnose`.
    ///
    /// # Errors
    /// There is no such page.
    pub fn go_to(&self, page: &str) -> Result<()> {
        self.click(&format!("#tab-{page}"))?;
        self.wait_for(&format!("document.querySelector('#tab-{page}').ariaSelected === 'true'")).map(drop)
    }

    /// Clicks where the window may go with the click. Whether the driver still gets its reply is then a matter of
    /// chance and says nothing: what the click did has to be looked for where it takes effect.
    pub fn click_that_closes(&self, selector: &str) {
        let script = format!("document.querySelector('{selector}').click()");
        let _gone = self.call("execute/sync", &json!({ "script": script, "args": [] }));
    }

    /// Begins to note the states that the page shows, the present one first.
    ///
    /// # Errors
    /// The page is gone.
    pub fn record_states(&self) -> Result<()> {
        let script = "const main = document.querySelector('main');
            window.recorded = [main.dataset.state];
            new MutationObserver(() => {
              if (window.recorded.at(-1) !== main.dataset.state) window.recorded.push(main.dataset.state);
            }).observe(main, { attributes: true, attributeFilter: ['data-state'] });";
        self.call("execute/sync", &json!({ "script": script, "args": [] })).map(drop)
    }

    /// The states since [`Self::record_states`], in their order.
    ///
    /// # Errors
    /// Nothing was recorded.
    pub fn recorded_states(&self) -> Result<Vec<String>> {
        let states = self.call("execute/sync", &json!({ "script": "return window.recorded", "args": [] }))?;
        Ok(serde_json::from_value(states)?)
    }

    /// The text of an element.
    ///
    /// # Errors
    /// There is no such element.
    pub fn text(&self, selector: &str) -> Result<String> {
        let script = "return document.querySelector(arguments[0]).innerText";
        let text = self.call("execute/sync", &json!({ "script": script, "args": [selector] }))?;
        Ok(text.as_str().context("no text")?.to_owned())
    }

    /// Clicks an element.
    ///
    /// # Errors
    /// There is no such element, or it cannot be clicked.
    pub fn click(&self, selector: &str) -> Result<()> {
        self.call(&format!("element/{}/click", self.element(selector)?), &json!({})).map(drop)
    }

    /// Clicks the button that is called so.
    ///
    /// # Errors
    /// There is no such button, or it cannot be clicked.
    pub fn press(&self, name: &str) -> Result<()> {
        let path = format!("//button[normalize-space() = '{name}']");
        let found = self.call("element", &json!({ "using": "xpath", "value": path }))?;
        let id = found.get(ELEMENT).and_then(Value::as_str).with_context(|| format!("no button {name}"))?;
        self.call(&format!("element/{id}/click"), &json!({})).map(drop)
    }

    /// Types into an element. Special keys are WebDriver's, such as `\u{e014}` for the right arrow.
    ///
    /// # Errors
    /// There is no such element, or it takes no keys.
    pub fn keys(&self, selector: &str, keys: &str) -> Result<()> {
        self.call(&format!("element/{}/value", self.element(selector)?), &json!({ "text": keys })).map(drop)
    }

    /// Empties a text field.
    ///
    /// # Errors
    /// There is no such field.
    pub fn clear(&self, selector: &str) -> Result<()> {
        self.call(&format!("element/{}/clear", self.element(selector)?), &json!({})).map(drop)
    }

    /// Pulls the window to a size, in CSS pixels.
    ///
    /// # Errors
    /// It does not get that size.
    pub fn resize(&self, width: u32, height: u32) -> Result<()> {
        self.call("window/rect", &json!({ "width": width, "height": height }))?;
        self.wait_for(&format!("innerWidth === {width} && innerHeight === {height}")).map(drop)
    }

    /// Scrolls an element to the top of the window.
    ///
    /// # Errors
    /// There is no such element.
    pub fn scroll_to(&self, selector: &str) -> Result<()> {
        let script = "document.querySelector(arguments[0]).scrollIntoView()";
        self.call("execute/sync", &json!({ "script": script, "args": [selector] })).map(drop)
    }

    /// Requires that the page has no barrier that axe knows: contrast of colours too, which only a real view has.
    ///
    /// # Errors
    /// Names each barrier with its element, or axe is not installed with the UI's packages.
    pub fn has_no_barrier(&self) -> Result<()> {
        let axe = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ui/node_modules/axe-core/axe.min.js");
        let axe = fs_err::read_to_string(axe)?;
        let script = format!(
            "{axe};
            const done = arguments[arguments.length - 1];
            axe.run(document).then(
              (found) => done(found.violations.map((each) =>
                each.id + ': ' + each.nodes.map((node) => node.html + ' (' + node.failureSummary + ')').join('; '))),
              (error) => done([String(error)]));"
        );
        let found = self.call("execute/async", &json!({ "script": script, "args": [] }))?;
        let found: Vec<String> = serde_json::from_value(found)?;
        ensure!(found.is_empty(), "axe finds barriers:\n{}", found.join("\n"));
        Ok(())
    }

    /// Saves what the window shows as `screenshots/NAME.png` in the target directory.
    ///
    /// # Errors
    /// The picture cannot be taken or written.
    pub fn screenshot(&self, name: &str) -> Result<PathBuf> {
        // The first frame begins what the second one shows; what slides has arrived then, what turns goes on.
        let frames = "const done = arguments[0];
            const arrives = (animation) => animation.effect.getComputedTiming().endTime !== Infinity;
            requestAnimationFrame(() => requestAnimationFrame(async () => {
              await Promise.allSettled(document.getAnimations().filter(arrives).map((each) => each.finished));
              done(true);
            }));";
        self.call("execute/async", &json!({ "script": frames, "args": [] }))?;
        let answer = self.agent.get(format!("{}/screenshot", self.session)).call()?.body_mut().read_json()?;
        let picture = value(answer)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture.as_str().context("no picture")?)?;
        picture::save(name, &bytes)
    }

    fn element(&self, selector: &str) -> Result<String> {
        let found = self.call("element", &json!({ "using": "css selector", "value": selector }))?;
        let id = found.get(ELEMENT).and_then(Value::as_str).with_context(|| format!("no element {selector}"))?;
        Ok(id.to_owned())
    }

    fn call(&self, path: &str, body: &Value) -> Result<Value> {
        let address = if path.is_empty() { self.session.clone() } else { format!("{}/{path}", self.session) };
        let answer = self.agent.post(address).send_json(body)?.body_mut().read_json()?;
        value(answer).with_context(|| path.to_owned())
    }
}

fn value(mut answer: Value) -> Result<Value> {
    let value = answer.get_mut("value").map(Value::take).context("WebKitWebDriver answered without a value")?;
    match value.get("error").and_then(Value::as_str) {
        Some(error) => bail!("{error}: {}", value.get("message").and_then(Value::as_str).unwrap_or_default()),
        None => Ok(value),
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // Ends the window. Where it cannot, the driver's end does.
        let _ = self.agent.delete(&self.session).config().timeout_global(Some(Duration::from_secs(5))).build().call();
    }
}
