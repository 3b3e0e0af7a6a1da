//! Wires the subsystems, owns start and stop; the only place that spawns tasks.
//!
//! ```text
//! signals ─┐
//! admin  ──┤ Command          ┌─► maps, links (datapath)
//! netlink ─┼────────► main loop (Controller) ─► addresses (vips)
//! health ──┤                  └─► watch<Status> ─► admin
//! names  ──┤            (probes: threads of their own)
//! ticks  ──┘
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::admin::api::Api;
use crate::admin::model::{self, Status, What, rfc3339};
use crate::admin::{self, Command, StatusReader};
use crate::config::{self, Config};
use crate::control::driver::Controller;
use crate::control::elections::{Elections, leases_in};
use crate::datapath::{self, Datapath, Pins, Sizes, counts, report};
use crate::events::Events;
use crate::health;
use crate::metrics::{Live, Metrics};
use crate::netlink::Netlink;
use crate::netlink::snapshot::Snapshot;
use crate::notify::Notifier;
use crate::overrides::store::{self, Writer};
use crate::overrides::{self, Overrides};
use crate::preflight;
use crate::record::{self, Record};
use crate::resolve::Names;
use crate::sync::driver::Notice as Told;
use crate::vips::Vips;

mod busy;
mod events;
mod names;
mod reload;
mod said;
mod servers;
mod signals;
mod undo;

pub use undo::cleanup;
use undo::{hand_over, release, undo};

/// What the command line says.
#[derive(Clone, Debug)]
pub struct RunOptions {
    pub config: PathBuf,
    /// In place of the configuration's `interfaces`, if not empty.
    pub interfaces: Vec<String>,
}

impl RunOptions {
    /// Reads the configuration as the command line modifies it.
    pub(crate) fn load(&self) -> anyhow::Result<Config> {
        let mut config = config::load(&self.config)?;
        if !self.interfaces.is_empty() {
            config.interfaces.clone_from(&self.interfaces);
        }
        if config.interfaces.is_empty() {
            bail!(
                "no interface to attach to: name one in {} (interfaces: [eth0]) or with --iface eth0",
                self.config.display()
            );
        }
        Ok(config)
    }
}

/// How a controller ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything of ours is removed.
    Release,
    /// The datapath stays, for a successor.
    Handover,
}

/// Runs the controller until it is told to stop.
///
/// # Errors
/// Something is missing; then nothing was changed.
pub fn run(options: &RunOptions) -> anyhow::Result<()> {
    let config = options.load()?;
    preflight::check_capabilities()?;
    preflight::check_kernel();
    let pins = Pins::open()?;
    let _lock = preflight::lock()?;
    let _state_file = overrides::lock::lock(&store::path(&config.admin))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let probes = health::driver::runtime().context("starting the threads of probes")?;
    let ground = Ground { options, pins: &pins, probes: probes.handle() };
    let outcome = runtime.block_on(control(&ground, config));
    probes.shutdown_background();
    outcome
}

/// What is there before the controller.
struct Ground<'a> {
    options: &'a RunOptions,
    pins: &'a Pins,
    probes: &'a Handle,
}

async fn control(ground: &Ground<'_>, config: Config) -> anyhow::Result<()> {
    let Ground { options, pins, .. } = *ground;
    let signals = signals::Signals::new()?;
    let listener = admin::bind(&config.admin.socket)?;
    let netlink = Netlink::open()?;
    let changes = Netlink::watch()?;
    let snapshot = netlink.snapshot().await.context("asking the kernel for its interfaces")?;
    check_interfaces(&config, &snapshot, pins)?;

    let is_successor = pins.exists();
    let mut vips = Vips::new(Record::load()?);
    vips.elect(&netlink, &snapshot, config.elected()).await?;
    // First of all: a predecessor's term goes on only for so long without an advertisement.
    let (mut elections, notices) = Elections::start(&config, vips.terms(), pins)?;
    let (events, writer) = (Events::default(), Writer::start(store::path(&config.admin)));
    let (commands, command_receiver) = mpsc::channel(64);
    let mut notifier = Notifier::new(events.clone(), commands.clone());
    notifier.apply(&config.notify);
    let own = config.vips();
    let names = Names::new(config, vips.names(), |server| snapshot.source_for(server, &own));
    let config = names.current();
    let started = start(ground, config, netlink, &mut vips, &mut elections, &events).await;
    let mut controller = match started {
        Ok(controller) => controller,
        Err(error) => {
            shut_down(&mut elections).await;
            if !is_successor {
                undo(pins, &snapshot).await;
            }
            return Err(error);
        }
    };

    let doubts = controller.datapath.take_signals()?;
    let (status_sender, status) = watch::channel(controller.status()?);
    let (api, live) = api(&controller, status, commands, &events);
    let servers = servers::start(listener, &controller.config.admin, api);
    let (ending, writer, notifier) = events::Loop {
        options,
        shared: share(&mut controller),
        controller: &mut controller,
        names,
        signals,
        changes,
        commands: command_receiver,
        status: status_sender,
        doubts,
        notices,
        give_up_at: None,
        end: None,
        writer,
        notifier,
        listener: servers.by_tcp.as_ref(),
        watch: None,
        refused: None,
        live,
    }
    .run()
    .await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    events.push(What::Stop { handover: ending == Ending::Handover });
    finish(ending, controller, async {
        // The server ends once the answers under way are sent.
        events.close();
        servers.stop().await;
        tokio::join!(writer.finish(), notifier.finish());
    })
    .await?;
    record::tidy();
    Ok(())
}

/// What the API serves, and what the main loop measures itself by.
fn api(
    controller: &Controller,
    status: StatusReader,
    commands: admin::Commands,
    events: &Events,
) -> (Api, Live) {
    let live = Live::default();
    let metrics = Metrics::new(status.clone(), live.clone(), controller.health.latencies())
        .with_connects(controller.datapath.maps.connects());
    let mut api = Api::new(status, commands, events.clone());
    api.metrics = metrics;
    (api, live)
}

/// Gives everything up before `others` is told; or hands it over after that, for a successor's time runs
/// from the last advertisement on.
async fn finish(
    ending: Ending,
    controller: Controller,
    others: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    match ending {
        Ending::Release => {
            release(controller).await?;
            others.await;
            Ok(())
        }
        Ending::Handover => {
            others.await;
            hand_over(controller).await
        }
    }
}

/// Starts to share flows, which is what instances of VRRP wait for; without it they take part at once.
fn share(controller: &mut Controller) -> Option<mpsc::Receiver<Told>> {
    let shared = controller.share_flows().unwrap_or_else(|error| {
        // Connections that are there go on; only the next take-over breaks them.
        log::error!("sync: {error:#}");
        None
    });
    if shared.is_none() {
        controller.elections.ready();
    }
    shared
}

async fn start(
    ground: &Ground<'_>,
    config: Config,
    netlink: Netlink,
    vips: &mut Vips,
    elections: &mut Elections,
    events: &Events,
) -> anyhow::Result<Controller> {
    let Ground { options, pins, probes } = *ground;
    let successor = pins.exists();
    let cpus = counts::cpus().context("asking the kernel how many CPUs there can be")?;
    let datapath = Datapath::load(pins.clone(), &Sizes::new(&config, cpus))?;
    lease_in_both(elections, pins, &datapath)?;
    let (version, pid) = (env!("CARGO_PKG_VERSION").to_owned(), std::process::id());
    events.push(What::Start { version, pid, successor });
    for line in report::memory(datapath.sizes()) {
        log::info!("memory: {line}");
    }
    for (service, line) in report::snat(&config) {
        log::info!("{service}: {line}");
    }
    let vips = std::mem::replace(vips, Vips::new(Record::default()));
    let status = first_status(options);
    let overrides = overrides(&config, events);
    let elections = std::mem::take(elections);
    let mut controller =
        Controller::new(config, datapath, netlink, vips, elections, status, probes.clone())?;
    controller.events = events.clone();
    // Before anything is written: nobody is used for a moment who was drained.
    controller.overrides = overrides;
    if let Err(error) = controller.refresh().await {
        shut_down(&mut controller.elections).await;
        return Err(error);
    }
    Ok(controller)
}

/// After a failed start, which is what is told.
async fn shut_down(elections: &mut Elections) {
    if let Err(error) = elections.shutdown().await {
        log::error!("{error:#}");
    }
}

/// While the attached program may still be a predecessor's, with maps of its own.
fn lease_in_both(elections: &Elections, pins: &Pins, datapath: &Datapath) -> anyhow::Result<()> {
    if !elections.is_running() {
        return Ok(());
    }
    let mut maps = vec![datapath.maps.leases().context("duplicating the leases")?];
    if let Some(dir) = pins.current() {
        maps.push(leases_in(&dir.path)?);
    }
    elections.lease_in(maps, &datapath.maps.installed()?.vips);
    Ok(())
}

/// What operators said to controllers before this one.
fn overrides(config: &Config, events: &Events) -> Overrides {
    let path = store::path(&config.admin);
    let (overrides, trouble) = store::load(&path);
    if let Some(reason) = trouble {
        log::error!("{reason}");
        events.push(What::Alarm { subject: "overrides".to_owned(), reason, resolved: false });
    }
    for said in overrides.list(|_| true) {
        log::warn!("{said}; as {} says", path.display());
    }
    overrides
}

/// What can be known to fail before anything is changed.
fn check_interfaces(config: &Config, snapshot: &Snapshot, pins: &Pins) -> anyhow::Result<()> {
    for name in &config.interfaces {
        let Some(link) = snapshot.link_by_name(name) else {
            let known: Vec<&str> = snapshot.links.values().map(|link| link.name.as_str()).collect();
            bail!("there is no interface {name}; this machine has {}", known.join(", "));
        };
        if let Some(master) = snapshot.aggregate_of(link) {
            let master = &master.name;
            bail!(
                "{name} is a port of {master}, which owns what arrives there; name {master} instead \
                 (interfaces: [{master}])"
            );
        }
        if let Some(xdp) = &link.xdp
            && !config.replace_xdp
            && !datapath::attach::is_attached(pins, name, link.index)
        {
            bail!(datapath::attach::occupied(name, xdp.program_id));
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a driver: stamps what status prints")]
fn first_status(options: &RunOptions) -> Status {
    let now = rfc3339(SystemTime::now());
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started: now.clone(),
        configuration: model::Configuration {
            path: options.config.display().to_string(),
            loaded: now,
        },
        ..Status::default()
    }
}

/// The status as it is published.
type Published = Arc<Status>;

/// A command of the API and what came of it.
type Commands = mpsc::Receiver<Command>;
