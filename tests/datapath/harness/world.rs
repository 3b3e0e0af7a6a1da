//! The maps as the controller's trace asks for them.

use std::convert::Infallible;
use std::net::SocketAddrV4;

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, ArrayOfMaps, HashMap, MapData};
use fairlead::control::trace::{Moment, Outcome, World, trace};
use fairlead::datapath::now::monotonic;
use lb_common::addr::{Address, Endpoint, IpBe, Ipv4Be, Ipv6Be};
use lb_common::backend::{Backend, BackendId};
use lb_common::conntrack::FlowHalf;
use lb_common::flow::FlowKey;
use lb_common::lease::Lease;
use lb_common::map;
use lb_common::rate::SourceKey;
use lb_common::service::{AllowKey, EndpointUse, Service, ServiceKey};
use lb_common::vip::Vip;
use lb_tests::family::Family;

use super::{Harness, SERVICE, key};

struct Maps<'a>(&'a Harness);

impl Harness {
    /// What the controller says of a SYN of this client.
    pub(crate) fn traced(&self, client: SocketAddrV4) -> Outcome {
        let (id, now) = (key(client, SERVICE), Moment { ns: monotonic() });
        match self.family {
            Family::V4 => trace(&id.key::<Ipv4Be>(self.family), true, &Maps(self), now).unwrap(),
            Family::V6 => trace(&id.key::<Ipv6Be>(self.family), true, &Maps(self), now).unwrap(),
        }
    }

    fn element<K: Pod, V: Pod>(&self, name: &str, key: &K) -> Option<V> {
        let map: HashMap<_, K, V> = self.map(name).try_into().unwrap();
        map.get(key, 0).ok()
    }
}

impl<A: Address> World<A> for Maps<'_>
where
    FlowKey<A>: Pod,
    FlowHalf<A>: Pod,
{
    type Error = Infallible;

    fn half(&self, key: &FlowKey<A>) -> Result<Option<FlowHalf<A>>, Infallible> {
        Ok(self.0.table().find(key))
    }

    fn service(&self, key: &ServiceKey) -> Result<Option<Service>, Infallible> {
        Ok(self.0.element(map::SERVICES, key))
    }

    fn vip(&self, address: IpBe) -> Result<Option<Vip>, Infallible> {
        Ok(self.0.element(map::VIPS, &address))
    }

    fn lease(&self, index: u32) -> Result<Lease, Infallible> {
        Ok(self.0.get(map::LEASES, index))
    }

    fn is_allowed(&self, service: u32, source: IpBe) -> Result<bool, Infallible> {
        let allowed = self.0.map(map::ALLOWED);
        let allowed: Result<LpmTrie<_, AllowKey, u8>, _> = allowed.try_into();
        let key = Key::new(AllowKey::BITS, AllowKey::new(service, source));
        Ok(allowed.is_ok_and(|allowed| allowed.get(&key, 0).is_ok()))
    }

    fn endpoint(&self, endpoint: &Endpoint) -> Result<Option<EndpointUse>, Infallible> {
        Ok(self.0.element(map::ENDPOINTS, endpoint))
    }

    fn source_due(&self, key: &SourceKey) -> Result<u64, Infallible> {
        Ok(self.0.element(map::SOURCES, key).unwrap_or(0))
    }

    fn table(&self, service: u32) -> Result<Vec<BackendId>, Infallible> {
        let tables: Result<ArrayOfMaps<_, Array<MapData, u32>>, _> =
            self.0.map(map::TABLES).try_into();
        let table = tables.ok().and_then(|tables| tables.get(&service, 0).ok());
        let slots = table.map_or_else(Vec::new, |table| table.iter().flatten().collect());
        let length = slots.first().map_or(0, |length| *length as usize);
        Ok(slots.get(1..=length).unwrap_or_default().to_vec())
    }

    fn backend(&self, id: BackendId) -> Result<Option<Backend>, Infallible> {
        Ok(Some(self.0.backend(id)))
    }

    fn backend_name(&self, id: BackendId) -> String {
        format!("cp{id}")
    }

    fn service_name(&self, _: u32) -> String {
        "api".to_owned()
    }

    fn is_failed_open(&self, _: u32) -> bool {
        false
    }
}
