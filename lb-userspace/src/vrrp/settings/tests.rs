use std::net::Ipv4Addr;
use std::path::Path;

use super::super::packet::{MULTICAST_V4, TTL};
use super::*;
use crate::config::file;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

fn settings(keys: &str) -> Settings {
    let text = format!(
        "services: [{{ name: a, vips: [10.0.0.1], port: 1, backends: [{{ name: b, address: \
         10.0.0.9 }}] }}]\nvrrp: [{{ name: v, interface: eth0, vrid: 5, vips: [10.0.0.1], {keys} }}]\n"
    );
    Settings::from(&file::parse(&text, Path::new("f")).unwrap().vrrp[0])
}

const fn multicast() -> Envelope {
    Envelope { source: PEER, destination: IpAddr::V4(MULTICAST_V4), ttl: TTL }
}

const fn unicast() -> Envelope {
    Envelope { source: PEER, destination: OWN, ttl: TTL }
}

#[test]
fn what_a_node_sends_its_twin_takes() {
    let passwords = "version: 2, authentication: { password: secret }";
    for keys in ["version: 3", "version: 2", passwords, "checksum: rfc9568"] {
        let settings = settings(keys);
        assert_eq!(settings.admits(&settings.advert(1), &multicast()), Ok(()), "{keys}");
    }
    let settings = settings("unicast_peers: [10.0.0.3]");
    assert_eq!(settings.admits(&settings.advert(1), &unicast()), Ok(()));
}

/// V10 and V11.
#[test]
fn intervals_have_to_be_alike_in_version_2_only() {
    let theirs = settings("version: 2, advert_interval: 2s").advert(100);
    let refused = settings("version: 2").admits(&theirs, &multicast());
    assert_eq!(refused, Err(Discard::Interval(Duration::from_secs(2))));
    let theirs = settings("advert_interval: 2s").advert(100);
    assert_eq!(settings("version: 3").admits(&theirs, &multicast()), Ok(()));
}

/// V13.
#[test]
fn authentication_has_to_be_alike() {
    let with = |password: &str| {
        settings(&format!("version: 2, authentication: {{ password: {password} }}"))
    };
    let without = settings("version: 2");
    let refused = |ours: &Settings, theirs: &Advert| ours.admits(theirs, &multicast()).unwrap_err();
    assert_eq!(refused(&with("a"), &with("b").advert(1)), Discard::AuthFailure);
    assert_eq!(refused(&with("a"), &without.advert(1)), Discard::AuthType(0));
    assert_eq!(refused(&without, &with("a").advert(1)), Discard::AuthType(1));
    let header = Advert { auth: Auth::Other(2), ..without.advert(1) };
    assert_eq!(refused(&without, &header), Discard::AuthType(2));
    assert_eq!(refused(&with("a"), &header), Discard::AuthType(2));
}

/// V15 and V16.
#[test]
fn unicast_and_multicast_do_not_mix() {
    let (one, other) = (settings("version: 3"), settings("unicast_peers: [10.0.0.3]"));
    let advert = one.advert(100);
    assert_eq!(one.admits(&advert, &unicast()), Err(Discard::Cast));
    assert_eq!(other.admits(&advert, &multicast()), Err(Discard::Cast));
    let stranger = Envelope { source: Ipv4Addr::new(10, 0, 0, 4).into(), ..unicast() };
    assert_eq!(other.admits(&advert, &stranger), Err(Discard::Stranger));
}

/// What is announced covers the grace, and the wire can say it.
#[test]
fn a_handover_announces_an_interval_that_covers_the_grace() {
    let announced = |keys: &str| {
        let settings = settings(keys);
        (settings.handover_interval().as_millis(), settings.longest_restart().as_millis())
    };
    assert_eq!(announced("advert_interval: 100ms"), (1000, 3000));
    assert_eq!(announced("advert_interval: 100ms, restart_grace: 1s"), (340, 1020));
    assert_eq!(announced("advert_interval: 100ms, restart_grace: 0s"), (100, 300));
    assert_eq!(announced("advert_interval: 2s"), (2000, 6000));
    assert_eq!(announced("restart_grace: 122850ms"), (40_950, 122_850));
    assert_eq!(announced("down_timer_adverts: 1, restart_grace: 40s"), (40_000, 40_000));
    assert_eq!(announced("version: 2"), (1000, 3000));
}

/// The lease, the linger of 2 s, and ten seconds to spare.
#[test]
fn an_address_outlives_its_lease_whatever_that_is() {
    assert_eq!(settings("advert_interval: 100ms").address_life(), 15);
    assert_eq!(settings("advert_interval: 100ms, restart_grace: 0s").address_life(), 13);
    assert_eq!(settings("advert_interval: 2s, linger: 4s").address_life(), 20);
    assert_eq!(settings("version: 2, advert_interval: 255s").address_life(), 777);
}

/// V6.
#[test]
fn another_vrid_is_another_router() {
    let settings = settings("version: 3");
    let advert = Advert { vrid: 6, ..settings.advert(100) };
    assert_eq!(settings.admits(&advert, &multicast()), Err(Discard::Vrid(6)));
}

/// T9: what does not fit is moved, not advertised.
#[test]
fn ipv6_advertises_what_fits_a_frame() {
    let vips: Vec<String> = (1..=100).map(|n| format!("\"fd00::{n:x}\"")).collect();
    let text = format!(
        "services: [{{ name: a, vips: [\"fd00::1\"], port: 1, backends: [{{ name: b, address: \
         \"fd00:1::9\" }}] }}]\nvrrp: [{{ name: v, interface: eth0, vrid: 5, vips: [{}] }}]\n",
        vips.join(", ")
    );
    let config = file::parse(&text, Path::new("f")).unwrap();
    let settings = Settings::from(&config.vrrp[0]);
    assert_eq!((config.vrrp[0].vips.len(), settings.vips.len()), (100, 90));
    let length = 40 + 8 + 16 * settings.advert(100).addresses.len();
    assert!(length <= 1500, "{length}");
}

#[test]
fn a_password_is_not_printed() {
    let settings = settings("version: 2, authentication: { password: hunter2 }");
    assert!(!format!("{settings:?}").contains("104"), "the code of h");
    assert!(format!("{settings:?}").contains("Password(..)"));
}
