//! What the program's clock needs to know: a tick of the kernel's timer in nanoseconds, and when the
//! kernel began to count them. I/O.
//!
//! The kernel's coarse clock moves with its timer tick, as does the count of ticks (jiffies), which a
//! program reads without a call. Both follow CLOCK_MONOTONIC, so that what lies between them never
//! changes; it is measured once, before the program is loaded.

use std::io;
use std::time::Duration;

use aya::EbpfLoader;
use nix::time::{ClockId, clock_getres, clock_gettime};

use super::sys::Program;

/// The program's constants.
const TICK_NS: &str = "TICK_NS";
const TICK_ZERO_NS: &str = "TICK_ZERO_NS";

/// Pairs that must agree. They are spread over several ticks.
const SAMPLES: usize = 8;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(3);
/// Both sides of a pair must be of one tick; a virtual machine may be stopped in between.
const ATTEMPTS: usize = 100;

/// Ticks and CLOCK_MONOTONIC: `monotonic = ticks × tick_ns + zero_ns`, modulo 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    tick_ns: u64,
    zero_ns: u64,
}

impl Clock {
    /// The program asks the kernel for the time, which takes it some 20 ns more.
    pub const ASK: Self = Self { tick_ns: 0, zero_ns: 0 };

    /// Measures it, or has the program ask, if that cannot be done.
    pub fn measure() -> Self {
        match sample() {
            Ok(Some(clock)) => clock,
            Ok(None) => {
                log::info!("the kernel's ticks and its clock do not agree; asking the clock");
                Self::ASK
            }
            Err(error) => {
                log::info!("cannot read the kernel's ticks ({error}); asking its clock");
                Self::ASK
            }
        }
    }

    /// Sets the program's constants.
    pub fn apply<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader.override_global(TICK_NS, &self.tick_ns, true);
        loader.override_global(TICK_ZERO_NS, &self.zero_ns, true);
    }
}

/// `None`: the pairs differ by more than a tick, so that there is no constant between the two.
fn sample() -> io::Result<Option<Clock>> {
    let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)?;
    let tick_ns = u64::try_from(Duration::from(resolution).as_nanos()).unwrap_or(0);
    let program = Program::load(&READ_TICKS)?;
    let mut zeros = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let Some((ticks, ns)) = pair(&program)? else { return Ok(None) };
        zeros.push(ns.wrapping_sub(ticks.wrapping_mul(tick_ns)));
        std::thread::sleep(PAUSE);
    }
    Ok(agreed(tick_ns, &zeros))
}

/// The latest of the measured zeros: by the program's clock a lease must not last longer than by the
/// kernel's, which is behind by up to a tick.
fn agreed(tick_ns: u64, zeros: &[u64]) -> Option<Clock> {
    let first = *zeros.first()?;
    // Relative to the first, since they may be on both sides of zero.
    let offset = |zero: &u64| zero.wrapping_sub(first).cast_signed();
    let earliest = zeros.iter().map(offset).min()?;
    let latest = zeros.iter().map(offset).max()?;
    let spread = latest.checked_sub(earliest)?.cast_unsigned();
    let zero_ns = first.wrapping_add(latest.cast_unsigned());
    (tick_ns > 0 && spread <= tick_ns).then_some(Clock { tick_ns, zero_ns })
}

/// Ticks and the coarse clock at one moment.
fn pair(program: &Program) -> io::Result<Option<(u64, u64)>> {
    for _ in 0..ATTEMPTS {
        let before = coarse_ns()?;
        let ticks = read_ticks(program)?;
        if coarse_ns()? == before {
            return Ok(Some((ticks, before)));
        }
    }
    Ok(None)
}

fn coarse_ns() -> io::Result<u64> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?);
    u64::try_from(now.as_nanos()).map_err(io::Error::other)
}

fn read_ticks(program: &Program) -> io::Result<u64> {
    let mut frame = [0; SHORTEST_FRAME];
    program.run(&mut frame)?;
    frame
        .first_chunk()
        .map(|bytes| u64::from_ne_bytes(*bytes))
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The kernel runs no program on less than an Ethernet header.
const SHORTEST_FRAME: usize = 14;

/// Writes jiffies over the start of the frame. See linux/bpf.h for the eight bytes of an instruction.
const READ_TICKS: [u64; 10] = [
    0x0000_0000_0000_16bf, // r6 = context
    0x0000_0076_0000_0085, // call bpf_jiffies64
    0x0000_0000_0000_6261, // r2 = the frame's start
    0x0000_0000_0004_6361, // r3 = the frame's end
    0x0000_0000_0000_24bf, // r4 = r2
    0x0000_0008_0000_0407, // r4 += 8
    0x0000_0000_0001_342d, // if r4 > r3 goto exit
    0x0000_0000_0000_027b, // *(u64 *)r2 = r0
    0x0000_0002_0000_00b7, // exit: r0 = XDP_PASS
    0x0000_0000_0000_0095, // exit
];

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: u64 = 4_000_000;

    #[test]
    fn the_latest_of_zeros_within_a_tick_is_taken() {
        let zeros = [1_000, 900, 4_000_900];
        assert_eq!(agreed(TICK, &zeros), Some(Clock { tick_ns: TICK, zero_ns: 4_000_900 }));
    }

    #[test]
    fn zeros_may_be_on_both_sides_of_zero() {
        let zeros = [u64::MAX - 4, 5];
        assert_eq!(agreed(TICK, &zeros), Some(Clock { tick_ns: TICK, zero_ns: 5 }));
    }

    #[test]
    fn zeros_more_than_a_tick_apart_are_no_constant() {
        assert_eq!(agreed(TICK, &[0, TICK + 1]), None);
        assert_eq!(agreed(TICK, &[]), None);
        assert_eq!(agreed(0, &[7, 7]), None);
    }
}
