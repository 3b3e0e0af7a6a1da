//! Flows as a peer is told of them, and as it tells of them: by the controller's own code, over the
//! harness's maps.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use aya::maps::{Map, MapData};
use fairlead::control::plan::Installed;
use fairlead::datapath::events::{FlowEvents, Turn};
use fairlead::datapath::records::{Detail, RecordReader};
use fairlead::datapath::removals::Removals;
use fairlead::datapath::replica::{Replica, SharedPlaces};
use fairlead::datapath::served::Served;
use fairlead::datapath::table::FlowTable;
use fairlead::sync::placement::Places;
use fairlead::sync::record::{Change, FlowId, FlowRecord};
use lb_common::map;

use super::pool::table;
use super::{Connection, Harness, SERVICE, local};

/// The reader of flow events, of which a program has one at a time.
pub(crate) struct Told(FlowEvents);

impl Told {
    /// What changed since this was last asked, none of it lost.
    #[track_caller]
    pub(crate) fn changes(&mut self) -> Vec<Change> {
        let mut changes = vec![];
        assert_eq!(self.0.read(&mut changes).unwrap(), Turn::default());
        changes
    }

    /// The one flow that was put.
    #[track_caller]
    pub(crate) fn put(&mut self) -> FlowRecord {
        match self.changes()[..] {
            [Change::Put(record)] => record,
            ref other => panic!("{other:?}"),
        }
    }

    pub(crate) fn turn(&mut self) -> Turn {
        self.0.read(&mut vec![]).unwrap()
    }
}

impl Harness {
    /// From here on the program tells of flows.
    pub(crate) fn listen(&self) -> Told {
        let ring = Map::RingBuf(self.another(map::FLOW_EVENTS));
        let report = Map::PerCpuArray(self.another(map::FLOW_REPORT));
        let told = FlowEvents::of(ring, report, self.tables(), Removals::default());
        Told(told.unwrap())
    }

    pub(crate) fn replica(&self) -> Replica {
        let places = SharedPlaces::default();
        places.set(Places::of(&self.installed()));
        let leases = Served::of(self.fd(map::LEASES));
        Replica::of(self.tables(), leases, places)
    }

    /// All confirmed flows, as a peer gets to know them.
    pub(crate) fn records(&self, detail: Detail) -> BTreeMap<FlowId, FlowRecord> {
        let backends = self.fd(map::BACKENDS);
        let mut reader = RecordReader::of(self.tables(), backends);
        let mut records = vec![];
        while !reader.slice(detail, |_| true, &mut records) {}
        records.into_iter().map(|record| (record.id, record)).collect()
    }

    /// This node becomes one that knows its flows only by what a peer told of them.
    pub(crate) fn take_over(&mut self) {
        let records = self.records(Detail::Whole);
        self.forget_all();
        let mut replica = self.replica();
        for record in records.values() {
            replica.put(record).unwrap();
        }
        assert_eq!(self.records(Detail::Whole), records);
    }

    fn tables(&self) -> [Arc<FlowTable>; 2] {
        [map::FLOWS, map::FLOWS6].map(|name| Arc::new(table(self.map(name))))
    }

    fn fd(&self, name: &str) -> OwnedFd {
        self.another(name).fd().as_fd().try_clone_to_owned().unwrap()
    }

    /// Another descriptor of a map.
    fn another(&self, name: &str) -> MapData {
        let (Map::Array(found)
        | Map::HashMap(found)
        | Map::PerCpuArray(found)
        | Map::RingBuf(found)) = self.map(name)
        else {
            panic!("{name} is of another type");
        };
        MapData::from_id(found.info().unwrap().id()).unwrap()
    }

    fn installed(&self) -> Installed {
        let mut installed = Installed::default();
        installed.vips.insert(self.ip(*SERVICE.ip()).get(), 0);
        installed.services.insert(self.endpoint(SERVICE), self.service);
        let backends = (1..).map(|id| (id, self.backend(id)));
        installed.backends = backends.take_while(|(_, it)| it.endpoint.protocol != 0).collect();
        installed
    }

    /// As a peer names it.
    pub(crate) fn id_of(&self, client: SocketAddrV4) -> FlowId {
        FlowId { client: local(self.family, client), vip: local(self.family, SERVICE) }
    }

    /// Whether a record is of this connection, wherever that is in its streams.
    #[track_caller]
    pub(crate) fn assert_is_of(&self, record: &FlowRecord, connection: &Connection) {
        assert_eq!(record.id, self.id_of(connection.client));
        assert_eq!(record.kind, connection.kind);
        assert_eq!(record.source, local(self.family, connection.snat));
        assert_eq!(record.backend, local(self.family, connection.backend));
    }
}
