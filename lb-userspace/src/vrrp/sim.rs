//! Nodes on a simulated link with a virtual clock, in tests. Pure.
//!
//! A run has two halves. In the first, links lose, delay, reorder and duplicate packets, each direction for
//! itself, and nodes crash, stall, drain, restart, lose their link or change their priority. Then
//! everything is repaired, but for one lost packet in a row. What must hold:
//!
//! 1. From 2 × the longest Active_Down_Interval after the last disturbance on, exactly one running node
//!    is Active; with preemption everywhere it is one with the highest priority.
//! 2. At no time is a node Active that an advertisement ranking above its own reached less than
//!    three of that sender's intervals ago, unless priority 0 reached it since.
//! 3. A node that takes over from a silent peer whose last advertisement was the last to reach it does so
//!    after the peer's lease has ended, also where that was made longer for a successor.
//!
//! A disturbance is also what a drain does by itself when its time is up, and the end of the wait after
//! faults that follow each other.

use std::time::Duration;

use rstest::rstest;

use super::{Nanos, Version};

mod check;
mod pair;
mod random;
mod world;

use random::Random;
use world::{Plan, World};

/// The longest that a drain takes beyond Active_Down_Interval.
const DRAIN_MARGIN: Duration = Duration::from_secs(1);

/// Runs, in four parts; `FAIRLEAD_SIM_SEEDS=1000000` makes more of them.
const SEEDS: u64 = 20_000;

#[rstest]
fn one_node_is_active_after_every_disturbance(#[values(0, 1, 2, 3)] part: u64) {
    let seeds = std::env::var("FAIRLEAD_SIM_SEEDS").map_or(SEEDS, |text| text.parse().unwrap()) / 4;
    let (mut steps, mut promotions) = (0, 0);
    for seed in part * seeds + 1..=(part + 1) * seeds {
        let mut random = Random::new(seed);
        let plan = Plan::any(&mut random);
        let mut world = World::new(plan, random);
        disturb(&mut world);
        settle(&mut world, seed);
        steps += world.steps;
        promotions += world.promotions;
    }
    assert!(steps > 100 * seeds, "{steps} steps");
    assert!(promotions > 2 * seeds, "{promotions} promotions");
}

fn disturb(world: &mut World) {
    let unit = world.longest_interval();
    for _ in 0..world.random.below(30) {
        world.disturb();
        let pause = unit * u32::try_from(world.random.below(4000)).unwrap() / 1000;
        world.run_for(pause);
    }
    world.repair();
}

fn settle(world: &mut World, seed: u64) {
    // What is under way from before, and drains that end by themselves.
    let longest = world.longest_down_interval();
    let quiet = world.now.after(world.longest_delay());
    world.run_until(quiet);
    let mut calm_at = quiet.after(longest * 2);
    while world.now < calm_at {
        world.run_until(calm_at);
        calm_at = calm_at.max(world.settled.after(longest * 2));
        if world.is_something_pending() {
            calm_at = calm_at.max(world.now.after(longest + DRAIN_MARGIN));
        }
    }
    let end = world.now.after(longest * 2);
    let first = world.active();
    assert_eq!(first.len(), 1, "seed {seed}: {first:?} are Active\n{}", world.describe());
    while world.now < end {
        world.step(end);
        assert_eq!(world.active(), first, "seed {seed}: it moved\n{}", world.describe());
    }
    if world.preempts_everywhere() {
        let best = world.best_priority();
        let active = world.priority_of(first[0]);
        assert_eq!(active, best, "seed {seed}: a lower one is Active\n{}", world.describe());
    }
}
