//! New flows.

use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::{FlowHalf, flag};
use lb_common::flow::FlowKey;
use lb_common::link::LinkId;
use lb_common::nat::Kind;
use lb_common::service::Service;
use lb_common::table::Refusal;
use lb_common::time::Ticks;

use crate::family::Family;
use crate::maps::{self, Scratch};
use crate::packet::Packet;
use crate::snat;
use crate::verdict::{DropReason, ResetReason, Step, Verdict};

/// All that could be in the place of a new flow's half is established: its client is told at once.
pub(crate) const NO_ROOM: Step = Step::AnswerReset(ResetReason::TableFull);

/// A flow that is to be made.
pub(crate) struct NewFlow<'a, A> {
    pub(crate) key: &'a FlowKey<A>,
    pub(crate) service: &'a Service,
    pub(crate) id: BackendId,
    pub(crate) backend: &'a Backend,
    /// The service's, or `Nat` for a client that is itself a backend.
    pub(crate) kind: Kind,
    pub(crate) attempt: u8,
    pub(crate) now: Ticks,
}

/// Makes a half-open flow: stores its reply half, which in `nat` claims a port, then the original
/// half. In `dsr` the latter is all.
///
/// # Errors
/// What becomes of the segment, if there is no port or no room.
#[inline(always)]
pub(crate) fn create<A: Family>(
    new: &NewFlow<'_, A>,
    packet: &Packet<A>,
) -> Result<&'static FlowHalf<A>, Step> {
    let Scratch { half, key: reply_key, choice, .. } =
        A::scratch().ok_or(Verdict::Drop(DropReason::Inconsistent))?;
    let kind = if new.kind == Kind::Dsr {
        *reply_key = new.key.reversed();
        Kind::Dsr
    } else {
        snat::claim(new, packet, half, reply_key, choice)?
    };
    if !fill_original(half, new, reply_key, kind, packet) {
        return Err(Verdict::Drop(DropReason::NoNextHop).into());
    }
    match A::insert_new(new.key, half) {
        Ok(()) => {
            maps::count_flow(new.id);
            Ok(half)
        }
        Err(Refusal::Exists) => {
            // Another CPU made this flow at the same time: its halves win.
            let winner = A::half(new.key).ok_or(Verdict::Drop(DropReason::FlowInsert))?;
            if !winner.translation.answers(reply_key) {
                A::remove_half(reply_key);
            }
            Ok(winner)
        }
        Err(Refusal::Full) => {
            A::remove_half(reply_key);
            Err(NO_ROOM)
        }
    }
}

/// The original half of a new flow. False: the frame came in by an interface without a number.
// A value is returned also because a pointer left in its register is what the verifier forbids.
#[inline(never)]
fn fill_original<A: Family>(
    half: &mut FlowHalf<A>,
    new: &NewFlow<'_, A>,
    reply_key: &FlowKey<A>,
    kind: Kind,
    packet: &Packet<A>,
) -> bool {
    let segment = &packet.segment;
    let opening = if segment.is_syn() { flag::SYN } else { flag::MID_STREAM };
    half.init(kind, new.key, &reply_key.reversed());
    half.flags = flag::ORIGINAL | opening;
    if segment.is_syn() && kind != Kind::Dsr {
        half.note_syn();
    }
    half.attempts = new.attempt;
    half.seq_end = segment.end();
    half.ack = segment.ack;
    half.backend = new.id;
    half.epoch = new.backend.epoch;
    half.service = new.service.id as u16;
    half.vip = new.service.vip as u16;
    half.last_seen = new.now;
    half.checked = new.now;
    half.next_hop = packet.came_from(link_id(new, packet));
    half.next_hop.is_known()
}

/// The reply half of a new flow. False: the way to the client is not known.
#[inline(never)]
pub(crate) fn fill_reply<A: Family>(
    half: &mut FlowHalf<A>,
    new: &NewFlow<'_, A>,
    reply_key: &FlowKey<A>,
    kind: Kind,
    packet: &Packet<A>,
) -> bool {
    let segment = &packet.segment;
    half.init(kind, reply_key, &new.key.reversed());
    if segment.is_syn() {
        half.fin_end = maps::connect_stamp();
    } else {
        half.flags = flag::MID_STREAM;
    }
    half.attempts = new.attempt;
    half.seq_end = segment.ack;
    half.ack = segment.seq;
    half.backend = new.id;
    half.epoch = new.backend.epoch;
    half.service = new.service.id as u16;
    half.last_seen = new.now;
    half.checked = new.now;
    half.next_hop = match maps::next_hop(&new.key.src.ip()) {
        Some(next_hop) => *next_hop,
        None => packet.came_from(link_id(new, packet)),
    };
    half.next_hop.is_known()
}

/// Of the interface that the frame came in by: most likely the one that the backend is behind, too.
#[inline(always)]
fn link_id<A: Family>(new: &NewFlow<'_, A>, packet: &Packet<A>) -> LinkId {
    maps::link_id_near(new.backend.next_hop.link, packet.ingress)
}
