//! When an instance's VIPs are announced: each in a burst after it was taken, then now and then. Called by
//! the VRRP thread. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::super::Nanos;

/// After a VIP was taken: switches and neighbours lose frames.
const BURST: [Duration; 3] = [Duration::ZERO, Duration::from_millis(100), Duration::from_secs(1)];
/// Switches forget.
const REFRESH: Duration = Duration::from_secs(60);

/// The announcements of an instance that are due some time.
#[derive(Debug, Default)]
pub(super) struct Announcer(Vec<Pending>);

#[derive(Clone, Copy, Debug)]
struct Pending {
    vip: IpAddr,
    started: Nanos,
    /// Of those of a burst that are done.
    done: usize,
    due: Nanos,
}

impl Announcer {
    /// Begins with a burst for each of `vips`.
    pub(super) fn start(&mut self, vips: &[IpAddr], now: Nanos) {
        self.0.clear();
        for vip in vips {
            self.add(*vip, now);
        }
    }

    /// Another burst for one of them, or a new one.
    pub(super) fn add(&mut self, vip: IpAddr, now: Nanos) {
        self.0.retain(|pending| pending.vip != vip);
        self.0.push(Pending { vip, started: now, done: 0, due: now });
    }

    pub(super) fn stop(&mut self) {
        self.0.clear();
    }

    pub(super) fn deadline(&self) -> Option<Nanos> {
        self.0.iter().map(|pending| pending.due).min()
    }

    /// One that is due, which then is not any more.
    pub(super) fn next(&mut self, now: Nanos) -> Option<IpAddr> {
        let pending = self.0.iter_mut().find(|pending| pending.due <= now)?;
        pending.done += 1;
        pending.due = match BURST.get(pending.done) {
            Some(offset) => pending.started.after(*offset),
            None => now.after(REFRESH),
        };
        Some(pending.vip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vip_is_announced_in_a_burst_and_then_each_minute_until_it_is_given_up() {
        let vip = IpAddr::from([10, 0, 0, 100]);
        let mut announcer = Announcer::default();
        announcer.start(&[vip], Nanos(0));
        let mut seen = Vec::new();
        while let Some(at) = announcer.deadline().filter(|at| at.0 < 130_000_000_000) {
            assert_eq!(announcer.next(at), Some(vip));
            assert_eq!(announcer.next(at), None);
            seen.push(at.0 / 1_000_000);
        }
        assert_eq!(seen, [0, 100, 1000, 61_000, 121_000]);
        announcer.stop();
        assert_eq!((announcer.deadline(), announcer.next(Nanos(u64::MAX))), (None, None));
    }
}
