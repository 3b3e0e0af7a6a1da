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
//! predecessor left goes too. What it adds has a life, which it extends: without it the kernel removes the
//! addresses, as another node has them by then.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use arrayvec::ArrayVec;
use lb_common::link::Mac;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use super::socket::Membership;
use super::{Nanos, channel, clock, realtime};
use crate::netlink::blocking::{Events, Requests};
use crate::netlink::garp::FrameSocket;

pub(crate) mod claims;
pub mod facts;
mod listen;
mod mend;
mod message;
mod questions;

use claims::Ears;
pub use facts::Facts;
use listen::listen;
pub use message::{Managed, Order, Report};
use questions::Questions;

/// Between two looks at everything, however often something changes.
const LEAST_BETWEEN_LOOKS: u64 = 10_000_000;
/// Events may be lost, and an attempt fail: then this is how long it takes.
const LOOK_ANYWAY: u64 = 1_000_000_000;
/// While an interface has received nothing.
const LOOK_AGAIN: u64 = 100_000_000;
/// So many losses in a short time are no accident: somebody else manages the interface's addresses.
const LOSSES: usize = 5;
/// Who had the VIPs before this node needs that long to notice, and may say so until then.
const YIELDS_WITHIN: Duration = Duration::from_secs(1);

/// Starts the thread. It ends with [`Order::End`], or when nobody is left to give orders.
pub fn spawn(
    orders: Receiver<Order>,
    wake: Arc<EventFd>,
    reports: channel::Sender<Report>,
) -> anyhow::Result<JoinHandle<()>> {
    let keeper = Keeper {
        requests: Requests::open()?,
        events: Events::subscribe()?,
        ears: Ears::default(),
        frames: FrameSocket::open().context("opening a socket for frames")?,
        own: Vec::new(),
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
    /// When the life of its VIPs is to be extended; at the next look, where nobody has yet.
    extend_at: Nanos,
    /// Every VIP of it was there at the last look.
    complete: bool,
    lost_at: VecDeque<Nanos>,
    /// What its interface had received when it came up.
    received: Option<u64>,
    contested_until: Option<Nanos>,
    /// Since when the VIPs are held.
    held_since: Nanos,
    questions: Questions,
}

struct Keeper {
    requests: Requests,
    events: Events,
    ears: Ears,
    frames: FrameSocket,
    /// The MACs of this host's interfaces: any of them may answer for an address of its.
    own: Vec<Mac>,
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
            self.note_claims(clock::now());
            let asked = self.ask(clock::now());
            let others = asked.into_iter().chain(self.ears.deadline(now));
            self.wait(others.fold(look_at, Nanos::min));
            if self.events.drain() {
                let soon = Nanos(now.0 + LEAST_BETWEEN_LOOKS).max(clock::now());
                look_at = look_at.min(soon);
            }
        }
    }

    fn wait(&self, until: Nanos) {
        let left = until.0.saturating_sub(clock::now().0).div_ceil(1_000_000);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = ArrayVec::<PollFd<'_>, 4>::new();
        fds.extend([self.events.as_fd(), self.wake.as_fd()].map(readable));
        fds.extend(self.ears.fds(clock::now()).map(readable));
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
        let now = clock::now();
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
                extend_at: Nanos(0),
                complete: false,
                lost_at: VecDeque::with_capacity(LOSSES),
                received: None,
                contested_until: None,
                held_since: now,
                questions: Questions::default(),
            })
            .collect();
        for instance in self.instances.iter_mut().filter(|it| it.managed.held) {
            instance.questions = Questions::after(now, instance.managed.vips.len());
        }
        self.vips = vips;
        let elected = self.instances.iter().flat_map(|it| it.managed.vips.iter().copied());
        if let Err(error) = self.ears.listen_for(&elected.collect::<Vec<_>>()) {
            let text = format!("listening for others that claim a VIP: {error}");
            self.reports.send(Report::Trouble(text));
        }
    }

    /// At once, without a look: this is what a failover waits for.
    fn hold(&mut self, index: usize, held: bool) {
        let Some(instance) = self.instances.get_mut(index) else { return };
        instance.managed.held = held;
        instance.complete = false;
        // One that was there before has a life of its own.
        instance.extend_at = Nanos(0);
        instance.held_since = clock::now();
        instance.questions = if held {
            Questions::after(instance.held_since, instance.managed.vips.len())
        } else {
            Questions::default()
        };
        let Some(ifindex) = instance.facts.as_ref().map(|facts| facts.ifindex) else { return };
        let (vips, life) = (Arc::clone(&instance.managed.vips), instance.managed.life);
        for vip in vips.iter() {
            let done = if held {
                self.requests.add_vip(ifindex, *vip, life)
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
        self.own = links.iter().map(|link| link.mac).collect();
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

    /// Tells of hosts that claim a VIP which this one holds: of one for each instance.
    fn note_claims(&mut self, now: Nanos) {
        let heard = self.ears.hear(now);
        for instance in &self.instances {
            let Managed { instance: name, held, vips, .. } = &instance.managed;
            let ifindex = instance.facts.as_ref().map(|facts| facts.ifindex);
            if !held || now.since(instance.held_since) < YIELDS_WITHIN {
                continue;
            }
            let foreign = heard.iter().find(|it| {
                Some(it.ifindex) == ifindex
                    && vips.contains(&it.claim.address)
                    && !self.own.contains(&it.claim.owner)
            });
            if let Some(claims::Heard { claim, .. }) = foreign {
                let (vip, by) = (claim.address, claim.owner);
                self.reports.send(Report::Claimed { instance: Arc::clone(name), vip, by });
            }
        }
    }

    /// Asks the link who else has the VIPs that have come here; when to go on.
    fn ask(&mut self, now: Nanos) -> Option<Nanos> {
        let mut next = None;
        for Instance { managed, facts, questions, .. } in &mut self.instances {
            // Before the first look there is nothing to ask from, nor to wait for.
            let Some(facts) = facts else { continue };
            questions.ask(now, &managed.vips, facts, &self.frames);
            next = next.into_iter().chain(questions.due()).min();
        }
        next
    }

    fn trouble(&self, error: &anyhow::Error) {
        self.reports.send(Report::Trouble(format!("{error:#}")));
    }
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

fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

/// There is nobody to work for.
struct Ended;
