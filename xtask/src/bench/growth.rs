//! How start, reload and memory grow with what is configured.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_tests::controller::Controller;
use lb_tests::http;
use lb_tests::topology::Topology;
use serde::Serialize;

use super::lab::fairlead::{self, Settings};
use super::lab::haproxy::Haproxy;
use super::lab::{self, Fabric, Service};
use super::memory;
use super::peer::Peer;
use super::progress::Progress;

/// The first port of the backends' servers, each of which listens on many.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 340;
/// Of the first service; the others follow.
const FIRST_SERVICE: u16 = 10_000;
const PATIENCE: Duration = Duration::from_secs(30);
/// Of one attempt to be answered.
const ATTEMPT: Duration = Duration::from_millis(50);

/// What is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Size {
    pub(crate) services: u16,
    /// Of each service.
    pub(crate) backends: u16,
    /// Room for connections, of Fairlead.
    pub(crate) flows: u32,
}

/// What that takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Grown {
    pub(crate) name: &'static str,
    #[serde(flatten)]
    pub(crate) size: Size,
    /// From the start of the process to the first answer through the last service.
    pub(crate) start_ms: f64,
    /// From asking for a reload to the first answer through a service that it adds.
    pub(crate) reload_ms: f64,
    pub(crate) resident_kib: i64,
    pub(crate) maps_kib: i64,
}

const USUAL: Size = Size { services: 1, backends: 3, flows: 131_072 };
const SIZES: [Size; 7] = [
    USUAL,
    Size { backends: 100, ..USUAL },
    Size { backends: 1000, ..USUAL },
    Size { services: 64, ..USUAL },
    Size { services: 255, ..USUAL },
    Size { flows: 1_024, ..USUAL },
    Size { flows: 1_000_000, ..USUAL },
];

/// All sizes, as long as there is time; who could not be measured is said in `notes`.
pub(super) fn run(
    binary: &Path,
    few: bool,
    progress: &Progress,
    notes: &mut Vec<String>,
) -> Result<Vec<Grown>> {
    let sizes: Vec<Size> = SIZES.into_iter().step_by(if few { 2 } else { 1 }).collect();
    let mut grown = Vec::new();
    for peer in [Peer::Haproxy, Peer::FairleadNat] {
        let lab = Topology::build(&Fabric::Bare.plan(peer))?;
        let ports = format!("{FIRST_PORT}-{}", FIRST_PORT + PORTS - 1);
        let servers = lab.backends.iter().map(|host| lab::start_web_at(&lab, host, &ports));
        let _servers: Vec<_> = servers.collect::<Result<_>>()?;
        if !peer.is_fairlead() {
            let node = lab.lbs.first().context("a lab without an LB node")?;
            node.host.netns.ip(&format!("addr add {}/32 dev eth0", lab.vip()))?;
        }
        for size in &sizes {
            if !peer.is_fairlead() && size.flows != USUAL.flows {
                continue;
            }
            progress.part(&format!(
                "growth: {}, services {}, backends {}, flows {}",
                peer.label(),
                size.services,
                size.backends,
                size.flows
            ))?;
            let measured =
                if peer.is_fairlead() { ours(&lab, binary, *size) } else { theirs(&lab, *size) };
            match measured {
                Ok(measured) => grown.push(measured),
                Err(error) => {
                    notes.push(format!("growth: {} {size:?}: {error:#}", peer.label()));
                }
            }
        }
    }
    Ok(grown)
}

fn ours(lab: &Topology, binary: &Path, size: Size) -> Result<Grown> {
    let node = lab.lbs.first().context("a lab without an LB node")?;
    let mut controller = Controller::new(node, binary, lab.directory());
    let socket = controller.socket().to_owned();
    let more = format!("limits: {{ flows: {}, half_open: 65536 }}\n", size.flows);
    let write = |controller: &Controller<'_>, services: &[Service]| {
        let settings = Settings { mode: "nat", services, socket: &socket, more: &more };
        controller.write_config(&fairlead::text(&settings)?)
    };
    let mut services = services(lab, size);
    write(&controller, &services)?;
    let start = Instant::now();
    controller.start_only()?;
    wait_answer(lab, &services)?;
    let start_ms = millis(start.elapsed());
    let pid = controller.pid().context("no controller runs")?;
    let (resident_kib, maps_kib) = (memory::resident_of(pid), memory::maps(pid));
    controller.wait_ready()?;
    services.push(another(lab, size));
    write(&controller, &services)?;
    let start = Instant::now();
    controller.reload()?;
    wait_answer(lab, &services)?;
    let reload_ms = millis(start.elapsed());
    controller.stop(false)?;
    let name = Peer::FairleadNat.name();
    Ok(Grown { name, size, start_ms, reload_ms, resident_kib, maps_kib })
}

fn theirs(lab: &Topology, size: Size) -> Result<Grown> {
    let netns = &lab.lbs.first().context("a lab without an LB node")?.host.netns;
    let mut services = services(lab, size);
    let start = Instant::now();
    let mut haproxy = Haproxy::start(netns, lab.directory(), &services)?;
    wait_answer(lab, &services)?;
    let start_ms = millis(start.elapsed());
    let resident_kib = haproxy.pids().into_iter().map(memory::resident_of).sum();
    services.push(another(lab, size));
    let start = Instant::now();
    haproxy.reload(&services)?;
    wait_answer(lab, &services)?;
    let reload_ms = millis(start.elapsed());
    let name = Peer::Haproxy.name();
    Ok(Grown { name, size, start_ms, reload_ms, resident_kib, maps_kib: 0 })
}

fn services(lab: &Topology, size: Size) -> Vec<Service> {
    (0..size.services).map(|number| service(lab, number, size.backends)).collect()
}

/// The one that a reload adds; small, whatever the size of the others.
fn another(lab: &Topology, size: Size) -> Service {
    service(lab, size.services, 3)
}

/// On ports of all hosts in turn.
fn service(lab: &Topology, number: u16, backends: u16) -> Service {
    let hosts = lab.backends.iter().cycle();
    let backend = |(index, host): (u16, &lb_tests::topology::Host)| {
        let port = FIRST_PORT + index / 3;
        (format!("b{index}"), SocketAddr::from((host.address, port)))
    };
    Service {
        name: format!("s{number}"),
        vip: lab.vip().into(),
        port: FIRST_SERVICE + number,
        backends: (0..backends).zip(hosts).map(backend).collect(),
    }
}

/// Of a web server, through the last service.
fn wait_answer(lab: &Topology, services: &[Service]) -> Result<()> {
    let last = services.last().context("no service")?;
    let target = SocketAddr::from((last.vip, last.port));
    lab.client.netns.on_thread(|| {
        let start = Instant::now();
        while answer(target).is_err() {
            ensure!(start.elapsed() < PATIENCE, "no answer within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    })
}

fn answer(target: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, ATTEMPT)?;
    stream.set_read_timeout(Some(ATTEMPT))?;
    stream.write_all(http::get("bench", "/").as_bytes())?;
    let mut answer = [0; 512];
    let got = stream.read(&mut answer)?;
    ensure!(answer[..got].starts_with(b"HTTP/1.1 200"), "no answer");
    Ok(())
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
