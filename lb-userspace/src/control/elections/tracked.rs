//! What the configuration tracks, looked at, for the priorities of instances. I/O: it reads tracked files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::Elections;
use crate::config::{Config, Vrrp};
use crate::control::desired::Desired;
use crate::netlink::snapshot::Snapshot;
use crate::vrrp::event::FaultCause;
use crate::vrrp::thread::Command;
use crate::vrrp::tracking::{Outcome, Tracking, number};
use crate::vrrp::{State, clock, group};

/// Leaves the lowest priority: it takes over only from a peer that is gone.
const HELD_BACK: i16 = -254;

/// What is known of the node beside VRRP.
pub struct Facts<'a> {
    pub config: &'a Config,
    pub desired: &'a Desired,
    pub snapshot: &'a Snapshot,
    /// XDP runs on all interfaces.
    pub attached: bool,
}

impl Elections {
    /// Looks at everything that is tracked, and tells the instances what changed.
    pub fn track(&mut self, facts: &Facts<'_>) {
        if !self.is_running() {
            return;
        }
        let now = clock::now();
        let active = self.active();
        let mut outcomes = BTreeMap::new();
        let mut known = std::mem::take(&mut self.tracking);
        for instance in &facts.config.vrrp {
            let mut tracking = known
                .remove(&instance.name)
                .unwrap_or_else(|| Tracking::new(instance.track.clone()));
            if *tracking.track() != instance.track {
                tracking.reconfigure(instance.track.clone());
            }
            look(&mut tracking, instance, facts);
            outcomes.insert(instance.name.as_str(), tracking.outcome(now));
            self.tracking.insert(instance.name.clone(), tracking);
        }
        for instance in &facts.config.vrrp {
            let mut outcome = of_group(instance, facts.config, &outcomes);
            if self.is_held_back && instance.preempt && !active.contains(&*instance.name) {
                outcome.adjustment = HELD_BACK;
            }
            let before = self.outcomes.insert(instance.name.clone(), outcome).unwrap_or_default();
            self.tell(&instance.name, before, outcome);
        }
    }

    /// Names of the instances that are Active.
    fn active(&self) -> BTreeSet<String> {
        let views = self.views().into_iter();
        let active = views.filter(|view| view.state == State::Active);
        active.map(|view| view.name.to_string()).collect()
    }

    fn tell(&self, name: &str, before: Outcome, outcome: Outcome) {
        if before.adjustment != outcome.adjustment {
            let adjustment = outcome.adjustment;
            if adjustment == HELD_BACK {
                log::info!("vrrp {name}: takes nothing from its peers before it knows their flows");
            } else {
                log::info!("vrrp {name}: tracking adds {adjustment} to its priority");
            }
            self.command(Command::Tracked { instance: name.into(), adjustment });
        }
        if before.is_fault != outcome.is_fault {
            let (cause, present) = (FaultCause::Tracked, outcome.is_fault);
            self.command(Command::Fault { instance: name.into(), cause, present });
        }
    }
}

fn look(tracking: &mut Tracking, instance: &Vrrp, facts: &Facts<'_>) {
    let now = clock::now();
    for interface in &instance.track.interfaces {
        let link = facts.snapshot.link_by_name(&interface.name);
        tracking.interface(&interface.name, link.is_some_and(|link| link.up));
    }
    for file in &instance.track.files {
        // One that cannot be read counts as 0.
        let text = fs::read_to_string(&file.path).unwrap_or_default();
        tracking.file(&file.path, number(&text));
    }
    if instance.track.backends.is_some()
        && let Some(up) = backends_up(instance, facts.desired)
    {
        tracking.backends(up, now);
    }
    tracking.datapath(facts.attached);
}

/// Of the service on the instance's VIPs that has the fewest. `None`: not all of them were probed.
fn backends_up(instance: &Vrrp, desired: &Desired) -> Option<u32> {
    use lb_common::backend;
    let vips: BTreeSet<_> = instance.vips.iter().collect();
    let services =
        desired.services.iter().filter(|service| service.vips.iter().any(|vip| vips.contains(vip)));
    let mut fewest = None;
    for service in services {
        if service.backends.iter().any(|backend| backend.state == backend::State::Unknown) {
            return None;
        }
        let up =
            service.backends.iter().filter(|backend| backend.state == backend::State::Up).count();
        let up = u32::try_from(up).unwrap_or(u32::MAX);
        fewest = Some(fewest.map_or(up, |fewest: u32| fewest.min(up)));
    }
    fewest
}

/// Members of a sync group have the same, or they would part.
fn of_group(instance: &Vrrp, config: &Config, outcomes: &BTreeMap<&str, Outcome>) -> Outcome {
    let own = outcomes.get(instance.name.as_str()).copied().unwrap_or_default();
    if instance.sync_group.is_none() {
        return own;
    }
    let fellows = config.vrrp.iter().filter(|other| other.sync_group == instance.sync_group);
    let outcomes = fellows.filter_map(|fellow| outcomes.get(fellow.name.as_str()));
    Outcome { adjustment: group::adjustment(outcomes.map(|it| it.adjustment)), ..own }
}
