//! The controller's side of VRRP: starts its threads, gives them the configuration and the leases, keeps
//! what a successor has to know, tells operators what happens. I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use lb_common::lease::Lease;
use lb_common::map;
use lb_common::vip::Vip;
use tokio::sync::mpsc;

use crate::config::{Config, Vrrp};
use crate::datapath::sys::{self, Walk};
use crate::datapath::{Pins, object};
use crate::record::Term;
use crate::vrrp::event::{Drained, Previous};
use crate::vrrp::lease::{self, Leases, Table};
use crate::vrrp::thread::{Command, Handle, Notice, spawn};
use crate::vrrp::tracking::{Outcome, Tracking};
use crate::vrrp::view::View;
use crate::vrrp::{Nanos, State, clock, timers};

mod plan;
mod report;
mod tracked;

pub use report::{event, statuses};
pub use tracked::Facts;

/// Beyond what the machines bound a drain to.
const DRAIN_MARGIN: Duration = Duration::from_secs(3);

/// The elections that this node takes part in; none without `vrrp` in the configuration.
#[derive(Default)]
pub struct Elections {
    handle: Option<Handle>,
    /// Instances whose VIPs are not given up yet.
    draining: BTreeSet<Arc<str>>,
    tracking: BTreeMap<String, Tracking>,
    /// What instances were told last.
    outcomes: BTreeMap<String, Outcome>,
    /// What peers know is not known here yet.
    is_held_back: bool,
}

/// What they tell.
pub type Notices = mpsc::Receiver<Notice>;

impl Elections {
    /// Starts, if there is anything to elect. Before the datapath is there: a predecessor's leases say
    /// which of its terms can go on, and are renewed where they are.
    pub fn start(
        config: &Config,
        terms: &BTreeMap<String, Term>,
        pins: &Pins,
    ) -> Result<(Self, Option<Notices>)> {
        if config.vrrp.is_empty() {
            return Ok((Self::default(), None));
        }
        let table = pinned_table(pins).unwrap_or_else(|error| {
            log::debug!("no predecessor's leases: {error:#}");
            None
        });
        let previous = previous(config, terms, table.as_ref());
        let leases = Leases::new(table.into_iter().collect());
        let (handle, notices) = spawn(plan::plan(config, &previous), leases)?;
        Ok((Self { handle: Some(handle), ..Self::default() }, Some(notices)))
    }

    pub fn is_running(&self) -> bool {
        self.handle.is_some()
    }

    /// The datapath is there, its maps too.
    pub fn ready(&self) {
        self.command(Command::Ready);
    }

    /// Other instances, or other settings.
    pub fn reconfigure(&self, config: &Config) {
        self.command(Command::Configure(plan::plan(config, &BTreeMap::new())));
    }

    /// Where leases are kept from now on: maps, and the index of each VIP in all of them.
    pub fn lease_in(&self, maps: Vec<OwnedFd>, index: &BTreeMap<IpAddr, u32>) {
        let tables = maps.into_iter().map(|map| Table::new(map, index.clone())).collect();
        self.command(Command::Leases(Leases::new(tables)));
    }

    /// Gives the VIPs up without a gap; [`Self::is_drained`] says when that is done.
    pub fn drain(&mut self) {
        // Who is not Active has nothing to give up, and need not be awaited.
        let views = self.views();
        let active = views.iter().filter(|view| view.state == State::Active);
        self.draining = active.map(|view| Arc::clone(&view.name)).collect();
        self.command(Command::Drain);
    }

    /// Takes part again as configured.
    pub fn resume(&mut self) {
        self.draining.clear();
        self.command(Command::Resume);
    }

    /// The instances that wait for somebody to take over.
    pub const fn draining(&self) -> &BTreeSet<Arc<str>> {
        &self.draining
    }

    /// While a node is held back none of its instances takes VIPs from a peer that is alive, whatever its
    /// priority. Holds from the next [`Self::track`] on.
    pub fn hold_back(&mut self, held: bool) {
        self.is_held_back = held;
    }

    /// Nobody has to be awaited any more.
    pub fn is_drained(&self) -> bool {
        self.draining.is_empty()
    }

    /// How long a drain may take at most.
    pub fn longest_drain(config: &Config) -> Duration {
        let down = |instance: &Vrrp| {
            let interval = instance.advert_interval;
            timers::active_down_interval(instance.version, 1, interval, instance.down_timer_adverts)
        };
        config.vrrp.iter().map(down).max().unwrap_or_default() + DRAIN_MARGIN
    }

    /// Tells the log of a notice, and keeps what it means here. `Some`: what a successor has to know.
    pub fn note(&mut self, notice: &Notice) -> Option<(String, Term)> {
        report::log(notice);
        match notice {
            Notice::Drained { instance, drained } => {
                match drained {
                    Drained::TakenOver { .. }
                    | Drained::GaveUp
                    | Drained::NobodyThere
                    | Drained::NotActive => self.draining.remove(instance),
                };
                None
            }
            Notice::Transition { instance, transition } => {
                let term = Term { term: transition.term };
                Some((instance.to_string(), term))
            }
            Notice::Reaffirmed { .. }
            | Notice::Alarm { .. }
            | Notice::Dropped { .. }
            | Notice::Restored { .. }
            | Notice::Trouble(_) => None,
        }
    }

    /// What is known of each instance.
    pub fn views(&self) -> Vec<View> {
        self.handle.as_ref().map(Handle::views).unwrap_or_default()
    }

    /// VIPs that this node holds by an election, and until when its lease is.
    pub fn held(&self) -> BTreeMap<IpAddr, Option<Nanos>> {
        let views = self.views();
        let active = views.iter().filter(|view| view.state == State::Active);
        active
            .flat_map(|view| {
                let until = view.lease.map(|lease| lease.answer_until);
                view.vips.iter().map(move |vip| (*vip, until))
            })
            .collect()
    }

    /// Gives everything up.
    pub async fn shutdown(&mut self) -> Result<()> {
        match self.handle.take() {
            Some(handle) => handle.shutdown().await.context("ending VRRP"),
            None => Ok(()),
        }
    }

    /// Leaves everything to a successor; what that has to know.
    pub async fn hand_over(&mut self) -> Result<BTreeMap<String, Term>> {
        let Some(handle) = self.handle.take() else { return Ok(BTreeMap::new()) };
        let terms = handle.hand_over().await.context("handing VRRP over")?;
        Ok(terms.into_iter().map(|(name, term)| (name.to_string(), Term { term })).collect())
    }

    fn command(&self, command: Command) {
        let Some(handle) = &self.handle else { return };
        if let Err(error) = handle.command(command) {
            log::error!("{error:#}");
        }
    }
}

/// The leases of the maps that the attached program uses.
fn pinned_table(pins: &Pins) -> Result<Option<Table>> {
    let Some(dir) = pins.current() else { return Ok(None) };
    let vips = object::pinned(&dir.path, map::VIPS)?;
    let leases = object::pinned(&dir.path, map::LEASES)?;
    Ok(Some(Table::new(descriptor(&leases)?, indices(&vips)?)))
}

/// The index of each VIP's lease, as a map of any version has it.
fn indices(vips: &MapData) -> Result<BTreeMap<IpAddr, u32>> {
    use std::os::fd::AsFd as _;
    let mut found = BTreeMap::new();
    let (key, value) = (size_of::<lb_common::addr::IpBe>(), size_of::<Vip>());
    Walk::new(key, value, 64)
        .all(vips.fd().as_fd(), |key, value| {
            let address = sys::from_bytes::<lb_common::addr::IpBe>(key);
            if let (Some(address), Some(vip)) = (address, sys::from_bytes::<Vip>(value)) {
                found.insert(address.get(), vip.lease());
            }
            Ok(())
        })
        .context("reading the VIPs")?;
    Ok(found)
}

/// A second descriptor of a map.
pub fn descriptor(map: &MapData) -> Result<OwnedFd> {
    use std::os::fd::AsFd as _;
    map.fd().as_fd().try_clone_to_owned().context("duplicating a map's descriptor")
}

/// Which terms of a predecessor can go on: those whose lease has not ended, so that no peer can have taken
/// over.
fn previous(
    config: &Config,
    terms: &BTreeMap<String, Term>,
    table: Option<&Table>,
) -> BTreeMap<String, Previous> {
    let now = clock::now();
    let tick = clock::coarse_tick();
    let mut found = BTreeMap::new();
    for instance in &config.vrrp {
        let known = terms.get(&instance.name).copied().unwrap_or_default();
        let lease = table
            .zip(instance.vips.first())
            .and_then(|(table, vip)| table.get(*vip).ok().flatten())
            .filter(|lease| lease.may_answer(now.0) && *lease != Lease::FOREVER);
        let until = lease.map(|lease| lease::answer_until(&lease, tick));
        if known.term > 0 || until.is_some() {
            found.insert(instance.name.clone(), Previous { term: known.term, until });
        }
    }
    found
}

/// Where a set of maps has its leases.
pub fn leases_in(path: &Path) -> Result<OwnedFd> {
    descriptor(&object::pinned(path, map::LEASES)?)
}
