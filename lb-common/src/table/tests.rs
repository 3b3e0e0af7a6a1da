use std::cell::UnsafeCell;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::thread;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::addr::{Ipv4Be, Ports};
use crate::nat::{Kind, Translation};

/// Slots in memory of its own.
struct Memory {
    slots: Vec<UnsafeCell<Slot<Ipv4Be>>>,
    homes: u32,
    secret: Secret,
}

// SAFETY: slots are changed by the functions under test alone.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(homes: u32, seed: u64) -> Self {
        let key = key(0);
        let empty = Slot { control: 0, key, half: half(0) };
        let slots = (0..homes + REACH).map(|_| UnsafeCell::new(empty)).collect();
        Self { slots, homes, secret: Secret::new([seed, 1]) }
    }

    fn get(&self, n: u32) -> Option<u32> {
        find(self, &key(n)).map(|place| place.copied().seq_end)
    }

    fn put(&self, n: u32, value: u32, replace: bool) -> Result<(), Refusal> {
        store(self, &key(n), &half(value), replace)
    }

    /// How many slots are taken, and how many halves are published.
    fn used(&self) -> (usize, u32) {
        let all = || (0..self.homes + REACH).filter_map(|index| self.slot(index));
        let controls = || all().map(Place::control);
        let taken = controls().filter(|control| control.is_taken()).count();
        (taken, controls().map(|control| control.published().count_ones()).sum())
    }
}

impl Slots<Ipv4Be> for &Memory {
    fn home(self, key: &FlowKey<Ipv4Be>) -> u32 {
        self.secret.home(key, self.homes)
    }

    fn slot(self, index: u32) -> Option<Place<Ipv4Be>> {
        let slot = NonNull::new(self.slots.get(index as usize)?.get())?;
        // SAFETY: an element of the vector, which is not used otherwise.
        Some(unsafe { Place::new(slot) })
    }
}

fn key(n: u32) -> FlowKey<Ipv4Be> {
    FlowKey::new(Ipv4Be::from_word(n), Ipv4Be::from_word(9), Ports::from_word(n ^ 0x5555))
}

fn half(value: u32) -> FlowHalf<Ipv4Be> {
    let mut half = FlowHalf {
        translation: Translation::new(&key(0), &key(0)),
        flags: 0,
        seq_end: 0,
        ack: 0,
        fin_end: 0,
        backend: 0,
        epoch: 0,
        vip: 0,
        service: 0,
        kind: 0,
        attempts: 0,
        last_seen: Ticks::default(),
        checked: Ticks::default(),
        next_hop: crate::link::NextHop::UNKNOWN,
        #[cfg(feature = "second-layout")]
        later: 0,
    };
    half.init(Kind::Nat, &key(0), &key(0));
    half.seq_end = value;
    // Torn in two it would not be the same.
    half.checked = Ticks::default();
    half.ack = !value;
    half
}

#[derive(Clone, Copy, Debug)]
enum Op {
    New(u32, u32),
    Replace(u32, u32),
    Remove(u32),
    /// Taken out and put back.
    Return(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0..24u32;
    prop_oneof![
        (n.clone(), any::<u32>()).prop_map(|(n, value)| Op::New(n, value)),
        (n.clone(), any::<u32>()).prop_map(|(n, value)| Op::Replace(n, value)),
        n.clone().prop_map(Op::Remove),
        n.prop_map(Op::Return),
    ]
}

proptest! {
    /// Few homes, so that most halves are displaced.
    #[test]
    fn a_table_is_a_map(ops in prop::collection::vec(op(), 0..200), homes in 1..8u32, seed in any::<u64>()) {
        let memory = Memory::new(homes, seed);
        let mut model = BTreeMap::new();
        for op in ops {
            match op {
                Op::New(n, value) => {
                    let expected = if model.contains_key(&n) { Err(Refusal::Exists) } else { Ok(()) };
                    prop_assert_eq!(memory.put(n, value, false), expected);
                    model.entry(n).or_insert(value);
                }
                Op::Replace(n, value) => {
                    prop_assert_eq!(memory.put(n, value, true), Ok(()));
                    model.insert(n, value);
                }
                Op::Remove(n) => {
                    prop_assert_eq!(remove(&memory, &key(n)), model.remove(&n).is_some());
                }
                Op::Return(n) => {
                    let slot = withdraw(&memory, &key(n));
                    prop_assert_eq!(slot.is_some(), model.contains_key(&n));
                    prop_assert_eq!(memory.get(n), None);
                    if let Some(slot) = slot {
                        put_back(&memory, slot);
                    }
                }
            }
            for n in 0..24 {
                prop_assert_eq!(memory.get(n), model.get(&n).copied());
                let slot = locate(&memory, &key(n)).and_then(|index| (&memory).slot(index));
                prop_assert_eq!(slot, find(&memory, &key(n)));
            }
            prop_assert_eq!(memory.used(), (model.len(), u32::try_from(model.len()).unwrap()));
        }
    }
}

#[test]
fn a_full_reach_refuses_and_loses_nothing() {
    let memory = Memory::new(1, 3);
    for n in 0..REACH {
        assert_eq!(memory.put(n, n, false), Ok(()));
    }
    assert_eq!(memory.put(REACH, 0, false), Err(Refusal::Full));
    // To replace a half takes a slot for a moment.
    assert_eq!(memory.put(0, 7, true), Err(Refusal::Full));
    assert!((0..REACH).all(|n| memory.get(n) == Some(n)));
    assert!(remove(&memory, &key(5)));
    assert_eq!(memory.put(0, 7, true), Ok(()));
    assert_eq!(memory.put(REACH, 8, false), Ok(()));
    assert_eq!((memory.get(0), memory.get(REACH), memory.get(5)), (Some(7), Some(8), None));
}

impl Memory {
    fn put_seen(&self, n: u32, flags: u32, last_seen: u32) -> Result<Option<Evicted>, Refusal> {
        let half = FlowHalf { flags, last_seen: Ticks(last_seen), ..half(n) };
        store_making_room(self, &key(n), &half, false, half.last_seen)
    }
}

const REPLY: Result<Option<Evicted>, Refusal> = Ok(Some(Evicted { original: false }));

#[test]
fn of_the_unconfirmed_the_one_that_is_silent_longest_gives_way() {
    let memory = Memory::new(1, 3);
    for n in 0..REACH {
        let flags = if n % 2 == 0 { flag::CONFIRMED } else { 0 };
        let original = if n == 7 { flag::ORIGINAL } else { 0 };
        let seen = if n == 7 { 50 } else { 60 + n };
        assert_eq!(memory.put_seen(n, flags | original, seen), Ok(None));
    }
    assert_eq!(memory.put_seen(100, 0, 200), Ok(Some(Evicted { original: true })));
    assert_eq!((memory.get(7), memory.get(100)), (None, Some(100)));
    for n in (1..REACH).step_by(2).filter(|n| *n != 7) {
        let stored = memory.put_seen(100 + n, flag::CONFIRMED, 200);
        assert_eq!((stored, memory.get(n)), (REPLY, None));
    }
    // What has just come has not been silent, but nothing else is left.
    let translation = Translation::new(&key(99), &key(98).reversed());
    let reply = FlowHalf { translation, last_seen: Ticks(200), ..half(99) };
    assert_eq!(store_making_room(&memory, &key(99), &reply, false, Ticks(200)), REPLY);
    // All others are confirmed, and this one is the other half of the same flow.
    assert_eq!(memory.put_seen(98, 0, 201), Err(Refusal::Full));
    assert_eq!(memory.put_seen(97, flag::CONFIRMED, 201), REPLY);
    assert_eq!(memory.put_seen(96, 0, 202), Err(Refusal::Full));
    assert!((0..REACH).step_by(2).all(|n| memory.get(n) == Some(n)));
    let full = usize::try_from(REACH).unwrap();
    assert_eq!(memory.used(), (full, REACH));
}

/// Of another home, so that it is there where what gives way is withdrawn.
#[test]
fn what_is_at_home_elsewhere_gives_way_too() {
    let memory = Memory::new(4, 5);
    let mut stored = Vec::new();
    for n in 0..2 * REACH {
        if memory.put_seen(n, 0, n) == Ok(None) {
            stored.push(n);
        }
    }
    let before = memory.used();
    for n in 1000..1100 {
        assert!(matches!(memory.put_seen(n, 0, n), Ok(Some(_))), "{n}");
        assert_eq!(memory.get(n), Some(n));
        assert_eq!(memory.used(), before);
    }
    let left = stored.iter().filter(|n| memory.get(**n).is_some()).count();
    assert!(left < stored.len() / 2, "{left}");
}

/// Who is writing to a slot has not published it.
#[test]
fn a_slot_that_somebody_holds_is_nobody_s_to_take() {
    let memory = Memory::new(1, 3);
    for n in 0..REACH {
        assert_eq!(memory.put_seen(n, 0, 10 + n), Ok(None));
    }
    // The one that has been silent longest, whose contents stay where they were.
    assert!(remove(&memory, &key(0)));
    let (_, held) = take_free(&memory, 0).unwrap();
    assert_eq!(memory.put_seen(100, 0, 100), REPLY);
    held.release();
    assert_eq!(memory.put_seen(101, 0, 100), Ok(None));
    let found = [0, 1, 2, 100, 101].map(|n| memory.get(n));
    assert_eq!(found, [None, None, Some(2), Some(100), Some(101)]);
}

/// As many as it is for: two homes a half.
#[test]
fn the_halves_that_a_table_is_for_find_room() {
    let memory = Memory::new(1 << 17, 5);
    let refused = (0..1 << 16).filter(|n| memory.put(*n, *n, false).is_err()).count();
    // One in four million is expected.
    assert!(refused <= 2, "{refused} of 65,536");
    let at_home = (0..1 << 16).filter(|n| matches!(first(&memory, &key(*n)), First::Found(_)));
    assert!(at_home.count() > 40_000);
}

/// What was taken and never published is given back once, and only if nothing has happened to it.
#[test]
fn a_slot_that_nobody_has_is_reclaimed_as_it_was_seen() {
    let memory = Memory::new(1, 7);
    let (_, place) = take_free(&memory, 0).unwrap();
    let seen = place.control();
    assert_eq!(memory.used(), (1, 0));
    assert!(place.reclaim(seen));
    assert!(!place.reclaim(seen));
    assert_eq!(memory.put(1, 1, false), Ok(()));
    // The same slot, taken once more since.
    assert!(!place.reclaim(seen));
    assert_eq!(memory.get(1), Some(1));
}

/// Several threads store, replace and remove the same few keys: each key is there once or not at all, no slot is lost,
/// and of two that store a new one only one may succeed.
#[test]
fn changes_at_the_same_time_leave_each_key_once_or_not_at_all() {
    const KEYS: u32 = 6;
    const ROUNDS: u32 = 20_000;
    let memory = Memory::new(2, 11);
    let balance: Vec<i64> = thread::scope(|scope| {
        let workers: Vec<_> = (0..4u32)
            .map(|worker| {
                let memory = &memory;
                scope.spawn(move || {
                    let mut stored = 0;
                    for round in 0..ROUNDS {
                        let n = (round.wrapping_mul(7) + worker) % KEYS;
                        match (round + worker) % 3 {
                            0 => stored += i64::from(memory.put(n, round, false).is_ok()),
                            1 => stored -= i64::from(remove(memory, &key(n))),
                            _ => {
                                if let Some(place) = find(memory, &key(n)) {
                                    let _ = place.copied();
                                }
                            }
                        }
                    }
                    stored
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let left = (0..KEYS).filter(|n| memory.get(*n).is_some()).count();
    assert_eq!(balance.iter().sum::<i64>(), i64::try_from(left).unwrap());
    assert_eq!(memory.used(), (left, u32::try_from(left).unwrap()));
}
