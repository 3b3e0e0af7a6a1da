//! What an instance says about its election: one key after the other. Pure.

use std::net::IpAddr;
use std::time::Duration;

use super::super::draft::{Noted, TrackedDraft};
use super::super::findings::Kind;
use super::super::keepalived::instance::Address;
use super::super::keepalived::{Instance, Keepalived};
use super::super::write::time;
use super::Translator;

const NOTHING: &str = "nothing to do";
/// keepalived's.
const DEFAULT_PRIORITY: u8 = 100;
const DEFAULT_VERSION: u8 = 2;
/// The VIPs are its own addresses.
const OWNER: u8 = 255;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// What the protocol's fields hold.
const CENTISECOND: Duration = Duration::from_millis(10);
const LONGEST_V3: Duration = Duration::from_millis(40_950);
const LONGEST_V2: u64 = 255;
const MAX_PASSWORD: usize = 8;

impl Translator<'_> {
    pub(super) fn priority(&mut self, instance: &Instance) -> Noted<u8> {
        if let Some(priority) = &instance.priority {
            return Noted::plain(priority.value);
        }
        let message = "no priority is given, so it is keepalived's default";
        let remedy = "see that each node has another one";
        let at = &instance.name.at;
        let note = self.note(Kind::Assumed, at, &instance.name.text, message, remedy);
        Noted::new(DEFAULT_PRIORITY, note)
    }

    pub(super) fn preempt_delay(&mut self, instance: &Instance) -> Option<Duration> {
        let delay = instance.preempt_delay.as_ref()?;
        if instance.no_preempt.is_none() {
            return Some(delay.value);
        }
        let message = "it means nothing with nopreempt";
        self.findings.add(Kind::Needless, &delay.at, "preempt_delay", message, NOTHING);
        None
    }

    pub(super) fn accept(&mut self, instance: &Instance, priority: u8) -> bool {
        let Some(at) = &instance.no_accept else { return true };
        if priority == OWNER {
            let message = "it means nothing with priority 255";
            self.findings.add(Kind::Needless, at, "no_accept", message, NOTHING);
        }
        priority == OWNER
    }

    /// Version 2 has passwords; they are sent in clear text.
    pub(super) fn password(&mut self, instance: &Instance, version: u8) -> Option<Noted<String>> {
        let auth = instance.auth.as_ref()?;
        let subject = "authentication";
        if version == 3 {
            let message = "version 3 has none";
            self.findings.add(Kind::Needless, &auth.at, subject, message, NOTHING);
            return None;
        }
        let cut: String =
            auth.password.iter().flat_map(|it| it.chars()).take(MAX_PASSWORD).collect();
        let can_be_sent = !cut.is_empty() && cut.chars().all(|c| c.is_ascii_graphic());
        if auth.is_password && can_be_sent {
            let message = "the password stays in the file, as in keepalived.conf";
            let remedy = "keep the file to root, or write `password_file:` instead; VRRP sends it in \
                          clear text";
            return Some(Noted::new(
                cut,
                self.note(Kind::Changed, &auth.at, subject, message, remedy),
            ));
        }
        let message = if auth.is_password {
            "the password cannot be sent: it has to be 1 to 8 letters, digits and signs"
        } else {
            "AH is not available: RFC 3768 removed it, and keepalived advises against it"
        };
        let remedy = "write `authentication: { type: pass, password: ... }` on all nodes, or none";
        self.findings.add(Kind::NotCarriedOver, &auth.at, subject, message, remedy);
        None
    }

    pub(super) fn tracked(&mut self, instance: &Instance) -> Vec<TrackedDraft> {
        let mut tracked = Vec::new();
        for interface in &instance.tracked {
            let name = &interface.name;
            if instance.interface.as_ref().is_some_and(|own| own.text == name.text) {
                let message = "the instance follows its own interface always";
                self.findings.add(Kind::Needless, &name.at, &name.text, message, NOTHING);
                continue;
            }
            let weight = interface.weight;
            if weight != 0 && instance.no_preempt.is_some() {
                let message = "with nopreempt another priority moves nothing";
                let remedy = "write `preempt: true`, or weight 0 for a fault";
                self.findings.add(Kind::NotCarriedOver, &name.at, &name.text, message, remedy);
                continue;
            }
            if tracked.iter().any(|it: &TrackedDraft| it.name == name.text) {
                continue;
            }
            tracked.push(TrackedDraft {
                name: name.text.clone(),
                weight,
                reverse: interface.reverse,
            });
        }
        tracked
    }

    pub(super) fn unicast_source(
        &mut self,
        instance: &Instance,
        peers: &[IpAddr],
        is_v6: bool,
    ) -> Option<IpAddr> {
        let source = instance.unicast_source.as_ref()?;
        if source.value.is_ipv6() == is_v6 && !peers.is_empty() {
            return Some(source.value);
        }
        let message = "it is for unicast adverts between addresses of the VIPs' family";
        let remedy = "write `unicast_peers` and `unicast_source` of that family";
        self.findings.add(Kind::NotCarriedOver, &source.at, "unicast_src_ip", message, remedy);
        None
    }

    pub(super) fn version(
        &mut self,
        instance: &Instance,
        keepalived: &Keepalived,
        is_v6: bool,
    ) -> Noted<u8> {
        let given = instance.version.as_ref().or(keepalived.version.as_ref());
        match given {
            _ if is_v6 => Noted::plain(3),
            Some(version) if version.value == 3 => Noted::plain(3),
            Some(_) | None => {
                let at = given.map_or(&instance.name.at, |version| &version.at).clone();
                let said = given.map_or(
                    "keepalived speaks version 2 unless told otherwise",
                    |_| "so it is told",
                );
                let remedy = "write 3 on all nodes at once when none runs keepalived any more";
                let note = self.note(Kind::Assumed, &at, "vrrp_version", said, remedy);
                Noted::new(DEFAULT_VERSION, note)
            }
        }
    }

    pub(super) fn advert_interval(&mut self, instance: &Instance, version: u8) -> Noted<Duration> {
        let Some(given) = &instance.advert_interval else {
            return Noted::plain(DEFAULT_INTERVAL);
        };
        let possible = possible_interval(given.value, version);
        if possible == given.value {
            return Noted::plain(possible);
        }
        let message = format!("version {version} cannot say {}", time(given.value));
        let remedy = "see that all nodes have the same";
        Noted::new(possible, self.note(Kind::Changed, &given.at, "advert_int", message, remedy))
    }

    pub(super) fn instance_interface(
        &mut self,
        instance: &Instance,
        addresses: &[&Address],
        notes: &mut Vec<String>,
    ) -> Option<String> {
        if let Some(interface) = &instance.interface {
            return Some(interface.text.clone());
        }
        let at = &instance.name.at;
        if let Some(device) = addresses.iter().find_map(|address| address.device.as_ref()) {
            let message = "the instance names no interface, so it has its first address's";
            notes.push(self.note(Kind::Assumed, at, &instance.name.text, message, NOTHING));
            self.interface(&device.text);
            return Some(device.text.clone());
        }
        let message = "the instance names no interface";
        let remedy = "write the one that its VIPs belong to";
        notes.push(self.note(Kind::ToDo, at, &instance.name.text, message, remedy));
        None
    }

    pub(super) fn peers(&mut self, instance: &Instance, is_v6: bool) -> Noted<Vec<IpAddr>> {
        let mut peers = Noted::plain(Vec::new());
        for peer in &instance.peers {
            let is_own =
                instance.unicast_source.as_ref().is_some_and(|own| own.value == peer.value);
            if is_own || peers.value.contains(&peer.value) {
                let message = "it is this node itself, or in the list already";
                let shown = peer.value.to_string();
                self.findings.add(Kind::Needless, &peer.at, &shown, message, NOTHING);
                continue;
            }
            if peer.value.is_ipv6() == is_v6 {
                peers.value.push(peer.value);
                continue;
            }
            let family = if is_v6 { "IPv6" } else { "IPv4" };
            let message = format!("{} is not {family}, as the VIPs are", peer.value);
            let remedy = "write the peer's address of that family";
            let shown = peer.value.to_string();
            peers.notes.push(self.note(Kind::NotCarriedOver, &peer.at, &shown, message, remedy));
        }
        if peers.value.is_empty() && !instance.peers.is_empty() {
            // Multicast would be a guess.
            peers.notes.push("TO DO: without peers the instance uses multicast".to_owned());
            let message = "none of the peers is of the VIPs' family, so it would use multicast";
            let at = &instance.name.at;
            let remedy = "write the peers' addresses of that family";
            self.findings.add(Kind::ToDo, at, "unicast_peer", message, remedy);
        }
        peers
    }
}

/// The nearest that the protocol's version can say.
fn possible_interval(interval: Duration, version: u8) -> Duration {
    if version == 2 {
        let seconds = (interval.as_millis() + 500) / 1000;
        return Duration::from_secs(
            u64::try_from(seconds).unwrap_or(u64::MAX).clamp(1, LONGEST_V2),
        );
    }
    let steps = (interval.as_millis() + 5) / 10;
    let steps = u32::try_from(steps).unwrap_or(u32::MAX);
    CENTISECOND.saturating_mul(steps).clamp(CENTISECOND, LONGEST_V3)
}
