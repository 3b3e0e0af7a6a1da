//! What there is to know about the machine, read and never changed. Called by `doctor`. I/O.
//!
//! Each file reads one kind of facts, within a bounded time; the rules of the same name judge them.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use tokio::task::spawn_blocking;

use super::Options;
use crate::config::{self, Config, ConfigError};
use crate::netlink::{Netlink, Snapshot};

pub mod adverts;
pub mod apiservers;
pub mod claims;
pub mod clock;
pub mod controller;
pub mod echo;
pub mod firewall;
pub mod interfaces;
pub mod machine;
pub mod processes;
pub mod sysctls;
pub mod ways;

pub use apiservers::Apiservers;
pub use clock::Clock;
pub use controller::{Controller, Running};
pub use firewall::Firewall;
pub use interfaces::Interface;
pub use machine::Machine;
pub use processes::Processes;
pub use sysctls::Sysctls;

use adverts::Speaker;
use claims::Asked;
use ways::Way;

/// What was found, or why nothing could be.
pub type Looked<T> = Result<T, String>;

/// Everything.
#[derive(Debug)]
pub struct Facts {
    pub file: File,
    pub controller: Controller,
    pub machine: Machine,
    pub clock: Looked<Clock>,
    pub snapshot: Snapshot,
    pub interfaces: Vec<Interface>,
    pub sysctls: Sysctls,
    pub processes: Processes,
    pub firewall: Firewall,
    pub network: Network,
}

/// What is found by asking, or by listening for a while.
#[derive(Debug)]
pub struct Network {
    pub apiservers: Apiservers,
    pub ways: Vec<Way>,
    pub heard: Looked<Vec<Speaker>>,
    /// `None`: the link was not to be asked.
    pub asked: Option<Looked<Vec<Asked>>>,
}

/// The configuration's file.
#[derive(Debug)]
pub struct File {
    pub path: PathBuf,
    /// As the file says it, with the interfaces of the command line.
    pub config: Result<Config, ConfigError>,
}

impl Facts {
    /// The configuration, if there is one that can be used.
    pub fn config(&self) -> Option<&Config> {
        self.file.config.as_ref().ok()
    }

    /// Reads everything, side by side where it takes time.
    pub(super) async fn read(options: &Options) -> Result<Self> {
        let controller = Controller::read(&options.socket).await;
        let file = file(options, &controller);
        let netlink = Netlink::open()?;
        let snapshot = netlink.snapshot().await.context("reading the network's configuration")?;
        let filters = netlink.filters().await.unwrap_or_default();
        let config = file.config.as_ref().ok();
        let vips = config.map(Config::vips).unwrap_or_default();
        let sources = interfaces::Sources { snapshot: &snapshot, filters: &filters, vips: &vips };
        let names = interface_names(config, &controller);
        let interfaces =
            names.iter().map(|(name, balances)| Interface::read(name, *balances, sources));
        let interfaces: Vec<Interface> = interfaces.collect();
        let pid = controller.running().map(|running| running.status.pid);
        let names: Vec<String> = names.into_iter().map(|(name, _)| name).collect();
        let (firewall, network) = tokio::join!(
            Firewall::read(),
            network(config, options.probe, &controller, &netlink, &snapshot)
        );
        let network = network?;
        Ok(Self {
            firewall,
            network,
            machine: Machine::read(pid),
            clock: clock::read(),
            sysctls: Sysctls::read(&names),
            processes: Processes::read(&services(config)),
            interfaces,
            snapshot,
            file,
            controller,
        })
    }
}

/// Asks and listens, all at once: the slowest takes some seconds.
async fn network(
    config: Option<&Config>,
    probe: bool,
    controller: &Controller,
    netlink: &Netlink,
    snapshot: &Snapshot,
) -> Result<Network> {
    let Some(config) = config else {
        let asked = probe.then(|| Ok(Vec::new()));
        let apiservers = Apiservers::default();
        return Ok(Network { apiservers, ways: Vec::new(), heard: Ok(Vec::new()), asked });
    };
    let shared = || (config.clone(), snapshot.clone());
    let (listening, asking) = (shared(), shared());
    let heard = spawn_blocking(move || adverts::listen(&listening.0, &listening.1));
    let asked = probe.then(|| spawn_blocking(move || claims::ask(&asking.0, &asking.1)));
    let targets = apiservers::targets(config, controller, snapshot);
    let echoing = (snapshot.clone(), targets.clone());
    let echoes = spawn_blocking(move || echo::ask(&echoing.0, &echoing.1));
    let apiservers = apiservers::ask(config, &targets).await;
    let echoes = echoes.await.context("asking for echoes")?;
    // Whoever was asked by now is known to the kernel, or known not to answer.
    let known = netlink.snapshot().await.context("reading the neighbours")?;
    let asked = match asked {
        Some(asked) => Some(asked.await.context("asking on the link")?),
        None => None,
    };
    Ok(Network {
        apiservers,
        ways: ways::read(&known, &targets, &echoes),
        heard: heard.await.context("listening on the link")?,
        asked,
    })
}

/// The file that is named, else the one that the controller has read, else the usual one.
fn file(options: &Options, controller: &Controller) -> File {
    let running = || Some(PathBuf::from(&controller.running()?.config.path));
    let path = options.config.clone().or_else(running);
    let path = path.unwrap_or_else(|| Path::new(config::DEFAULT_PATH).to_owned());
    let mut config = config::load(&path);
    if let Ok(config) = &mut config
        && !options.interfaces.is_empty()
    {
        config.interfaces.clone_from(&options.interfaces);
    }
    File { path, config }
}

/// Those that XDP attaches to, marked, then those that only VRRP is on.
fn interface_names(config: Option<&Config>, controller: &Controller) -> Vec<(String, bool)> {
    let attached = controller.running().into_iter().flat_map(|running| &running.status.xdp);
    let attached: Vec<String> = attached.map(|xdp| xdp.interface.clone()).collect();
    let configured = config.map(|config| config.interfaces.clone()).unwrap_or_default();
    let mut names: Vec<(String, bool)> = Vec::new();
    let elected = config.into_iter().flat_map(|config| &config.vrrp);
    let elected = elected.map(|instance| (instance.interface.clone(), false));
    let balancing = configured.into_iter().chain(attached).map(|name| (name, true));
    for (name, balances) in balancing.chain(elected) {
        if !names.iter().any(|(known, _)| *known == name) {
            names.push((name, balances));
        }
    }
    names
}

/// Where clients connect to.
fn services(config: Option<&Config>) -> BTreeSet<SocketAddr> {
    let services = config.into_iter().flat_map(|config| &config.services);
    let of = |service: &config::Service| {
        let port = service.port;
        service.vips.iter().map(move |vip: &IpAddr| SocketAddr::new(*vip, port)).collect::<Vec<_>>()
    };
    services.flat_map(of).collect()
}

/// The number that a file of the kernel holds.
fn number(path: impl AsRef<Path>) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
