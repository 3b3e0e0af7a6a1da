//! The thread that speaks VRRP: real-time where that is allowed, and nobody else's. It waits for nothing
//! but its sockets, its timers and commands; what may block is done by `addresses`, by the runtime, or
//! not at all. I/O.
//!
//! ```text
//!  controller ── Command ──►┌────────────┐── advertisements ──► sockets
//!  sockets ──── messages ──►│   Thread   │── leases ──────────► datapath
//!  addresses ── Report ────►│ (machines) │── Order ───────────► addresses
//!  timer ──────────────────►└─────┬──────┘── announcements ───► frames
//!                                 └ Notice ► controller (log, events), View ► status
//! ```
//! Everything that the sockets hold is read before a timer is believed: a thread that wakes late must not
//! take queued advertisements for silence.

use std::io;
use std::net::IpAddr;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use nix::sys::eventfd::EventFd;
use tokio::sync::{mpsc, oneshot};

use super::addresses::{self, Order};
use super::event::{Action, Alarm, Drained, FaultCause};
use super::lease::Leases;
use super::poller::Poller;
use super::view::View;
use super::{
    Discard, Event, Nanos, Previous, Settings, State, Transition, channel, clock, realtime,
};
use crate::config::vrrp::Announce;
use crate::netlink::garp::FrameSocket;

mod groups;
mod handle;
mod member;
mod perform;
mod receive;

pub use handle::{Handle, spawn};
use member::Member;

/// Messages that are read before the timers of Active instances are looked at again.
const MESSAGES_AT_ONCE: usize = 256;
/// Between two publications of what changes with every message.
const PUBLISH_INTERVAL: u64 = 100_000_000;
/// A reader held the views: when to try again.
const PUBLISH_AGAIN: u64 = 1_000_000;

/// What the configuration says about VRRP.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub instances: Vec<Planned>,
    /// Every VIP of the node: none of them is an address to send from.
    pub vips: Arc<[IpAddr]>,
}

/// One instance in one family.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Unique.
    pub name: Arc<str>,
    pub interface: Arc<str>,
    pub settings: Settings,
    /// All of its VIPs: more than fit into an advertisement, perhaps.
    pub vips: Arc<[IpAddr]>,
    /// How its VIPs are announced.
    pub announce: Announce,
    /// The sync group that it belongs to.
    pub group: Option<Arc<str>>,
    /// Where it sends from; `None`: the interface's primary address.
    pub source: Option<IpAddr>,
    /// What an earlier run of the controller left.
    pub previous: Option<Previous>,
}

/// What the controller wants.
#[derive(Debug)]
pub enum Command {
    /// Another configuration. Instances that are in both go on.
    Configure(Plan),
    /// Where leases are to be written from now on.
    Leases(Leases),
    /// The datapath is there: instances may take part.
    Ready,
    Tracked {
        instance: Arc<str>,
        adjustment: i16,
    },
    Fault {
        instance: Arc<str>,
        cause: FaultCause,
        present: bool,
    },
    /// Give everything up without a gap.
    Drain,
    /// Take that back.
    Resume,
    /// Give everything up at once, and end.
    Shutdown(oneshot::Sender<()>),
    /// End, and leave everything to a successor: the VIPs, and the leases, longer by `restart_grace`. The
    /// answer: each instance's term.
    Handover(oneshot::Sender<Vec<(Arc<str>, u64)>>),
}

/// What the controller is told.
#[derive(Clone, Debug)]
pub enum Notice {
    Transition {
        instance: Arc<str>,
        transition: Transition,
    },
    Reaffirmed {
        instance: Arc<str>,
        term: u64,
        peer: IpAddr,
    },
    Drained {
        instance: Arc<str>,
        drained: Drained,
    },
    /// Once a second and kind at most.
    Alarm {
        instance: Arc<str>,
        alarm: Alarm,
    },
    /// A message was dropped; once a second and reason at most.
    Dropped {
        instance: Arc<str>,
        discard: Discard,
        source: IpAddr,
    },
    /// A VIP was taken away, and is back.
    Restored {
        instance: Arc<str>,
        vip: IpAddr,
    },
    /// For the log.
    Trouble(String),
}

/// The state of the thread.
struct Thread {
    members: Vec<Member>,
    leases: Leases,
    /// How far XDP's clock is behind, at most.
    tick: u64,
    /// Instances take part.
    ready: bool,
    poller: Poller,
    wake: Arc<EventFd>,
    commands: Receiver<Command>,
    orders: channel::Sender<Order>,
    reports: Receiver<addresses::Report>,
    notices: mpsc::Sender<Notice>,
    frames: FrameSocket,
    views: Arc<Mutex<Vec<View>>>,
    publish_at: Option<Nanos>,
    buffers: Box<receive::Buffers>,
    /// Of `groups`, empty between events.
    places: Vec<usize>,
    todo: Vec<(usize, Action)>,
}

/// How the thread ends.
enum Ended {
    Shutdown(oneshot::Sender<()>),
    Handover,
    /// The controller is gone.
    Orphaned,
}

impl Thread {
    fn run(mut self) {
        if let Err(error) = realtime::schedule(realtime::ADVERTISEMENTS) {
            self.trouble(format!("no real-time scheduling ({error}; it takes CAP_SYS_NICE)"));
        }
        loop {
            channel::clear(&self.wake);
            if let Some(ended) = self.obey() {
                return self.end(ended);
            }
            self.note_reports();
            let everything = self.receive();
            self.fire(clock::now(), everything);
            let announced = self.announce(clock::now());
            self.publish(clock::now());
            if !everything || !announced {
                continue;
            }
            if let Err(error) = self.poller.wait(self.next()) {
                self.trouble(format!("waiting for VRRP's sockets: {error}"));
            }
        }
    }

    /// What the controller wants. `Some`: the end.
    fn obey(&mut self) -> Option<Ended> {
        loop {
            let now = clock::now();
            match self.commands.try_recv() {
                Ok(Command::Configure(plan)) => self.configure(plan, now),
                Ok(Command::Leases(leases)) => self.lease_elsewhere(leases),
                Ok(Command::Ready) => {
                    self.ready = true;
                    self.start_members(now);
                }
                Ok(Command::Tracked { instance, adjustment }) => {
                    self.tell(&instance, Event::Tracked { adjustment }, now);
                }
                Ok(Command::Fault { instance, cause, present }) => {
                    self.tell(&instance, Event::Fault { cause, present }, now);
                }
                Ok(Command::Drain) => self.tell_all(Event::Drain, now),
                Ok(Command::Resume) => self.tell_all(Event::Resume, now),
                Ok(Command::Shutdown(reply)) => {
                    self.tell_all(Event::Shutdown, now);
                    return Some(Ended::Shutdown(reply));
                }
                Ok(Command::Handover(reply)) => {
                    self.tell_all(Event::HandOver, now);
                    let terms = self.members.iter();
                    let terms = terms.map(|it| (Arc::clone(&it.name), it.machine.term())).collect();
                    // Whoever asked may have gone.
                    let _ = reply.send(terms);
                    return Some(Ended::Handover);
                }
                Err(std::sync::mpsc::TryRecvError::Empty) => return None,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                    self.tell_all(Event::Shutdown, now);
                    return Some(Ended::Orphaned);
                }
            }
        }
    }

    fn end(mut self, ended: Ended) {
        self.publish_at = Some(Nanos(0));
        self.publish(clock::now());
        // After what was ordered before, addresses are done.
        self.orders.send(Order::End);
        match ended {
            Ended::Shutdown(reply) => drop(reply.send(())),
            Ended::Handover | Ended::Orphaned => {}
        }
    }

    /// Calls the machines whose time has come. Only Active ones, if there is more to read.
    fn fire(&mut self, now: Nanos, everything: bool) {
        if self.members.iter().filter_map(Member::adoption_due).any(|due| due <= now) {
            self.start_members(now);
        }
        for index in 0..self.members.len() {
            let Some(member) = self.members.get_mut(index) else { break };
            let machine = &member.machine;
            let due = machine.deadline().is_some_and(|due| due <= now);
            if due && (everything || machine.state() == State::Active) {
                member.note_lateness(now);
                self.handle(index, Event::Timer, now);
            }
        }
    }

    fn tell(&mut self, name: &str, event: Event<'_>, now: Nanos) {
        if let Some(index) = self.find(name) {
            self.handle(index, event, now);
        }
    }

    fn tell_all(&mut self, event: Event<'_>, now: Nanos) {
        for index in 0..self.members.len() {
            self.handle(index, event, now);
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|member| *member.name == *name)
    }

    /// When there is something to do, if nothing comes before.
    fn next(&self) -> Option<Nanos> {
        let machines = self.members.iter().filter_map(|member| member.machine.deadline());
        let announcements = self.members.iter().filter_map(|member| member.announcer.deadline());
        let adoptions = self.members.iter().filter_map(Member::adoption_due);
        machines.chain(announcements).chain(adoptions).chain(self.publish_at).min()
    }

    /// Lets `status` see what changed.
    fn publish(&mut self, now: Nanos) {
        if self.publish_at.is_none_or(|at| at > now) {
            return;
        }
        // Whoever reads holds the lock for a copy.
        let Ok(mut views) = self.views.try_lock() else {
            self.publish_at = Some(Nanos(now.0 + PUBLISH_AGAIN));
            return;
        };
        views.clear();
        views.extend(self.members.iter().map(|member| member.view.clone()));
        self.publish_at = None;
    }

    /// Something changed; `now`: what must be seen at once.
    fn publish_by(&mut self, at: Nanos) {
        self.publish_at = Some(self.publish_at.map_or(at, |planned| planned.min(at)));
    }

    fn notice(&self, notice: Notice) {
        // Rather lost than late.
        let _ = self.notices.try_send(notice);
    }

    fn trouble(&self, text: String) {
        self.notice(Notice::Trouble(text));
    }
}

/// An error of a send that is gone the next time.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR))
}
