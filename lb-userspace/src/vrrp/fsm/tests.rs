use std::net::Ipv4Addr;

use super::super::packet::{Advert, Auth, ChecksumForm};
use super::super::{PRIORITY_OWNER, Version};
use super::*;
use crate::config::Family;

mod active;
mod backup;
mod drain;
mod handover;
mod random;
mod table;

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5));
const LOWER_PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 4));
const HIGHER_PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 6));
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));

/// Priority 128: a skew of half a second at the interval of a second.
fn settings() -> Settings {
    Settings {
        version: Version::V3,
        family: Family::V4,
        vrid: 51,
        priority: 128,
        advert_interval: Duration::from_secs(1),
        down_timer_adverts: 3,
        preempt: true,
        yields_when_stalled: false,
        preempt_delay: Duration::ZERO,
        startup_delay: Duration::ZERO,
        receive_gate: Duration::from_secs(5),
        recovery_hold: Duration::from_secs(1),
        last_advert: true,
        linger: Duration::from_secs(2),
        restart_grace: Duration::from_secs(10),
        grouped: false,
        vips: [VIP].into(),
        unicast_peers: [].into(),
        password: None,
        checksum: ChecksumForm::PseudoHeader,
    }
}

fn advert(priority: u8) -> Advert {
    Advert {
        version: Version::V3,
        vrid: 51,
        priority,
        interval: Duration::from_secs(1),
        addresses: [VIP].into_iter().collect(),
        auth: Auth::None,
        checksum: ChecksumForm::PseudoHeader,
    }
}

const fn ms(millis: u64) -> Nanos {
    Nanos(millis * 1_000_000)
}

/// An instance in `Init` with link, address, and a link that passes frames.
fn ready(settings: &Settings) -> Instance {
    let mut instance = Instance::new(settings, ms(0));
    instance.handle(Event::Link { up: true }, ms(0));
    instance.handle(Event::Address { own: Some(OWN) }, ms(0));
    instance.handle(Event::Receiving, ms(0));
    instance
}

fn backup(settings: &Settings) -> Instance {
    let mut instance = ready(settings);
    instance.handle(Event::Start { previous: None }, ms(0));
    assert_eq!(instance.state(), State::Backup);
    instance
}

/// Active since `deadline` of a backup; its next advertisement is due a second later.
fn active(settings: &Settings) -> (Instance, Nanos) {
    let mut instance = backup(settings);
    let since = instance.deadline().unwrap();
    instance.handle(Event::Timer, since);
    assert_eq!(instance.state(), State::Active);
    (instance, since)
}

fn hear(instance: &mut Instance, priority: u8, source: IpAddr, at: Nanos) -> Actions {
    let advert = advert(priority);
    instance.handle(Event::Received { advert: &advert, source, at }, at)
}

/// Actions in a line.
fn shown(actions: &Actions) -> String {
    let words: Vec<String> = actions.iter().map(word).collect();
    words.join(", ")
}

fn word(action: &Action) -> String {
    match action {
        Action::SendAdvert { priority } => format!("advert {priority}"),
        Action::SendLastAdvert { priority, interval } => format!("last {priority} {interval:?}"),
        Action::RenewLease(_) => "lease".to_owned(),
        Action::EndLease { .. } => "end".to_owned(),
        Action::HoldVips => "hold".to_owned(),
        Action::ReleaseVips => "release".to_owned(),
        Action::StartAnnouncing => "announce".to_owned(),
        Action::StopAnnouncing => "hush".to_owned(),
        Action::Wish => "wish".to_owned(),
        Action::Unwish => "unwish".to_owned(),
        Action::Notify(it) => format!("{}>{} {}", it.from, it.to, first_word(&it.reason)),
        Action::Reaffirmed { term, .. } => format!("reaffirmed {term}"),
        Action::Drained(drained) => format!("drained {}", first_word(drained)),
        Action::Alarm(alarm) => format!("alarm {}", first_word(alarm)),
    }
}

fn first_word(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

fn reason(actions: &Actions) -> Reason {
    let transition = actions.iter().find_map(|action| match action {
        Action::Notify(transition) => Some(transition.reason),
        Action::SendAdvert { .. }
        | Action::SendLastAdvert { .. }
        | Action::RenewLease(_)
        | Action::EndLease { .. }
        | Action::HoldVips
        | Action::ReleaseVips
        | Action::StartAnnouncing
        | Action::StopAnnouncing
        | Action::Wish
        | Action::Unwish
        | Action::Reaffirmed { .. }
        | Action::Drained(_)
        | Action::Alarm(_) => None,
    });
    transition.unwrap_or_else(|| panic!("no transition in {actions:?}"))
}
