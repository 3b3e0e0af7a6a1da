//! In tests: what is done for every message and every timer takes no memory.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::announcing::Announcer;
use super::packet::{self, MAX_LEN, MULTICAST_V4};
use super::settings::Settings;
use super::view::View;
use super::{Action, Envelope, Event, Instance, Nanos, State, group};
use crate::allocations;
use crate::config::{file, vrrp::Announce};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));

fn settings() -> Settings {
    let text = "services: [{ name: a, vips: [10.0.0.1], port: 1, backends: [{ name: b, address: 10.0.0.9 }] }]
vrrp:
  - { name: v, interface: eth0, vrid: 5, vips: [10.0.0.1], sync_group: g, preempt_delay: 1s }
  - { name: w, interface: eth0, vrid: 6, vips: [10.0.0.2], sync_group: g }
";
    Settings::from(&file::parse(text, std::path::Path::new("f")).unwrap().vrrp[0])
}

/// Peers of every priority, silence, faults, drains and handovers, for a grouped pair.
#[test]
fn messages_and_timers_take_no_memory() {
    let settings = settings();
    let vips: Arc<[IpAddr]> = settings.vips.clone();
    let mut pair = [0, 1].map(|_| Instance::new(&settings, Nanos(0)));
    let mut announcer = Announcer::new(Arc::clone(&vips), Announce::default());
    let mut view = View::new(&"v".into(), &"eth0".into(), &vips, &settings, Nanos(0));
    let envelope = Envelope { source: PEER, destination: MULTICAST_V4.into(), ttl: 255 };
    let advert = settings.advert(100);
    let mut buffer = [0; MAX_LEN];
    let (mut promotions, mut announced) = (0, 0);
    let before = allocations::count();
    for round in 0..20_000_u64 {
        let now = Nanos(round * 300_000_000);
        let member = usize::from(round % 2 == 1);
        let mut perform = |_, action: Action| match action {
            Action::StartAnnouncing => announcer.start(now),
            Action::StopAnnouncing => announcer.stop(),
            Action::Notify(it) => promotions += u64::from(it.to == State::Active),
            Action::SendAdvert { .. }
            | Action::SendLastAdvert { .. }
            | Action::RenewLease(_)
            | Action::EndLease { .. }
            | Action::HoldVips
            | Action::ReleaseVips
            | Action::Wish
            | Action::Unwish
            | Action::Reaffirmed { .. }
            | Action::Drained(_)
            | Action::Alarm(_) => {}
        };
        let mut feed = |event| group::feed(&mut pair, member, event, now, &mut perform);
        match round / 40 % 12 {
            0 => {
                feed(Event::Link { up: true });
                feed(Event::Address { own: Some(OWN) });
                feed(Event::Receiving);
                feed(Event::Start { previous: None });
            }
            1 | 4 | 7 => {
                let mut advert = advert.clone();
                advert.priority = u8::try_from(round % 256).unwrap();
                let message = packet::build(&advert, &envelope, &mut buffer);
                let advert = packet::parse(message, &envelope, settings.version).unwrap();
                settings.admits(&advert, &envelope).unwrap();
                view.heard(&advert, PEER, now);
                feed(Event::Received { advert: &advert, source: PEER, at: now });
            }
            2 if round % 40 == 0 => feed(Event::Drain),
            3 if round % 40 == 0 => feed(Event::Resume),
            5 => feed(Event::Link { up: round % 3 > 0 }),
            6 => feed(Event::Link { up: true }),
            8 if round % 40 == 0 => feed(Event::HandOver),
            _ => feed(Event::Timer),
        }
        announced += u64::from(announcer.next(now).is_some());
    }
    let taken = allocations::count() - before;
    assert!(promotions > 10 && announced > 10, "{promotions} promotions, {announced} announced");
    assert_eq!(taken, 0, "allocations");
}
