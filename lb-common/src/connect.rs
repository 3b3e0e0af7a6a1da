//! How long backends take to answer a SYN: the value of the map that counts it, and its buckets. Pure.
//!
//! From the SYN that made the flow, as it was forwarded, to the first SYN-ACK. A client that sends its SYN again
//! meanwhile changes nothing, until the flow is given to another backend: that one's time begins anew.

/// Backends that are measured: the map has no more elements.
pub const MAX_MEASURED: u32 = 1024;

/// Finite ones, and one for all that takes longer.
pub const BUCKETS: usize = 20;

/// The first bucket ends at 2^5 = 32 µs, the last finite one at 2^23 µs = 8.4 s.
const FIRST: u32 = 5;

/// Connects of one backend, on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectTimes {
    pub buckets: [u64; BUCKETS],
    /// Of all times, microseconds.
    pub sum_us: u64,
}

const _: () = assert!(size_of::<ConnectTimes>() == 168);

/// The bucket that a time belongs to, which ends where the next one begins.
#[inline(always)]
pub const fn bucket(time_us: u32) -> usize {
    // The logarithm, rounded up: without a branch for each bucket, which the verifier would follow.
    let log = u32::BITS - time_us.saturating_sub(1).leading_zeros();
    let bucket = log.saturating_sub(FIRST) as usize;
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

/// The longest time of a bucket, microseconds; `None`: it has no end.
pub const fn upper_bound(bucket: usize) -> Option<u32> {
    if bucket < BUCKETS - 1 { Some(1 << (bucket + FIRST as usize)) } else { None }
}

/// The moment of a SYN as a half keeps it: microseconds modulo 2^32, and never 0, which is no moment.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 on purpose")]
pub const fn stamp(now_ns: u64) -> u32 {
    (now_ns / 1000) as u32 | 1
}

/// Microseconds since a stamp; of a flow that is half-open for an hour, nonsense.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 on purpose")]
pub const fn since(stamp: u32, now_ns: u64) -> u32 {
    let elapsed = ((now_ns / 1000) as u32).wrapping_sub(stamp);
    // The stamp may be a microsecond ahead, and CPUs' clocks differ a little.
    if (elapsed as i32) < 0 { 0 } else { elapsed }
}

impl core::ops::AddAssign<&Self> for ConnectTimes {
    fn add_assign(&mut self, other: &Self) {
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += more;
        }
        self.sum_us += other.sum_us;
    }
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: integers only; the size assertion rules padding out.
    unsafe impl aya::Pod for super::ConnectTimes {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_bucket_that_ends_with_it() {
        for number in 0..BUCKETS {
            let Some(end) = upper_bound(number) else { continue };
            assert_eq!(bucket(end), number, "{end}");
            assert_eq!(bucket(end + 1), number + 1, "{end}");
        }
        assert_eq!((bucket(0), bucket(1), bucket(32), bucket(33)), (0, 0, 0, 1));
        assert_eq!((bucket(u32::MAX), upper_bound(BUCKETS - 1)), (BUCKETS - 1, None));
        assert_eq!(upper_bound(BUCKETS - 2), Some(8_388_608));
    }

    #[test]
    fn times_survive_the_wrap_and_are_never_negative() {
        let start = (u64::from(u32::MAX) - 10) * 1000;
        let stamped = stamp(start);
        assert_eq!(since(stamped, start + 500_000), 500);
        assert_eq!(since(stamp(2_000), 2_000), 0);
        assert_ne!(stamp(0), 0);
    }
}
