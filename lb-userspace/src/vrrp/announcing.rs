//! When which VIP is announced while the instance is Active. The VRRP thread asks it after advertisements
//! are sent, never before. Pure.
//!
//! ```text
//! start                       stop or start again
//!   │ 0 ms  100 ms   1000 ms     refresh   refresh │
//!   ▼   ▼      ▼         ▼          ▼         ▼    ▼
//!   ■   ■      ■         ■ ─ ─ ─ ─ ─■─ ─ ─ ─ ─■─ ─     ■ one round: every VIP once
//! ```
//! A burst, because frames are lost; refreshes on their own timer, because a switch or a neighbour may
//! have missed all of them. A round of many VIPs is spread out by a token bucket, and goes on where
//! the last one was when the burst starts again, so that none is left out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Nanos;
use crate::config::vrrp::Announce;

/// When the rounds of a burst start.
const BURST: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(1000)];

/// Frames at once after a pause.
const AT_ONCE: u32 = 16;

/// The announcements of one instance.
#[derive(Clone, Debug)]
pub struct Announcer {
    vips: Arc<[IpAddr]>,
    announce: Announce,
    /// When the burst started; none: not Active.
    started: Option<Nanos>,
    /// Rounds begun since.
    rounds: usize,
    next_round: Option<Nanos>,
    /// Frames that the round under way still has to send.
    owed: usize,
    /// The VIP that is next.
    cursor: usize,
    /// When the bucket is full again.
    full_at: Nanos,
}

impl Announcer {
    /// Silent until it is started.
    pub fn new(vips: Arc<[IpAddr]>, announce: Announce) -> Self {
        Self {
            vips,
            announce,
            started: None,
            rounds: 0,
            next_round: None,
            owed: 0,
            cursor: 0,
            full_at: Nanos(0),
        }
    }

    /// Other VIPs, other settings; a burst under way goes on with them.
    pub fn reconfigure(&mut self, vips: Arc<[IpAddr]>, announce: Announce) {
        self.owed = self.owed.min(vips.len());
        self.vips = vips;
        self.announce = announce;
    }

    /// `Action::StartAnnouncing`: the burst starts, again if need be.
    pub const fn start(&mut self, now: Nanos) {
        self.started = Some(now);
        self.next_round = Some(now);
        self.rounds = 0;
        self.owed = 0;
    }

    /// `Action::StopAnnouncing`: nothing that is pending survives.
    pub const fn stop(&mut self) {
        self.started = None;
        self.next_round = None;
        self.owed = 0;
    }

    /// When to ask [`Self::next`] again.
    pub fn deadline(&self) -> Option<Nanos> {
        if self.owed > 0 { Some(self.token_at()) } else { self.next_round }
    }

    /// The VIP to announce at this time; ask until there is none.
    pub fn next(&mut self, now: Nanos) -> Option<IpAddr> {
        if self.owed == 0 {
            self.begin_round(now);
        }
        if self.owed == 0 || now < self.token_at() {
            return None;
        }
        self.full_at = self.full_at.max(now).after(self.per_frame());
        self.owed -= 1;
        self.cursor = (self.cursor + 1) % self.vips.len();
        self.vips.get(self.cursor).copied()
    }

    fn begin_round(&mut self, now: Nanos) {
        let (Some(started), Some(due)) = (self.started, self.next_round) else { return };
        if now < due {
            return;
        }
        self.rounds += 1;
        self.owed = self.vips.len();
        self.next_round = match BURST.get(self.rounds) {
            Some(offset) => Some(started.after(*offset)),
            None if self.announce.refresh.is_zero() => None,
            None => Some(now.after(self.announce.refresh)),
        };
    }

    /// When the bucket has a token.
    fn token_at(&self) -> Nanos {
        self.full_at.before(self.per_frame() * (AT_ONCE - 1))
    }

    fn per_frame(&self) -> Duration {
        Duration::from_secs(1) / self.announce.rate.max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use super::*;

    const fn ms(millis: u64) -> Nanos {
        Nanos(millis * 1_000_000)
    }

    fn announcer(vips: u32, refresh: u64, rate: u32) -> Announcer {
        let vips = (0..vips).map(|n| Ipv4Addr::from_bits(0x0a00_0001 + n).into()).collect();
        Announcer::new(vips, Announce { refresh: Duration::from_secs(refresh), rate })
    }

    /// What is sent until `end`, by a driver that sleeps until each deadline.
    fn until(announcer: &mut Announcer, end: Nanos) -> Vec<(Nanos, IpAddr)> {
        let mut sent = Vec::new();
        while let Some(now) = announcer.deadline().filter(|now| *now < end) {
            while let Some(vip) = announcer.next(now) {
                sent.push((now, vip));
            }
            assert!(announcer.deadline().is_none_or(|next| next > now), "it would spin");
        }
        sent
    }

    fn millis(sent: &[(Nanos, IpAddr)]) -> Vec<u64> {
        sent.iter().map(|(at, _)| at.0 / 1_000_000).collect()
    }

    #[test]
    fn a_burst_then_refreshes() {
        let mut announcer = announcer(1, 60, 1000);
        assert_eq!(announcer.deadline(), None);
        announcer.start(ms(5000));
        let sent = until(&mut announcer, ms(130_000));
        assert_eq!(millis(&sent), [5000, 5100, 6000, 66_000, 126_000]);
    }

    #[test]
    fn refreshes_can_be_switched_off() {
        let mut announcer = announcer(1, 0, 1000);
        announcer.start(ms(0));
        assert_eq!(millis(&until(&mut announcer, ms(999_000))), [0, 100, 1000]);
        assert_eq!(announcer.deadline(), None);
    }

    /// G7: keepalived's bursts survive into the next term.
    #[test]
    fn nothing_is_sent_after_the_stop() {
        let mut announcer = announcer(3, 60, 1000);
        announcer.start(ms(0));
        until(&mut announcer, ms(50));
        announcer.stop();
        assert_eq!((announcer.deadline(), announcer.next(ms(100))), (None, None));
        announcer.start(ms(200));
        assert_eq!(until(&mut announcer, ms(250)).len(), 3);
    }

    /// E26.
    #[test]
    fn two_hundred_vips_are_announced_within_a_second() {
        let mut announcer = announcer(200, 60, 1000);
        announcer.start(ms(0));
        let sent = until(&mut announcer, ms(3000));
        assert_eq!(sent.len(), 600);
        let first: BTreeMap<IpAddr, Nanos> =
            sent.iter().rev().map(|(at, vip)| (*vip, *at)).collect();
        assert_eq!(first.len(), 200);
        assert!(first.values().all(|at| *at < ms(200)), "{first:?}");
    }

    #[test]
    fn no_second_has_more_than_the_rate() {
        let mut announcer = announcer(1000, 1, 100);
        announcer.start(ms(0));
        let sent = until(&mut announcer, ms(20_000));
        for second in 0..19 {
            let inside = |at: &Nanos| (ms(second * 1000)..ms(second * 1000 + 1000)).contains(at);
            let count = sent.iter().filter(|(at, _)| inside(at)).count();
            assert!(count <= 116, "{count} in second {second}");
            assert!(count >= 99, "{count} in second {second}");
        }
    }

    #[test]
    fn starting_again_and_again_leaves_no_vip_out() {
        let mut announcer = announcer(50, 60, 100);
        let mut announced = std::collections::BTreeSet::new();
        for n in 0..10 {
            announcer.start(ms(n * 100));
            announced
                .extend(until(&mut announcer, ms(n * 100 + 100)).into_iter().map(|(_, it)| it));
        }
        assert_eq!(announced.len(), 50);
    }

    #[test]
    fn no_vips_no_frames() {
        let mut announcer = announcer(0, 60, 100);
        announcer.start(ms(0));
        assert_eq!(announcer.next(ms(0)), None);
        assert_eq!(announcer.deadline(), Some(ms(100)));
    }

    #[test]
    fn fewer_vips_may_be_left_in_the_midst_of_a_round() {
        let mut announcer = announcer(50, 60, 10);
        announcer.start(ms(0));
        until(&mut announcer, ms(1000));
        announcer.reconfigure([].into(), Announce::default());
        assert_eq!(announcer.next(ms(60_000)), None);
        announcer.reconfigure([IpAddr::from([10, 0, 0, 1])].into(), Announce::default());
        announcer.start(ms(70_000));
        assert_eq!(until(&mut announcer, ms(70_050)).len(), 1);
    }
}
