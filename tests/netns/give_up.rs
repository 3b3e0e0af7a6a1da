//! Clients of a backend that is gone are told so; nobody else is.

use std::io::ErrorKind;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use lb_tests::controller::Controller;
use lb_tests::eventually::{Seen, eventually};
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::plain::{self, EchoClient};
use lb_tests::recorder::Recorder;
use lb_tests::topology::{Backends, Plan, Topology};
use rstest::rstest;

use crate::measured;
use crate::modes::{DNAT, DSR, NAT};

/// `reset_delay` (3 s), what a black hole takes to be found (4.1 s at most), and the client's next segment,
/// which may come as late as 6.4 s after one that was too early by a hair.
const PATIENCE: Duration = Duration::from_secs(20);
/// `reset_delay`, and three probes that must fail before it begins.
const NOT_BEFORE: Duration = Duration::from_secs(4);
const CLIENTS: usize = 150;

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn clients_of_a_black_hole_are_reset_and_those_of_others_go_on(
    #[values(V4, V6)] family: Family,
    #[values(NAT, DNAT, DSR)] backends_are: Backends,
) {
    let lab = Topology::build(&Plan { backends_are, ..Plan::default() }).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    // Where the kernel can, clients do not wait ever longer before they try again.
    lab.client.netns.sysctl("ipv4/tcp_rto_max_ms", "1000").unwrap();
    let controller = plain::start_up_of(&lab, family).unwrap();
    let (mut lost, mut kept) = clients(&lab, family);
    plain::wait_counter(&controller, "reset_backend_down", |count| *count == 0).unwrap();

    // Its kernel answers nothing any more, not even with RST.
    lab.fabric.ip("link set cp1 down").unwrap();
    let clock = Recorder::new();
    let idle = lost.split_off(lost.len() * 2 / 3);
    let resets = wait_reset(lost, &clock);
    measured(&format!("{} {family:?}: reset {resets:.1?} after the end", lab.mode));
    assert!(resets.iter().all(|reset| *reset > NOT_BEFORE), "{resets:?}");
    // These say nothing, and are told all the same, not all at once.
    let mut idle = idle;
    eventually("every idle client of cp1 to be reset", PATIENCE, || {
        idle.retain(|client| !client.is_over().unwrap());
        let left = idle.len();
        Ok(if left == 0 { Seen::Done(()) } else { Seen::Pending(format!("{left} hang")) })
    })
    .unwrap();
    measured(&format!("idle ones were told {:.1?} after the end", clock.now()));
    ensure_served(&mut kept, "after");
}

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn clients_of_a_draining_backend_go_on_until_its_time_is_over(
    #[values(V4, V6)] family: Family,
    #[values(NAT, DNAT, DSR)] backends_are: Backends,
) {
    const DRAIN: Duration = Duration::from_secs(4);
    let lab = Topology::build(&Plan { backends_are, ..Plan::default() }).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let controller = plain::start_up_with(&lab, family, "    drain_timeout: 4s\n").unwrap();
    let (mut lost, mut kept) = clients(&lab, family);

    let clock = Recorder::new();
    controller.cli(&["backend", "drain", "plain/cp1"]).unwrap();
    let (newcomers, more) = clients(&lab, family);
    assert!(newcomers.is_empty() && more.len() == CLIENTS, "{}", newcomers.len());
    while clock.now() < DRAIN - Duration::from_secs(1) {
        ensure_served(&mut lost, "while it drains");
        sleep(Duration::from_millis(200));
    }
    let resets = wait_reset(lost, &clock);
    measured(&format!("{} {family:?}: reset {resets:.1?} after the command", lab.mode));
    assert!(resets.iter().all(|reset| *reset >= DRAIN), "{resets:?}");
    ensure_served(&mut kept, "after");
}

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn without_a_backend_the_last_set_is_kept_or_connections_are_refused(
    #[values(V4, V6)] family: Family,
    #[values("fail_open", "reject")] on_all_down: &str,
) {
    let lab = Topology::build(&Plan::default()).unwrap();
    let servers = plain::echo_servers(&lab).unwrap();
    let mut controller = Controller::new(&lab.lbs[0], &plain::binary().unwrap(), lab.directory());
    let backends = plain::backends_of(&lab, family);
    let config = plain::config(&lab, &backends, controller.socket());
    // Once down it stays so for a while, though it answers.
    let config = config.replace("rise: 2", "rise: 20");
    controller.write_config(&format!("{config}    on_all_down: {on_all_down}\n")).unwrap();
    controller.start().unwrap();
    plain::wait_all_up(&lab, &controller).unwrap();

    drop(servers);
    for host in &lab.backends {
        controller.wait_backend(&host.name, "down", PATIENCE).unwrap();
    }
    let _servers = plain::echo_servers(&lab).unwrap();
    let target = plain::target_of(&lab, family);
    let refused = lab.client.netns.on_thread(|| {
        let attempts = (0..50).map(|_| EchoClient::connect(target, None));
        Ok(attempts.filter(|attempt| attempt.as_ref().is_err_and(is_refusal)).count())
    });
    let (wanted, counter) = match on_all_down {
        "reject" => (50, "reset_no_backend"),
        _ => (0, "forward_request"),
    };
    assert_eq!(refused.unwrap(), wanted);
    plain::wait_counter(&controller, counter, |count| *count >= 50).unwrap();
    let status = controller.status().unwrap();
    let resets = status["counters"]["reset_no_backend"].as_u64();
    assert_eq!(resets, u64::try_from(wanted).ok(), "{status}");
    let states = status["services"][0]["backends"].as_array().unwrap();
    assert!(states.iter().all(|backend| backend["health"] == "down"), "too late to tell: {status}");
}

fn is_refusal(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Those of cp1, and the others; all have said something.
fn clients(lab: &Topology, family: Family) -> (Vec<EchoClient>, Vec<EchoClient>) {
    let target = plain::target_of(lab, family);
    let connect = |_| {
        let mut client = EchoClient::connect(target, None)?;
        client.exchange("before").map(|()| client)
    };
    let clients: Result<Vec<_>> =
        lab.client.netns.on_thread(|| (0..CLIENTS).map(connect).collect());
    clients.unwrap().into_iter().partition(|client| client.server == "cp1")
}

fn ensure_served(clients: &mut [EchoClient], when: &str) {
    for client in clients {
        let exchange = client.exchange(when);
        exchange.unwrap_or_else(|error| panic!("{when}, {}: {error:#}", client.server));
    }
}

/// Every client says something all the time, which is a segment as long as its window has room; when the first and the last of them were reset.
fn wait_reset(clients: Vec<EchoClient>, clock: &Recorder) -> [Duration; 2] {
    assert!(!clients.is_empty());
    let mut waiting: Vec<_> = clients.into_iter().collect();
    let mut first = None;
    eventually("every client of cp1 to be reset", PATIENCE, || {
        let before = waiting.len();
        waiting.retain_mut(|client| !is_reset(client));
        if waiting.len() < before {
            first.get_or_insert_with(|| clock.now());
        }
        let left = waiting.len();
        Ok(if left == 0 { Seen::Done(()) } else { Seen::Pending(format!("{left} hang")) })
    })
    .unwrap();
    [first.unwrap(), clock.now()]
}

/// Sends something; a client that hangs only fills its send buffer.
fn is_reset(client: &mut EchoClient) -> bool {
    client.send("anyone?").is_err_and(|error| {
        matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
    })
}
