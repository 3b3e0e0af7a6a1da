//! A lab with TLS stand-ins for apiservers that feel as they are told: what the tests of health play in.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_tests::apiserver::{self, Control, Mode};
use lb_tests::controller::{self, Controller};
use lb_tests::eventually::eventually_is;
use lb_tests::load::{Load, Pace, Running, Talk};
use lb_tests::pki::Pki;
use lb_tests::plain;
use lb_tests::recorder::Recorder;
use lb_tests::server_thread::ServerThread;
use lb_tests::standstill;
use lb_tests::topology::{API_PORT, Plan, Topology};
use serde_json::Value;

/// What must happen at all happens within this.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// What a promised time may be exceeded by here: for a look at the status, and for a busy machine.
pub(super) const SLACK: Duration = Duration::from_millis(600);
pub(super) const EVER: Range<Duration> = Duration::ZERO..Duration::MAX;

/// Three stand-ins behind an LB node.
pub(super) struct Apiservers {
    pub(super) lab: Topology,
    pub(super) pki: Pki,
    servers: RefCell<BTreeMap<String, (ServerThread, Control)>>,
}

impl Apiservers {
    pub(super) fn build() -> Result<Self> {
        standstill::watch()?;
        let lab = Topology::build(&Plan::default())?;
        let hosts: Vec<_> =
            lab.backends.iter().map(|host| (host.name.as_str(), host.address)).collect();
        let pki = Pki::create(&lab.directory().join("pki"), &hosts, &[lab.vip()])?;
        let scene = Self { lab, pki, servers: RefCell::default() };
        for name in ["cp1", "cp2", "cp3"] {
            scene.start(name)?;
        }
        Ok(scene)
    }

    /// Starts a stand-in as a new process would, well.
    pub(super) fn start(&self, name: &str) -> Result<()> {
        let host = self.lab.backend(name)?;
        let listens = &host.listens(API_PORT)[..];
        let server = apiserver::start(&host.netns, name, listens, &self.pki)?;
        self.servers.borrow_mut().insert(name.to_owned(), server);
        Ok(())
    }

    /// Ends one as SIGKILL does.
    pub(super) fn kill(&self, name: &str) -> Result<()> {
        self.servers.borrow_mut().remove(name).context("it does not run").map(drop)
    }

    pub(super) fn control(&self, name: &str) -> Control {
        self.servers.borrow()[name].1.clone()
    }

    pub(super) fn set_all(&self, mode: Mode) {
        self.servers.borrow().values().for_each(|(_, control)| control.set(mode));
    }

    /// A controller that uses all of them; `keys` are of `health`.
    pub(super) fn balanced(&self, keys: &[&str]) -> Result<Controller<'_>> {
        let controller = self.controller(keys)?;
        for host in &self.lab.backends {
            controller.wait_backend(&host.name, "up", PATIENCE)?;
        }
        Ok(controller)
    }

    /// A controller that has just been started.
    pub(super) fn controller(&self, keys: &[&str]) -> Result<Controller<'_>> {
        let mut controller =
            Controller::new(&self.lab.lbs[0], &plain::binary()?, self.lab.directory());
        let mut config = controller::config(&self.lab, &self.pki, controller.socket());
        for line in keys {
            let key = format!("\n      {}:", line.split(':').next().unwrap_or_default());
            config = match config.split_once(&key) {
                Some((before, rest)) => {
                    let after = rest.split_once('\n').map_or("", |(_, after)| after);
                    format!("{before}\n      {line}\n{after}")
                }
                None => config.replace("    health:\n", &format!("    health:\n      {line}\n")),
            };
        }
        controller.write_config(&config)?;
        controller.start()?;
        Ok(controller)
    }

    /// New connections at a rate, each with a request, and streams that stay.
    pub(super) fn load(&self, per_second: u32, watches: usize) -> Result<Running> {
        self.load_of(Talk::tls(&self.pki)?, per_second, watches)
    }

    /// The same of other clients.
    pub(super) fn load_of(&self, talk: Talk, per_second: u32, watches: usize) -> Result<Running> {
        let target = (self.lab.vip(), API_PORT).into();
        let load = Load { target, talk, pace: Pace::Open { per_second }, watches };
        let running = load.start(&self.lab.client.netns.handle())?;
        let open = || Ok(running.watches.open());
        eventually_is("watch streams", PATIENCE, open, |open| *open == watches)?;
        Ok(running)
    }
}

/// A key of each backend of the service, by name.
pub(super) fn of_each(controller: &Controller<'_>, key: &str) -> Result<BTreeMap<String, String>> {
    let status = controller.status()?;
    let backends = status["services"][0]["backends"].as_array().context("no backends")?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(backends.iter().map(|backend| (text(&backend["name"]), text(&backend[key]))).collect())
}

/// Waits until a key of each backend is as given; how long it took.
pub(super) fn wait_each(
    controller: &Controller<'_>,
    key: &str,
    expected: [&str; 3],
    timeout: Duration,
) -> Result<Duration> {
    let clock = Recorder::new();
    let names = ["cp1", "cp2", "cp3"].map(str::to_owned);
    let expected: BTreeMap<_, _> = names.into_iter().zip(expected.map(str::to_owned)).collect();
    let what = format!("{key} {expected:?}");
    eventually_is(&what, timeout, || of_each(controller, key), |seen| *seen == expected)?;
    Ok(clock.now())
}

pub(super) fn panics(controller: &Controller<'_>) -> Result<bool> {
    controller.status()?["services"][0]["panic"].as_bool().context("no panic")
}

pub(super) fn alarms(controller: &Controller<'_>) -> Result<String> {
    Ok(controller.status()?["services"][0]["alarms"].to_string())
}

/// Goes on until so many more connections were answered.
pub(super) fn more_answers(load: &Running, more: usize) -> Result<()> {
    let answered = || Ok(load.recorder.report(&EVER).answered);
    let wanted = answered()? + more;
    eventually_is("answers", PATIENCE, answered, |answered| *answered >= wanted).map(drop)
}

/// Every connection was answered, and no stream broke.
pub(super) fn assert_nothing_lost(load: Running) {
    let breaks = load.watches.breaks(&EVER);
    let report = load.stop().unwrap().report(&EVER);
    assert_eq!(report.failed_total(), 0, "{:?}", &report.failures[..report.failures.len().min(5)]);
    assert!(report.answered > 0 && breaks.is_empty(), "{breaks:?}");
}
