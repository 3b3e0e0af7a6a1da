//! What the parts of one service must have in common: address families, and what its mode can do.
//! Pure.

use std::net::IpAddr;

use super::super::{Family, Mode, Service};
use super::reader::Reader;
use super::{ServiceFile, Spot, scalar};

impl Reader<'_> {
    /// Each VIP is served by the backends of its family.
    pub(super) fn families(&mut self, scope: &Spot, file: &ServiceFile) {
        let (vips, backends) = (file.vips(scope), file.backend_addresses(scope));
        let named = file.named();
        let all = |list: Option<usize>, read: usize| read > 0 && list == Some(read);
        if !all(file.vips.as_ref().map(|list| list.value.len()), vips.len())
            || !all(file.backends.as_ref().map(|list| list.value.len()), backends.len() + named)
        {
            // What cannot be read is refused already, and may be of any family.
            return;
        }
        let mut is_right = true;
        for family in Family::BOTH {
            if let (Some((backend, at)), None) = (first(&backends, family), first(&vips, family)) {
                self.wrong(
                    at,
                    format_args!(
                        "{backend} is {family}, but the service has no {family} VIP; add one to \
                         `vips`, or remove the backend"
                    ),
                );
                is_right = false;
            }
        }
        // What a name has addresses of is not known here.
        for family in Family::BOTH.into_iter().filter(|_| is_right && named == 0) {
            if let (Some((vip, at)), None) = (first(&vips, family), first(&backends, family)) {
                self.wrong(
                    at,
                    format_args!(
                        "{vip} is {family}, but no backend has an {family} address; add one that \
                         has, or remove the VIP"
                    ),
                );
            }
        }
        self.families_of_the_rest(scope, file, &vips);
    }

    fn families_of_the_rest(&mut self, scope: &Spot, file: &ServiceFile, vips: &[(IpAddr, Spot)]) {
        for (snat, at) in file.snat(scope) {
            let family = Family::of(&snat);
            if first(vips, family).is_none() {
                self.wrong(
                    &at,
                    format_args!(
                        "{snat} is {family}, but the service has no {family} VIP; remove it"
                    ),
                );
            }
        }
        let Some(allow) = &file.allow else { return };
        let scope = scope.of("allow", allow);
        for (index, value) in allow.value.iter().enumerate() {
            let Ok(range) = scalar::range(&value.value) else { continue };
            let family = Family::of(&range.network);
            if first(vips, family).is_none() {
                self.wrong(
                    &scope.element(index, value),
                    format_args!(
                        "{range} is {family}, but the service has no {family} VIP; remove it"
                    ),
                );
            }
        }
    }

    /// Refuses what the mode cannot do.
    pub(super) fn mode_allows(&mut self, scope: &Spot, file: &ServiceFile, service: &Service) {
        if service.exclusive {
            self.exclusive(scope, file, service);
        }
        if service.mode != Mode::Dsr {
            return;
        }
        if let Some(snat) = &file.snat_address {
            self.wrong(
                &scope.of("snat_address", snat),
                "mode dsr sends requests from the client's address; remove the key, or write \
                 `mode: nat`",
            );
        }
        let Some(list) = &file.backends else { return };
        let scope = scope.of("backends", list);
        for (index, backend) in list.value.iter().enumerate() {
            let Some(port) = &backend.value.port else { continue };
            if port.value.parse().is_ok_and(|it: u16| it > 0 && it != service.port) {
                self.wrong(
                    &scope.element(index, backend).of("port", port),
                    format_args!(
                        "mode dsr leaves ports as they are; write {}, or `mode: nat`",
                        service.port
                    ),
                );
            }
        }
    }

    fn exclusive(&mut self, scope: &Spot, file: &ServiceFile, service: &Service) {
        let spot = scope.field("exclusive", &file.exclusive);
        if service.mode != Mode::Dnat {
            self.wrong(
                &spot,
                format_args!(
                    "mode {} needs no such thing; remove the key, or write `mode: dnat`",
                    service.mode.as_str()
                ),
            );
            return;
        }
        let vips = file.vips(scope);
        for family in Family::BOTH {
            let mut of_family = vips.iter().filter(|(vip, _)| Family::of(vip) == family);
            if let (Some(_), Some((vip, at))) = (of_family.next(), of_family.next()) {
                self.wrong(
                    at,
                    format_args!(
                        "{vip} is a second {family} VIP, and replies could be of either; make it a \
                         service of its own, or remove `exclusive`"
                    ),
                );
            }
        }
    }
}

fn first(addresses: &[(IpAddr, Spot)], family: Family) -> Option<&(IpAddr, Spot)> {
    addresses.iter().find(|(address, _)| Family::of(address) == family)
}
