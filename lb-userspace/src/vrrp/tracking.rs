//! What tracked facts add to an instance's priority, and which of them are faults. The VRRP thread tells
//! it facts, and feeds the machine what comes out. Pure.
//!
//! | fact | good | bad |
//! |---|---|---|
//! | an interface | + weight, if positive | + weight, if negative; with weight 0 a fault |
//! | a file | + its number × weight | with weight 0 and another number than 0 a fault |
//! | backends of a service | | + weight (negative), when it was bad for `hold` |
//! | datapath | + weight, if positive | + weight, if negative; with weight 0 a fault |
//!
//! What is not known yet is good: a start must not begin with a fault, nor with less priority than the
//! node will have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Nanos;
use crate::config::vrrp::{Effect, Track, TrackedBackends};

/// What is known, and what the configuration makes of it.
#[derive(Clone, Debug)]
pub struct Tracking {
    track: Track,
    interfaces: BTreeMap<String, bool>,
    files: BTreeMap<PathBuf, i64>,
    /// Backends that are up, of the service that has the fewest.
    up: Option<u32>,
    /// Since when there are fewer than the minimum.
    few_since: Option<Nanos>,
    datapath: Option<bool>,
}

/// What the facts come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For [`super::Event::Tracked`].
    pub adjustment: i16,
    /// For [`super::FaultCause::Tracked`].
    pub is_fault: bool,
}

/// More in either direction changes nothing: priorities are 1 to 254.
const MOST: i64 = 253;

impl Tracking {
    pub const fn new(track: Track) -> Self {
        Self {
            track,
            interfaces: BTreeMap::new(),
            files: BTreeMap::new(),
            up: None,
            few_since: None,
            datapath: None,
        }
    }

    /// What is tracked; the facts stay.
    pub fn reconfigure(&mut self, track: Track) {
        self.track = track;
    }

    pub const fn track(&self) -> &Track {
        &self.track
    }

    /// The interface has a carrier.
    pub fn interface(&mut self, name: &str, is_up: bool) {
        match self.interfaces.get_mut(name) {
            Some(known) => *known = is_up,
            None => {
                self.interfaces.insert(name.to_owned(), is_up);
            }
        }
    }

    /// What the file says, see [`number`].
    pub fn file(&mut self, path: &Path, number: i64) {
        match self.files.get_mut(path) {
            Some(known) => *known = number,
            None => {
                self.files.insert(path.to_owned(), number);
            }
        }
    }

    /// How many backends are up in the service on these VIPs that has the fewest.
    pub fn backends(&mut self, up: u32, now: Nanos) {
        self.up = Some(up);
        let is_few = self.track.backends.is_some_and(|it| up < it.minimum);
        self.few_since = is_few.then(|| self.few_since.unwrap_or(now));
    }

    /// Whether XDP is attached.
    pub const fn datapath(&mut self, is_attached: bool) {
        self.datapath = Some(is_attached);
    }

    /// When [`Self::outcome`] changes although no fact does.
    pub fn deadline(&self, now: Nanos) -> Option<Nanos> {
        self.held().map(|(_, until)| until).filter(|until| *until > now)
    }

    /// What the facts come to at this time.
    pub fn outcome(&self, now: Nanos) -> Outcome {
        let mut sum = 0;
        let mut is_fault = false;
        let mut add = |effect: Effect, is_good: bool| {
            let is_good = is_good != effect.reverse;
            match effect.weight {
                0 => is_fault |= !is_good,
                weight if (weight > 0) == is_good => sum += i64::from(weight),
                _ => {}
            }
        };
        for interface in &self.track.interfaces {
            add(interface.effect, self.interfaces.get(&interface.name).copied().unwrap_or(true));
        }
        if let Some(effect) = self.track.datapath {
            add(effect, self.datapath.unwrap_or(true));
        }
        for file in &self.track.files {
            let number = self.files.get(&file.path).copied().unwrap_or(0);
            let number = if file.effect.reverse { -number } else { number };
            match file.effect.weight {
                0 => is_fault |= number != 0,
                weight => sum += number.saturating_mul(i64::from(weight)).clamp(-MOST, MOST),
            }
        }
        if let Some((tracked, until)) = self.held()
            && until <= now
        {
            sum += i64::from(tracked.weight);
        }
        let adjustment = i16::try_from(sum.clamp(-MOST, MOST)).unwrap_or(0);
        Outcome { adjustment, is_fault }
    }

    /// There are too few backends, and from when on that counts.
    fn held(&self) -> Option<(TrackedBackends, Nanos)> {
        let tracked = self.track.backends.filter(|it| self.up.is_some_and(|up| up < it.minimum))?;
        Some((tracked, self.few_since?.after(tracked.hold)))
    }
}

/// What a tracked file says: the number in its first line, from -254 to 254; anything else, and a file
/// that cannot be read, is 0.
pub fn number(text: &str) -> i64 {
    let line = text.lines().next().unwrap_or_default().trim();
    line.parse::<i64>().unwrap_or(0).clamp(-254, 254)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;
    use crate::config::vrrp::{TrackedFile, TrackedInterface};

    const fn ms(millis: u64) -> Nanos {
        Nanos(millis * 1_000_000)
    }

    fn outcome(adjustment: i16, is_fault: bool) -> Outcome {
        Outcome { adjustment, is_fault }
    }

    #[rstest]
    #[case::penalty(-30, false, 0, -30)]
    #[case::bonus(30, false, 30, 0)]
    #[case::reversed_penalty(-30, true, -30, 0)]
    #[case::reversed_bonus(30, true, 0, 30)]
    fn an_interface_with_a_weight(
        #[case] weight: i16,
        #[case] reverse: bool,
        #[case] up: i16,
        #[case] down: i16,
    ) {
        let effect = Effect { weight, reverse };
        let interfaces = vec![TrackedInterface { name: "eth1".to_owned(), effect }];
        let mut tracking = Tracking::new(Track { interfaces, ..Track::default() });
        assert_eq!(tracking.outcome(ms(0)), outcome(up, false), "unknown is good");
        tracking.interface("eth1", false);
        tracking.interface("eth2", true);
        assert_eq!(tracking.outcome(ms(0)), outcome(down, false));
        tracking.interface("eth1", true);
        assert_eq!(tracking.outcome(ms(0)), outcome(up, false));
    }

    #[test]
    fn without_a_weight_a_failure_is_a_fault() {
        let effect = Effect { weight: 0, reverse: false };
        let track = Track {
            interfaces: vec![TrackedInterface { name: "eth1".to_owned(), effect }],
            files: vec![TrackedFile { path: "/f".into(), effect }],
            datapath: Some(effect),
            backends: None,
        };
        let mut tracking = Tracking::new(track);
        assert_eq!(tracking.outcome(ms(0)), Outcome::default());
        for is_good in [false, true] {
            tracking.interface("eth1", is_good);
            assert_eq!(tracking.outcome(ms(0)).is_fault, !is_good);
        }
        for is_good in [false, true] {
            tracking.datapath(is_good);
            assert_eq!(tracking.outcome(ms(0)).is_fault, !is_good);
        }
        for (number, is_fault) in [(7, true), (0, false)] {
            tracking.file(Path::new("/f"), number);
            assert_eq!(tracking.outcome(ms(0)).is_fault, is_fault);
        }
    }

    #[rstest]
    #[case(2, false, 10, 20)]
    #[case(-2, false, 10, -20)]
    #[case(1, true, 10, -10)]
    #[case(253, false, 254, 253)]
    fn a_file_is_multiplied(
        #[case] weight: i16,
        #[case] reverse: bool,
        #[case] number: i64,
        #[case] expected: i16,
    ) {
        let files = vec![TrackedFile { path: "/f".into(), effect: Effect { weight, reverse } }];
        let mut tracking = Tracking::new(Track { files, ..Track::default() });
        assert_eq!(tracking.outcome(ms(0)).adjustment, 0);
        tracking.file(Path::new("/f"), number);
        assert_eq!(tracking.outcome(ms(0)).adjustment, expected);
    }

    #[rstest]
    #[case("42\n", 42)]
    #[case(" -7 \nmore", -7)]
    #[case("100000", 254)]
    #[case("", 0)]
    #[case("yes", 0)]
    fn the_number_of_a_file(#[case] text: &str, #[case] expected: i64) {
        assert_eq!(number(text), expected);
    }

    /// D.6: never a fault, and not for a moment's lack.
    #[test]
    fn a_lack_of_backends_counts_when_it_lasts() {
        let tracked = TrackedBackends { weight: -20, minimum: 2, hold: Duration::from_secs(3) };
        let mut tracking = Tracking::new(Track { backends: Some(tracked), ..Track::default() });
        assert_eq!((tracking.outcome(ms(0)), tracking.deadline(ms(0))), (outcome(0, false), None));
        tracking.backends(1, ms(1000));
        assert_eq!(tracking.deadline(ms(1000)), Some(ms(4000)));
        tracking.backends(0, ms(2000));
        assert_eq!(tracking.outcome(ms(3999)), outcome(0, false));
        assert_eq!(tracking.outcome(ms(4000)), outcome(-20, false));
        assert_eq!(tracking.deadline(ms(4000)), None);
        tracking.backends(2, ms(5000));
        assert_eq!(tracking.outcome(ms(5000)), outcome(0, false), "better counts at once");
        tracking.backends(1, ms(6000));
        assert_eq!(tracking.outcome(ms(8999)), outcome(0, false), "the hold starts again");
    }

    #[test]
    fn facts_outlive_a_change_of_what_is_tracked() {
        let mut tracking = Tracking::new(Track::default());
        tracking.datapath(false);
        tracking.backends(0, ms(0));
        assert_eq!(tracking.outcome(ms(9000)), Outcome::default());
        let track = Track {
            datapath: Some(Effect { weight: -50, reverse: false }),
            backends: Some(TrackedBackends::default()),
            ..Track::default()
        };
        tracking.reconfigure(track);
        assert_eq!(tracking.outcome(ms(9000)), outcome(-50, false));
        tracking.backends(0, ms(9000));
        assert_eq!(tracking.outcome(ms(12_000)), outcome(-70, false));
    }
}
