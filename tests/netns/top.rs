//! `fairlead top`: the same as `status --json`, on a terminal that is left as it was found.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::controller::Controller;
use lb_tests::eventually::{Seen, eventually};
use lb_tests::plain::{self, EchoClient};
use lb_tests::topology::{Plan, Topology};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn top_agrees_with_status_and_changes_what_is_agreed_to() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    let controller = plain::start_up(&lab)?;
    let client = lab.client.netns.on_thread(|| EchoClient::connect(plain::target(&lab), None))?;
    agrees(&controller)?;
    drop(client);
    let once = controller.cli(&["top", "--once"])?;
    ensure!(once.contains("all 3 backends up") && once.contains("every VIP is here"), "{once}");
    for name in ["cp1", "cp2", "cp3"] {
        ensure!(once.contains(&format!("plain/{name}")), "{once}");
    }
    let mut terminal = Terminal::start(&controller)?;
    terminal.until("plain/cp3")?;
    terminal.write("d")?;
    terminal.until("drain plain/cp1?")?;
    terminal.write("n")?;
    ensure!(controller.backend_state("cp1")? == "up", "it was drained without a yes");
    terminal.write("d")?;
    terminal.until("drain plain/cp1?")?;
    terminal.write("y")?;
    controller.wait_backend("cp1", "draining", PATIENCE)?;
    terminal.until("draining")?;
    terminal.write("q")?;
    terminal.ended()
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_signal_leaves_the_terminal_as_it_was_found() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    let mut controller = plain::start_up(&lab)?;
    for signal in ["TERM", "HUP", "INT"] {
        let mut terminal = Terminal::start(&controller)?;
        terminal.until("plain/cp1")?;
        terminal.signal(signal)?;
        terminal.ended().with_context(|| format!("SIG{signal}"))?;
    }
    let mut terminal = Terminal::start(&controller)?;
    terminal.until("plain/cp1")?;
    controller.kill9()?;
    terminal.until("no controller answers")?;
    terminal.write("\u{3}")?;
    terminal.ended().context("Ctrl-C, without a controller")
}

/// Each figure is that of the status before or after it.
fn agrees(controller: &Controller<'_>) -> Result<()> {
    const KEYS: [&str; 9] = [
        "address",
        "state",
        "admin",
        "reason",
        "since",
        "weight",
        "effective_weight",
        "connections",
        "unanswered",
    ];
    eventually("top to agree with status --json", PATIENCE, || {
        let said: Value = serde_json::from_str(&controller.cli(&["top", "--json"])?)?;
        let status = controller.status()?;
        let backends = status["services"][0]["backends"].as_array().context("no backends")?;
        let rows = said["backends"].as_array().context("no rows")?;
        ensure!(rows.len() == backends.len(), "{said:#}");
        let is_same = rows.iter().zip(backends).all(|(row, backend)| {
            row["backend"] == backend["name"] && KEYS.iter().all(|key| row[key] == backend[key])
        });
        let is_same = is_same
            && said["connections"] == status["flows"]["established"]
            && said["connections"] == 1
            && said["rate"].is_object()
            && said["vips"][0]["address"] == status["vips"][0]["address"]
            && said["vips"][0]["owner"] == status["vips"][0]["owner"];
        Ok(if is_same { Seen::Done(()) } else { Seen::Pending(format!("{said:#}\n{status:#}")) })
    })
}

/// `top` on a terminal of 140 columns and 30 lines, which `script` makes.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<String>>,
    /// Up to there it was looked at.
    seen: usize,
}

impl Terminal {
    fn start(controller: &Controller<'_>) -> Result<Self> {
        let (binary, socket) = (plain::binary()?, controller.socket().display());
        let words = format!(
            "stty rows 30 cols 140; echo \"pid $$\"; exec {} top --socket {socket}",
            binary.display()
        );
        let mut script = Command::new("script")
            .args(["--quiet", "--flush", "--return", "--command", &words, "/dev/null"])
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting script")?;
        let (keys, output) = (script.stdin.take(), script.stdout.take());
        let shown = Arc::new(Mutex::new(String::new()));
        let (kept, mut output) = (Arc::clone(&shown), output.context("no output")?);
        std::thread::spawn(move || {
            let mut bytes = [0; 65_536];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                kept.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        Ok(Self { script, keys: keys.context("no input")?, shown, seen: 0 })
    }

    fn shown(&self) -> String {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until that is shown after what was looked at.
    fn until(&mut self, wanted: &str) -> Result<()> {
        let seen = self.seen;
        let end = eventually(&format!("{wanted:?} on the screen"), PATIENCE, || {
            let shown = self.shown();
            let found = shown[seen..].find(wanted);
            Ok(match found {
                Some(at) => Seen::Done(seen + at + wanted.len()),
                None => Seen::Pending(shown[seen..].to_owned()),
            })
        })?;
        self.seen = end;
        Ok(())
    }

    fn write(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes())?;
        Ok(self.keys.flush()?)
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let shown = self.shown();
        let pid = shown.split("pid ").nth(1).context("no pid")?;
        let pid: String = pid.chars().take_while(char::is_ascii_digit).collect();
        lb_tests::command::run(Command::new("kill").args([&format!("-{signal}"), &pid])).map(drop)
    }

    /// It ended in order, and gave the terminal back as the last thing that it did.
    fn ended(mut self) -> Result<()> {
        let status = eventually("the end of top", PATIENCE, || {
            Ok(match self.script.try_wait()? {
                Some(status) => Seen::Done(status),
                None => Seen::Pending(self.shown()),
            })
        })?;
        eventually("the terminal to be given back", PATIENCE, || {
            let shown = self.shown();
            let is_left = shown.rfind(LEAVE) > shown.rfind(ENTER);
            Ok(if is_left { Seen::Done(()) } else { Seen::Pending(shown) })
        })?;
        ensure!(status.success(), "{status}: {}", self.shown());
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
