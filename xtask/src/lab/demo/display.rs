//! One line each second: refreshed on a terminal, one under the other elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use lb_tests::controller::Controller;
use lb_tests::load::Running;
use lb_tests::topology::Topology;

/// How often the line changes.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Display {
    terminal: bool,
    servers: Vec<String>,
    shown_until: Duration,
}

impl Display {
    pub(super) fn new(lab: &Topology) -> Self {
        Self {
            terminal: stdout().is_terminal(),
            servers: lab.backends.iter().map(|host| host.name.clone()).collect(),
            shown_until: Duration::ZERO,
        }
    }

    /// Shows the last second, if it has not been shown.
    pub(super) fn tick(&mut self, step: &str, load: &Running, controller: Option<&Controller<'_>>) {
        let now = load.recorder.now();
        if now < self.shown_until + EVERY {
            return;
        }
        let from = std::mem::replace(&mut self.shown_until, now);
        let answers = load.recorder.answers(&(from..now));
        let states = controller.map(states).unwrap_or_default();
        let seconds = (now - from).as_secs_f64();
        let mut line = format!("{:3} s  {step:<18}", now.as_secs());
        for server in &self.servers {
            let count = answers.get(server.as_str()).copied().unwrap_or(0);
            let state = states.get(server).map_or("-", String::as_str);
            let rate = f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / seconds;
            line += &format!("  {server} {rate:4.0}/s {state:<9}");
        }
        let failed = load.recorder.report(&(Duration::ZERO..now)).failed_total();
        line += &format!("  failed {failed}  watches {}", load.watches.open());
        self.show(&line);
    }

    /// Says something that stays.
    pub(super) fn say(&mut self, line: &str) {
        self.clear();
        println!("{line}");
    }

    /// Leaves the live line.
    pub(super) fn end(&mut self) {
        self.clear();
    }

    fn show(&mut self, line: &str) {
        if self.terminal {
            print!("\r{line}\x1b[K");
            // A terminal that is gone is no reason to stop.
            let _ = stdout().flush();
        } else {
            println!("{line}");
        }
    }

    fn clear(&mut self) {
        if self.terminal {
            print!("\r\x1b[K");
        }
    }
}

/// Each backend's state; nothing while the controller does not answer.
fn states(controller: &Controller<'_>) -> BTreeMap<String, String> {
    let status = controller.status().unwrap_or_default();
    let backends = status["services"][0]["backends"].as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
    backends.iter().map(|backend| (text(&backend["name"]), text(&backend["state"]))).collect()
}
