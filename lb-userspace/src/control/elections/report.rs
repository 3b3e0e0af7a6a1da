//! What operators are told of VRRP: lines of the log, and its part of `status`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::admin::model;
use crate::admin::model::What;
use crate::vrrp::event::{Alarm, Drained, Reason, Transition};
use crate::vrrp::packet::Discard;
use crate::vrrp::thread::Notice;
use crate::vrrp::view::{Kind, Peer, Raised, View};
use crate::vrrp::{Nanos, State};

/// Writes a notice to the log.
pub(super) fn log(notice: &Notice) {
    match notice {
        Notice::Transition { instance, transition } => {
            let Transition { from, to, term, reason } = transition;
            let why = because(reason);
            match to {
                State::Fault => log::error!("vrrp {instance}: {from} → {to}: {why}"),
                State::Active => log::info!("vrrp {instance}: {from} → {to}, term {term}: {why}"),
                State::Init | State::Backup => log::info!("vrrp {instance}: {from} → {to}: {why}"),
            }
        }
        Notice::Reaffirmed { instance, term, peer } => {
            log::warn!("vrrp {instance}: still active, term {term}: {peer} was too, and gave way");
        }
        Notice::Drained { instance, drained } => {
            log::info!("vrrp {instance}: drained: {}", end_of_drain(drained));
        }
        Notice::Alarm { instance, alarm } => log::warn!("vrrp {instance}: {}", describe(alarm)),
        Notice::Dropped { instance, discard, source } => {
            log::warn!("vrrp {instance}: dropped a message of {source}: {discard}");
        }
        Notice::Restored { instance, vip } => {
            log::warn!("vrrp {instance}: somebody removed VIP {vip}; it is back");
        }
        Notice::Trouble(text) => log::warn!("vrrp: {text}"),
    }
}

/// The same for who follows events: changes of state, and what needs an operator.
pub fn event(notice: &Notice) -> Option<What> {
    match notice {
        Notice::Transition { instance, transition } => {
            let Transition { from, to, term, reason } = transition;
            Some(What::Vrrp {
                instance: instance.to_string(),
                from: from.to_string(),
                to: to.to_string(),
                term: *term,
                reaffirmed: false,
                reason: because(reason),
            })
        }
        Notice::Alarm { instance, alarm } => {
            let (subject, reason) = (format!("vrrp {instance}"), describe(alarm));
            Some(What::Alarm { subject, reason, resolved: false })
        }
        Notice::Reaffirmed { instance, term, peer } => Some(What::Vrrp {
            instance: instance.to_string(),
            from: State::Active.to_string(),
            to: State::Active.to_string(),
            term: *term,
            reaffirmed: true,
            reason: format!("{peer} was too, and has to give way"),
        }),
        Notice::Restored { instance, vip } => Some(What::Alarm {
            subject: format!("vrrp {instance}"),
            reason: format!("somebody removed VIP {vip}; it is back"),
            resolved: false,
        }),
        Notice::Drained { .. } | Notice::Dropped { .. } | Notice::Trouble(_) => None,
    }
}

fn because(reason: &Reason) -> String {
    match reason {
        Reason::Started => "started".to_owned(),
        Reason::Adopted => "goes on where its predecessor ended".to_owned(),
        Reason::Owner => "owns the VIPs (priority 255)".to_owned(),
        Reason::NobodyHeard { waited } => format!("heard nobody for {waited:?}"),
        Reason::PeerSilent { peer, silent } => format!("{peer} has been silent for {silent:?}"),
        Reason::PeerGaveUp { peer } => format!("{peer} gave up"),
        Reason::Preempting { peer, priority } => {
            format!("{peer} has a lower priority, {priority}")
        }
        Reason::Group => "as the others of its sync group".to_owned(),
        Reason::Higher { peer, priority } => {
            format!("{peer} ranks higher, with priority {priority}")
        }
        Reason::Stalled { peer, late } => {
            format!("{peer} took over while this node was late by {late:?}")
        }
        Reason::DrainExpired => "nobody took over".to_owned(),
        Reason::Fault(cause) => cause.to_string(),
        Reason::Recovered => "recovered".to_owned(),
        Reason::Shutdown => "ends".to_owned(),
    }
}

fn end_of_drain(drained: &Drained) -> String {
    match drained {
        Drained::TakenOver { peer } => format!("{peer} took over"),
        Drained::GaveUp => "nobody took over in time; given up".to_owned(),
        Drained::NobodyThere => "there is nobody to take over".to_owned(),
        Drained::NotActive => "it was not active".to_owned(),
    }
}

fn describe(alarm: &Alarm) -> String {
    match alarm {
        Alarm::TwoActives { peer, priority } => {
            format!("{peer} is active too, with priority {priority}")
        }
        Alarm::RefusedActive { peer, discard: Discard::AuthFailure | Discard::AuthType(_) } => {
            format!("peer auth failure: {peer} advertises, and its authentication is not ours")
        }
        Alarm::RefusedActive { peer, discard } => {
            format!("{peer} advertises too, and what it sends is dropped: {discard}")
        }
        Alarm::DuplicateNode { peer } => {
            format!("{peer} has our address and our priority: a duplicate of this node")
        }
        Alarm::EqualPriority { peer, priority } => {
            format!("{peer} has the same priority, {priority}: both would take over together")
        }
        Alarm::ForeignVrid { peer } => {
            format!("{peer} uses this VRID for other VIPs: choose another `vrid`")
        }
        Alarm::AddressList { peer } => format!("the VIPs of {peer} are not ours"),
        Alarm::Interval { peer, theirs } => {
            format!("{peer} advertises every {theirs:?}, which is not `advert_interval`")
        }
        Alarm::TwoOwners { peer } => format!("{peer} has priority 255 too"),
        Alarm::Claimed { vip, by } => {
            format!("{by} says to have VIP {vip} too: two hosts have one address")
        }
        Alarm::Late { by } => format!("an advertisement was late by {by:?}"),
    }
}

/// VRRP's part of `status`, at `now` and `wall` at once; `draining`: who waits to be relieved.
pub fn statuses(
    views: &[View],
    draining: &BTreeSet<Arc<str>>,
    now: Nanos,
    wall: SystemTime,
) -> Vec<model::Vrrp> {
    let status = |view: &View| {
        let draining = draining.contains(&view.name);
        model::Vrrp { draining, ..status(view, now, wall) }
    };
    views.iter().map(status).collect()
}

fn status(view: &View, now: Nanos, wall: SystemTime) -> model::Vrrp {
    let ago = |at: Nanos| wall.checked_sub(now.since(at)).unwrap_or(wall);
    let counters = &view.counters;
    let mut counted: BTreeMap<String, u64> = [
        ("master_transitions", counters.active_transitions),
        ("advertisements_sent", counters.sent),
        ("advertisements_received", counters.received),
        ("priority_zero_packets_sent", counters.priority_zero_sent),
        ("priority_zero_packets_received", counters.priority_zero_received),
        ("send_errors", counters.send_errors),
        ("worst_lateness_us", microseconds(counters.worst_lateness)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let discards = Discard::COUNTERS.iter().zip(counters.discards);
    counted.extend(discards.map(|(name, value)| ((*name).to_owned(), value)));
    model::Vrrp {
        name: view.name.to_string(),
        interface: view.interface.to_string(),
        vrid: view.vrid,
        version: view.version.number(),
        vips: view.vips.to_vec(),
        state: view.state.as_str().to_owned(),
        draining: false,
        priority: view.priority,
        since: model::rfc3339(ago(view.since)),
        reason: view.transition.map(|transition| because(&transition.reason)).unwrap_or_default(),
        term: view.transition.map_or(0, |transition| transition.term),
        advert_interval_ms: milliseconds(view.interval),
        peers: view.peers.iter().map(|peer| of_peer(peer, now)).collect(),
        alarms: view.alarms(now).map(|raised| of_alarm(raised, ago(raised.last))).collect(),
        counters: counted,
    }
}

fn of_peer(peer: &Peer, now: Nanos) -> model::VrrpPeer {
    model::VrrpPeer {
        address: peer.address,
        priority: peer.priority,
        last_seen_ms: milliseconds(now.since(peer.last_seen)),
        advert_interval_ms: milliseconds(peer.interval),
        jitter_us: microseconds(peer.jitter),
        checksum: peer.checksum.as_str().to_owned(),
    }
}

fn of_alarm(raised: &Raised, last: SystemTime) -> model::VrrpAlarm {
    model::VrrpAlarm {
        kind: Kind::of(&raised.alarm).as_str().to_owned(),
        message: describe(&raised.alarm),
        count: raised.count,
        last: model::rfc3339(last),
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn microseconds(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_follows_events_is_told_of_changes_of_state_and_alarms() {
        let transition =
            Transition { from: State::Backup, to: State::Active, term: 1, reason: Reason::Started };
        let told = event(&Notice::Transition { instance: "api".into(), transition }).unwrap();
        assert_eq!(told.to_string(), "VRRP api: backup -> active, term 1: started");
        let peer = [10, 0, 0, 3].into();
        let told = event(&Notice::Reaffirmed { instance: "api".into(), term: 4, peer }).unwrap();
        assert_eq!(
            told.to_string(),
            "VRRP api: still active, term 4: 10.0.0.3 was too, and has to give way"
        );
        let alarm = Alarm::TwoOwners { peer: [10, 0, 0, 3].into() };
        let told = event(&Notice::Alarm { instance: "api".into(), alarm }).unwrap();
        assert_eq!(told.to_string(), "vrrp api: 10.0.0.3 has priority 255 too");
        assert_eq!(event(&Notice::Trouble("x".to_owned())), None);
    }
}
