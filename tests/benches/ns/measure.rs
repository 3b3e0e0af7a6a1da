//! Run times, by the kernel's own clock: the program and the floor in turns, on the same frames.

use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result, ensure};
use lb_tests::bpf;

use crate::traffic::Frames;

pub(crate) const DROP: u32 = 1;
pub(crate) const PASS: u32 = 2;
pub(crate) const TX: u32 = 3;

/// Mean run times of one round, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) raw: f64,
    pub(crate) floor: f64,
}

impl Round {
    /// Of several; none have no length.
    pub(crate) fn mean(rounds: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| rounds.iter().map(of).sum::<f64>() / rounds.len() as f64;
        Self { raw: mean(|round| round.raw), floor: mean(|round| round.floor) }
    }
}

/// Repeated until a round has so many runs.
const LEAST_RUNS: usize = 20_000;
/// Runs of a path unless asked for less: as many rounds as this has room for, but not more than a few.
pub(crate) const RUNS: usize = 4_000_000;
const MAX_ROUNDS: usize = 15;

/// Several rounds of frames that leave the state of the programs as it is, but for the progress of flows:
/// the rounds of each.
///
/// # Errors
/// A frame for which a program has another action than `action`.
pub(crate) fn rounds(
    programs: &[BorrowedFd<'_>],
    floor: BorrowedFd<'_>,
    frames: &mut Frames,
    action: u32,
    runs: usize,
) -> Result<Vec<Vec<Round>>> {
    let times = LEAST_RUNS.div_ceil(frames.count());
    let count = (runs / (times * frames.count())).clamp(1, MAX_ROUNDS);
    for program in programs {
        pass(*program, frames, times, action).context("warming up")?;
    }
    let mut rounds = vec![vec![]; programs.len()];
    for round in 0..count {
        // Of a client that repeats itself the program asks whether it is heard.
        frames.go_on();
        let floor = pass(floor, frames, times, TX)?;
        for turn in 0..programs.len() {
            // Nobody is always the first behind the floor.
            let at = (round + turn) % programs.len();
            rounds[at].push(Round { raw: pass(programs[at], frames, times, action)?, floor });
        }
    }
    Ok(rounds)
}

/// One round.
pub(crate) fn once(
    program: BorrowedFd<'_>,
    floor: BorrowedFd<'_>,
    frames: &Frames,
) -> Result<Round> {
    let floor = pass(floor, frames, 1, TX)?;
    Ok(Round { raw: pass(program, frames, 1, TX)?, floor })
}

/// One round of so many runs.
pub(crate) fn some(
    program: BorrowedFd<'_>,
    floor: BorrowedFd<'_>,
    frames: &mut Frames,
    runs: usize,
) -> Result<Round> {
    frames.go_on();
    let times = runs / frames.count();
    let floor = pass(floor, frames, times, TX)?;
    Ok(Round { raw: pass(program, frames, times, TX)?, floor })
}

/// Mean run time over all frames, `times` times, in nanoseconds.
fn pass(program: BorrowedFd<'_>, frames: &Frames, times: usize, action: u32) -> Result<f64> {
    let before = bpf::info(program).context("reading run times")?;
    for frame in (0..times).flat_map(|_| frames.iter()) {
        let ran = bpf::run(program, frame, &mut []).context("running a frame")?;
        ensure!(ran.action == action, "action {} for {frame:02x?}", ran.action);
    }
    let after = bpf::info(program).context("reading run times")?;
    let runs = after.runs - before.runs;
    ensure!(runs == (times * frames.count()) as u64, "the kernel counted {runs} runs");
    Ok((after.run_time_ns - before.run_time_ns) as f64 / runs as f64)
}
