//! Who else speaks VRRP on the link. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::facts::Looked;
use super::super::facts::adverts::{Said, Speaker};
use super::super::finding::Finding;
use crate::admin::model::Status;
use crate::config::{Config, Family, Vrrp};
use crate::vrrp::Version;
use crate::vrrp::packet::Discard;

/// Speakers that are said one by one.
const MOST_SAID: usize = 16;
const COMPARE: &str = "fairlead config show     # on both nodes: vrid, vips, version, advert_interval, authentication, unicast_peers";
const BOTH: &str = "the nodes do not heed each other, and both hold the VIPs";

/// `status`: of the controller, if one runs.
pub(super) fn judge(
    config: &Config,
    heard: &Looked<Vec<Speaker>>,
    status: Option<&Status>,
) -> Vec<Finding> {
    const ID: &str = "vrrp.heard";
    if config.vrrp.is_empty() {
        return Vec::new();
    }
    let heard = match heard {
        Ok(heard) => heard,
        Err(error) => return vec![Finding::unknown(ID, "who speaks VRRP on the link", error)],
    };
    let mut found: Vec<Finding> = heard
        .iter()
        .filter_map(|speaker| speaks(config, speaker, status))
        .take(MOST_SAID)
        .collect();
    found.extend(config.vrrp.iter().filter_map(|instance| several(instance, heard)));
    if found.is_empty() {
        let what = match heard.len() {
            0 => "nobody else speaks VRRP here".to_owned(),
            count => format!("{count} others speak VRRP here, and none is in the way"),
        };
        found.push(Finding::ok(ID, what));
    }
    found
}

fn speaks(config: &Config, speaker: &Speaker, status: Option<&Status>) -> Option<Finding> {
    let who = format!("{} on {}", speaker.source, speaker.interface);
    let Some(ours) = config.vrrp.iter().find(|it| is_ours(it, speaker)) else {
        return foreign(config, speaker, &who);
    };
    match &speaker.said {
        Err(why) => Some(refused(ours, *why, &who)),
        Ok(said) => other_vips(ours, said, &who)
            .or_else(|| speaker.refused.as_ref().map(|(_, why)| refused(ours, *why, &who)))
            .or_else(|| differs(ours, said, &who))
            .or_else(|| contends(ours, said, &who, status)),
    }
}

fn is_ours(ours: &Vrrp, speaker: &Speaker) -> bool {
    ours.interface == speaker.interface
        && ours.vrid == speaker.vrid
        && ours.family() == Family::of(&speaker.source)
}

/// Of another VRID, which is nobody's business unless it has our VIPs.
fn foreign(config: &Config, speaker: &Speaker, who: &str) -> Option<Finding> {
    let said = speaker.said.as_ref().ok()?;
    let vips = config.vips();
    let vip = said.addresses.iter().find(|address| vips.contains(*address))?;
    Some(
        Finding::problem(
            "vrrp.foreign_vip",
            format!("{who} advertises our VIP {vip} with VRID {}", speaker.vrid),
        )
        .because("two virtual routers have one address: both answer ARP for it")
        .fix(COMPARE),
    )
}

/// Another cluster's virtual router, by the VIPs that it has.
fn other_vips(ours: &Vrrp, said: &Said, who: &str) -> Option<Finding> {
    let theirs: BTreeSet<&IpAddr> = said.addresses.iter().collect();
    let shared = ours.vips.iter().filter(|vip| theirs.contains(vip)).count();
    if shared == 0 {
        let list: Vec<String> = theirs.iter().take(4).map(ToString::to_string).collect();
        return Some(
            Finding::problem(
                "vrrp.duplicate_vrid",
                format!("{who} uses VRID {} of {} for other VIPs: {}", ours.vrid, ours.name, list.join(", ")),
            )
            .because("VRIDs have to be unique on a link: while it is heard no Backup takes our VIPs over")
            .fix(format!("vrid: …     # another one than {}, on all nodes of one of the two", ours.vrid)),
        );
    }
    (shared < ours.vips.len() || shared < theirs.len()).then(|| {
        Finding::warning(
            "vrrp.address_list",
            format!("{who} advertises other VIPs than {} has", ours.name),
        )
        .because("VIPs that one of the nodes does not have do not move with the rest")
        .fix(COMPARE)
    })
}

/// Why it is not heeded.
fn refused(ours: &Vrrp, why: Discard, who: &str) -> Finding {
    let name = &ours.name;
    let (id, what) = match why {
        Discard::AuthType(_) | Discard::AuthFailure => {
            ("vrrp.password", format!("{who} has another password for {name}, or none"))
        }
        Discard::Interval(interval) => (
            "vrrp.interval",
            format!(
                "{who} advertises every {} s for {name}, which version 2 has to agree on",
                interval.as_secs_f64()
            ),
        ),
        Discard::Cast => {
            ("vrrp.cast", format!("{who} and {name} do not agree on multicast or unicast"))
        }
        Discard::Stranger => {
            ("vrrp.stranger", format!("{who} is none of the unicast_peers of {name}"))
        }
        Discard::Ttl(_)
        | Discard::Length
        | Discard::Version(_)
        | Discard::Type(_)
        | Discard::Checksum
        | Discard::Vrid(_)
        | Discard::AddressList
        | Discard::OwnSource
        | Discard::NotRunning => {
            ("vrrp.malformed", format!("{who} sends what {name} drops: {why}"))
        }
    };
    Finding::problem(id, what).because(BOTH).fix(COMPARE)
}

fn differs(ours: &Vrrp, said: &Said, who: &str) -> Option<Finding> {
    let name = &ours.name;
    if said.version != ours.version {
        let what = format!(
            "{who} speaks VRRP {}, and {name} {}",
            number(said.version),
            number(ours.version)
        );
        return Some(Finding::problem("vrrp.version", what).because(BOTH).fix(COMPARE));
    }
    (said.interval != ours.advert_interval).then(|| {
        let (theirs, mine) = (said.interval.as_secs_f64(), ours.advert_interval.as_secs_f64());
        Finding::warning("vrrp.interval", format!("{who} advertises every {theirs} s, and {name} every {mine} s"))
            .because("whoever is Active, the other one learns its interval; what takes over when depends on who that is")
            .fix(COMPARE)
    })
}

fn contends(ours: &Vrrp, said: &Said, who: &str, status: Option<&Status>) -> Option<Finding> {
    let name = &ours.name;
    let state = status
        .and_then(|it| it.vrrp.iter().find(|it| it.name == *name))
        .map(|it| it.state.as_str());
    if state == Some("active") && said.priority > 0 {
        return Some(
            Finding::problem("vrrp.two_actives", format!("{who} and this node are both Active for {name}"))
                .because("both answer for the VIPs: advertisements of this node do not get there, or are dropped there")
                .fix("tcpdump -ni any proto 112     # on the other node: does it hear this one?"),
        );
    }
    (said.priority == ours.priority).then(|| {
        Finding::warning(
            "vrrp.equal_priority",
            format!("{who} has priority {} for {name}, as this node has", said.priority),
        )
        .because("the tie is broken by address, in each family for itself")
        .fix("priority: …     # another one on one of the nodes")
    })
}

/// Two others at once.
fn several(ours: &Vrrp, heard: &[Speaker]) -> Option<Finding> {
    let shares =
        |said: &Said| said.priority > 0 && said.addresses.iter().any(|it| ours.vips.contains(it));
    let actives: BTreeSet<String> = heard
        .iter()
        .filter(|speaker| is_ours(ours, speaker) && speaker.count > 1)
        .filter(|speaker| speaker.said.as_ref().is_ok_and(shares))
        .map(|speaker| speaker.source.to_string())
        .collect();
    (actives.len() > 1).then(|| {
        let list: Vec<String> = actives.into_iter().collect();
        Finding::problem(
            "vrrp.two_actives",
            format!("{} are Active for {} at once", list.join(" and "), ours.name),
        )
        .because("both answer for the VIPs: they do not hear each other, or drop what they hear")
        .fix(COMPARE)
    })
}

const fn number(version: Version) -> u8 {
    version.number()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::{ELECTED, config, has, severities};
    use super::*;
    use crate::admin::model;
    use crate::doctor::Severity;

    fn said() -> Said {
        Said {
            version: Version::V3,
            priority: 200,
            interval: Duration::from_secs(1),
            addresses: vec!["10.0.0.100".parse().unwrap()],
        }
    }

    fn speaker(said: Said) -> Speaker {
        Speaker {
            interface: "eth0".to_owned(),
            source: "10.0.0.3".parse().unwrap(),
            vrid: 51,
            said: Ok(said),
            refused: None,
            count: 2,
        }
    }

    fn judged(heard: Vec<Speaker>, state: &str) -> Vec<Finding> {
        let instance =
            model::Vrrp { name: "api".to_owned(), state: state.to_owned(), ..Default::default() };
        let status = Status { vrrp: vec![instance], ..Status::default() };
        judge(&config(ELECTED), &Ok(heard), Some(&status))
    }

    #[test]
    fn a_peer_and_a_stranger_with_other_vips_are_no_trouble() {
        let other = Speaker {
            vrid: 52,
            ..speaker(Said { addresses: vec![[10, 0, 0, 7].into()], ..said() })
        };
        let found = judged(vec![speaker(said()), other], "backup");
        assert_eq!(severities(&found), [Severity::Ok], "{found:#?}");
        assert!(judge(&config(""), &Ok(vec![]), None).is_empty());
    }

    #[test]
    fn every_disagreement_is_named() {
        use Severity::{Problem, Warning};
        let of = |said: Said| speaker(said);
        let refused = |why| Speaker { refused: Some(("api".to_owned(), why)), ..speaker(said()) };
        let others: Vec<IpAddr> = vec![[10, 0, 0, 7].into()];
        let both: Vec<IpAddr> = vec![[10, 0, 0, 100].into(), [10, 0, 0, 7].into()];
        let cases = [
            ("vrrp.duplicate_vrid", Problem, of(Said { addresses: others, ..said() })),
            ("vrrp.address_list", Warning, of(Said { addresses: both, ..said() })),
            ("vrrp.version", Problem, of(Said { version: Version::V2, ..said() })),
            ("vrrp.interval", Warning, of(Said { interval: Duration::from_millis(100), ..said() })),
            ("vrrp.equal_priority", Warning, of(Said { priority: 100, ..said() })),
            ("vrrp.password", Problem, refused(Discard::AuthFailure)),
            ("vrrp.interval", Problem, refused(Discard::Interval(Duration::from_secs(2)))),
            ("vrrp.cast", Problem, refused(Discard::Cast)),
            ("vrrp.stranger", Problem, refused(Discard::Stranger)),
            (
                "vrrp.malformed",
                Problem,
                Speaker { said: Err(Discard::Checksum), ..speaker(said()) },
            ),
            ("vrrp.foreign_vip", Problem, Speaker { vrid: 52, ..speaker(said()) }),
        ];
        for (id, severity, speaker) in cases {
            let found = judged(vec![speaker], "backup");
            assert!(has(&found, id, severity), "{id}: {found:#?}");
        }
    }

    #[test]
    fn two_that_are_active_are_named() {
        let id = "vrrp.two_actives";
        assert!(has(&judged(vec![speaker(said())], "active"), id, Severity::Problem));
        let gives_up = speaker(Said { priority: 0, ..said() });
        assert!(!has(&judged(vec![gives_up], "active"), id, Severity::Problem));
        let other = Speaker { source: "10.0.0.4".parse().unwrap(), ..speaker(said()) };
        assert!(has(&judged(vec![speaker(said()), other], "backup"), id, Severity::Problem));
    }

    #[test]
    fn without_privileges_nobody_is_heard_and_that_is_said() {
        let found = judge(&config(ELECTED), &Err("not permitted".to_owned()), None);
        assert!(has(&found, "vrrp.heard", Severity::Info));
    }
}
