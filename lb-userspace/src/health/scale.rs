//! What many probes cost. Figures, not promises: they need an optimised build and a quiet machine.
//!
//! `cargo test --release -p lb-userspace --lib -- --ignored --nocapture --test-threads=1 health::scale`

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustls::server::ServerSessionMemoryCache;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::driver::{THREAD, runtime};
use super::testing::{Authority, OK, origin};
use super::{BackendKey, Health, HealthMonitor, HealthTable, Past, Target};
use crate::config::{HealthCheck, Pace, Probe, Request, Tls, Verify};

/// Threads of a server that waits for each of its clients.
const SERVING: usize = 8;
const MANY: u32 = 20_000;
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(5);

#[test]
#[ignore = "measures"]
fn a_thousand_backends_by_tcp_ten_times_a_second() {
    let server = Server::tcp();
    let figures = measure(&server, 1000, Duration::from_millis(100), &Probe::Tcp);
    figures.print("tcp, 1,000 backends at 100 ms");
    assert_eq!(figures.down, 0);
    let latest = figures.late.last().unwrap();
    assert!(*latest <= Duration::from_millis(100), "late by {latest:?}");
}

#[test]
#[ignore = "measures"]
fn a_thousand_backends_by_http_ten_times_a_second() {
    let server = Server::http();
    let probe = Probe::Http { request: Request::new("/readyz") };
    let figures = measure(&server, 1000, Duration::from_millis(100), &probe);
    figures.print("http, 1,000 backends at 100 ms");
    assert_eq!(figures.down, 0);
}

#[test]
#[ignore = "measures"]
fn backends_by_https() {
    let ca = Authority::new("kubernetes-ca");
    let server = Server::tls(&ca);
    let tls = Tls::new("kubernetes", Verify::Ca(ca.file()));
    let probe = Probe::Https { request: Request::new("/readyz"), tls };
    // Sessions last for less than a second: here nine of ten are resumed, and there none.
    let resumed = measure(&server, 30, Duration::from_millis(100), &probe);
    resumed.print("https, 30 backends at 100 ms, resumed");
    let full = measure(&server, 300, Duration::from_secs(1), &probe);
    full.print("https, 300 backends at 1 s, in full");
    assert!(resumed.resumed > resumed.probes / 2 && full.resumed < full.probes / 2);
}

#[test]
#[ignore = "measures"]
fn memory_of_many_backends() {
    let server = Server::tcp();
    let resident = || {
        let text = fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let before = resident();
    let runtime = runtime().unwrap();
    let (sender, _table) = watch::channel(HealthTable::new());
    let mut monitor = HealthMonitor::new(sender, runtime.handle().clone());
    let check = Arc::new(check(Duration::from_secs(10), &Probe::Tcp));
    let targets = (0..MANY).map(|number| target(server.port, number, &check)).collect();
    monitor.reconcile(targets);
    thread::sleep(MEASURED);
    let each = (resident() - before) / usize::try_from(MANY).unwrap();
    println!("{MANY} backends by tcp: {each} bytes of memory each");
    drop(monitor);
    runtime.shutdown_timeout(Duration::from_secs(2));
}

/// When each backend was probed.
type Arrivals = Arc<Mutex<BTreeMap<IpAddr, Vec<Instant>>>>;

/// Stands for every backend: it listens on all of 127.0.0.0/8.
struct Server {
    port: u16,
    arrivals: Arrivals,
    resumed: Arc<AtomicUsize>,
}

struct Figures {
    probes: usize,
    resumed: usize,
    /// CPU time of the monitor's threads, the kernel's part of it included.
    cpu: Duration,
    /// Of each probe, ascending: how much later than its interval and jitter it came.
    late: Vec<Duration>,
    down: usize,
}

fn measure(server: &Server, backends: u32, interval: Duration, probe: &Probe) -> Figures {
    let runtime = runtime().unwrap();
    let (sender, table) = watch::channel(HealthTable::new());
    let mut monitor = HealthMonitor::new(sender, runtime.handle().clone());
    let check = Arc::new(check(interval, probe));
    let targets = (0..backends).map(|number| target(server.port, number, &check)).collect();
    monitor.reconcile(targets);
    thread::sleep(WARM_UP);
    server.arrivals.lock().unwrap().clear();
    server.resumed.store(0, Ordering::Relaxed);
    let before = cpu_time();
    thread::sleep(MEASURED);
    let cpu = cpu_time() - before;
    let arrivals = std::mem::take(&mut *server.arrivals.lock().unwrap());
    let down = table.borrow().values().filter(|report| report.health != Health::Up).count();
    drop(monitor);
    runtime.shutdown_timeout(Duration::from_secs(2));
    let longest = interval + interval / 10;
    let gaps = arrivals.values().flat_map(|times| times.windows(2).map(|two| two[1] - two[0]));
    let mut late: Vec<Duration> = gaps.map(|gap| gap.saturating_sub(longest)).collect();
    late.sort();
    Figures {
        probes: arrivals.values().map(Vec::len).sum(),
        resumed: server.resumed.load(Ordering::Relaxed),
        cpu,
        late,
        down,
    }
}

impl Figures {
    fn print(&self, what: &str) {
        let rate = self.probes as f64 / MEASURED.as_secs_f64();
        let cores = self.cpu.as_secs_f64() / MEASURED.as_secs_f64();
        let each = self.cpu.as_secs_f64() * 1e6 / self.probes.max(1) as f64;
        let late = |percent: usize| self.late[(self.late.len() - 1) * percent / 100];
        println!(
            "{what}: {rate:.0} probes/s, {cores:.2} cores, {each:.0} us each; {} resumed, {} not up; \
             late by {:.1?} (median), {:.1?} (99 %), {:.1?} (most)",
            self.resumed,
            self.down,
            late(50),
            late(99),
            late(100),
        );
    }
}

fn check(interval: Duration, probe: &Probe) -> HealthCheck {
    HealthCheck {
        probe: probe.clone(),
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        pace: Pace { interval, fast_interval: interval, ..Pace::default() },
    }
}

fn target(port: u16, number: u32, check: &Arc<HealthCheck>) -> Target {
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + number);
    Target {
        key: BackendKey {
            service: "scale".to_owned(),
            backend: format!("b{number}"),
            endpoint: SocketAddr::from((address, port)),
        },
        check: Arc::clone(check),
        source: None,
        initial: Health::Unknown,
        past: Past::default(),
    }
}

impl Server {
    fn listen() -> (TcpListener, Self) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).unwrap();
        // A SYN that finds no room is sent again after a second.
        socket.listen(4096).unwrap();
        let listener = TcpListener::from(socket);
        let port = listener.local_addr().unwrap().port();
        (listener, Self { port, arrivals: Arc::default(), resumed: Arc::default() })
    }

    fn tcp() -> Self {
        let (listener, server) = Self::listen();
        let arrivals = Arc::clone(&server.arrivals);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                note(&arrivals, stream.local_addr().map(|it| it.ip()).ok());
            }
        });
        server
    }

    /// A small answer to each small request, and FIN.
    fn http() -> Self {
        let (listener, server) = Self::listen();
        let arrivals = Arc::clone(&server.arrivals);
        for _ in 0..SERVING {
            let (listener, arrivals) = (listener.try_clone().unwrap(), Arc::clone(&arrivals));
            thread::spawn(move || {
                while let Ok((mut stream, _)) = listener.accept() {
                    note(&arrivals, stream.local_addr().map(|it| it.ip()).ok());
                    // What a client does that breaks off is seen by its next probe.
                    let answered = stream.read(&mut [0; 1024]).and_then(|_| stream.write_all(OK));
                    let _ = answered;
                }
            });
        }
        server
    }

    fn tls(ca: &Authority) -> Self {
        let (listener, server) = Self::listen();
        let mut config = Arc::unwrap_or_clone(ca.certify("kubernetes", 4000));
        config.session_storage = ServerSessionMemoryCache::new(16_384);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (arrivals, resumed) = (Arc::clone(&server.arrivals), Arc::clone(&server.resumed));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    note(&arrivals, stream.local_addr().map(|it| it.ip()).ok());
                    let (acceptor, resumed) = (acceptor.clone(), Arc::clone(&resumed));
                    tokio::spawn(async move {
                        let mut stream = acceptor.accept(stream).await?;
                        let kind = stream.get_ref().1.handshake_kind();
                        let is_resumed = kind == Some(rustls::HandshakeKind::Resumed);
                        resumed.fetch_add(usize::from(is_resumed), Ordering::Relaxed);
                        stream.read_exact(&mut [0; 4]).await?;
                        stream.write_all(OK).await?;
                        stream.shutdown().await
                    });
                }
            });
        });
        server
    }
}

fn note(arrivals: &Arrivals, address: Option<IpAddr>) {
    if let Some(address) = address {
        arrivals.lock().unwrap().entry(address).or_default().push(origin());
    }
}

/// Of the monitor's threads: the first number of schedstat, in nanoseconds.
fn cpu_time() -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let own = tasks.filter(|task| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == THREAD)
    });
    own.map(|task| {
        let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        let nanoseconds = text.split(' ').next().and_then(|it| it.parse().ok());
        Duration::from_nanos(nanoseconds.unwrap_or(0))
    })
    .sum()
}
