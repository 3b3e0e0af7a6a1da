use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[test]
fn the_table_is_the_same_for_ever() {
    let table = equal(&["cp1", "cp2", "cp3"]);
    assert_eq!(table.len(), 4093);
    let checksum = table
        .iter()
        .fold(0u64, |sum, id| (sum ^ u64::from(*id)).wrapping_mul(0x0000_0100_0000_01b3));
    assert_eq!(hash(OFFSET_SEED, "cp1"), 0x3841_801b_dcd5_d755);
    assert_eq!(checksum, 0xede6_0d5d_33b7_29a7);
}

#[test]
fn without_weights_there_is_no_table() {
    assert!(build(&[]).is_empty());
    assert!(build(&[entry("cp1", 1, 0), entry("cp2", 2, 0)]).is_empty());
}

#[test]
fn the_length_is_a_prime_that_gives_each_backend_a_hundred_slots() {
    let cases = [(1, 4093), (40, 4093), (41, 8191), (81, 8191), (82, 16_381), (5000, 65_521)];
    for (backends, expected) in cases {
        assert_eq!(length(backends), expected, "{backends} backends");
    }
    for length in LENGTHS {
        assert!((2..=256).all(|divisor| length % divisor != 0), "{length}");
    }
}

#[test]
fn a_backend_that_goes_down_leaves_the_length() {
    let mut entries: Vec<(String, u16)> = (0..41).map(|n| (format!("cp{n}"), 100)).collect();
    entries[7].1 = 0;
    assert_eq!(build_named(&entries).len(), 8191);
}

#[test]
fn the_smallest_weight_gets_a_slot() {
    let table = build(&[entry("cp1", 1, 1), entry("cp2", 2, u16::MAX)]);
    assert_eq!(table.iter().filter(|id| **id == 1).count(), 1);
}

/// Adding and removing are the same pair of tables, seen from either side.
#[test]
fn losing_a_backend_moves_little_more_than_its_own_slots() {
    for count in 3..=10 {
        let names: Vec<String> = (1..=count).map(|n| format!("cp{n}")).collect();
        let before = build_named(&names.iter().map(|n| (n.clone(), 100)).collect::<Vec<_>>());
        for lost in 1..=count {
            let entries: Vec<Entry<'_>> = (1..=count)
                .zip(&names)
                .filter(|(id, _)| *id != lost)
                .map(|(id, name)| entry(name, id, 100))
                .collect();
            let after = build(&entries);
            let pairs = before.iter().zip(&after);
            let moved = pairs.filter(|(old, new)| old != new && **old != lost).count();
            assert!(moved * 20 < before.len(), "{moved} slots, {lost} of {count}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_slot_has_one_of_the_backends(entries in entries(1..20, 0..=300)) {
        let table = build_named(&entries);
        if entries.iter().all(|(_, weight)| *weight == 0) {
            prop_assert!(table.is_empty());
        } else {
            prop_assert!(table.len() >= 4093);
        }
        for id in table {
            prop_assert!(entries[id as usize - 1].1 > 0);
        }
    }

    #[test]
    fn equal_weights_have_equal_shares(entries in entries(1..60, 100..=100)) {
        let counts = counts(&build_named(&entries));
        prop_assert_eq!(counts.len(), entries.len());
        let (min, max) = (counts.values().min(), counts.values().max());
        prop_assert!(max.unwrap() - min.unwrap() <= 1);
    }

    #[test]
    fn shares_follow_weights(entries in entries(1..8, 1..=400)) {
        let table = build_named(&entries);
        let counts = counts(&table);
        let sum: f64 = entries.iter().map(|(_, weight)| f64::from(*weight)).sum();
        for (id, (_, weight)) in (1..).zip(&entries) {
            let expected = f64::from(*weight) / sum;
            let share = f64::from(counts[&id]) / f64::from(u32::try_from(table.len()).unwrap());
            prop_assert!((share - expected).abs() < 0.02, "{} for {}", share, expected);
        }
    }

    #[test]
    fn neither_order_nor_ids_matter(
        entries in entries(1..12, 0..=200),
        shift in 1u32..1000,
        turn in any::<prop::sample::Index>(),
    ) {
        let mut other: Vec<Entry<'_>> =
            (1..).zip(&entries).map(|(id, (name, w))| entry(name, id + shift, *w)).collect();
        let middle = turn.index(other.len());
        other.rotate_left(middle);
        let table = build(&other);
        let expected: Vec<BackendId> =
            build_named(&entries).into_iter().map(|id| id + shift).collect();
        prop_assert_eq!(table, expected);
    }
}

fn entry(name: &str, id: BackendId, weight: u16) -> Entry<'_> {
    Entry { name, id, weight }
}

fn equal(names: &[&str]) -> Vec<BackendId> {
    build_named(&names.iter().map(|name| ((*name).to_owned(), 100)).collect::<Vec<_>>())
}

/// With identifiers from 1 on.
fn build_named(entries: &[(String, u16)]) -> Vec<BackendId> {
    let entries: Vec<Entry<'_>> =
        (1..).zip(entries).map(|(id, (name, weight))| entry(name, id, *weight)).collect();
    build(&entries)
}

fn counts(table: &[BackendId]) -> BTreeMap<BackendId, u32> {
    let mut counts = BTreeMap::new();
    for id in table {
        *counts.entry(*id).or_default() += 1;
    }
    counts
}

/// Distinct names with weights.
fn entries(
    count: std::ops::Range<usize>,
    weights: std::ops::RangeInclusive<u16>,
) -> impl Strategy<Value = Vec<(String, u16)>> {
    prop::collection::btree_map("[a-z]{1,3}[0-9]{1,3}", weights, count)
        .prop_map(|entries| entries.into_iter().collect())
}
