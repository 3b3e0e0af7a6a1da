//! Whether a flow in use still finds its way: at most once a second in each direction, and only if
//! something says that it may not.

use lb_common::conntrack::{FlowHalf, Segment, flag};
use lb_common::flow::FlowKey;
use lb_common::link::NextHop;
use lb_common::nat::Kind;

use super::peer_of;
use crate::clock::Now;
use crate::family::Family;
use crate::maps::{self, Scratch};
use crate::packet::Packet;

/// Whether a half that was not looked after for a second should be. Notes in it that it need not.
///
/// A reason for both directions: routes or neighbours changed. For the client's: its frames come another
/// way, or it repeats itself, which is what a client does whose replies are lost. One that acknowledges
/// more than before has replies; one that sends more than before will repeat it if it gets none.
#[inline(always)]
pub(crate) fn needs_check<A: Family>(half: &mut FlowHalf<A>, packet: &Packet<A>, now: Now) -> bool {
    if maps::ways_changed().since(half.checked, now.ticks) {
        return true;
    }
    if half.is_original() && !half.is_alone() {
        if comes_another_way(half, packet) {
            return true;
        }
        if !half.is_answered(&packet.segment) {
            return half.repeats(&packet.segment);
        }
    }
    half.checked = now.ticks;
    false
}

/// Not from where the client's frames came when it was last looked at.
#[inline(always)]
fn comes_another_way<A: Family>(half: &FlowHalf<A>, packet: &Packet<A>) -> bool {
    let came = &half.next_hop;
    let same_link = maps::link(came.link).is_some_and(|link| link.ifindex == packet.ingress);
    !same_link || !packet.is_from(came.mac) || packet.tags.without_priority() != came.tags
}

/// Is the other half still there, and does its next hop still hold?
#[inline(always)]
pub(super) fn look_after_reply<A: Family>(
    key: &FlowKey<A>,
    half: &mut FlowHalf<A>,
    packet: &Packet<A>,
    now: Now,
) {
    half.next_hop = packet.came_from(maps::link_id(packet.ingress));
    if !update_reply(key, half) {
        make_reply_again(key, half, now);
    }
}

#[inline(always)]
fn way_to<A: Family>(client: A, half: &FlowHalf<A>) -> &NextHop {
    maps::next_hop(&client.ip()).unwrap_or(&half.next_hop)
}

/// `false`: there is no reply half.
#[inline(never)]
fn update_reply<A: Family>(key: &FlowKey<A>, half: &FlowHalf<A>) -> bool {
    let next_hop = way_to(key.src, half);
    let Some(reply) = peer_of(key, half) else { return false };
    if reply.next_hop != *next_hop {
        reply.next_hop = *next_hop;
    }
    true
}

#[inline(never)]
fn make_reply_again<A: Family>(key: &FlowKey<A>, half: &FlowHalf<A>, now: Now) {
    let kind = if half.kind == Kind::Dnat as u8 { Kind::Dnat } else { Kind::Nat };
    let source = if kind == Kind::Dnat { key.dst } else { half.translation.src };
    let Some(vip) = maps::vip(source.ip()) else {
        return;
    };
    // In memory of its own: two keys would not fit on the stack.
    let Some(Scratch { half: reply, key: reply_key, .. }) = A::scratch() else { return };
    *reply_key = half.translation.peer_key();
    reply.init(kind, reply_key, &key.reversed());
    reply.flags = half.flags & (flag::CONFIRMED | flag::MID_STREAM) | flag::SYN;
    reply.seq_end = half.ack;
    reply.ack = half.seq_end;
    reply.backend = half.backend;
    reply.epoch = half.epoch;
    reply.service = half.service;
    reply.vip = vip.lease() as u16;
    reply.last_seen = now.ticks;
    reply.checked = now.ticks;
    reply.next_hop = *way_to(key.src, half);
    // Another client's flow may have the port by now; then the backend tells this one.
    let _ = A::insert_new(reply_key, reply);
}

/// A client that only listens sends nothing that would tell its new address on the link.
#[inline(never)]
pub(super) fn look_after_way<A: Family>(half: &mut FlowHalf<A>) -> bool {
    let Some(next_hop) = maps::next_hop(&half.translation.dst.ip()) else {
        return false;
    };
    let changed = half.next_hop != *next_hop;
    if changed {
        half.next_hop = *next_hop;
    }
    changed
}

/// A client's first segment since a peer told of its flow.
#[inline(always)]
pub(super) fn resume_request<A: Family>(
    key: &FlowKey<A>,
    half: &mut FlowHalf<A>,
    packet: &Packet<A>,
    now: Now,
) {
    half.resume(&packet.segment);
    half.checked = now.ticks;
    if half.is_alone() {
        half.next_hop = packet.came_from(maps::link_id(packet.ingress));
    } else {
        look_after_reply(key, half, packet, now);
    }
}

/// Likewise a backend's. As long as there is no way to the client each of its segments is looked at:
/// the client's next one tells.
#[inline(always)]
pub(super) fn resume_reply<A: Family>(half: &mut FlowHalf<A>, segment: &Segment) {
    look_after_way(half);
    if half.next_hop.is_known() {
        half.resume(segment);
    }
}
