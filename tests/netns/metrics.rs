//! Each family of metrics changes when what it counts is provoked, and scrapes cost little.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_tests::command::run;
use lb_tests::controller::Controller;
use lb_tests::packet::{ETH_LEN, FIN, Frame, SYN};
use lb_tests::scrape::{self, Scrape, wait_sum};
use lb_tests::topology::API_PORT;
use lb_tests::used::Used;
use socket2::{Domain, Protocol, Socket, Type};

use super::measured;
use super::scene::{PATIENCE, STEADY, Scene, Settings};

const API: &str = "service=\"api\"";
const CP2: &str = "backend=\"cp2\"";
const CONNECTIONS: u64 = 20;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn traffic_and_connect_times_are_counted_by_service_and_backend() -> Result<()> {
    let scene = Scene::build()?;
    let controller = scene.balanced()?;
    let before = Scrape::of(&controller)?;
    let traffic = scene.traffic()?;
    let steady = STEADY as f64;
    wait_sum(&controller, "fairlead_backend_flows", &[API], |flows| flows >= steady)?;
    wait_sum(&controller, "fairlead_flows", &["established"], |flows| flows >= steady)?;
    traffic.ensure_nothing_lost("scrapes")?;
    let done = scene.some_connections(CONNECTIONS)?.answered as f64;
    for (name, labels, least) in [
        ("fairlead_backend_opened_flows_total", &[API][..], done),
        ("fairlead_backend_confirmed_flows_total", &[API], done),
        ("fairlead_backend_packets_total", &[API, "direction=\"request\""], 3.0 * done),
        ("fairlead_backend_packets_total", &[API, "direction=\"reply\""], 2.0 * done),
        ("fairlead_backend_bytes_total", &[API, "direction=\"request\""], 160.0 * done),
        ("fairlead_backend_bytes_total", &[API, "direction=\"reply\""], 110.0 * done),
        ("fairlead_packets_total", &["verdict=\"forward\"", "reason=\"request\""], 3.0 * done),
        // Each connection that is tried is answered here, and takes its time.
        ("fairlead_backend_connect_duration_seconds_count", &[API], done),
        ("fairlead_backend_connect_duration_seconds_sum", &[API], 1e-5 * done),
        ("fairlead_controller_busy_seconds_count", &["task=\"publish\""], 1.0),
        ("fairlead_controller_busy_seconds_count", &["task=\"sweep\""], 1.0),
        ("fairlead_backend_probe_duration_seconds_count", &[API, CP2], 1.0),
        ("fairlead_backend_probe_duration_seconds_sum", &[API, CP2], 1e-6),
        ("fairlead_read_timestamp_seconds", &[], 0.5),
    ] {
        wait_sum(&controller, name, labels, |sum| sum - before.sum(name, labels) >= least)?;
    }
    let after = Scrape::of(&controller)?;
    for (name, labels, value) in [
        ("fairlead_backend_state", &[API, "state=\"up\""][..], 3.0),
        ("fairlead_backend_health", &[API, "health=\"up\""], 3.0),
        ("fairlead_service_backends", &[API, "state=\"up\""], 3.0),
        ("fairlead_service_panic", &[API], 0.0),
        ("fairlead_xdp_attached", &["interface=\"eth0\"", "mode=\"native\""], 1.0),
        ("fairlead_vip_owner", &[], 1.0),
        ("fairlead_flows_limit", &["state=\"established\""], 16_384.0),
        ("fairlead_build_info", &["version="], 1.0),
    ] {
        ensure!(after.sum(name, labels) == value, "{name} {labels:?}: {}", after.sum(name, labels));
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn drops_refusals_and_lost_syns_are_counted_by_reason() -> Result<()> {
    let mut scene = Scene::build()?;
    let servers = std::mem::take(&mut scene.servers);
    let controller = scene.balanced()?;
    let bad = ["verdict=\"drop\"", "reason=\"bad_flags\""];
    let before = Scrape::of(&controller)?.sum("fairlead_packets_total", &bad);
    send_nonsense(&scene)?;
    wait_sum(&controller, "fairlead_packets_total", &bad, |sum| sum >= before + 1.0)?;

    // Its way is known, and it is silent: the client sends its SYN again.
    scene.lab.fabric.ip("link set cp2 down")?;
    scene.some_connections(CONNECTIONS)?;
    let retried = "fairlead_backend_retried_syns_total";
    wait_sum(&controller, retried, &[API, CP2], |sum| sum >= 1.0)?;
    controller.wait_backend("cp2", "down", PATIENCE)?;
    wait_sum(&controller, "fairlead_backend_state", &[CP2, "state=\"down\""], |sum| sum == 1.0)?;
    wait_sum(&controller, "fairlead_service_backends", &[API, "state=\"up\""], |sum| sum == 2.0)?;

    drop(servers);
    wait_sum(&controller, "fairlead_service_panic", &[], |sum| sum == 2.0)?;
    // Nobody is better, so it goes on to those that last were up: they refuse.
    let target = SocketAddr::from((scene.lab.vip(), API_PORT));
    scene.lab.client.netns.on_thread(|| {
        ensure!(TcpStream::connect_timeout(&target, PATIENCE).is_err(), "somebody listens");
        Ok(())
    })?;
    wait_sum(&controller, "fairlead_backend_refused_syns_total", &[API], |sum| sum >= 1.0)?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn reloads_and_what_operators_say_are_told() -> Result<()> {
    let scene = Scene::build()?;
    let controller = scene.balanced()?;
    let good = scene.yaml(&controller, &Settings::default());
    let (reloads, successful) =
        ("fairlead_config_reloads_total", "fairlead_config_last_reload_successful");
    wait_sum(&controller, successful, &[], |sum| sum == 1.0)?;
    controller.write_config("services: [")?;
    ensure!(controller.reload().is_err());
    wait_sum(&controller, successful, &[], |sum| sum == 0.0)?;
    wait_sum(&controller, reloads, &["result=\"failure\""], |sum| sum == 1.0)?;
    let read = "fairlead_config_last_reload_success_timestamp_seconds";
    let before = Scrape::of(&controller)?.sum(read, &[]);
    controller.write_config(&good)?;
    controller.reload()?;
    wait_sum(&controller, successful, &[], |sum| sum == 1.0)?;
    wait_sum(&controller, reloads, &["result=\"success\""], |sum| sum == 1.0)?;
    wait_sum(&controller, read, &[], |sum| sum > before)?;
    wait_sum(&controller, "fairlead_config_reload_duration_seconds_count", &[], |sum| sum == 2.0)?;

    controller.cli(&["backend", "drain", "api/cp2"])?;
    wait_sum(&controller, "fairlead_overrides", &[], |sum| sum == 1.0)?;
    wait_sum(&controller, "fairlead_backend_state", &[API, CP2, "draining"], |sum| sum == 1.0)?;
    wait_sum(&controller, "fairlead_backend_weight", &[API, CP2], |sum| sum == 0.0)?;
    controller.cli(&["backend", "enable", "api/cp2"])?;
    wait_sum(&controller, "fairlead_backend_state", &[API, CP2, "\"up\""], |sum| sum == 1.0)?;
    promtool_takes(&scrape::text(controller.socket(), "text/plain;version=0.0.4")?)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_hundred_scrapes_a_second_cost_little() -> Result<()> {
    const SECONDS: u32 = 5;
    const RATE: u32 = 100;
    let scene = Scene::build()?;
    let controller = scene.balanced()?;
    let pid = controller.pid().context("nothing runs")?;
    let before = Used::by(pid)?.cpu_seconds;
    std::thread::sleep(Duration::from_secs(SECONDS.into()));
    let idle = Used::by(pid)?.cpu_seconds - before;
    let (start, mut longest) = (now(), Duration::ZERO);
    let before = Used::by(pid)?.cpu_seconds;
    for turn in 0..SECONDS * RATE {
        let began = now();
        scrape::text(controller.socket(), "application/openmetrics-text")?;
        longest = longest.max(began.elapsed());
        let due = start + Duration::from_secs(1) / RATE * (turn + 1);
        std::thread::sleep(due.saturating_duration_since(now()));
    }
    let (took, used) = (start.elapsed(), Used::by(pid)?.cpu_seconds - before);
    let share = |cpu_seconds: f64, of: Duration| 100.0 * cpu_seconds / of.as_secs_f64();
    let idle = share(idle, Duration::from_secs(SECONDS.into()));
    let busy = share(used, took);
    measured(&format!(
        "{RATE} scrapes a second: {busy:.1} % of a core, {idle:.1} % without; the longest {longest:?}, \
         {took:?} for all"
    ));
    // As it was asked to be, and room for the grain of the kernel's clock (10 ms).
    ensure!(busy - idle < 5.4, "{busy} % with, {idle} % without");
    Ok(())
}

/// Services beyond the bound have no metrics, nor have their backends; how many of each is said.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn what_is_beyond_the_bounds_is_left_out_and_counted() -> Result<()> {
    const SERVICES: usize = 300;
    const BOUND: usize = 256;
    const OMITTED: &str = "fairlead_omitted_objects";
    let scene = Scene::build()?;
    let mut controller = scene.balanced()?;
    let before = Scrape::of(&controller)?;
    ensure!(before.has(OMITTED, &["kind=\"services\""]), "nothing is said of services");
    ensure!(before.sum(OMITTED, &[]) == 0.0, "{} are left out", before.sum(OMITTED, &[]));
    // A start makes room for so many, a reload does not.
    controller.write_config(&many_services(&scene, &controller, SERVICES))?;
    ensure!(controller.stop(true)?.success());
    controller.start()?;
    let per_service = scene.lab.backends.len();
    let (services, backends) =
        ((SERVICES - BOUND) as f64, ((SERVICES - BOUND) * per_service) as f64);
    wait_sum(&controller, OMITTED, &["kind=\"services\""], |sum| sum == services)?;
    wait_sum(&controller, OMITTED, &["kind=\"backends\""], |sum| sum == backends)?;
    // Each backend is in one state.
    let after = Scrape::of(&controller)?;
    let written = after.sum("fairlead_backend_state", &[]);
    ensure!(written == (BOUND * per_service) as f64, "{written} backends are written");
    ensure!(after.sum(OMITTED, &[]) == services + backends, "something else is left out");
    controller.write_config(&scene.yaml(&controller, &Settings::default()))?;
    controller.reload()?;
    wait_sum(&controller, OMITTED, &[], |sum| sum == 0.0)?;
    Ok(())
}

/// So many services of one VIP, whose probes are few.
fn many_services(scene: &Scene, controller: &Controller<'_>, services: usize) -> String {
    let yaml = scene.yaml(controller, &Settings::default());
    let backends: Vec<String> = scene
        .lab
        .backends
        .iter()
        .map(|host| {
            format!("{{ name: {}, address: {}, port: {API_PORT} }}", host.name, host.address)
        })
        .collect();
    let service = |number: usize| {
        format!(
            "  - name: s{number}
    vips: [{}]
    port: {}
    backends: [{}]
    health: {{ type: tcp, interval: 1h, down_interval: 1h, timeout: 1s }}
",
            scene.lab.vip(),
            20_000 + number,
            backends.join(", "),
        )
    };
    let services: String = (0..services).map(service).collect();
    let (head, rest) = yaml.split_once("services:\n").expect("a configuration has services");
    let (_, admin) = rest.split_once("admin:\n").expect("it has a socket");
    format!("{head}services:\n{services}admin:\n{admin}")
}

/// A SYN with a FIN.
fn send_nonsense(scene: &Scene) -> Result<()> {
    let target = SocketAddr::from((scene.lab.vip(), API_PORT));
    let own = SocketAddr::from((scene.lab.client.address, 20_000));
    scene.lab.client.netns.on_thread(|| {
        let raw = Protocol::from(i32::from(u8::MAX));
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(raw))?;
        let frame = Frame::tcp(own, target).flags(SYN | FIN).bytes();
        socket.send_to(&frame[ETH_LEN..], &SocketAddr::from((target.ip(), 0)).into())?;
        Ok(())
    })
}

/// `promtool check metrics` finds nothing: names, units, types and helps follow the conventions.
fn promtool_takes(text: &str) -> Result<()> {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting promtool")?;
    child.stdin.take().context("no stdin")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.trim().is_empty(), "promtool: {said}");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a test of how long something lasts")]
fn now() -> Instant {
    Instant::now()
}

/// What an operator gives to Prometheus.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn every_alert_fires_when_it_should_and_not_before() -> Result<()> {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lb-userspace/packaging/monitoring");
    let promtool = |words: &[&str]| run(Command::new("promtool").args(words).current_dir(&files));
    promtool(&["check", "rules", "alerts.yaml"])?;
    promtool(&["test", "rules", "alerts-test.yaml"]).map(drop)
}
