//! What services must not have in common. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use lb_common::{MAX_BACKENDS, MAX_SERVICES, MAX_VIPS};
use serde_saphyr::Spanned;

use super::super::{Family, MAX_ADDRESSES};
use super::reader::Reader;
use super::scalar::quoted;
use super::{ServiceFile, Spot, scalar};

impl Reader<'_> {
    /// Checks what no service can check alone.
    ///
    /// It reads the file again, because a service with a problem of its own lacks some values.
    pub(super) fn clashes(&mut self, scope: &Spot, files: &[Spanned<ServiceFile>]) {
        let mut names = BTreeSet::new();
        let mut owners: BTreeMap<SocketAddr, String> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            let spot = scope.element(index, file);
            if let Some(name) = &file.value.name
                && !names.insert(name.value.as_str())
            {
                let shown = quoted(&name.value);
                self.wrong(
                    &spot.of("name", name),
                    format_args!("another service is called {shown} too; give each its own name"),
                );
            }
            let port = file.value.port.as_ref().and_then(|port| port.value.parse::<u16>().ok());
            let Some(port) = port else { continue };
            for (vip, at) in file.value.vips(&spot) {
                let endpoint = SocketAddr::new(vip, port);
                let owner = owners.entry(endpoint).or_insert_with(|| spot.key.clone());
                if *owner != spot.key {
                    self.wrong(
                        &at,
                        format_args!(
                            "{owner} has {endpoint} already; take another VIP or port for one"
                        ),
                    );
                }
            }
        }
        self.backends_among_vips(scope, files);
        self.exclusive_endpoints(scope, files);
        self.totals(scope, files);
    }

    fn backends_among_vips(&mut self, scope: &Spot, files: &[Spanned<ServiceFile>]) {
        let mut vips: BTreeMap<IpAddr, Spot> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            let spot = scope.element(index, file);
            for (vip, at) in file.value.vips(&spot).into_iter().chain(file.value.snat(&spot)) {
                vips.entry(vip).or_insert(at);
            }
        }
        for (index, file) in files.iter().enumerate() {
            for (address, at) in file.value.backend_addresses(&scope.element(index, file)) {
                if let Some(Spot { key, .. }) = vips.get(&address) {
                    self.wrong(
                        &at,
                        format_args!("{address} is also {key}; write the apiserver's own address"),
                    );
                }
            }
        }
    }

    /// What the maps can be made large enough for; the first identifier of each kind is not used.
    fn totals(&mut self, scope: &Spot, files: &[Spanned<ServiceFile>]) {
        let mut vips = BTreeSet::new();
        let (mut pairs, mut backends) = (0, 0);
        for (index, file) in files.iter().enumerate() {
            let spot = scope.element(index, file);
            let own = file.value.vips(&spot);
            pairs += own.len();
            let named = file.value.named();
            backends += file.value.backends.as_ref().map_or(0, |list| list.value.len() - named);
            backends += named * MAX_ADDRESSES * Family::BOTH.len();
            vips.extend(own.into_iter().chain(file.value.snat(&spot)).map(|(vip, _)| vip));
        }
        for (count, limit, what) in [
            (vips.len(), MAX_VIPS, "VIPs and SNAT addresses"),
            (pairs, MAX_SERVICES - 1, "VIPs of services"),
            (backends, MAX_BACKENDS - 1, "backends"),
        ] {
            if count > limit as usize {
                self.wrong(
                    scope,
                    format_args!("{count} {what} are too many; keep at most {limit} in all"),
                );
            }
        }
    }

    /// A reply of no flow is translated back to the VIP of its endpoint's only service.
    fn exclusive_endpoints(&mut self, scope: &Spot, files: &[Spanned<ServiceFile>]) {
        self.no_names_where_exclusive(scope, files);
        let mut owners: BTreeMap<SocketAddr, (Spot, bool)> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            if !file.value.is_dnat() {
                continue;
            }
            let is_exclusive = file.value.is_exclusive();
            for (endpoint, at) in file.value.endpoints(&scope.element(index, file)) {
                let Some((owner, owner_is_exclusive)) = owners.get(&endpoint) else {
                    owners.insert(endpoint, (at, is_exclusive));
                    continue;
                };
                if is_exclusive || *owner_is_exclusive {
                    self.wrong(
                        &at,
                        format_args!(
                            "{endpoint} is {} too, so its replies could be of either service; \
                             remove one of the two, or `exclusive`",
                            owner.key
                        ),
                    );
                }
            }
        }
    }

    /// A name could resolve to the endpoint of an exclusive service.
    fn no_names_where_exclusive(&mut self, scope: &Spot, files: &[Spanned<ServiceFile>]) {
        if !files.iter().any(|file| file.value.is_dnat() && file.value.is_exclusive()) {
            return;
        }
        for (index, file) in files.iter().enumerate().filter(|(_, file)| file.value.is_dnat()) {
            let Some(list) = &file.value.backends else { continue };
            let spot = scope.element(index, file).of("backends", list);
            for (index, backend) in list.value.iter().enumerate() {
                let Some(host) = &backend.value.host else { continue };
                self.wrong(
                    &spot.element(index, backend).of("host", host),
                    "where a service is `exclusive`, no dnat service can have a name: its addresses \
                     could be those of the other; write `address`",
                );
            }
        }
    }
}

impl ServiceFile {
    fn is_dnat(&self) -> bool {
        self.mode.as_ref().is_some_and(|mode| mode.value == "dnat")
    }

    fn is_exclusive(&self) -> bool {
        self.exclusive.as_ref().is_some_and(|exclusive| exclusive.value == "true")
    }

    /// Where its backends listen, as far as that can be read; at their addresses.
    fn endpoints(&self, scope: &Spot) -> Vec<(SocketAddr, Spot)> {
        let Some(list) = &self.backends else { return Vec::new() };
        let scope = scope.of("backends", list);
        let backends = list.value.iter().enumerate();
        backends
            .filter_map(|(index, file)| {
                let address = file.value.address.as_ref()?;
                let port = file.value.port.as_ref().or(self.port.as_ref())?.value.parse().ok()?;
                let endpoint = SocketAddr::new(scalar::backend_address(&address.value).ok()?, port);
                Some((endpoint, scope.element(index, file).of("address", address)))
            })
            .collect()
    }
}
