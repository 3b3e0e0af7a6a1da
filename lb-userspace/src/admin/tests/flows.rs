//! Lists, counts and purges of flows, of a controller that makes them up.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use lb_common::addr::{Ipv4Be, PortBe, Ports};
use lb_common::conntrack::{FlowHalf, TcpState, Timeouts, flag};
use lb_common::flow::FlowKey;
use lb_common::link::NextHop;
use lb_common::nat::{Kind, Translation};
use lb_common::time::Ticks;

use super::*;
use crate::admin::model::EffectiveConfig;
use crate::admin::model::flows::{FlowList, Purge, Purged};
use crate::admin::model::trace::{Trace, Traces, Verdict};
use crate::admin::query::{FlowView, Query};
use crate::config::show::{Shown, show};
use crate::config::{EXAMPLE, parse};
use crate::control::flows::{BackendNames, Directory, Facts, InstalledBackend, Named};
use crate::datapath::flows::{FlowSource, Record};
use crate::datapath::stale::{Flow, Found};

/// Flows of a slice.
const SLICE: usize = 100;

/// Flows that are made up, and go when they are removed.
#[derive(Clone, Default)]
pub(super) struct Fake {
    flows: Arc<Mutex<Vec<Record>>>,
    next: usize,
    fails: Arc<AtomicBool>,
}

impl Fake {
    /// 600 flows of 10.0.0.1 to 10.0.0.60, to two backends, half of them in TIME-WAIT.
    pub(super) fn some() -> Self {
        let flows = (0..600).map(record).collect();
        Self { flows: Arc::new(Mutex::new(flows)), ..Self::default() }
    }

    /// Makes so many.
    pub(super) fn grow(&self, count: u16) {
        *self.lock() = (0..count).map(record).collect();
    }

    /// From now on they cannot be read.
    pub(super) fn fail(&self) {
        self.fails.store(true, Ordering::Relaxed);
    }

    fn left(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Record>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, flow: &Flow) -> bool {
        let mut flows = self.lock();
        let before = flows.len();
        flows.retain(|it| key_of(&it.flow) != key_of(flow));
        flows.len() < before
    }

    /// As the controller would.
    pub(super) fn answer(&self, query: Query, refusal: Option<String>, say: impl Fn(String)) {
        match (query, refusal) {
            (Query::Flows { reply }, Some(why)) => drop(reply.send(Err(why))),
            (Query::ResetFlows { reply, .. }, Some(why)) => drop(reply.send(Err(why))),
            (Query::Trace { reply, .. }, Some(why)) => drop(reply.send(Err(why))),
            (Query::Follow { reply, .. }, Some(why)) => drop(reply.send(Err(why))),
            (Query::Config { reply }, Some(why)) => drop(reply.send(Err(why))),
            (Query::Config { reply }, None) => drop(reply.send(Ok(SHOWN.clone()))),
            (Query::Follow { wish, reply, .. }, None) => {
                let fails = self.fails.load(Ordering::Relaxed);
                let _ = reply.send(packets::follow(&wish, directory(), fails));
            }
            (Query::Flows { reply }, None) => {
                // Removed flows must not shift those that are still to be read.
                let fixed = Self { next: 0, ..self.clone() };
                let snapshot = fixed.lock().clone();
                let source = Box::new(Reading { all: fixed, snapshot });
                let _ = reply.send(Ok(FlowView { directory: directory(), source }));
            }
            (Query::ResetFlows { flows, unused, reply }, None) => {
                say(format!("reset {} {unused}", flows.len()));
                let removed = flows.iter().filter(|flow| self.take(flow)).count() as u64;
                let _ = reply.send(Ok(Purged { removed, reset: removed, truncated: false }));
            }
            (Query::Trace { question, reply }, None) => {
                let answer = match question.vip {
                    Some(vip) => Ok(Traces { traces: vec![trace(question.client, vip)] }),
                    None => Err("no service has this VIP".to_owned()),
                };
                let _ = reply.send(answer);
            }
        }
    }
}

struct Reading {
    all: Fake,
    snapshot: Vec<Record>,
}

impl FlowSource for Reading {
    fn slice(&mut self, records: &mut Vec<Record>) -> io::Result<bool> {
        if self.all.fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("the maps are gone"));
        }
        let from = self.all.next;
        let to = (from + SLICE).min(self.snapshot.len());
        records.extend(&self.snapshot[from..to]);
        self.all.next = to;
        Ok(to == self.snapshot.len())
    }

    fn remove(&self, flow: &Flow, _: bool) -> io::Result<bool> {
        Ok(self.all.take(flow))
    }
}

fn key_of(flow: &Flow) -> FlowKey<Ipv4Be> {
    match flow {
        Flow::V4(found) => found.key,
        Flow::V6(_) => panic!("no such flow was made"),
    }
}

fn record(number: u16) -> Record {
    let client = [10, 0, 0, u8::try_from(number % 60 + 1).unwrap()];
    let ports = Ports::new(PortBe::new(30_000 + number), PortBe::new(6443));
    let key = FlowKey::new(Ipv4Be::from_bytes(client), Ipv4Be::from_bytes([10, 0, 1, 0]), ports);
    let mut half = FlowHalf {
        translation: Translation::new(&key, &key),
        flags: 0,
        seq_end: 0,
        ack: 0,
        fin_end: 0,
        backend: 0,
        epoch: 0,
        vip: 0,
        service: 0,
        kind: 0,
        attempts: 0,
        last_seen: Ticks(0),
        checked: Ticks(0),
        next_hop: NextHop::UNKNOWN,
        #[cfg(feature = "second-layout")]
        later: 0,
    };
    half.init(Kind::Nat, &key, &key);
    half.set(flag::ORIGINAL);
    let flow = Flow::V4(Found { key, half });
    let ends: [SocketAddr; 4] = ["10.0.1.0:6443", "10.0.1.0:2000", "10.0.0.11:6443", "10.0.0.2:1"]
        .map(|end| end.parse().unwrap());
    let facts = Facts {
        client: SocketAddr::new(client.into(), 30_000 + number),
        vip: ends[0],
        source: ends[1],
        endpoint: ends[2],
        service: 1,
        backend: u32::from(number % 2) + 1,
        epoch: 0,
        kind: Some(Kind::Nat),
        state: if number < 300 { TcpState::Established } else { TcpState::TimeWait },
        idle: u32::from(number) * 1000,
        closed_first: None,
        reset_by: None,
        half_open: number.is_multiple_of(100),
        attempts: 0,
    };
    Record { facts, flow }
}

fn directory() -> Directory {
    let backend = |name: &str| BackendNames { service: "api".to_owned(), name: name.to_owned() };
    let address = "10.0.0.11:6443".parse().unwrap();
    let named = Named { name: "api".to_owned(), timeouts: Timeouts::default() };
    Directory {
        services: [(1, named)].into(),
        backends: [(1, backend("cp1")), (2, backend("cp2"))].into(),
        installed: [(1, InstalledBackend { epoch: 0, address })].into(),
    }
}

/// Made once: a thousand clients ask for it.
static SHOWN: LazyLock<EffectiveConfig> = LazyLock::new(|| {
    let config = parse(EXAMPLE, Path::new("example.yaml")).unwrap();
    let Shown { yaml, json: config, hidden } = show(&config).unwrap();
    EffectiveConfig { yaml, config, hidden, ..EffectiveConfig::default() }
});

fn trace(client: IpAddr, vip: IpAddr) -> Trace {
    Trace {
        client,
        client_port: None,
        vip: SocketAddr::new(vip, 6443),
        service: Some("api".to_owned()),
        verdict: Verdict::Forward,
        counter: "forward_request".to_owned(),
        backend: None,
        backend_address: None,
        source: None,
        mode: None,
        flow: Some(directory().describe(&record(0).facts)),
        shares: vec![],
        steps: vec![],
    }
}

#[tokio::test]
async fn a_list_is_filtered_bounded_and_in_order() {
    let server = Server::start();
    let list = async |query: &str| -> FlowList {
        let (status, body) = server.request("GET", &format!("/v1/flows{query}"), "").await;
        assert_eq!(status, 200, "{query}: {body}");
        serde_json::from_value(body).unwrap()
    };
    let all = list("").await;
    assert_eq!((all.flows.len(), all.truncated), (600, false));
    assert!(all.flows.is_sorted_by_key(|flow| flow.client));
    assert_eq!(all.flows[0].backend.as_deref(), Some("cp1"));
    let some = list("?limit=50").await;
    assert_eq!((some.flows.len(), some.truncated), (50, true));
    assert_eq!(list("?limit=600").await.flows.len(), 600);
    for (query, count) in [
        ("?client=10.0.0.1", 10),
        ("?client=10.0.0.0/27", 310),
        ("?backend=cp1", 300),
        ("?backend=api%2Fcp2&state=established", 150),
        ("?state=time_wait&service=api", 300),
        ("?older_than=5m", 313),
    ] {
        assert_eq!(list(query).await.flows.len(), count, "{query}");
    }
}

#[tokio::test]
async fn a_count_is_by_state_and_backend() {
    let server = Server::start();
    let (_, count) = server.request("GET", "/v1/flows/count?client=10.0.0.0/8", "").await;
    assert_eq!((&count["flows"], &count["half_open"]), (&json!(600), &json!(6)));
    assert_eq!(count["states"], json!({ "ESTABLISHED": 300, "TIME-WAIT": 300 }));
    assert_eq!(count["backends"][1]["backend"], "cp2");
    assert_eq!(count["backends"][1]["flows"], 300);
    assert_eq!(server.request("GET", "/v1/flows/count?limit=1", "").await.0, 400);
}

#[tokio::test]
async fn a_purge_removes_what_matches_and_no_more() {
    let server = Server::start();
    let (status, _) = server.request("POST", "/v1/flows/purge", "").await;
    assert_eq!((status, server.flows.left()), (400, 600));
    let purge = Purge { backend: Some("cp2".to_owned()), ..Purge::default() };
    let purged = server.client().purge(&purge).await.unwrap();
    assert_eq!(purged, Purged { removed: 300, reset: 0, truncated: false });
    assert_eq!(server.flows.left(), 300);
    let purge = Purge { all: true, limit: Some(10), ..Purge::default() };
    let purged = server.client().purge(&purge).await.unwrap();
    assert_eq!(purged, Purged { removed: 10, reset: 0, truncated: true });
    assert_eq!(server.flows.left(), 290);
    assert!(server.seen().is_empty());
}

/// 2,000 a second, by lots of 20; half-open ones are not told.
#[tokio::test(start_paused = true)]
async fn clients_are_reset_at_a_pace() {
    let server = Server::start();
    let start = tokio::time::Instant::now();
    let purge = Purge { all: true, reset: true, ..Purge::default() };
    let purged = server.client().purge(&purge).await.unwrap();
    assert_eq!(purged, Purged { removed: 600, reset: 594, truncated: false });
    assert_eq!(server.seen().len(), 30);
    assert_eq!(server.seen()[0], "reset 20 false");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(290) && took < Duration::from_millis(400), "{took:?}");
}

/// Who was used since must be known to the controller too.
#[tokio::test]
async fn a_purge_of_the_idle_says_so() {
    let server = Server::start();
    let older_than = Some("10m".to_owned());
    let purge = Purge { older_than, reset: true, limit: Some(1), ..Purge::default() };
    assert_eq!(server.client().purge(&purge).await.unwrap().reset, 1);
    assert_eq!(server.seen(), ["reset 1 true"]);
}

#[tokio::test]
async fn wrong_queries_are_refused() {
    let server = Server::start();
    for (path, expected) in [
        ("/v1/flows?state=open", 400),
        ("/v1/flows?client=10.0.0.0/33", 400),
        ("/v1/flows?client=cp1", 400),
        ("/v1/flows?older_than=5", 400),
        ("/v1/flows?older_than=-5s", 400),
        ("/v1/flows?limit=0", 400),
        ("/v1/flows?limit=20001", 400),
        ("/v1/flows?limit=many", 400),
        ("/v1/flows?colour=red", 400),
        ("/v1/flows?service=none", 422),
        ("/v1/flows/count?backend=api/cp9", 422),
        ("/v1/trace", 400),
        ("/v1/trace?client=nobody", 400),
        ("/v1/trace?client=10.0.0.2:0", 400),
        ("/v1/trace?client=10.0.0.2&vip=10.0.0.1:1&port=2", 400),
        ("/v1/trace?client=10.0.0.2", 422),
    ] {
        let (status, body) = server.request("GET", path, "").await;
        assert_eq!(status, expected, "{path}: {body}");
        assert!(body["error"].is_string(), "{path}: {body}");
    }
}

#[tokio::test]
async fn a_trace_is_answered() {
    let server = Server::start();
    let (status, body) = server.request("GET", "/v1/trace?client=10.0.0.2&vip=10.0.1.0", "").await;
    assert_eq!((status, &body["traces"][0]["verdict"]), (200, &json!("forward")));
    assert_eq!(body["traces"][0]["flow"]["backend"], "cp1");
}
