//! What is known of an instance, for `status`: state, peers, counters, alarms. Kept by the VRRP thread. Pure.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;

use super::event::{Alarm, Lease, Transition};
use super::packet::{Advert, ChecksumForm, Discard};
use super::{Nanos, PRIORITY_GIVE_UP, Settings, State, Version};

/// Peers that are shown; of more, those that were heard last.
pub const MAX_PEERS: usize = 16;
/// An alarm is shown for so long after it was last raised.
const ALARM_LASTS: Duration = Duration::from_secs(60);

/// An instance as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub name: Arc<str>,
    pub interface: Arc<str>,
    pub vrid: u8,
    pub version: Version,
    pub vips: Arc<[IpAddr]>,
    pub state: State,
    /// What it advertises, or would.
    pub priority: u8,
    pub interval: Duration,
    /// Of the last change of state.
    pub since: Nanos,
    pub transition: Option<Transition>,
    pub lease: Option<Lease>,
    pub peers: ArrayVec<Peer, MAX_PEERS>,
    pub alarms: [Option<Raised>; Kind::COUNT],
    pub counters: Counters,
}

/// What RFC 6527 counts, as far as it is no reason to drop a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub active_transitions: u64,
    pub sent: u64,
    pub received: u64,
    pub priority_zero_sent: u64,
    pub priority_zero_received: u64,
    /// Advertisements that could be sent to nobody.
    pub send_errors: u64,
    /// The most that one went out after its time.
    pub worst_lateness: Duration,
    /// By [`Discard::index`].
    pub discards: [u64; Discard::COUNTERS.len()],
}

/// Another node that speaks VRRP for this VRID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: IpAddr,
    pub priority: u8,
    pub last_seen: Nanos,
    pub interval: Duration,
    /// Mean deviation of its advertisements from its interval (RFC 3550 6.4.1).
    pub jitter: Duration,
    pub checksum: ChecksumForm,
}

/// An alarm, and when and how often it was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    pub alarm: Alarm,
    pub last: Nanos,
    pub count: u64,
}

/// What is limited and kept by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    TwoActives,
    RefusedActive,
    DuplicateNode,
    EqualPriority,
    ForeignVrid,
    AddressList,
    Interval,
    TwoOwners,
    Claimed,
    Late,
}

impl Kind {
    pub const COUNT: usize = 10;

    pub const fn of(alarm: &Alarm) -> Self {
        match alarm {
            Alarm::TwoActives { .. } => Self::TwoActives,
            Alarm::RefusedActive { .. } => Self::RefusedActive,
            Alarm::DuplicateNode { .. } => Self::DuplicateNode,
            Alarm::EqualPriority { .. } => Self::EqualPriority,
            Alarm::ForeignVrid { .. } => Self::ForeignVrid,
            Alarm::AddressList { .. } => Self::AddressList,
            Alarm::Interval { .. } => Self::Interval,
            Alarm::TwoOwners { .. } => Self::TwoOwners,
            Alarm::Claimed { .. } => Self::Claimed,
            Alarm::Late { .. } => Self::Late,
        }
    }

    /// Its name in `status --json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TwoActives => "two_actives",
            Self::RefusedActive => "refused_active",
            Self::DuplicateNode => "duplicate_node",
            Self::EqualPriority => "equal_priority",
            Self::ForeignVrid => "foreign_vrid",
            Self::AddressList => "address_list",
            Self::Interval => "interval",
            Self::TwoOwners => "two_owners",
            Self::Claimed => "foreign_claimant",
            Self::Late => "late",
        }
    }
}

impl View {
    /// Of an instance that has not started.
    pub fn new(
        name: &Arc<str>,
        interface: &Arc<str>,
        vips: &Arc<[IpAddr]>,
        settings: &Settings,
        now: Nanos,
    ) -> Self {
        Self {
            name: Arc::clone(name),
            interface: Arc::clone(interface),
            vrid: settings.vrid,
            version: settings.version,
            vips: Arc::clone(vips),
            state: State::Init,
            priority: settings.priority,
            interval: settings.advert_interval,
            since: now,
            transition: None,
            lease: None,
            peers: ArrayVec::new(),
            alarms: [None; Kind::COUNT],
            counters: Counters::default(),
        }
    }

    /// Takes note of an advertisement.
    pub fn heard(&mut self, advert: &Advert, source: IpAddr, at: Nanos) {
        self.counters.received += 1;
        if advert.priority == PRIORITY_GIVE_UP {
            self.counters.priority_zero_received += 1;
        }
        let (priority, interval, checksum) = (advert.priority, advert.interval, advert.checksum);
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.address == source) {
            let deviation = at.since(peer.last_seen).abs_diff(interval);
            let jitter = peer.jitter - peer.jitter / 16 + deviation / 16;
            *peer = Peer { priority, last_seen: at, interval, jitter, checksum, ..*peer };
            return;
        }
        if self.peers.is_full() {
            let oldest = (0..self.peers.len()).min_by_key(|index| self.peers[*index].last_seen);
            oldest.map(|index| self.peers.swap_remove(index));
        }
        let (address, last_seen, jitter) = (source, at, Duration::ZERO);
        self.peers.push(Peer { address, priority, last_seen, interval, jitter, checksum });
    }

    pub fn dropped(&mut self, discard: Discard) {
        self.counters.discards[discard.index()] += 1;
    }

    /// Takes note of an alarm. `true`: it is to be told, which is once a second at most.
    pub fn raise(&mut self, alarm: Alarm, now: Nanos) -> bool {
        let slot = &mut self.alarms[Kind::of(&alarm) as usize];
        let told = slot.is_some_and(|raised| now.since(raised.last) < Duration::from_secs(1));
        let count = slot.map_or(0, |raised| raised.count) + 1;
        let last = slot.filter(|_| told).map_or(now, |raised| raised.last);
        *slot = Some(Raised { alarm, last, count });
        !told
    }

    /// The alarms that were raised of late.
    pub fn alarms(&self, now: Nanos) -> impl Iterator<Item = &Raised> {
        self.alarms.iter().flatten().filter(move |raised| now.since(raised.last) < ALARM_LASTS)
    }

    pub fn changed(&mut self, transition: Transition, now: Nanos) {
        self.state = transition.to;
        self.since = now;
        self.transition = Some(transition);
        if transition.to == State::Active {
            self.counters.active_transitions += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::Auth;
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_peer_is_known_by_its_address_and_the_oldest_gives_way() {
        let mut view = view();
        for number in 0..20u8 {
            let at = Nanos(SECOND * u64::from(number));
            view.heard(&advert(number), IpAddr::from([10, 0, 0, number]), at);
        }
        view.heard(&advert(77), IpAddr::from([10, 0, 0, 19]), Nanos(21 * SECOND));
        assert_eq!(view.peers.len(), MAX_PEERS);
        let last = view.peers.iter().find(|peer| peer.address == IpAddr::from([10, 0, 0, 19]));
        let last = last.unwrap();
        assert_eq!((last.priority, last.last_seen), (77, Nanos(21 * SECOND)));
        assert_eq!(last.jitter, Duration::from_secs(1) / 16);
        assert!(view.peers.iter().all(|peer| peer.address != IpAddr::from([10, 0, 0, 1])));
        assert_eq!((view.counters.received, view.counters.priority_zero_received), (21, 1));
    }

    #[test]
    fn an_alarm_is_told_once_a_second_and_shown_for_a_minute() {
        let mut view = view();
        let alarm = Alarm::Late { by: Duration::from_secs(1) };
        assert!(view.raise(alarm, Nanos(0)));
        for at in 1..100 {
            assert!(!view.raise(alarm, Nanos(at * SECOND / 100)));
        }
        assert!(view.raise(alarm, Nanos(SECOND)));
        let raised = view.alarms(Nanos(SECOND)).next().unwrap();
        assert_eq!((raised.count, raised.last), (101, Nanos(SECOND)));
        assert_eq!(view.alarms(Nanos(61 * SECOND)).count(), 0);
    }

    fn view() -> View {
        View {
            name: "api".into(),
            interface: "eth0".into(),
            vrid: 51,
            version: Version::V3,
            vips: Arc::new([]),
            state: State::Init,
            priority: 100,
            interval: Duration::from_secs(1),
            since: Nanos(0),
            transition: None,
            lease: None,
            peers: ArrayVec::new(),
            alarms: [None; Kind::COUNT],
            counters: Counters::default(),
        }
    }

    fn advert(priority: u8) -> Advert {
        Advert {
            version: Version::V3,
            vrid: 51,
            priority,
            interval: Duration::from_secs(1),
            addresses: ArrayVec::new(),
            auth: Auth::None,
            checksum: ChecksumForm::PseudoHeader,
        }
    }
}
