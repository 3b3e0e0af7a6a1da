//! How long flows are kept of VIPs that another node serves. Pure.
//!
//! ```text
//!  a peer tells of them        the peer is gone, or the VIP comes here
//!  ──── kept, whatever they do ────┬──── idle from here on ────►
//! ```
//! Their segments do not come by here: how long they are idle only the node that serves them knows, and it
//! says when they are over. Once it is silent nobody does, and they are as if they had been seen then. What is
//! closed goes by the usual timeouts: so is a flow whose end was lost on the way.
//!
//! A VIP that comes back was served by another node, or by nobody: what this node has heard of its flows before says no
//! more of them than a peer's word. Nor does what it hears in the first moments: a client whose neighbour has not yet
//! learnt of the move may have closed by the other node, and sent this one its last acknowledgement.

use std::collections::BTreeMap;

use lb_common::conntrack::{FlowHalf, flag};
use lb_common::time::Ticks;

use crate::sync::fsm::LAST_WORDS;

/// The longest that a moment is remembered: no timeout is longer.
const MEMORY: u32 = Ticks::in_ns(Ticks::MAX_TIMEOUT_NS);
/// What a client sends before its VIP has been here for so long may not be its last word: the other node forwards until
/// then, if nothing else is configured.
const MOVING: u32 = Ticks::in_ns(LAST_WORDS.as_secs() * 1_000_000_000);
/// Linux remembers a connection that it closed first for 60 s (TCP_TIMEWAIT_LEN), from a moment on that may be somewhat
/// later than the one in which the VIP came here.
const TIME_WAIT: u32 = Ticks::in_ns(65_000_000_000);

/// Who serves a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Here,
    /// Another node does, which tells of its flows.
    Told,
    /// Not this node; if another one does, it says nothing.
    Silent,
}

/// What is known of VIPs, by the index of each one's lease.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    vips: BTreeMap<u16, Vip>,
    answers: BTreeMap<u16, Answers>,
}

/// Whether this node answers for a VIP.
#[derive(Clone, Copy, Debug)]
struct Answers {
    now: bool,
    /// Since when, if it did not before.
    since: Option<Ticks>,
    /// Since when as far as it is known; `None`: for longer than moments are remembered.
    known: Option<Ticks>,
}

#[derive(Clone, Copy, Debug)]
struct Vip {
    standing: Standing,
    /// When a peer last told of its flows.
    told: Option<Ticks>,
}

impl Elsewhere {
    /// How a VIP stands now. To be said for every VIP a few times a second.
    pub fn note(&mut self, vip: u16, standing: Standing, now: Ticks) {
        let before = self.vips.get(&vip).and_then(|vip| vip.told);
        let told = match standing {
            Standing::Told => Some(now),
            Standing::Here | Standing::Silent => before.filter(|told| now.since(*told) < MEMORY),
        };
        self.vips.insert(vip, Vip { standing, told });
    }

    /// Whether this node answers for a VIP now: while it only forwards, another may. To be said likewise.
    pub fn note_answers(&mut self, vip: u16, answers: bool, now: Ticks) {
        let is_remembered = |moment: &Ticks| now.since(*moment) < MEMORY;
        let (since, known) = match self.answers.get(&vip) {
            Some(before) if before.now && answers => {
                (before.since.filter(is_remembered), before.known.filter(is_remembered))
            }
            Some(before) if !before.now => (answers.then_some(now), Some(now)),
            Some(_) | None => (None, Some(now)),
        };
        self.answers.insert(vip, Answers { now: answers, since, known });
    }

    /// For how long this node has answered for a VIP without a break, in [`Ticks`], as far as it is known.
    fn answered_for(&self, vip: u16, now: Ticks) -> u32 {
        match self.answers.get(&vip) {
            Some(Answers { now: true, known, .. }) => known.map_or(u32::MAX, |it| now.since(it)),
            Some(Answers { now: false, .. }) | None => 0,
        }
    }

    /// Whether a confirmed flow's client is to be asked if it is still there: a peer told of the flow, or it was here
    /// before its VIP left, and since its VIP came here the client has sent nothing (or nothing but in the first
    /// moments), for so long that whichever end closed first has forgotten the connection: `closing`, in [`Ticks`].
    ///
    /// In `dsr` the client alone can tell, and one in TIME_WAIT answers as one does that lives. Where replies come by here
    /// its backend refuses that answer.
    pub fn is_to_be_asked<A: Copy>(&self, half: &FlowHalf<A>, closing: u32, now: Ticks) -> bool {
        let forgotten = if half.is_alone() { TIME_WAIT } else { MOVING };
        let silence = closing.max(forgotten);
        (half.has(flag::REPLICA) || self.is_silent_since(half, now))
            && !half.has(flag::CLOSING)
            && !self.is_elsewhere(half.vip)
            && now.since(self.seen(half, now).last_seen) >= silence
            && (!half.is_alone() || self.answered_for(half.vip, now) >= silence)
    }

    /// The flow's client has sent nothing here since its VIP came back, but for the first moments.
    fn is_silent_since<A>(&self, half: &FlowHalf<A>, now: Ticks) -> bool {
        let since = self.answers.get(&half.vip).and_then(|answers| answers.since);
        since.is_some_and(|since| now.since(half.last_seen) + MOVING > now.since(since))
    }

    /// Another node may serve the VIP, this one does not.
    pub fn is_elsewhere(&self, vip: u16) -> bool {
        self.vips.get(&vip).is_some_and(|vip| match vip.standing {
            Standing::Here => false,
            Standing::Told | Standing::Silent => true,
        })
    }

    /// An original half with the moment from which it counts as idle.
    pub fn seen<A: Copy>(&self, half: &FlowHalf<A>, now: Ticks) -> FlowHalf<A> {
        let vip = self.vips.get(&half.vip).filter(|_| !is_over(half));
        let told = vip.and_then(|vip| match vip.standing {
            Standing::Told => Some(now),
            Standing::Here | Standing::Silent => vip.told,
        });
        let last_seen = told.map_or(half.last_seen, |told| half.last_seen.max(told));
        FlowHalf { last_seen, ..*half }
    }
}

/// Both ends have closed, or one has reset, as far as its original half knows.
fn is_over<A>(half: &FlowHalf<A>) -> bool {
    let ends = if half.is_alone() { flag::FIN } else { flag::FIN | flag::PEER_FIN };
    half.has(flag::RST | flag::PEER_RST) || half.flags & ends == ends
}

#[cfg(test)]
mod tests {
    use lb_common::addr::{Ipv4Be, PortBe, Ports};
    use lb_common::flow::FlowKey;
    use lb_common::link::NextHop;
    use lb_common::nat::{Kind, Translation};

    use super::*;

    const VIP: u16 = 3;
    const HOUR: u32 = Ticks::in_ns(3_600_000_000_000);
    const START: Ticks = Ticks(u32::MAX - 5);

    fn half(kind: Kind, flags: u32) -> FlowHalf<Ipv4Be> {
        let key = FlowKey::new(
            Ipv4Be::UNSPECIFIED,
            Ipv4Be::UNSPECIFIED,
            Ports::new(PortBe::new(1), PortBe::new(2)),
        );
        FlowHalf {
            translation: Translation::new(&key, &key),
            flags: flag::ORIGINAL | flag::CONFIRMED | flags,
            seq_end: 0,
            ack: 0,
            fin_end: 0,
            backend: 1,
            epoch: 0,
            vip: VIP,
            service: 1,
            kind: kind as u8,
            attempts: 0,
            last_seen: START,
            checked: START,
            next_hop: NextHop::UNKNOWN,
            #[cfg(feature = "second-layout")]
            later: 0,
        }
    }

    fn after(ticks: u32) -> Ticks {
        Ticks(START.0.wrapping_add(ticks))
    }

    /// How long a flow without FIN is idle at a moment.
    fn idle(elsewhere: &Elsewhere, now: Ticks) -> u32 {
        now.since(elsewhere.seen(&half(Kind::Nat, 0), now).last_seen)
    }

    #[test]
    fn a_peers_flow_is_idle_from_the_moment_that_the_peer_is_gone() {
        let mut elsewhere = Elsewhere::default();
        elsewhere.note(VIP, Standing::Told, after(30 * HOUR));
        assert!(elsewhere.is_elsewhere(VIP));
        assert_eq!(idle(&elsewhere, after(30 * HOUR + 100)), 0);
        elsewhere.note(VIP, Standing::Silent, after(30 * HOUR + 100));
        assert_eq!(idle(&elsewhere, after(31 * HOUR)), HOUR);
    }

    #[test]
    fn a_peers_flow_is_idle_from_the_moment_that_it_comes_here() {
        let mut elsewhere = Elsewhere::default();
        elsewhere.note(VIP, Standing::Told, after(30 * HOUR));
        elsewhere.note(VIP, Standing::Here, after(30 * HOUR));
        assert!(!elsewhere.is_elsewhere(VIP));
        assert_eq!(idle(&elsewhere, after(31 * HOUR)), HOUR);
    }

    #[test]
    fn who_was_heard_before_the_vip_left_is_silent_until_heard_again() {
        let mut elsewhere = Elsewhere::default();
        let mut half = half(Kind::Nat, 0);
        elsewhere.note_answers(VIP, true, after(10));
        assert!(!elsewhere.is_silent_since(&half, after(20)), "it was never away");
        elsewhere.note_answers(VIP, false, after(30));
        assert!(!elsewhere.is_silent_since(&half, after(35)), "it is away");
        elsewhere.note_answers(VIP, true, after(40));
        elsewhere.note_answers(VIP, true, after(50));
        assert!(elsewhere.is_silent_since(&half, after(60)));
        half.last_seen = after(40 + MOVING - 1);
        assert!(
            elsewhere.is_silent_since(&half, after(2 * MOVING)),
            "by the other node since, it may be"
        );
        half.last_seen = after(40 + MOVING);
        assert!(!elsewhere.is_silent_since(&half, after(2 * MOVING)));
        half.last_seen = after(0);
        elsewhere.note_answers(VIP, true, after(40 + MEMORY));
        assert!(!elsewhere.is_silent_since(&half, after(40 + MEMORY)), "before the clock wraps");
    }

    #[test]
    fn a_client_that_closed_first_is_asked_when_it_has_forgotten_the_connection() {
        let seconds = |seconds: u64| Ticks::in_ns(seconds * 1_000_000_000);
        for (kind, closing, expected) in [
            (Kind::Nat, 10, 10),
            (Kind::Dnat, 60, 60),
            (Kind::Nat, 1, 3),
            (Kind::Dsr, 3, 65),
            (Kind::Dsr, 60, 65),
            (Kind::Dsr, 120, 120),
        ] {
            let half = half(kind, flag::REPLICA);
            let mut elsewhere = Elsewhere::default();
            let first_asked = |elsewhere: &Elsewhere, from: u64| {
                (from..400).find(|second| {
                    elsewhere.is_to_be_asked(&half, seconds(closing), after(seconds(*second)))
                })
            };
            elsewhere.note(VIP, Standing::Told, after(0));
            elsewhere.note_answers(VIP, false, after(0));
            assert_eq!(first_asked(&elsewhere, 0), None, "{kind:?}: it is elsewhere");
            elsewhere.note(VIP, Standing::Here, after(seconds(1)));
            elsewhere.note_answers(VIP, true, after(seconds(20)));
            // In dsr from the moment in which this node began to answer, not from the peer's last word.
            let began = if kind == Kind::Dsr { 20 } else { 0 };
            assert_eq!(
                first_asked(&elsewhere, 20),
                Some((began + expected).max(20)),
                "{kind:?}, {closing} s"
            );
        }
    }

    #[test]
    fn who_has_just_begun_to_answer_asks_nobody_in_dsr() {
        let half = half(Kind::Dsr, flag::REPLICA);
        let mut elsewhere = Elsewhere::default();
        let is_asked = |elsewhere: &Elsewhere, now| elsewhere.is_to_be_asked(&half, 0, after(now));
        elsewhere.note(VIP, Standing::Here, after(HOUR));
        assert!(!is_asked(&elsewhere, HOUR), "nobody has said that it answers");
        // A controller that has just started knows no better.
        elsewhere.note_answers(VIP, true, after(HOUR));
        assert!(!is_asked(&elsewhere, HOUR + TIME_WAIT - 1));
        assert!(is_asked(&elsewhere, HOUR + TIME_WAIT));
        elsewhere.note_answers(VIP, true, after(HOUR + MEMORY));
        assert!(is_asked(&elsewhere, HOUR + MEMORY));
        elsewhere.note_answers(VIP, false, after(HOUR + MEMORY));
        assert!(!is_asked(&elsewhere, HOUR + MEMORY));
        elsewhere.note_answers(VIP, true, after(HOUR + MEMORY + 5));
        assert!(!is_asked(&elsewhere, HOUR + MEMORY + 5));
    }

    #[test]
    fn without_a_peer_flows_are_idle_since_they_were_seen() {
        let mut elsewhere = Elsewhere::default();
        assert_eq!(idle(&elsewhere, after(HOUR)), HOUR);
        elsewhere.note(VIP, Standing::Silent, after(0));
        assert_eq!(idle(&elsewhere, after(HOUR)), HOUR);
        assert!(elsewhere.is_elsewhere(VIP));
    }

    #[test]
    fn what_is_closed_goes_by_the_usual_timeouts() {
        let mut elsewhere = Elsewhere::default();
        elsewhere.note(VIP, Standing::Told, after(HOUR));
        let over = [
            half(Kind::Nat, flag::FIN | flag::PEER_FIN),
            half(Kind::Nat, flag::PEER_RST),
            half(Kind::Dsr, flag::FIN),
        ];
        for half in over {
            assert_eq!(elsewhere.seen(&half, after(HOUR)), half);
        }
        let half_closed = half(Kind::Nat, flag::FIN);
        assert_eq!(elsewhere.seen(&half_closed, after(HOUR)).last_seen, after(HOUR));
    }

    #[test]
    fn what_was_told_long_ago_is_forgotten_before_the_clock_wraps() {
        let mut elsewhere = Elsewhere::default();
        elsewhere.note(VIP, Standing::Told, after(0));
        elsewhere.note(VIP, Standing::Here, after(MEMORY));
        assert_eq!(idle(&elsewhere, after(MEMORY)), MEMORY);
    }
}
