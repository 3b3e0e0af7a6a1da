//! Which halves are over, and their removal.

use lb_common::conntrack::{FlowHalf, Timeouts, flag};
use lb_common::flow::FlowKey;
use lb_common::time::Ticks;

use super::{Census, Facts, Family, SILENCE};
use crate::datapath::removals::Removals;
use crate::datapath::table::FlowTable;
use crate::flow_log::Why;
use crate::sync::placement;

/// A reply half without an original half is kept for so long: it may be about to get one.
const ORPHAN: u32 = Ticks::in_ns(5_000_000_000);
/// An idle reply half is looked at closely no sooner.
const REPLY_IDLE: u32 = Ticks::in_ns(60_000_000_000);

/// What a slice of a family's halves is judged by.
pub(super) struct Rules<'a> {
    pub(super) table: &'a FlowTable,
    pub(super) facts: Facts<'a>,
    pub(super) removals: &'a Removals,
    pub(super) squeeze: u32,
}

impl Rules<'_> {
    fn timeouts(&self, service: u32) -> Timeouts {
        let mut timeouts = self.facts.timeouts.get(&service).copied().unwrap_or_default();
        timeouts.closing = timeouts.closing.min(self.squeeze);
        timeouts.closed = timeouts.closed.min(self.squeeze);
        timeouts
    }

    /// Its backend was given up since. What another node serves is that one's to give up.
    fn is_stale<A>(&self, half: &FlowHalf<A>) -> bool {
        let Facts { backends, elsewhere, .. } = self.facts;
        !elsewhere.is_elsewhere(half.vip)
            && backends.get(&half.backend).is_some_and(|backend| backend.epoch != half.epoch)
    }

    fn idle<A>(&self, half: &FlowHalf<A>) -> u32 {
        self.facts.now.since(half.last_seen)
    }

    pub(super) fn judge<A: Family>(
        &self,
        census: &mut Census,
        key: &FlowKey<A>,
        half: &FlowHalf<A>,
    ) {
        if half.is_confirmed() {
            self.established(census, key, half);
        } else {
            self.half_open(census, key, half);
        }
    }

    fn established<A: Family>(&self, census: &mut Census, key: &FlowKey<A>, half: &FlowHalf<A>) {
        if self.is_over(key, half) && self.is_still(key, half) {
            census.removed += u64::from(half.is_original());
            remove(self.table, key, half, |reply| {
                reply.has(flag::CLOSING) || self.idle(reply) >= SILENCE
            });
            if half.is_original() && !self.facts.elsewhere.is_elsewhere(half.vip) {
                let why = if self.is_stale(half) { Why::GivenUp } else { Why::Idle };
                self.removals.push(why, || placement::id(key));
            }
            return;
        }
        census.note(half);
        if half.is_original() {
            if self.is_stale(half) {
                census.stale.insert(half.backend);
            }
            // Also after its VIP has come here, until the client has sent something that tells the way to it.
            if self.removals.is_wanted()
                && (self.facts.elsewhere.is_elsewhere(half.vip) || half.has(flag::REPLICA))
            {
                census.note_client(key.src.ip().get());
            }
            // As configured, however full the table is.
            let timeouts = self.facts.timeouts.get(&half.service.into());
            let closing = timeouts.copied().unwrap_or_default().closing;
            if self.facts.elsewhere.is_to_be_asked(half, closing, self.facts.now) {
                census.note_unheard(placement::id(key));
            }
            census.established += 1;
            *census.connections.entry(half.backend).or_default() += 1;
        }
    }

    fn is_still<A: Family>(&self, key: &FlowKey<A>, half: &FlowHalf<A>) -> bool {
        self.table.find(key).is_some_and(|found| is_same(&found, half))
    }

    /// By this half, and where that is not enough by the other one.
    fn is_over<A: Family>(&self, key: &FlowKey<A>, half: &FlowHalf<A>) -> bool {
        let Facts { elsewhere, now, .. } = self.facts;
        let half = &elsewhere.seen(half, now);
        let (timeouts, idle) = (self.timeouts(half.service.into()), self.idle(half));
        let closing = half.has(flag::CLOSING);
        let peer_key = half.translation.peer_key();
        if half.is_alone() {
            return half.is_expired_alone(&timeouts, now);
        }
        if half.is_original() {
            return (closing || idle >= timeouts.established)
                && match self.table.find(&peer_key) {
                    Some(reply) => half.is_expired(&reply, &timeouts, now),
                    None => idle >= ORPHAN,
                };
        }
        let is_others = |original: FlowHalf<A>| original.translation.peer_key() != *key;
        (closing || idle >= REPLY_IDLE)
            && idle >= ORPHAN
            && self.table.find(&peer_key).is_none_or(is_others)
    }

    fn half_open<A: Family>(&self, census: &mut Census, key: &FlowKey<A>, half: &FlowHalf<A>) {
        let idle = self.idle(half);
        if idle >= SILENCE && half.has(flag::CLOSING)
            || idle >= self.timeouts(half.service.into()).half_open
        {
            self.table.remove_if(key, |found| is_same(found, half));
            return;
        }
        census.note(half);
        census.half_open += u64::from(half.is_original());
    }
}

/// Removes a half of an established flow; after an original half the reply half too, if it is still its
/// own and `is_reply_over`.
pub(in crate::datapath) fn remove<A: Family>(
    table: &FlowTable,
    key: &FlowKey<A>,
    half: &FlowHalf<A>,
    is_reply_over: impl Fn(&FlowHalf<A>) -> bool,
) {
    table.remove_if(key, |found| is_same(found, half));
    if half.is_original() && !half.is_alone() {
        table.remove_if(&half.translation.peer_key(), |reply| {
            reply.translation.peer_key() == *key && is_reply_over(reply)
        });
    }
}

/// What is over is soon used again: only what is as it was when it was found may be removed.
pub(in crate::datapath) fn is_same<A: Family>(found: &FlowHalf<A>, half: &FlowHalf<A>) -> bool {
    found.last_seen == half.last_seen
        && found.flags == half.flags
        && found.translation == half.translation
}
