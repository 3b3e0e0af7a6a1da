//! The addresses of an instance: VIPs, peers and its own. Pure.

use std::net::IpAddr;

use serde_saphyr::Spanned;

use super::super::super::Family;
use super::super::reader::Reader;
use super::super::{Spot, scalar};
use super::{Version, VrrpFile};

/// What `lb_common` has room for is checked for all instances together.
const MAX_PEERS: usize = 32;

impl Reader<'_> {
    /// Link-local ones first, as RFC 9568 5.2.9 wants the first address of IPv6 to be.
    pub(super) fn instance_vips(
        &mut self,
        scope: &Spot,
        file: &VrrpFile,
        version: Version,
    ) -> Vec<IpAddr> {
        let Some(list) = &file.vips else {
            self.missing(scope, "vips", "`vips: [10.0.0.100]` with the VIPs that are to move");
            return Vec::new();
        };
        let spot = scope.of("vips", list);
        if list.value.is_empty() {
            self.wrong(&spot, "is empty; write the VIPs that are to move: [10.0.0.100]");
        }
        let mut vips: Vec<IpAddr> = Vec::new();
        for (at, vip) in self.instance_addresses(&spot, &list.value, scalar::instance_vip) {
            let family = Family::of(&vip);
            if vips.first().is_some_and(|first| Family::of(first) != family) {
                self.wrong(
                    &at,
                    format_args!(
                        "{vip} is {family}, the first VIP is not; give it an instance of its own, \
                         and both the same `sync_group`"
                    ),
                );
                continue;
            }
            if family == Family::V6 && version == Version::V2 {
                self.wrong(
                    &at,
                    format_args!("{vip} is IPv6, which version 2 cannot carry; write `version: 3`"),
                );
            }
            vips.push(vip);
        }
        vips.sort_by_key(|vip| !scalar::is_link_local_v6(*vip));
        vips
    }

    pub(super) fn unicast_peers(
        &mut self,
        scope: &Spot,
        file: &VrrpFile,
        vips: &[IpAddr],
    ) -> Vec<IpAddr> {
        let Some(list) = &file.unicast_peers else { return Vec::new() };
        let spot = scope.of("unicast_peers", list);
        if list.value.len() > MAX_PEERS {
            let count = list.value.len();
            self.wrong(
                &spot,
                format_args!("{count} peers are too many; write at most {MAX_PEERS}"),
            );
        }
        let source = file.unicast_source.as_ref().and_then(|text| text.value.parse().ok());
        let mut peers = Vec::new();
        for (at, peer) in self.instance_addresses(&spot, &list.value, scalar::peer) {
            if self.is_of_the_family(&at, peer, vips) {
                if Some(peer) == source {
                    self.wrong(
                        &at,
                        format_args!("{peer} is `unicast_source`; name the other nodes only"),
                    );
                }
                peers.push(peer);
            }
        }
        peers
    }

    pub(super) fn unicast_source(
        &mut self,
        scope: &Spot,
        file: &VrrpFile,
        vips: &[IpAddr],
    ) -> Option<IpAddr> {
        let text = file.unicast_source.as_ref()?;
        let spot = scope.of("unicast_source", text);
        let source = self.accept(&spot, scalar::peer(&text.value))?;
        if file.unicast_peers.as_ref().is_none_or(|peers| peers.value.is_empty()) {
            self.wrong(&spot, "there are no `unicast_peers`; add them, or remove the key");
        }
        self.is_of_the_family(&spot, source, vips).then_some(source)
    }

    /// Refuses what is of the other family, and VIPs.
    fn is_of_the_family(&mut self, at: &Spot, address: IpAddr, vips: &[IpAddr]) -> bool {
        let Some(first) = vips.first() else { return true };
        let (family, of_vips) = (Family::of(&address), Family::of(first));
        if family != of_vips {
            self.wrong(
                at,
                format_args!(
                    "{address} is {family}, the VIPs are {of_vips}; write a node's {of_vips} address"
                ),
            );
        } else if vips.contains(&address) {
            self.wrong(
                at,
                format_args!("{address} is a VIP, which moves; write a node's own address"),
            );
        } else {
            return true;
        }
        false
    }

    fn instance_addresses(
        &mut self,
        scope: &Spot,
        list: &[Spanned<String>],
        read: fn(&str) -> Result<IpAddr, scalar::Fault>,
    ) -> Vec<(Spot, IpAddr)> {
        let mut addresses: Vec<(Spot, IpAddr)> = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let spot = scope.element(index, value);
            let Some(address) = self.accept(&spot, read(&value.value)) else { continue };
            if addresses.iter().any(|(_, known)| *known == address) {
                self.wrong(
                    &spot,
                    format_args!("{address} is in the list already; remove one of the two"),
                );
            } else {
                addresses.push((spot, address));
            }
        }
        addresses
    }
}
