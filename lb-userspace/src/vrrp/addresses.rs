//! The thread that adds and removes the VIPs of VRRP instances, and adds again what someone took away.
//! A thread of its own, because the kernel's lock for such changes may be held by others for long. I/O.
//!
//! ```text
//!  VRRP thread ── Order ──► addresses ──► kernel
//!       ▲                    │    ▲         │
//!       └────── Report ──────┘    └─ events ┘
//! ```
//! Level-triggered: every order and every event leads to the same comparison of what should be with what
//! is. On interfaces that it watches no VIP of an instance stays that is not held, so that what a killed
//! predecessor left goes too.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread::JoinHandle;

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use super::socket::{Membership, Socket};
use super::{Nanos, channel, clock, realtime};
use crate::config::Family;
use crate::netlink::blocking::{Events, Requests};
use crate::netlink::snapshot::Address;

pub mod facts;

pub use facts::Facts;

/// Between two looks at everything, however often something changes.
const LEAST_BETWEEN_LOOKS: u64 = 10_000_000;
/// Events may be lost, and an attempt fail: then this is how long it takes.
const LOOK_ANYWAY: u64 = 1_000_000_000;
/// While an interface has received nothing.
const LOOK_AGAIN: u64 = 100_000_000;
/// Switches forget members of groups, and the kernel does not notice.
const MEMBERSHIP: u64 = 60_000_000_000;
/// So many losses within so long are no accident: somebody else manages the interface's addresses.
const LOSSES: usize = 5;
const LOSSES_WITHIN: u64 = 15_000_000_000;
/// Until another try.
const CONTESTED_FOR: u64 = 30_000_000_000;

/// An instance's VIPs and where they belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    pub instance: Arc<str>,
    pub interface: String,
    pub family: Family,
    /// Whether it takes part in multicast.
    pub multicast: bool,
    pub vips: Arc<[IpAddr]>,
    /// Whether they are to be there from the beginning.
    pub held: bool,
}

/// What the VRRP thread asks for.
#[derive(Debug)]
pub enum Order {
    /// These instances, in place of those before; `vips`: no own address of the node, whoever has them.
    Manage {
        instances: Vec<Managed>,
        vips: Arc<[IpAddr]>,
    },
    /// By the instance's place in the last `Manage`.
    Hold(usize),
    Release(usize),
    End,
}

/// What it is told.
#[derive(Debug)]
pub enum Report {
    /// The interface that an instance is on; when something of it changed.
    Interface { instance: Arc<str>, facts: Facts },
    /// To speak on an instance's interface, for as long as that has this index.
    Socket { instance: Arc<str>, socket: Socket },
    /// A VIP was taken away and is back.
    Restored { instance: Arc<str>, vip: IpAddr },
    /// VIPs are taken away again and again.
    Contested { instance: Arc<str> },
    /// After a while it is worth another try.
    Uncontested { instance: Arc<str> },
    /// For the log.
    Trouble(String),
}

/// Starts the thread. It ends with [`Order::End`], or when nobody is left to give orders.
pub fn spawn(
    orders: Receiver<Order>,
    wake: Arc<EventFd>,
    reports: channel::Sender<Report>,
) -> anyhow::Result<JoinHandle<()>> {
    let keeper = Keeper {
        requests: Requests::open()?,
        events: Events::subscribe()?,
        orders,
        wake,
        reports,
        instances: Vec::new(),
        vips: Arc::new([]),
    };
    std::thread::Builder::new()
        .name("vrrp-addresses".to_owned())
        .spawn(|| keeper.run())
        .context("starting the thread for addresses")
}

/// An instance as this thread knows it.
struct Instance {
    managed: Managed,
    facts: Option<Facts>,
    /// The interface that a socket was opened for.
    socket: u32,
    membership: Option<(u32, Membership)>,
    renew_at: Nanos,
    /// Every VIP of it was there at the last look.
    complete: bool,
    lost_at: VecDeque<Nanos>,
    /// What its interface had received when it came up.
    received: Option<u64>,
    contested_until: Option<Nanos>,
}

struct Keeper {
    requests: Requests,
    events: Events,
    orders: Receiver<Order>,
    wake: Arc<EventFd>,
    reports: channel::Sender<Report>,
    instances: Vec<Instance>,
    /// Of all instances and services.
    vips: Arc<[IpAddr]>,
}

impl Keeper {
    fn run(mut self) {
        // Said by the VRRP thread, for both.
        let _ = realtime::schedule(realtime::ADDRESSES);
        let mut look_at = clock::now();
        loop {
            match self.obey() {
                Ok(true) => look_at = clock::now(),
                Ok(false) => {}
                Err(Ended) => return,
            }
            let now = clock::now();
            if now >= look_at {
                if let Err(error) = self.look(now) {
                    self.trouble(&error);
                }
                let awaited = |instance: &Instance| {
                    instance.facts.as_ref().is_some_and(|facts| facts.up && !facts.receiving)
                };
                let waits = self.instances.iter().any(awaited);
                look_at = Nanos(now.0 + if waits { LOOK_AGAIN } else { LOOK_ANYWAY });
            }
            self.wait(look_at);
            if self.events.drain() {
                let soon = Nanos(now.0 + LEAST_BETWEEN_LOOKS).max(clock::now());
                look_at = look_at.min(soon);
            }
        }
    }

    fn wait(&self, until: Nanos) {
        let left = until.0.saturating_sub(clock::now().0).div_ceil(1_000_000);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [
            PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
        ];
        // Interrupted or not: everything is looked at.
        let _ = poll(&mut fds, timeout);
        channel::clear(&self.wake);
    }

    /// `true`: an order came that only a look carries out.
    fn obey(&mut self) -> Result<bool, Ended> {
        let mut look = false;
        loop {
            match self.orders.try_recv() {
                Ok(Order::Manage { instances, vips }) => {
                    self.manage(instances, vips);
                    look = true;
                }
                Ok(Order::Hold(index)) => self.hold(index, true),
                Ok(Order::Release(index)) => self.hold(index, false),
                Ok(Order::End) | Err(TryRecvError::Disconnected) => return Err(Ended),
                Err(TryRecvError::Empty) => return Ok(look),
            }
        }
    }

    /// VIPs that are configured no more go; of interfaces everything is reported anew.
    fn manage(&mut self, instances: Vec<Managed>, vips: Arc<[IpAddr]>) {
        let keeps = |interface: &str, vip: &IpAddr| {
            instances.iter().any(|new| new.interface == interface && new.vips.contains(vip))
        };
        let mut stale = Vec::new();
        for Instance { managed, facts, .. } in &self.instances {
            let ifindex = facts.as_ref().map_or(0, |facts| facts.ifindex);
            let gone = managed.vips.iter().filter(|vip| !keeps(&managed.interface, vip));
            stale.extend(gone.map(|vip| (ifindex, *vip)));
        }
        for (ifindex, vip) in stale {
            if let Err(error) = self.requests.remove_vip(ifindex, vip) {
                self.trouble(&error);
            }
        }
        self.instances = instances
            .into_iter()
            .map(|managed| Instance {
                managed,
                facts: None,
                socket: 0,
                membership: None,
                renew_at: Nanos(0),
                complete: false,
                lost_at: VecDeque::with_capacity(LOSSES),
                received: None,
                contested_until: None,
            })
            .collect();
        self.vips = vips;
    }

    /// At once, without a look: this is what a failover waits for.
    fn hold(&mut self, index: usize, held: bool) {
        let Some(instance) = self.instances.get_mut(index) else { return };
        instance.managed.held = held;
        instance.complete = false;
        let Some(ifindex) = instance.facts.as_ref().map(|facts| facts.ifindex) else { return };
        let vips = Arc::clone(&instance.managed.vips);
        for vip in vips.iter() {
            let done = if held {
                self.requests.add_vip(ifindex, *vip)
            } else {
                self.requests.remove_vip(ifindex, *vip)
            };
            if let Err(error) = done {
                self.trouble(&error);
            }
        }
    }

    /// Compares everything, reports what changed, mends what is wrong.
    fn look(&mut self, now: Nanos) -> anyhow::Result<()> {
        let links = self.requests.links().context("listing the interfaces")?;
        let addresses = self.requests.addresses().context("listing the addresses")?;
        for index in 0..self.instances.len() {
            let Some(instance) = self.instances.get_mut(index) else { break };
            let interface = &instance.managed.interface;
            let mut facts = facts::of(interface, &links, &addresses, &self.vips);
            facts.router = is_router(interface);
            facts.receiving = facts.up && instance.is_receiving(received(interface));
            if let Err(error) = listen(instance, &facts, &self.reports, now) {
                let interface = &instance.managed.interface;
                let text = format!("listening for VRRP on {interface}: {error}");
                self.reports.send(Report::Trouble(text));
            }
            let ifindex = facts.ifindex;
            if instance.facts.as_ref() != Some(&facts) {
                instance.facts = Some(facts.clone());
                let name = Arc::clone(&instance.managed.instance);
                self.reports.send(Report::Interface { instance: name, facts });
            }
            if ifindex != 0 {
                self.mend(index, ifindex, &addresses, now)?;
            }
        }
        Ok(())
    }

    fn mend(
        &mut self,
        index: usize,
        ifindex: u32,
        addresses: &[Address],
        now: Nanos,
    ) -> anyhow::Result<()> {
        let Some(instance) = self.instances.get_mut(index) else { return Ok(()) };
        let (held, was_complete) = (instance.managed.held, instance.complete);
        let vips = Arc::clone(&instance.managed.vips);
        let name = Arc::clone(&instance.managed.instance);
        let mut lost = false;
        for vip in vips.iter() {
            let found = addresses.iter().find(|a| (a.ifindex, a.address) == (ifindex, *vip));
            match (held, found) {
                (true, None) => {
                    self.requests.add_vip(ifindex, *vip)?;
                    if was_complete {
                        lost = true;
                        self.reports
                            .send(Report::Restored { instance: Arc::clone(&name), vip: *vip });
                    }
                }
                (true, Some(found)) if !is_right(found) => {
                    self.requests.correct_vip(ifindex, *vip)?;
                }
                (false, Some(found)) if found.prefix_len == Family::of(vip).bits() => {
                    self.requests.remove_vip(ifindex, *vip)?;
                }
                (true | false, Some(_)) | (false, None) => {}
            }
        }
        let Some(instance) = self.instances.get_mut(index) else { return Ok(()) };
        instance.complete = held;
        if instance.contested_until.is_some_and(|until| until <= now) {
            instance.contested_until = None;
            self.reports.send(Report::Uncontested { instance: Arc::clone(&name) });
        }
        if lost {
            instance.lost_at.push_back(now);
            instance.lost_at.retain(|lost| now.0 - lost.0 < LOSSES_WITHIN);
            if instance.lost_at.len() >= LOSSES {
                instance.lost_at.clear();
                instance.contested_until = Some(Nanos(now.0 + CONTESTED_FOR));
                self.reports.send(Report::Contested { instance: name });
            }
        }
        Ok(())
    }

    fn trouble(&self, error: &anyhow::Error) {
        self.reports.send(Report::Trouble(format!("{error:#}")));
    }
}

/// Sees to it that an instance has a socket for its interface, and is in VRRP's group there.
fn listen(
    instance: &mut Instance,
    facts: &Facts,
    reports: &channel::Sender<Report>,
    now: Nanos,
) -> std::io::Result<()> {
    let Managed { interface, family, multicast, .. } = &instance.managed;
    if facts.ifindex == 0 {
        (instance.socket, instance.membership) = (0, None);
        return Ok(());
    }
    let known = instance.facts.as_ref();
    if instance.socket != facts.ifindex {
        let socket = Socket::open(*family, interface, facts.ifindex)?;
        let name = Arc::clone(&instance.managed.instance);
        reports.send(Report::Socket { instance: name, socket });
        instance.socket = facts.ifindex;
    }
    if !multicast {
        return Ok(());
    }
    let came_up = facts.up && known.is_some_and(|known| !known.up);
    match &instance.membership {
        Some((ifindex, membership)) if *ifindex == facts.ifindex => {
            if now < instance.renew_at && !came_up {
                return Ok(());
            }
            membership.renew()?;
        }
        Some(_) | None => {
            instance.membership = Some((facts.ifindex, Membership::join(*family, facts.ifindex)?));
        }
    }
    instance.renew_at = Nanos(now.0 + MEMBERSHIP);
    Ok(())
}

impl Instance {
    /// Whether `received` frames are more than when the link came up, which is when this was last false.
    fn is_receiving(&mut self, received: u64) -> bool {
        let known = self.facts.as_ref();
        let was_up = known.is_some_and(|known| known.up);
        let before = self.received.filter(|_| was_up);
        self.received = Some(before.unwrap_or(received));
        before.is_some_and(|before| before != received)
    }
}

/// Frames that an interface has received.
fn received(interface: &str) -> u64 {
    // A thread's own namespace: the process's may be another.
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    facts::received(&table, interface).unwrap_or(0)
}

fn is_router(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    // A kernel without IPv6 has no such file.
    std::fs::read_to_string(path).is_ok_and(|value| value.trim() != "0")
}

/// There is nobody to work for.
struct Ended;

/// A VIP as it was added, or one that a predecessor added.
fn is_right(found: &Address) -> bool {
    found.prefix_len == Family::of(&found.address).bits() && found.deprecated
}
