//! `vrrp_instance` blocks to instances. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::draft::{InstanceDraft, Noted};
use super::super::findings::Kind;
use super::super::keepalived::instance::Address;
use super::super::keepalived::{Instance, Keepalived};
use super::super::source::{Read, Word};
use super::Translator;
use super::name::Names;

const NOTHING: &str = "nothing to do";

impl Translator<'_> {
    pub(super) fn instances(&mut self, keepalived: &Keepalived) -> Read<()> {
        let groups = self.groups(keepalived);
        let mut names = Names::default();
        for instance in &keepalived.instances {
            self.instance(instance, keepalived, &groups, &mut names)?;
        }
        Ok(())
    }

    /// The sync group of each instance that is in one.
    fn groups(&mut self, keepalived: &Keepalived) -> BTreeMap<String, Noted<String>> {
        let mut groups = BTreeMap::new();
        let mut names = Names::default();
        for group in &keepalived.groups {
            let is_there = |member: &&Word| {
                keepalived
                    .instances
                    .iter()
                    .any(|it| it.name.text == member.text && it.has_address())
            };
            for member in group.members.iter().filter(|member| !is_there(member)) {
                let message = "no instance with addresses has this name";
                self.findings.add(Kind::NotCarriedOver, &member.at, &member.text, message, NOTHING);
            }
            let members: Vec<&Word> = group.members.iter().filter(is_there).collect();
            if members.len() < 2 {
                let message = "a group of less than two instances does nothing";
                let at = &group.name.at;
                self.findings.add(Kind::Needless, at, &group.name.text, message, NOTHING);
                continue;
            }
            let name = names.unique(&group.name.text);
            for member in members {
                let note = format!("{}: vrrp_sync_group {}", group.name.at, group.name.text);
                groups.insert(member.text.clone(), Noted::new(name.clone(), note));
            }
        }
        groups
    }

    fn instance(
        &mut self,
        instance: &Instance,
        keepalived: &Keepalived,
        groups: &BTreeMap<String, Noted<String>>,
        names: &mut Names,
    ) -> Read<()> {
        let all: Vec<&Address> = instance.addresses.iter().chain(&instance.excluded).collect();
        let Some(first) = all.first() else {
            let message = "the instance has no addresses";
            let remedy = "write the VIPs that it was for, if any";
            let at = &instance.name.at;
            self.findings.add(Kind::NotCarriedOver, at, &instance.name.text, message, remedy);
            return Ok(());
        };
        if let Some(interface) = &instance.interface {
            self.interface(&interface.text);
        }
        self.own.extend(instance.unicast_source.as_ref().map(|source| source.value));
        let is_v4 = first.address.is_ipv4();
        let is_mixed = all.iter().any(|it| it.address.is_ipv4() != is_v4);
        for is_first_family in [true, false] {
            let has_family = |it: &&&Address| (it.address.is_ipv4() == is_v4) == is_first_family;
            let family: Vec<&Address> = all.iter().filter(has_family).copied().collect();
            let Some(first) = family.first() else { continue };
            let suffix = match (is_first_family, first.address) {
                (true, _) => "",
                (false, IpAddr::V4(_)) => "-v4",
                (false, IpAddr::V6(_)) => "-v6",
            };
            let name = names.unique(&format!("{}{suffix}", instance.name.text));
            let mut draft = self.draft_of(instance, keepalived, name, &family)?;
            draft.sync_group = groups.get(&instance.name.text).cloned();
            if is_mixed && draft.sync_group.is_none() {
                let note = format!("{}: the families move together", instance.name.at);
                draft.sync_group =
                    Some(Noted::new(Names::default().unique(&instance.name.text), note));
            }
            if !is_first_family {
                draft.notes.push(self.note(
                    Kind::Changed,
                    &first.at,
                    "virtual_ipaddress_excluded",
                    "an instance has addresses of one family, so these have one of their own",
                    "let all nodes run Fairlead: keepalived does not answer this instance",
                ));
            }
            self.draft.vrrp.push(draft);
        }
        Ok(())
    }

    fn draft_of(
        &mut self,
        instance: &Instance,
        keepalived: &Keepalived,
        name: String,
        addresses: &[&Address],
    ) -> Read<InstanceDraft> {
        let at = &instance.name.at;
        let Some(vrid) = &instance.vrid else {
            return Err(at.error("the instance has no virtual_router_id; expected one"));
        };
        let is_v6 = addresses.first().is_some_and(|it| it.address.is_ipv6());
        let version = self.version(instance, keepalived, is_v6);
        let advert_interval = self.advert_interval(instance, version.value);
        let password = self.password(instance, version.value);
        let mut notes = vec![format!("{at}: vrrp_instance {}", instance.name.text)];
        let interface = self.instance_interface(instance, addresses, &mut notes);
        let vips = self.instance_vips(instance, interface.as_deref(), addresses);
        for vip in &vips.value {
            self.vips.insert(*vip, name.clone());
        }
        let priority = self.priority(instance);
        let accept = self.accept(instance, priority.value);
        let preempt = match &instance.no_preempt {
            None => Noted::plain(true),
            Some(at) => Noted::new(false, format!("{at}: nopreempt")),
        };
        let peers = self.peers(instance, is_v6);
        let unicast_source = self.unicast_source(instance, &peers.value, is_v6);
        Ok(InstanceDraft {
            notes,
            name,
            interface,
            vrid: vrid.value,
            priority,
            version,
            advert_interval,
            down_timer_adverts: instance.down_timer_adverts.as_ref().map(|it| it.value),
            preempt,
            preempt_delay: self.preempt_delay(instance),
            accept,
            startup_delay: keepalived.startup_delay.as_ref().map(|delay| delay.value),
            vips,
            sync_group: None,
            peers,
            unicast_source,
            password,
            tracked: self.tracked(instance),
        })
    }

    fn instance_vips(
        &mut self,
        instance: &Instance,
        interface: Option<&str>,
        addresses: &[&Address],
    ) -> Noted<Vec<IpAddr>> {
        let mut vips = Noted::plain(Vec::new());
        for address in addresses {
            if vips.value.contains(&address.address) {
                continue;
            }
            vips.value.push(address.address);
            let shown = address.address.to_string();
            let bits = if address.address.is_ipv4() { 32 } else { 128 };
            if let Some(prefix) = address.prefix.filter(|prefix| *prefix != bits) {
                let message = format!("/{prefix} is written as /{bits}: a VIP is a single address");
                let remedy = "see that the node has an address of its own in that network";
                vips.notes.push(self.note(Kind::Changed, &address.at, &shown, message, remedy));
            }
            let is_elsewhere = |device: &&str| interface.is_some_and(|own| own != *device);
            let device = address.device.as_ref().map(|device| device.text.as_str());
            if let Some(device) = device.filter(is_elsewhere) {
                self.interface(device);
                let message =
                    format!("keepalived adds it to {device}, Fairlead to the instance's interface");
                let remedy = format!("give it an instance of its own on {device}");
                vips.notes.push(self.note(Kind::Changed, &address.at, &shown, message, remedy));
            }
            let is_excluded = instance.excluded.iter().any(|it| it.at == address.at);
            let is_same_family = instance
                .addresses
                .first()
                .is_some_and(|it| it.address.is_ipv4() == address.address.is_ipv4());
            if is_excluded && is_same_family {
                let message = "adverts list it, which keepalived's do not";
                let remedy = "let all nodes run Fairlead: keepalived may ignore the adverts";
                vips.notes.push(self.note(Kind::Changed, &address.at, &shown, message, remedy));
            }
        }
        vips
    }
}
