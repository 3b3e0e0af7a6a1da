//! One instance and all that it has to do with: what the VRRP thread keeps of each. I/O.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_common::link::Mac;

use super::super::addresses::{Facts, Managed, Order};
use super::super::announcing::Announcer;
use super::super::event::{Alarm, Lease};
use super::super::packet::Advert;
use super::super::socket::Socket;
use super::super::view::View;
use super::super::{Event, Instance, Nanos, Previous, Settings, State, clock, lease};
use super::{Plan, Planned, Thread};
use crate::config::Family;

/// Between two defences of an address (RFC 5227 2.4).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// An instance.
pub(super) struct Member {
    pub(super) name: Arc<str>,
    pub(super) interface: Arc<str>,
    pub(super) settings: Settings,
    pub(super) vips: Arc<[IpAddr]>,
    /// Of its addresses, by the settings that are to be.
    life: u32,
    source: Option<IpAddr>,
    pub(super) machine: Instance,
    pub(super) facts: Facts,
    pub(super) socket: Option<Socket>,
    /// What it advertises, but for the priority.
    pub(super) advert: Advert,
    pub(super) announcer: Announcer,
    pub(super) group: Option<Arc<str>>,
    pub(super) view: View,
    /// When a claim of another host was last answered with announcements.
    defended: Option<Nanos>,
    /// Until it has started.
    pub(super) previous: Option<Option<Previous>>,
    /// By [`super::super::Discard::index`]: when a message that was dropped was last told of.
    pub(super) told: [Option<Nanos>; 14],
}

impl Member {
    fn new(planned: Planned, now: Nanos) -> Self {
        let Planned { name, interface, settings, vips, announce, group, source, previous } =
            planned;
        Self {
            machine: Instance::new(&settings, now),
            life: settings.address_life(),
            advert: settings.advert(settings.priority),
            announcer: Announcer::new(Arc::clone(&vips), announce),
            view: View::new(&name, &interface, &vips, &settings, now),
            name,
            interface,
            settings,
            vips,
            source,
            facts: Facts::default(),
            socket: None,
            group,
            defended: None,
            previous: Some(previous),
            told: [None; 14],
        }
    }

    /// It is the same instance with other settings.
    fn is(&self, planned: &Planned) -> bool {
        let same = (self.settings.vrid, self.settings.family);
        self.name == planned.name
            && self.interface == planned.interface
            && same == (planned.settings.vrid, planned.settings.family)
    }

    /// The address that it sends from.
    pub(super) fn own(&self) -> Option<IpAddr> {
        let primary = match self.settings.family {
            Family::V4 => self.facts.own4.map(IpAddr::V4),
            Family::V6 => self.facts.own6.map(IpAddr::V6),
        };
        // Without any address the interface cannot have this one either.
        primary.map(|primary| self.source.unwrap_or(primary))
    }

    pub(super) fn group(&self) -> IpAddr {
        match self.settings.family {
            Family::V4 => IpAddr::V4(super::super::packet::MULTICAST_V4),
            Family::V6 => IpAddr::V6(super::super::packet::MULTICAST_V6),
        }
    }

    /// How late an advertisement is that is due.
    pub(super) fn note_lateness(&mut self, now: Nanos) {
        if let (State::Active, Some(due)) = (self.machine.state(), self.machine.deadline()) {
            let worst = &mut self.view.counters.worst_lateness;
            *worst = (*worst).max(now.since(due));
        }
    }

    /// It knows its link, and has to go on by then where its predecessor ended.
    pub(super) fn adoption_due(&self) -> Option<Nanos> {
        let until = self.previous.flatten().and_then(|previous| previous.until);
        until.filter(|_| self.facts.ifindex != 0)
    }

    fn managed(&self) -> Managed {
        Managed {
            instance: Arc::clone(&self.name),
            interface: self.interface.to_string(),
            family: self.settings.family,
            multicast: self.settings.unicast_peers.is_empty(),
            vips: Arc::clone(&self.vips),
            life: self.life,
            // One that may be adopted is not taken away first.
            held: self.machine.state() == State::Active
                || self.previous.flatten().is_some_and(|previous| previous.until.is_some()),
        }
    }
}

impl Thread {
    /// Makes the instances those of `plan`. Those that were there go on as they are.
    pub(super) fn configure(&mut self, plan: Plan, now: Nanos) {
        for index in (0..self.members.len()).rev() {
            let stays = self
                .members
                .get(index)
                .is_some_and(|member| plan.instances.iter().any(|planned| member.is(planned)));
            if !stays {
                self.handle(index, Event::Shutdown, now);
            }
        }
        let mut old = std::mem::take(&mut self.members);
        let mut known = Vec::new();
        for planned in plan.instances {
            match old.iter().position(|member| member.is(&planned)) {
                Some(index) => {
                    let member = old.swap_remove(index);
                    let before = member.vips.clone();
                    let (vips, life) = (Arc::clone(&planned.vips), planned.settings.address_life());
                    self.members.push(Member { vips, life, ..member });
                    known.push((self.members.len() - 1, planned, before));
                }
                None => self.members.push(Member::new(planned, now)),
            }
        }
        self.reserve_for_groups();
        // Before any machine gives an order, which names its instance by its place.
        let instances = self.members.iter().map(Member::managed).collect();
        self.orders.send(Order::Manage { instances, vips: plan.vips });
        for (index, planned, before) in known {
            self.reconfigure(index, planned, &before, now);
        }
        self.publish_by(now);
    }

    fn reconfigure(&mut self, index: usize, planned: Planned, before: &[IpAddr], now: Nanos) {
        let Some(member) = self.members.get_mut(index) else { return };
        let Planned { settings, vips, announce, group, source, .. } = planned;
        member.announcer.reconfigure(Arc::clone(&vips), announce);
        // All of them: a round is short.
        if member.machine.state() == State::Active && vips.iter().any(|vip| !before.contains(vip)) {
            member.announcer.start(now);
        }
        member.group = group;
        member.view.vips = vips;
        if source != member.source {
            member.source = source;
            let own = member.own();
            self.handle(index, Event::Address { own }, now);
        }
        let Some(member) = self.members.get_mut(index).filter(|m| m.settings != settings) else {
            return;
        };
        member.settings = settings.clone();
        member.advert = settings.advert(settings.priority);
        member.view.version = settings.version;
        member.view.interval = settings.advert_interval;
        self.handle(index, Event::Reconfigure(&settings), now);
    }

    /// Lets those take part that may and do not.
    pub(super) fn start_members(&mut self, now: Nanos) {
        for index in 0..self.members.len() {
            let Some(member) = self.members.get_mut(index) else { break };
            let Some(previous) = member.previous else { continue };
            let adopts = previous.is_some_and(|previous| previous.until.is_some());
            if member.facts.ifindex == 0
                || !(self.ready || adopts)
                || member.adoption_due().is_some_and(|until| now < until)
                    && self.waits_for_fellows(index)
            {
                continue;
            }
            let Some(member) = self.members.get_mut(index) else { break };
            member.previous = None;
            self.handle(index, Event::Start { previous }, now);
            // It may have found that the time to adopt is over.
            let Some(member) = self.members.get(index) else { break };
            if adopts && member.machine.state() != State::Active {
                self.orders.send(Order::Release(index));
                let forward_until = now.after(member.settings.linger);
                self.renew(index, Lease { answer_until: now, forward_until });
            }
        }
    }

    /// Another datapath: leases go on there.
    pub(super) fn lease_elsewhere(&mut self, leases: lease::Leases) {
        self.leases = leases;
        let tick = self.tick;
        for member in &self.members {
            let Some(lease) = member.view.lease.filter(|_| member.machine.state() == State::Active)
            else {
                continue;
            };
            let lease = lease::for_xdp(lease.answer_until, lease.forward_until, tick);
            if let Err(error) = self.leases.set(&member.vips, &lease) {
                self.trouble(format!("{}: writing leases: {error}", member.name));
            }
        }
    }

    /// What the thread for addresses has to say.
    pub(super) fn note_reports(&mut self) {
        use super::super::addresses::Report;
        while let Ok(report) = self.reports.try_recv() {
            let now = clock::now();
            match report {
                Report::Interface { instance, facts } => self.note_facts(&instance, facts, now),
                Report::Socket { instance, socket } => self.note_socket(&instance, socket),
                Report::Restored { instance, vip } => {
                    if let Some(index) = self.find(&instance)
                        && let Some(member) = self.members.get_mut(index)
                        && member.machine.state() == State::Active
                    {
                        member.announcer.start(now);
                    }
                    self.notice(super::Notice::Restored { instance, vip });
                }
                Report::Contested { instance } => {
                    let cause = super::FaultCause::Vips;
                    self.tell(&instance, Event::Fault { cause, present: true }, now);
                }
                Report::Uncontested { instance } => {
                    let cause = super::FaultCause::Vips;
                    self.tell(&instance, Event::Fault { cause, present: false }, now);
                }
                Report::Claimed { instance, vip, by } => self.note_claim(&instance, vip, by, now),
                Report::Trouble(text) => self.trouble(text),
            }
        }
    }

    /// G9: two hosts have an address. The link is told again who should be believed, now and then (RFC
    /// 5227 2.4).
    fn note_claim(&mut self, name: &str, vip: IpAddr, by: Mac, now: Nanos) {
        let Some(index) = self.find(name) else { return };
        let Some(member) = self.members.get_mut(index) else { return };
        if member.machine.state() != State::Active {
            return;
        }
        if member.defended.is_none_or(|last| now.since(last) >= DEFEND_INTERVAL) {
            member.defended = Some(now);
            member.announcer.start(now);
        }
        self.raise(index, Alarm::Claimed { vip, by }, now);
    }

    fn note_facts(&mut self, name: &str, facts: Facts, now: Nanos) {
        let Some(index) = self.find(name) else { return };
        let Some(member) = self.members.get_mut(index) else { return };
        let (up, receiving) = (facts.up, facts.receiving);
        member.facts = facts;
        let own = member.own();
        self.handle(index, Event::Address { own }, now);
        self.handle(index, Event::Link { up }, now);
        if receiving {
            self.handle(index, Event::Receiving, now);
        }
        self.start_members(now);
    }

    fn note_socket(&mut self, name: &str, socket: Socket) {
        let Some(index) = self.find(name) else { return };
        if let Err(error) = self.poller.add(&socket) {
            return self.trouble(format!("{name}: waiting for a socket: {error}"));
        }
        if let Some(member) = self.members.get_mut(index) {
            member.socket = Some(socket);
        }
    }
}
