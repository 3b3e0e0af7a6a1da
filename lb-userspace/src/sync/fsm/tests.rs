//! What two machines make of each other's flows.

use proptest::prelude::*;

use self::pair::{Pair, start};
use super::*;
use crate::sync::record::FlowId;
use crate::sync::testing::record;

mod pair;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn put(client: u32) -> Change {
    Change::Put(record(client))
}

fn gone(client: u32) -> Change {
    Change::Removed(record(client).id)
}

#[test]
fn who_joins_gets_everything_and_is_synced_then() {
    let mut pair = Pair::new();
    (0..2000).for_each(|client| pair.nodes[0].see(&put(client)));
    pair.serve(0, true);
    pair.connect();
    pair.run(MILLISECOND * 5);
    assert!(!pair.nodes[1].synced(pair.now));
    pair.run(SECOND * 2);
    assert!(pair.equal() && pair.nodes[1].synced(pair.now));
    // Who is told nothing has nothing to wait for.
    assert!(pair.nodes[0].synced(pair.now));
}

#[test]
fn changes_arrive_within_a_batch() {
    let mut pair = Pair::new();
    pair.serve(0, true);
    pair.connect();
    pair.run(SECOND);
    pair.change(0, &put(1));
    pair.run(BATCH + MILLISECOND * 5);
    assert!(pair.equal() && pair.nodes[1].flows.len() == 1);
    let other = FlowRecord { backend: "10.0.0.12:6443".parse().unwrap(), ..record(1) };
    pair.change(0, &Change::Put(other));
    pair.change(0, &gone(1));
    pair.change(0, &put(1));
    pair.run(BATCH + MILLISECOND * 5);
    assert!(pair.equal());
    let view = pair.nodes[0].session.as_ref().unwrap().view(pair.now);
    assert_eq!((view.sent, view.lag < BATCH * 2), (4, true), "{view:?}");
}

#[test]
fn what_was_lost_or_is_stale_is_found_by_the_next_round() {
    let mut pair = Pair::new();
    pair.serve(0, true);
    pair.connect();
    (0..300).for_each(|client| pair.change(0, &put(client)));
    pair.run(SECOND);
    pair.lose(0, &gone(7));
    pair.lose(0, &put(1000));
    let other = FlowRecord { backend: "10.0.0.12:6443".parse().unwrap(), ..record(8) };
    pair.lose(0, &Change::Put(other));
    pair.lose(1, &gone(9));
    assert!(!pair.equal());
    pair.run(ROUND + SECOND);
    assert!(pair.equal());
    assert_eq!(pair.nodes[1].discarded, [record(7).id]);
}

#[test]
fn losses_of_the_ring_are_repaired_at_once() {
    let mut pair = Pair::new();
    pair.serve(0, true);
    pair.connect();
    pair.run(SECOND);
    (0..2000).for_each(|client| pair.lose(0, &put(client)));
    pair.nodes[0].feed(Event::Lost, pair.now);
    pair.run(SECOND);
    assert!(pair.equal());
}

#[test]
fn who_takes_over_is_the_one_to_be_followed() {
    let mut pair = Pair::new();
    pair.serve(0, true);
    pair.connect();
    (0..100).for_each(|client| pair.change(0, &put(client)));
    pair.run(SECOND);
    // Drained: both are connected, and the last changes are under way.
    pair.change(0, &put(100));
    pair.serve(0, false);
    pair.serve(1, true);
    pair.run(SECOND);
    assert!(pair.equal() && pair.nodes[1].flows.len() == 101);
    pair.change(1, &gone(5));
    pair.run(SECOND);
    assert!(pair.equal() && pair.nodes[0].flows.len() == 100);
    assert!(pair.nodes[0].synced(pair.now));
}

#[test]
fn a_change_that_comes_after_the_take_over_is_carried_out_if_it_is_news() {
    let mut pair = Pair::new();
    pair.serve(0, true);
    pair.connect();
    pair.change(0, &put(1));
    pair.run(SECOND);
    pair.change(0, &put(2));
    pair.serve(1, true);
    pair.change(1, &put(1));
    let other = FlowRecord { backend: "10.0.0.12:6443".parse().unwrap(), ..record(1) };
    pair.change(0, &Change::Put(other));
    pair.run(SECOND);
    let flows = &pair.nodes[1].flows;
    assert_eq!(flows.get(&record(2).id), Some(&record(2)));
    assert_eq!(flows.get(&record(1).id), Some(&record(1)), "it has seen that one itself");
    // Later nothing is.
    pair.run(LAST_WORDS);
    pair.change(0, &put(3));
    pair.run(SECOND);
    assert_eq!(pair.nodes[1].flows.len(), 2);
}

/// Neighbours that have not heard of the move send to it, and it forwards for a while.
#[test]
fn what_opens_and_closes_at_the_old_node_after_the_move_is_told_to_the_new_one() {
    let mut pair = Pair::new();
    pair.serve(0, true);
    pair.connect();
    pair.change(0, &put(1));
    pair.run(SECOND);
    pair.serve(0, false);
    pair.serve(1, true);
    pair.run(MILLISECOND * 50);
    pair.change(0, &put(2));
    pair.change(0, &gone(1));
    pair.run(MILLISECOND * 50);
    let flows: Vec<&FlowId> = pair.nodes[1].flows.keys().collect();
    assert_eq!(flows, [&record(2).id]);
    pair.run(LAST_WORDS);
    pair.change(0, &put(3));
    pair.run(SECOND);
    assert!(!pair.nodes[1].flows.contains_key(&record(3).id));
}

#[test]
fn of_two_that_both_serve_neither_follows_and_the_one_that_gives_way_discards() {
    let mut pair = Pair::new();
    pair.serve(0, true);
    pair.serve(1, true);
    (0..50).for_each(|client| pair.nodes[0].see(&put(client)));
    (40..90).for_each(|client| pair.nodes[1].see(&put(client)));
    pair.connect();
    pair.run(SECOND * 20);
    assert_eq!(pair.nodes.each_ref().map(|node| node.flows.len()), [50, 50]);
    pair.serve(1, false);
    // At once, not with the next round.
    pair.run(SECOND);
    assert!(pair.equal() && pair.nodes[0].flows.len() == 50);
    assert_eq!(pair.nodes[1].discarded.len(), 40);
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_and_one_that_is_slow_resynchronised() {
    let mut pair = Pair::new();
    pair.serve(0, true);
    pair.connect();
    pair.run(SECOND);
    pair.stuck[0] = true;
    let mut client = 0;
    while pair.nodes[0].queued() <= MAX_QUEUED {
        for _ in 0..MAX_CHANGES_AT_ONCE {
            pair.change(0, &put(client % 20_000));
            client += 1;
        }
        pair.run(MILLISECOND);
    }
    let queued = pair.nodes[0].queued();
    (0..5000).for_each(|client| pair.change(0, &put(client + 20_000)));
    pair.run(BATCH * 2);
    assert!(pair.nodes[0].queued() <= queued + (1 << 16));
    pair.stuck[0] = false;
    pair.run(SECOND * 12);
    assert!(pair.equal(), "{:?}", pair.nodes.each_ref().map(|node| node.flows.len()));
    let view = pair.nodes[0].session.as_ref().unwrap().view(pair.now);
    assert!(view.resyncs > 0, "{view:?}");
    pair.stuck[0] = true;
    pair.run(SILENCE * 2);
    assert_eq!(pair.nodes[1].closed, Some(Reason::Silent));
}

const MAX_CHANGES_AT_ONCE: u32 = 2000;

#[test]
fn who_is_alive_is_not_silent() {
    let mut pair = Pair::new();
    pair.connect();
    pair.run(SILENCE * 5);
    assert!(pair.nodes.iter().all(|node| node.session.is_some()));
}

#[test]
fn what_has_no_place_closes_the_connection() {
    let hello = Hello {
        oldest: 1,
        newest: 1,
        instance: 1,
        capabilities: 0,
        listen: "10.0.0.2:1".parse().unwrap(),
        name: String::new(),
    };
    let ack = crate::sync::packet::Ack { next: 7, sent: 0, held: 0 };
    for message in [Message::Hello(hello), Message::Ack(ack), Message::Bye(Bye::Ending)] {
        let now = start();
        let (mut session, _) = Session::new(&Vips::new(), 10, now);
        let todo = session.handle(Event::Received(message), now);
        assert!(matches!(todo[..], [Action::Close(_)]), "{todo:?}");
        assert!(session.handle(Event::Timer, now + SILENCE * 2).is_empty());
        assert_eq!(session.deadline(), None);
    }
}

#[test]
fn versions_agree_on_the_newest_that_both_have() {
    let hello = |oldest, newest| Hello {
        oldest,
        newest,
        instance: 1,
        capabilities: 0,
        listen: "10.0.0.2:1".parse().unwrap(),
        name: String::new(),
    };
    assert_eq!(agree(&hello(1, 1)), Some(1));
    assert_eq!(agree(&hello(1, 9)), Some(VERSION));
    assert_eq!(agree(&hello(0, 1)), Some(1));
    assert_eq!(agree(&hello(2, 9)), None);
    assert_eq!(agree(&hello(0, 0)), None);
}

/// Something that happens to a pair.
#[derive(Clone, Debug)]
enum Step {
    Change(Change),
    Lose(Change),
    LoseThere(Change),
    Ring,
    Run(u64),
    Break(u64),
    Stick(usize, u64),
    Swap,
    Both,
}

fn step() -> impl Strategy<Value = Step> {
    let change = || {
        (0..300_u32, any::<bool>())
            .prop_map(|(client, is_new)| if is_new { put(client) } else { gone(client) })
    };
    prop_oneof![
        20 => change().prop_map(Step::Change),
        4 => change().prop_map(Step::Lose),
        2 => change().prop_map(Step::LoseThere),
        1 => Just(Step::Ring),
        8 => (1..400_u64).prop_map(Step::Run),
        1 => (1..4000_u64).prop_map(Step::Break),
        1 => (0..2_usize, 1..4000_u64).prop_map(|(node, span)| Step::Stick(node, span)),
        1 => Just(Step::Swap),
        1 => Just(Step::Both),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn after_quiet_both_have_the_same_flows(
        steps in proptest::collection::vec(step(), 1..120),
        delay in 1..80_u64,
    ) {
        let mut pair = Pair::new();
        pair.delay = Duration::from_millis(delay);
        let mut active = 0;
        pair.serve(active, true);
        pair.connect();
        for step in steps {
            match step {
                Step::Change(change) => pair.change(active, &change),
                Step::Lose(change) => pair.lose(active, &change),
                Step::LoseThere(change) => pair.lose(1 - active, &change),
                Step::Ring => {
                    let now = pair.now;
                    pair.nodes[active].feed(Event::Lost, now);
                }
                Step::Run(span) => pair.run(Duration::from_millis(span)),
                Step::Break(span) => {
                    pair.disconnect();
                    pair.run(Duration::from_millis(span));
                    pair.connect();
                }
                Step::Stick(node, span) => {
                    pair.stuck[node] = true;
                    pair.run(Duration::from_millis(span));
                    pair.stuck[node] = false;
                }
                Step::Swap => {
                    pair.serve(active, false);
                    active = 1 - active;
                    pair.serve(active, true);
                }
                Step::Both => {
                    pair.serve(1 - active, true);
                    pair.run(Duration::from_millis(50));
                    pair.serve(1 - active, false);
                }
            }
            if pair.nodes.iter().any(|node| node.session.is_none()) {
                pair.connect();
            }
        }
        let is_seen = |id: &&FlowId| pair.nodes[active].seen.contains(id);
        let before: BTreeSet<FlowId> =
            pair.nodes[active].flows.keys().filter(is_seen).copied().collect();
        pair.run(ROUND * 2 + SECOND * 4);
        if pair.nodes.iter().any(|node| node.session.is_none()) {
            pair.connect();
            pair.run(ROUND * 2 + SECOND * 4);
        }
        prop_assert!(pair.equal());
        prop_assert!(pair.nodes.iter().all(|node| node.synced(pair.now)));
        // Who serves loses nothing of its own.
        let after: BTreeSet<FlowId> = pair.nodes[active].flows.keys().copied().collect();
        prop_assert!(before.is_subset(&after));
    }
}
