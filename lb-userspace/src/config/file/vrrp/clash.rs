//! What instances must not have in common, and what services need of them. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::MAX_VIPS;
use serde_saphyr::Spanned;

use super::super::super::{Family, Vrrp};
use super::super::reader::Reader;
use super::super::scalar::quoted;
use super::super::{Document, ServiceFile, Spot, scalar};
use super::VrrpFile;

impl Reader<'_> {
    pub(super) fn instance_clashes(
        &mut self,
        scope: &Spot,
        files: &[Spanned<VrrpFile>],
        instances: &[Vrrp],
    ) {
        let mut names = BTreeSet::new();
        let mut routers: BTreeMap<(&str, u8, Family), String> = BTreeMap::new();
        let mut vips: BTreeMap<IpAddr, String> = BTreeMap::new();
        for ((index, file), instance) in files.iter().enumerate().zip(instances) {
            let spot = scope.element(index, file);
            if let Some(name) = &file.value.name
                && !names.insert(name.value.as_str())
            {
                let shown = quoted(&name.value);
                self.wrong(
                    &spot.of("name", name),
                    format_args!("another instance is called {shown} too; give each its own name"),
                );
            }
            if file.value.vrid.is_some() && !instance.interface.is_empty() {
                let family = instance.family();
                let router = (instance.interface.as_str(), instance.vrid, family);
                let owner = routers.entry(router).or_insert_with(|| spot.key.clone());
                if *owner != spot.key {
                    self.wrong(
                        &spot.field("vrid", &file.value.vrid),
                        format_args!(
                            "{owner} has VRID {} for {family} on {} already; take another",
                            instance.vrid, instance.interface
                        ),
                    );
                }
            }
            for (vip, at) in file.value.readable_vips(&spot) {
                let owner = vips.entry(vip).or_insert_with(|| spot.key.clone());
                if *owner != spot.key {
                    self.wrong(
                        &at,
                        format_args!("{owner} has {vip} already; remove it from one of the two"),
                    );
                }
            }
        }
        if vips.len() > MAX_VIPS as usize {
            let count = vips.len();
            self.wrong(
                scope,
                format_args!("{count} VIPs are too many; keep at most {MAX_VIPS} in all"),
            );
        }
        self.groups(scope, files, instances);
    }

    /// Members of a sync group become Active together, so none may want it less than another.
    fn groups(&mut self, scope: &Spot, files: &[Spanned<VrrpFile>], instances: &[Vrrp]) {
        for ((index, file), instance) in files.iter().enumerate().zip(instances) {
            let (Some(group), Some(text)) = (&instance.sync_group, &file.value.sync_group) else {
                continue;
            };
            let spot = scope.element(index, file);
            let is_member = |other: &&Vrrp| other.sync_group.as_ref() == Some(group);
            let members: Vec<&Vrrp> = instances.iter().filter(is_member).collect();
            if members.len() == 1 {
                self.wrong(
                    &spot.of("sync_group", text),
                    format_args!(
                        "no other instance is in the group {group}; name it there too, or remove it"
                    ),
                );
            }
            let Some(first) = members.first() else { continue };
            if first.priority != instance.priority {
                self.wrong(
                    &spot.field("priority", &file.value.priority),
                    format_args!(
                        "another member of the group {group} has {}, and they would part; write \
                         the same for all",
                        first.priority
                    ),
                );
            }
            if first.preempt != instance.preempt {
                self.wrong(
                    &spot.field("preempt", &file.value.preempt),
                    format_args!(
                        "another member of the group {group} has {}; write the same for all",
                        first.preempt
                    ),
                );
            }
        }
    }

    /// Where VRRP is used, a VIP that it does not move would be on all nodes at once.
    pub(super) fn vips_without_instance(&mut self, root: &Spot, document: &Document) {
        let (Some(services), Some(vrrp)) = (&document.services, &document.vrrp) else { return };
        if vrrp.value.iter().any(|file| !file.value.has_readable_vips()) {
            // What is missing there is refused already, and may be what the services need.
            return;
        }
        let scope = root.of("vrrp", vrrp);
        let mut owners: BTreeMap<IpAddr, String> = BTreeMap::new();
        for (index, file) in vrrp.value.iter().enumerate() {
            let spot = scope.element(index, file);
            for (vip, _) in file.value.readable_vips(&spot) {
                owners.insert(vip, spot.key.clone());
            }
        }
        let scope = root.of("services", services);
        for (index, file) in services.value.iter().enumerate() {
            let spot = scope.element(index, file);
            self.vips_of_a_service(&spot, &file.value, &owners);
        }
    }

    fn vips_of_a_service(
        &mut self,
        scope: &Spot,
        file: &ServiceFile,
        owners: &BTreeMap<IpAddr, String>,
    ) {
        let standalone = file.standalone.as_ref().is_some_and(|it| it.value == "true");
        for (vip, at) in file.vips(scope).into_iter().chain(file.snat(scope)) {
            match (standalone, owners.get(&vip)) {
                (false, None) => self.wrong(
                    &at,
                    format_args!(
                        "{vip} is in no instance of `vrrp`; add it to the vips of one, or write \
                         `standalone: true` if only this node has it"
                    ),
                ),
                (true, Some(owner)) => self.wrong(
                    &at,
                    format_args!(
                        "{vip} is in {owner} too, so the service is not standalone; remove one \
                         of the two"
                    ),
                ),
                (false, Some(_)) | (true, None) => {}
            }
        }
    }
}

impl VrrpFile {
    fn has_readable_vips(&self) -> bool {
        self.vips.as_ref().is_some_and(|list| {
            let mut values = list.value.iter();
            !list.value.is_empty() && values.all(|it| scalar::instance_vip(&it.value).is_ok())
        })
    }

    /// The VIPs that can be read.
    fn readable_vips(&self, scope: &Spot) -> Vec<(IpAddr, Spot)> {
        let Some(list) = &self.vips else { return Vec::new() };
        let scope = scope.of("vips", list);
        let values = list.value.iter().enumerate();
        values
            .filter_map(|(index, value)| {
                let vip = scalar::instance_vip(&value.value).ok()?;
                Some((vip, scope.element(index, value)))
            })
            .collect()
    }
}
