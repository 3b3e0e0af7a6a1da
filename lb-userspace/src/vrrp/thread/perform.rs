//! What machines want done, done. Called by the VRRP thread. I/O.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_common::link::Mac;

use super::super::addresses::Order;
use super::super::event::{self, Action, Alarm};
use super::super::{Envelope, Nanos, PRIORITY_GIVE_UP, announce, lease, packet};
use super::member::Member;
use super::receive::Buffers;
use super::{Notice, Thread, is_transient};

/// Announcements between two looks at the sockets: hundreds of VIPs must not delay an advertisement.
const FRAMES_AT_ONCE: usize = 32;
/// How often the last advertisement is said: a peer that it does not reach takes over while this node's
/// lease lasts.
const LAST_WORDS: usize = 3;

impl Thread {
    /// each with the place of its instance.
    pub(super) fn perform(
        &mut self,
        actions: impl IntoIterator<Item = (usize, Action)>,
        now: Nanos,
    ) {
        let mut sent = true;
        for (index, action) in actions {
            let Some(member) = self.members.get_mut(index) else { return };
            let name = Arc::clone(&member.name);
            match action {
                Action::SendAdvert { priority } => sent = self.advertise(index, priority, now),
                Action::SendLastAdvert { priority, interval } => {
                    sent = self.advertise_last(index, priority, interval, now);
                }
                // A peer that has heard nothing takes over.
                Action::RenewLease(lease) => {
                    if sent {
                        self.renew(index, lease);
                    }
                }
                Action::EndLease { forward_until } => {
                    let ended = event::Lease { answer_until: now, forward_until };
                    self.renew(index, ended);
                }
                Action::HoldVips => drop(self.orders.send(Order::Hold(index))),
                Action::ReleaseVips => drop(self.orders.send(Order::Release(index))),
                Action::StartAnnouncing => member.announcer.start(now),
                Action::StopAnnouncing => member.announcer.stop(),
                // For the sync group: see `handle`.
                Action::Wish | Action::Unwish => {}
                Action::Notify(transition) => {
                    member.view.changed(transition, now);
                    self.publish_by(now);
                    self.notice(Notice::Transition { instance: name, transition });
                }
                Action::Reaffirmed { term, peer } => {
                    self.notice(Notice::Reaffirmed { instance: name, term, peer });
                }
                Action::Drained(drained) => {
                    self.notice(Notice::Drained { instance: name, drained });
                }
                Action::Alarm(alarm) => self.raise(index, alarm, now),
            }
        }
    }

    pub(super) fn raise(&mut self, index: usize, alarm: Alarm, now: Nanos) {
        let Some(member) = self.members.get_mut(index) else { return };
        if member.view.raise(alarm, now) {
            let instance = Arc::clone(&member.name);
            self.publish_by(now);
            self.notice(Notice::Alarm { instance, alarm });
        }
    }

    /// Sends an advertisement to the group, or to each peer. `false`: to nobody.
    pub(super) fn advertise(&mut self, index: usize, priority: u8, now: Nanos) -> bool {
        self.send_to_all(index, priority, now).0
    }

    /// Sends the last one before a handover, which nobody must miss. `false`: somebody may have.
    fn advertise_last(
        &mut self,
        index: usize,
        priority: u8,
        interval: Duration,
        now: Nanos,
    ) -> bool {
        let Some(member) = self.members.get_mut(index) else { return false };
        let usual = std::mem::replace(&mut member.advert.interval, interval);
        let everybody = (0..LAST_WORDS).fold(true, |all, _| {
            let (sent, failed) = self.send_to_all(index, priority, now);
            all && sent && !failed
        });
        if let Some(member) = self.members.get_mut(index) {
            member.advert.interval = usual;
        }
        everybody
    }

    /// Whether it was sent to anybody, and whether to somebody it was not.
    fn send_to_all(&mut self, index: usize, priority: u8, now: Nanos) -> (bool, bool) {
        let Some(member) = self.members.get_mut(index) else { return (false, true) };
        member.advert.priority = priority;
        let (mut sent, mut failed) = (false, None);
        if member.settings.unicast_peers.is_empty() {
            let group = member.group();
            note(send(member, &mut self.buffers, group), &mut sent, &mut failed);
        } else {
            let peers = Arc::clone(&member.settings.unicast_peers);
            for peer in peers.iter() {
                note(send(member, &mut self.buffers, *peer), &mut sent, &mut failed);
            }
        }
        if sent {
            member.view.counters.sent += 1;
            member.view.priority = priority;
            if priority == PRIORITY_GIVE_UP {
                member.view.counters.priority_zero_sent += 1;
            }
        } else {
            member.view.counters.send_errors += 1;
        }
        let (name, is_partial) = (Arc::clone(&member.name), failed.is_some());
        if let Some(error) = failed {
            self.trouble(format!("{name}: sending an advertisement: {error}"));
        }
        self.publish_by(Nanos(now.0 + super::PUBLISH_INTERVAL));
        (sent, is_partial)
    }

    pub(super) fn renew(&mut self, index: usize, lease: event::Lease) {
        let Some(member) = self.members.get_mut(index) else { return };
        member.view.lease = Some(lease);
        let written = lease::for_xdp(lease.answer_until, lease.forward_until, self.tick);
        if let Err(error) = self.leases.set(&member.vips, &written) {
            let text = format!("{}: writing leases: {error}", member.name);
            self.trouble(text);
        }
    }

    /// Sends announcements that are due. `false`: there are more.
    pub(super) fn announce(&mut self, now: Nanos) -> bool {
        let mut left = FRAMES_AT_ONCE;
        for index in 0..self.members.len() {
            let Some(member) = self.members.get_mut(index) else { break };
            while let Some(vip) = member.announcer.next(now) {
                let (ifindex, mac) = (member.facts.ifindex, member.facts.mac);
                let router = member.facts.router;
                if ifindex != 0
                    && mac != Mac::default()
                    && let Err(error) = announce_one(&self.frames, ifindex, mac, vip, router)
                {
                    let text = format!("{}: announcing {vip}: {error}", member.name);
                    // Not by `self.trouble`, which would need all of it.
                    let _ = self.notices.try_send(Notice::Trouble(text));
                }
                left -= 1;
                if left == 0 {
                    return false;
                }
            }
        }
        true
    }
}

fn announce_one(
    frames: &crate::netlink::garp::FrameSocket,
    ifindex: u32,
    mac: Mac,
    vip: IpAddr,
    router: bool,
) -> io::Result<()> {
    match vip {
        IpAddr::V4(vip) => frames.send(ifindex, &announce::garp(mac, vip)),
        IpAddr::V6(vip) => {
            frames.send(ifindex, &announce::neighbour_advertisement(mac, vip, router))
        }
    }
}

fn send(member: &Member, buffers: &mut Buffers, destination: IpAddr) -> io::Result<()> {
    let (Some(socket), Some(source)) = (&member.socket, member.own()) else {
        return Err(io::ErrorKind::NotConnected.into());
    };
    let envelope = Envelope { source, destination, ttl: packet::TTL };
    let message = packet::build(&member.advert, &envelope, &mut buffers.sent);
    match socket.send(message, source, destination) {
        Err(error) if is_transient(&error) => socket.send(message, source, destination),
        result => result,
    }
}

fn note(result: io::Result<()>, sent: &mut bool, failed: &mut Option<io::Error>) {
    match result {
        Ok(()) => *sent = true,
        Err(error) => *failed = Some(error),
    }
}
