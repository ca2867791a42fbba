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

use crate::{Desk, SOON};

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
        let window = json!({ "binary": product("overside-window")?, "args": [] });
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
        // target/<profile>/deps/<test>
        let test = std::env::current_exe()?;
        let place = test.ancestors().nth(3).context("a test lies outside a target directory")?.join("screenshots");
        fs_err::create_dir_all(&place)?;
        let file = place.join(format!("{name}.png"));
        fs_err::write(&file, bytes)?;
        Ok(file)
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
