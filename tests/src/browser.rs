//! Debian's chromium without a window, driven by the DevTools protocol over a pipe.
//!
//! Messages are JSON ended by a zero byte, on the descriptors 3 and 4 of the browser: no port is opened, and no library
//! for WebSockets is needed, of which those that speak this protocol bring hundreds of generated types.

use std::fs;
use std::io::{BufRead, BufReader, PipeWriter, Write as _, pipe};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::Process;
use crate::netns::Netns;

const PROGRAM: &str = "chromium";
/// For an answer; a busy machine takes its time to start a browser.
const PATIENCE: Duration = Duration::from_secs(60);
const NOBODY: &str = "the browser has gone";

/// A browser in a network namespace; it ends when this is dropped.
pub struct Browser {
    commands: PipeWriter,
    messages: Receiver<Value>,
    next: u64,
    /// What came while an answer was waited for.
    told: Vec<Value>,
    _process: Process,
    _profile: TempDir,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub is_phone: bool,
    pub is_dark: bool,
}

/// A page that is open; it stays so until the browser ends.
pub struct Page<'b> {
    browser: &'b mut Browser,
    session: String,
    look: Look,
}

impl Browser {
    pub fn start(netns: &Netns) -> Result<Self> {
        let profile = tempfile::tempdir().context("making a profile")?;
        let (their_input, commands) = pipe()?;
        let (answers, their_output) = pipe()?;
        let mut command = netns.command(PROGRAM);
        command
            // Tests run as root, for which its sandbox is not made.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--remote-debugging-pipe", "--no-first-run", "--disable-background-networking"])
            .args(["--hide-scrollbars", "--force-color-profile=srgb"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let (input, output) = (their_input.as_raw_fd(), their_output.as_raw_fd());
        // SAFETY: system calls only, on descriptors that are open until the child has started.
        unsafe {
            command.pre_exec(move || become_three_and_four(input, output));
        }
        let process = Process::spawn(&mut command)?;
        drop((their_input, their_output));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let told = Vec::new();
        Ok(Self { commands, messages, next: 0, told, _process: process, _profile: profile })
    }

    /// Opens a page and waits until it has loaded.
    pub fn open(&mut self, url: &str, look: Look) -> Result<Page<'_>> {
        let target = self.call("Target.createTarget", &json!({ "url": "about:blank" }), None)?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", &attach, None)?;
        let session = attached["sessionId"].as_str().context("no session")?.to_owned();
        self.told.clear();
        let mut page = Page { browser: self, session, look };
        for domain in ["Page", "Runtime", "Log", "Audits"] {
            page.call(&format!("{domain}.enable"), &json!({}))?;
        }
        let Look { width, height, is_phone, is_dark } = look;
        let scale = if is_phone { 2 } else { 1 };
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_phone });
        page.call("Emulation.setDeviceMetricsOverride", &size)?;
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        page.call("Emulation.setEmulatedMedia", &features)?;
        let gone = page.call("Page.navigate", &json!({ "url": url }))?;
        ensure!(gone["errorText"].is_null(), "{url}: {gone}");
        Ok(page)
    }

    /// Sends a command and waits for its answer.
    fn call(&mut self, method: &str, params: &Value, session: Option<&str>) -> Result<Value> {
        self.next += 1;
        let id = self.next;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.commands.write_all(&bytes).context(NOBODY)?;
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left);
            let message = message.with_context(|| format!("no answer to {method}"))?;
            if message["id"] != id {
                self.told.push(message);
            } else if message["error"].is_null() {
                return Ok(message["result"].clone());
            } else {
                bail!("{method}: {}", message["error"]);
            }
        }
    }
}

/// What `--remote-debugging-pipe` reads from and writes to.
fn become_three_and_four(input: i32, output: i32) -> std::io::Result<()> {
    let check = |result: i32| {
        if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
    };
    // SAFETY: they are open; what had the numbers 3 and 4 is the browser's to lose.
    unsafe {
        // Out of the way first: one of them may be 3 or 4 itself.
        let input = check(libc::fcntl(input, libc::F_DUPFD_CLOEXEC, 10))?;
        let output = check(libc::fcntl(output, libc::F_DUPFD_CLOEXEC, 10))?;
        check(libc::dup2(input, 3))?;
        check(libc::dup2(output, 4))?;
    }
    Ok(())
}

impl Page<'_> {
    fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        let session = self.session.clone();
        self.browser.call(method, params, Some(&session))
    }

    /// What an expression is, promises awaited.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let params =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let said = self.call("Runtime.evaluate", &params)?;
        ensure!(said["exceptionDetails"].is_null(), "{expression}: {}", said["exceptionDetails"]);
        Ok(said["result"]["value"].clone())
    }

    /// Clicks with the mouse where the first such element is.
    pub fn click(&mut self, selector: &str) -> Result<()> {
        let found = self.evaluate(&format!(
            "(() => {{ const it = document.querySelector({}); it.scrollIntoView({{ block: 'center' }}); \
             const box = it.getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2, box.width]; }})()",
            Value::from(selector)
        ))?;
        ensure!(found[2].as_f64() > Some(0.0), "{selector} is not to be seen: {found}");
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({ "type": kind, "x": found[0], "y": found[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", &params)?;
        }
        Ok(())
    }

    /// Presses a key: `Tab`, `Enter`, `Escape`.
    pub fn press(&mut self, key: &str) -> Result<()> {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            other => bail!("nobody knows the code of {other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut params =
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                params["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", &params)?;
        }
        Ok(())
    }

    /// Types text where the cursor is.
    pub fn write(&mut self, text: &str) -> Result<()> {
        self.call("Input.insertText", &json!({ "text": text })).map(drop)
    }

    /// The whole page as a PNG.
    pub fn screenshot(&mut self, file: &Path) -> Result<()> {
        let size = self.call("Page.getLayoutMetrics", &json!({}))?;
        let height = size["cssContentSize"]["height"].as_f64().context("no height")?;
        let Look { width, height: least, .. } = self.look;
        let height = height.clamp(f64::from(least), 8000.0);
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let params = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let shot = self.call("Page.captureScreenshot", &params)?;
        let data = shot["data"].as_str().context("no picture")?;
        let png = data_encoding::BASE64.decode(data.as_bytes())?;
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, png).with_context(|| format!("writing {}", file.display()))
    }

    /// What it has complained of so far is as it should be.
    pub fn forgive(&mut self) {
        self.browser.told.clear();
    }

    /// What the page has complained of so far: errors, exceptions, what its policy forbade.
    pub fn complaints(&mut self) -> Result<Vec<String>> {
        // Whatever was said before this answer has come by then.
        self.evaluate("1")?;
        let is_complaint = |message: &&Value| match message["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Audits.issueAdded" | "Log.entryAdded") => true,
            Some("Runtime.consoleAPICalled") => message["params"]["type"] != "log",
            _ => false,
        };
        let told = self.browser.told.iter().filter(is_complaint);
        Ok(told.map(|message| message["params"].to_string()).collect())
    }
}
