//! Clients that are silent hear of it when their backend is gone, from the controller.

use std::io::{BufRead as _, BufReader, ErrorKind};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;
use lb_tests::eventually::{Seen, eventually, eventually_is};
use lb_tests::family::Family;
use lb_tests::plain;
use lb_tests::recorder::Recorder;
use lb_tests::scrape::wait_sum;
use lb_tests::standstill;
use lb_tests::topology::{Plan, Topology};

/// `reset_delay` (3 s), what a black hole takes to be found (4.1 s at most), and a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// `reset_delay` of the tests' configuration, from the moment that the backend is down.
const RESET_DELAY: Duration = Duration::from_secs(3);
/// From then until the last of many idle clients is told.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// Until the test knows that a backend is down: it asks now and then.
const KNOWN_WITHIN: Duration = Duration::from_millis(500);
const IDLE: usize = 300;
/// A client sends its SYN again after a second (RFC 6298 section 2.1).
const SYN_AGAIN: Duration = Duration::from_millis(950);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
#[expect(clippy::disallowed_methods, reason = "a test of how long something lasts")]
fn idle_clients_of_a_black_hole_are_told_and_those_of_others_wait_on() -> Result<()> {
    standstill::watch()?;
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    for family in Family::ALL {
        let mut controller = plain::start_up_of(&lab, family)?;
        let target = plain::target_of(&lab, family);
        let clients = lab
            .client
            .netns
            .on_thread(|| (0..IDLE).map(|_| Idle::connect(target)).collect::<Result<Vec<_>>>())?;
        lab.fabric.ip("link set cp1 down")?;
        controller.wait_backend("cp1", "down", PATIENCE)?;
        let since = Instant::now();
        let (lost, kept): (Vec<_>, Vec<_>) =
            clients.iter().partition(|client| client.server == "cp1");
        assert!(lost.len() > IDLE / 6 && kept.len() > IDLE / 6, "{}", lost.len());
        eventually("every idle client of cp1 to be told", PATIENCE, || {
            let waiting = lost.iter().filter(|client| !client.is_told()).count();
            Ok(if waiting == 0 { Seen::Done(()) } else { Seen::Pending(waiting.to_string()) })
        })?;
        let (took, stood) = (since.elapsed(), standstill::lately(PATIENCE));
        assert!(took + stood > RESET_DELAY - KNOWN_WITHIN, "{family:?}: {took:?}");
        assert!(took < RESET_DELAY + TOLD_WITHIN + stood, "{family:?}: {took:?}");
        assert!(kept.iter().all(|client| !client.is_told()));
        let told = || Ok(controller.status()?["idle_resets"].as_u64());
        eventually_is("the count", PATIENCE, told, |told| *told == Some(lost.len() as u64))?;
        wait_sum(&controller, "fairlead_idle_resets_total", &[], |sum| sum == lost.len() as f64)?;
        lab.fabric.ip("link set cp1 up")?;
        controller.stop(false)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn nobody_is_told_while_all_backends_are_down() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    let controller = plain::start_up(&lab)?;
    let target = plain::target(&lab);
    let clients = lab
        .client
        .netns
        .on_thread(|| (0..30).map(|_| Idle::connect(target)).collect::<Result<Vec<_>>>())?;
    for host in &lab.backends {
        lab.fabric.ip(&format!("link set {} down", host.name))?;
    }
    for host in &lab.backends {
        controller.wait_backend(&host.name, "down", PATIENCE)?;
    }
    std::thread::sleep(RESET_DELAY + TOLD_WITHIN);
    assert!(clients.iter().all(|client| !client.is_told()));

    lab.fabric.ip("link set cp2 up")?;
    eventually("the clients of the others to be told", PATIENCE, || {
        let waiting = clients.iter().filter(|it| it.server != "cp2" && !it.is_told()).count();
        Ok(if waiting == 0 { Seen::Done(()) } else { Seen::Pending(waiting.to_string()) })
    })?;
    assert!(clients.iter().all(|client| client.server != "cp2" || !client.is_told()));
    Ok(())
}

/// The probe that finds it would come within ten seconds; the refused client has it come at once.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_backend_that_refuses_clients_is_probed_at_once() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let mut servers = plain::echo_servers(&lab)?;
    let controller = plain::start_up(&lab)?;
    let slow = "interval: 10s, fast_interval: 200ms";
    let yaml = std::fs::read_to_string(controller.config_file())?;
    controller.write_config(&yaml.replace("interval: 1s", slow))?;
    controller.reload()?;
    // A changed check is made at once, and only then every ten seconds.
    std::thread::sleep(Duration::from_secs(1));

    drop(servers.remove("cp1"));
    let target = plain::target(&lab);
    // Not told of the refusal, a client sends its SYN again, to another backend.
    lab.client.netns.on_thread(|| {
        let refused = (0..100).any(|_| {
            let clock = Recorder::new();
            TcpStream::connect_timeout(&target, PATIENCE).expect("connected");
            clock.now() >= SYN_AGAIN
        });
        assert!(refused, "nobody was sent to cp1");
        Ok(())
    })?;
    controller.wait_backend("cp1", "down", Duration::from_secs(3))?;
    assert!(controller.status()?["services"][0]["backends"][0]["refused"].as_u64() > Some(0));
    Ok(())
}

/// A client that sends nothing.
struct Idle {
    stream: TcpStream,
    server: String,
}

impl Idle {
    fn connect(target: std::net::SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
        let mut server = String::new();
        BufReader::new(&stream).read_line(&mut server)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, server: server.trim().to_owned() })
    }

    /// Its connection was reset, though it said nothing.
    fn is_told(&self) -> bool {
        let told = self.stream.peek(&mut [0]);
        // The error is told once; afterwards the stream is at its end.
        matches!(told, Ok(0)) || told.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    }
}
