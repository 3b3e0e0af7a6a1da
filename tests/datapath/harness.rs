//! The program, loaded, with maps filled as the controller fills them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::xdp::DevMapHash;
use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, PerCpuArray};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use lb_common::IPPROTO_TCP;
use lb_common::addr::{Endpoint, Ipv4Be, Mac, NextHop, PortBe, Route};
use lb_common::backend::Backend;
use lb_common::conntrack::FlowHalf;
use lb_common::counters::Counter;
use lb_common::flow::FlowKey;
use lb_common::lease::Lease;
use lb_common::map;
use lb_common::nat::Kind;
use lb_common::service::{SNAT_PORTS, Service, ServiceKey, SnatAddress, VipFilter};
use lb_tests::packet::{ACK, Frame, SYN};

pub(crate) type Half = FlowHalf<Ipv4Be>;
pub(crate) type FlowId = FlowKey<Ipv4Be>;

/// The interface that test runs come in by is the loopback one of the namespace.
pub(crate) const INGRESS: u32 = 1;
/// A key of the device map; its value is the loopback device, the only one that is sure to exist.
pub(crate) const OTHER_INTERFACE: u32 = 77;

const fn at(last: u8, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, last), port)
}

pub(crate) const SERVICE: SocketAddrV4 = at(100, 6443);
pub(crate) const CLIENT: SocketAddrV4 = at(2, 40_000);
pub(crate) const OTHER_CLIENT: SocketAddrV4 = at(3, 40_000);
pub(crate) const BACKENDS: [SocketAddrV4; 3] = [at(11, 6443), at(12, 6443), at(13, 6443)];

pub(crate) const LB_MAC: [u8; 6] = [2, 0, 0, 0, 0, 100];
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Of the backend with this identifier.
pub(crate) fn backend_mac(id: u32) -> [u8; 6] {
    [2, 0, 0, 0, 1, u8::try_from(id).unwrap()]
}

pub(crate) fn endpoint(address: SocketAddrV4) -> Endpoint<Ipv4Be> {
    Endpoint::new(Ipv4Be::new(*address.ip()), PortBe::new(address.port()), IPPROTO_TCP)
}

pub(crate) fn key(src: SocketAddrV4, dst: SocketAddrV4) -> FlowId {
    let [from, to] = [src, dst].map(endpoint);
    FlowKey::new(from.address, to.address, from.port, to.port)
}

/// The flow maps' keys are of IPv4.
fn v4(address: SocketAddr) -> SocketAddrV4 {
    let SocketAddr::V4(address) = address else {
        panic!("{address} is no IPv4 address");
    };
    address
}

/// Sizes of the flow maps.
pub(crate) struct Sizes {
    pub(crate) established: u32,
    pub(crate) half_open: u32,
}

pub(crate) struct Harness {
    ebpf: Ebpf,
    pub(crate) service: Service<Ipv4Be>,
    before: Vec<u64>,
}

impl Harness {
    /// A service with three backends, all of them resolved.
    pub(crate) fn new() -> Self {
        Self::with(&BACKENDS)
    }

    /// A service with these backends, numbered from 1.
    pub(crate) fn with(backends: &[SocketAddrV4]) -> Self {
        Self::sized(&Sizes { established: 4096, half_open: 4096 }, backends)
    }

    pub(crate) fn sized(sizes: &Sizes, backends: &[SocketAddrV4]) -> Self {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries(map::ESTABLISHED, sizes.established)
            .map_max_entries(map::HALF_OPEN, sizes.half_open)
            .load(fairlead::datapath::OBJECT)
            .unwrap();
        let program: &mut Xdp = ebpf.program_mut(lb_common::PROGRAM).unwrap().try_into().unwrap();
        program.load().unwrap();

        let mut snat = [SnatAddress::default(); 4];
        snat[0] = SnatAddress { address: Ipv4Be::new(*SERVICE.ip()), vip: 0 };
        let service = Service {
            snat,
            snat_count: 1,
            kind: Kind::Nat as u8,
            snat_port_min: *SNAT_PORTS.start(),
            snat_port_max: *SNAT_PORTS.end(),
            ..Service::default()
        };
        let mut harness = Self { ebpf, service, before: vec![0; Counter::ALL.len()] };
        harness.add_vip(*SERVICE.ip(), 0);
        harness.set_lease(0, Lease::FOREVER);
        harness.change_service(|_| ());
        let mut ids = vec![];
        for (id, address) in (1..).zip(backends) {
            let next_hop = NextHop {
                ifindex: INGRESS,
                mac: Mac(backend_mac(id)),
                source_mac: Mac(LB_MAC),
                ..NextHop::default()
            };
            let backend = Backend { endpoint: endpoint(*address), next_hop, ..Backend::default() };
            harness.set(map::BACKENDS, id, backend);
            harness.insert(map::ENDPOINTS, &backend.endpoint, 1u32);
            ids.push(id);
        }
        harness.set_table(&ids);
        harness
    }

    // What the controller writes.

    pub(crate) fn add_vip(&mut self, address: Ipv4Addr, lease: u32) {
        self.insert(map::VIPS, &Ipv4Be::new(address), lease);
        let mut filter: VipFilter = self.get(map::VIP_FILTER, 0);
        filter.insert(Ipv4Be::new(address));
        self.set(map::VIP_FILTER, 0, filter);
    }

    pub(crate) fn set_lease(&mut self, index: u32, lease: Lease) {
        self.set(map::LEASES, index, lease);
    }

    pub(crate) fn change_service(&mut self, change: impl FnOnce(&mut Service<Ipv4Be>)) {
        change(&mut self.service);
        let service = self.service;
        let key: ServiceKey<Ipv4Be> = endpoint(SERVICE);
        self.insert(map::SERVICES, &key, service);
    }

    pub(crate) fn backend(&self, id: u32) -> Backend<Ipv4Be> {
        self.get(map::BACKENDS, id)
    }

    pub(crate) fn change_backend(&mut self, id: u32, change: impl FnOnce(&mut Backend<Ipv4Be>)) {
        let mut backend = self.backend(id);
        change(&mut backend);
        self.set(map::BACKENDS, id, backend);
    }

    /// The identifiers take the slots in turn.
    pub(crate) fn set_table(&mut self, ids: &[u32]) {
        const INNER_MAP: u32 = 0x1000;
        let length = u32::try_from(ids.len()).unwrap();
        let mut table = Array::<MapData, u32>::create(length + 1, INNER_MAP).unwrap();
        table.set(0, length, 0).unwrap();
        for (slot, id) in (1..).zip(ids) {
            table.set(slot, id, 0).unwrap();
        }
        let mut tables: ArrayOfMaps<_, Array<MapData, u32>> =
            self.map_mut(map::TABLES).try_into().unwrap();
        tables.set(0, &table, 0).unwrap();
    }

    pub(crate) fn add_device(&mut self, ifindex: u32) {
        let mut devices: DevMapHash<_> = self.map_mut(map::DEVICES).try_into().unwrap();
        devices.insert(ifindex, 1, None, 0).unwrap();
    }

    pub(crate) fn add_route(&mut self, prefix: Ipv4Addr, length: u32, route: Route<Ipv4Be>) {
        let mut routes: LpmTrie<_, Ipv4Be, Route<Ipv4Be>> =
            self.map_mut(map::ROUTES).try_into().unwrap();
        routes.insert(&Key::new(length, Ipv4Be::new(prefix)), route, 0).unwrap();
    }

    pub(crate) fn add_neighbour(&mut self, address: Ipv4Addr, next_hop: NextHop) {
        self.insert(map::NEIGHBOURS, &Ipv4Be::new(address), next_hop);
    }

    // Flows.

    pub(crate) fn established(&self, key: &FlowId) -> Option<Half> {
        self.half(map::ESTABLISHED, key)
    }

    pub(crate) fn half_open(&self, key: &FlowId) -> Option<Half> {
        self.half(map::HALF_OPEN, key)
    }

    fn half(&self, name: &str, key: &FlowId) -> Option<Half> {
        let halves: HashMap<_, FlowId, Half> = self.map(name).try_into().unwrap();
        halves.get(key, 0).ok()
    }

    pub(crate) fn store(&mut self, name: &str, key: &FlowId, half: Half) {
        self.insert(name, key, half);
    }

    pub(crate) fn forget(&mut self, name: &str, key: &FlowId) {
        let mut halves: HashMap<_, FlowId, Half> = self.map_mut(name).try_into().unwrap();
        halves.remove(key).unwrap();
    }

    /// Changes a half in whichever map has it; in both, if both have.
    pub(crate) fn patch(&mut self, key: &FlowId, change: impl Fn(&mut Half)) {
        let mut found = false;
        for name in [map::ESTABLISHED, map::HALF_OPEN] {
            if let Some(mut half) = self.half(name, key) {
                change(&mut half);
                self.insert(name, key, half);
                found = true;
            }
        }
        assert!(found, "no half of {key:?}");
    }

    /// As if so many nanoseconds had passed for a half.
    pub(crate) fn age(&mut self, key: &FlowId, nanoseconds: u64) {
        self.patch(key, |half| {
            half.checked -= nanoseconds;
            half.last_seen -= nanoseconds;
        });
    }

    /// Flow halves in the two maps, established and half-open.
    pub(crate) fn flows(&self) -> (usize, usize) {
        let count = |name| {
            let halves: HashMap<_, FlowId, Half> = self.map(name).try_into().unwrap();
            halves.keys().count()
        };
        (count(map::ESTABLISHED), count(map::HALF_OPEN))
    }

    /// All halves, in a fixed order.
    pub(crate) fn snapshot(&self) -> Vec<(FlowId, Half)> {
        let mut all = vec![];
        for name in [map::ESTABLISHED, map::HALF_OPEN] {
            let halves: HashMap<_, FlowId, Half> = self.map(name).try_into().unwrap();
            let mut flows: Vec<_> = halves.iter().map(Result::unwrap).collect();
            flows.sort_by_key(|(key, _)| *key);
            all.extend(flows);
        }
        all
    }

    // Frames.

    /// Runs a frame through the program: XDP action and frame. Counters are not looked at.
    pub(crate) fn run(&self, frame: &[u8]) -> (Action, Vec<u8>) {
        let program: &Xdp = self.ebpf.program(lb_common::PROGRAM).unwrap().try_into().unwrap();
        let mut out = vec![0; 4096];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        };
        let result = program.test_run(options).unwrap();
        out.truncate(usize::try_from(result.data_size_out).unwrap());
        (Action::from(result.return_value), out)
    }

    pub(crate) fn counters(&self) -> Vec<u64> {
        let counters: PerCpuArray<_, u64> = self.map(map::COUNTERS).try_into().unwrap();
        (0..u32::try_from(Counter::ALL.len()).unwrap())
            .map(|index| counters.get(&index, 0).unwrap().iter().sum())
            .collect()
    }

    /// What was counted so far is no matter of the next frame.
    pub(crate) fn forget_counts(&mut self) {
        self.before = self.counters();
    }

    /// Runs a frame, of which exactly one counter must take note.
    pub(crate) fn send_bytes(&mut self, frame: &[u8]) -> Outcome {
        let (action, bytes) = self.run(frame);
        let after = self.counters();
        let moved: Vec<_> = Counter::ALL
            .iter()
            .zip(after.iter().zip(&self.before))
            .filter(|(_, (after, before))| after != before)
            .map(|(counter, (after, before))| (counter.name(), after - before))
            .collect();
        self.before = after;
        let [(counter, 1)] = moved[..] else {
            panic!("{action:?} moved {moved:?}");
        };
        let (verdict, _) = counter.split_once('_').unwrap();
        let expected = match verdict {
            "pass" => Action::Pass,
            "drop" => Action::Drop,
            "redirect" => Action::Redirect,
            _ => Action::Tx,
        };
        // A reset goes back the way the frame came, or to another interface.
        assert!(
            action == expected || (verdict, action) == ("reset", Action::Redirect),
            "{counter}"
        );
        if matches!(action, Action::Pass | Action::Drop) {
            assert_eq!(bytes, frame, "{counter}: the frame is changed");
        }
        Outcome { action, counter, bytes }
    }

    pub(crate) fn send(&mut self, frame: &Frame) -> Outcome {
        self.send_bytes(&frame.bytes())
    }

    /// The counter of a frame that passes or drops.
    #[track_caller]
    pub(crate) fn expect(&mut self, frame: &Frame, counter: &str) {
        let outcome = self.send(frame);
        assert_eq!(outcome.counter, counter, "{frame:#?}");
    }

    /// A frame that must leave as `expected`, by one counter.
    #[track_caller]
    pub(crate) fn expect_frame(&mut self, frame: &Frame, counter: &str, expected: &Frame) {
        let outcome = self.send(frame);
        assert_eq!(outcome.counter, counter, "{frame:#?}");
        assert_eq!(outcome.frame(), *expected);
        assert_eq!(outcome.bytes, expected.bytes());
    }

    // aya's map types.

    fn map(&self, name: &str) -> &Map {
        self.ebpf.map(name).unwrap()
    }

    fn map_mut(&mut self, name: &str) -> &mut Map {
        self.ebpf.map_mut(name).unwrap()
    }

    fn insert<K: Pod, V: Pod>(&mut self, name: &str, key: &K, value: V) {
        // One type for both kinds of hash, plain and LRU.
        let mut map: HashMap<_, K, V> = self.map_mut(name).try_into().unwrap();
        map.insert(key, value, 0).unwrap();
    }

    fn get<V: Pod>(&self, name: &str, index: u32) -> V {
        let array: Array<_, V> = self.map(name).try_into().unwrap();
        array.get(&index, 0).unwrap()
    }

    fn set<V: Pod>(&mut self, name: &str, index: u32, value: V) {
        let mut array: Array<_, V> = self.map_mut(name).try_into().unwrap();
        array.set(index, value, 0).unwrap();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Aborted,
    Drop,
    Pass,
    Tx,
    Redirect,
    Unknown(u32),
}

impl From<u32> for Action {
    fn from(action: u32) -> Self {
        match action {
            0 => Self::Aborted,
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Tx,
            4 => Self::Redirect,
            other => Self::Unknown(other),
        }
    }
}

/// What became of a frame.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) action: Action,
    pub(crate) counter: &'static str,
    pub(crate) bytes: Vec<u8>,
}

impl Outcome {
    /// The frame that left, its checksums verified.
    #[track_caller]
    pub(crate) fn frame(&self) -> Frame {
        Frame::parse(&self.bytes).unwrap()
    }
}

/// A segment of a client to the service.
pub(crate) fn from_client(client: SocketAddrV4, flags: u8) -> Frame {
    Frame::tcp(client, SERVICE).macs(CLIENT_MAC, LB_MAC).flags(flags)
}

pub(crate) fn syn(client: SocketAddrV4) -> Frame {
    from_client(client, SYN).seq(ISS).options(&[2, 4, 5, 0xb4, 1, 1, 4, 2])
}

/// The client's initial sequence number: the first byte of data is the last of its space.
pub(crate) const ISS: u32 = 0xffff_fffe;
/// The backend's.
pub(crate) const IRS: u32 = 5000;

/// A connection as both ends see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) client: SocketAddrV4,
    pub(crate) id: u32,
    pub(crate) backend: SocketAddrV4,
    pub(crate) snat: SocketAddrV4,
    /// What the client sends next, and the backend expects.
    pub(crate) client_next: u32,
    pub(crate) backend_next: u32,
}

impl Connection {
    /// The client's SYN was sent and forwarded.
    #[track_caller]
    pub(crate) fn syn(harness: &mut Harness, client: SocketAddrV4) -> Self {
        Self::open_with(harness, &syn(client))
    }

    /// Sends the client's first segment and finds out where it went.
    #[track_caller]
    pub(crate) fn open_with(harness: &mut Harness, first: &Frame) -> Self {
        let outcome = harness.send(first);
        assert_eq!(outcome.counter, "forward_request");
        let out = outcome.frame();
        let [.., id] = out.eth_dst;
        let segment = first.segment().unwrap();
        let opening = u32::from(segment.flags & SYN != 0);
        let connection = Self {
            client: v4(first.source()),
            id: id.into(),
            backend: v4(out.destination()),
            snat: v4(out.source()),
            client_next: segment.seq.wrapping_add(opening),
            backend_next: if opening == 1 { IRS + 1 } else { segment.ack },
        };
        assert_eq!(out, connection.forwarded(first));
        assert_eq!(outcome.bytes, connection.forwarded(first).bytes());
        let backend = harness.backend(connection.id);
        assert_eq!(backend.endpoint, endpoint(connection.backend));
        connection
    }

    /// A whole handshake.
    #[track_caller]
    pub(crate) fn establish(harness: &mut Harness, client: SocketAddrV4) -> Self {
        let connection = Self::syn(harness, client);
        connection.reply(harness, &connection.syn_ack());
        connection.request(harness, &connection.of_client(ACK));
        connection
    }

    pub(crate) fn original_key(&self) -> FlowId {
        key(self.client, SERVICE)
    }

    pub(crate) fn reply_key(&self) -> FlowId {
        key(self.backend, self.snat)
    }

    /// A segment of the client, at the place in its stream.
    pub(crate) fn of_client(&self, flags: u8) -> Frame {
        from_client(self.client, flags).seq(self.client_next).ack(self.backend_next)
    }

    pub(crate) fn of_backend(&self, flags: u8) -> Frame {
        Frame::tcp(self.backend, self.snat)
            .macs(backend_mac(self.id), LB_MAC)
            .flags(flags)
            .seq(self.backend_next)
            .ack(self.client_next)
            .ttl(63)
            .id(0x4321)
    }

    pub(crate) fn syn_ack(&self) -> Frame {
        self.of_backend(SYN | ACK).seq(IRS).options(&[2, 4, 5, 0xb4])
    }

    /// What a client's frame leaves as.
    pub(crate) fn forwarded(&self, frame: &Frame) -> Frame {
        let ttl = frame.ttl - 1;
        frame.clone().macs(LB_MAC, backend_mac(self.id)).from(self.snat).to(self.backend).ttl(ttl)
    }

    /// What a backend's frame leaves as.
    pub(crate) fn returned(&self, frame: &Frame) -> Frame {
        let ttl = frame.ttl - 1;
        frame.clone().macs(LB_MAC, CLIENT_MAC).from(SERVICE).to(self.client).ttl(ttl)
    }

    /// Sends a client's frame that must reach the backend.
    #[track_caller]
    pub(crate) fn request(&self, harness: &mut Harness, frame: &Frame) {
        harness.expect_frame(frame, "forward_request", &self.forwarded(frame));
    }

    /// Sends a backend's frame that must reach the client.
    #[track_caller]
    pub(crate) fn reply(&self, harness: &mut Harness, frame: &Frame) {
        harness.expect_frame(frame, "forward_reply", &self.returned(frame));
    }

    /// Sends data there and back.
    #[track_caller]
    pub(crate) fn exchange(&mut self, harness: &mut Harness, question: &[u8], answer: &[u8]) {
        let frame = self.of_client(ACK).payload(question);
        self.request(harness, &frame);
        self.client_next = self.client_next.wrapping_add(u32::try_from(question.len()).unwrap());
        let frame = self.of_backend(ACK).payload(answer);
        self.reply(harness, &frame);
        self.backend_next = self.backend_next.wrapping_add(u32::try_from(answer.len()).unwrap());
        self.request(harness, &self.of_client(ACK));
    }

    /// Both halves in the established map.
    #[track_caller]
    pub(crate) fn halves(&self, harness: &Harness) -> (Half, Half) {
        let halves =
            (harness.established(&self.original_key()), harness.established(&self.reply_key()));
        (halves.0.unwrap(), halves.1.unwrap())
    }

    /// Both halves in the half-open map.
    #[track_caller]
    pub(crate) fn half_open(&self, harness: &Harness) -> (Half, Half) {
        let halves =
            (harness.half_open(&self.original_key()), harness.half_open(&self.reply_key()));
        (halves.0.unwrap(), halves.1.unwrap())
    }
}

/// The RST that a client must get, with these numbers and flags.
pub(crate) fn rst_to(client: SocketAddrV4, seq: u32, ack: u32, flags: u8) -> Frame {
    let frame = Frame::tcp(SERVICE, client).macs(LB_MAC, CLIENT_MAC).id(0).window(0);
    frame.flags(flags).seq(seq).ack(ack)
}
