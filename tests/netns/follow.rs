//! Neighbours: who moves is followed, who is not there is named.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result};
use lb_tests::controller::Controller;
use lb_tests::echo;
use lb_tests::eventually::{Seen, eventually, eventually_is};
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::load::{Load, Pace, Talk};
use lb_tests::netns::Netns;
use lb_tests::plain::{self, EchoClient};
use lb_tests::recorder::Recorder;
use lb_tests::topology::{API_PORT, Backends, Host, Plan, Topology};
use rstest::rstest;
use serde_json::Value;

use crate::measured;
use crate::modes::{DNAT, NAT};

/// What a host's MAC changes to.
const MAC: &str = "02:00:00:77:00:0b";

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_backend_that_changes_its_mac_is_followed() {
    let lab = Topology::build(&Plan { backends: 1, ..Plan::default() }).unwrap();
    let cp1 = lab.backend("cp1").unwrap();
    changed_mac_is_followed(&lab, cp1, true);
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_client_that_changes_its_mac_is_followed() {
    let lab = Topology::build(&Plan { backends: 1, ..Plan::default() }).unwrap();
    changed_mac_is_followed(&lab, &lab.client, false);
}

/// As a watch does: nothing that this client sends shows where it is.
#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn a_client_that_only_listens_is_followed(
    #[values(V4, V6)] family: Family,
    #[values(NAT, DNAT)] backends_are: Backends,
) {
    let lab = Topology::build(&Plan { backends_are, backends: 1, ..Plan::default() }).unwrap();
    let cp1 = lab.backend("cp1").unwrap();
    let listening = (cp1.address_of(family), API_PORT);
    let listener = echo::listen_inside(&cp1.netns, listening).unwrap().remove(0);
    lab.lbs[0].host.netns.sysctl("ipv4/neigh/eth0/locktime", "0").unwrap();
    lab.client.netns.sysctl("ipv4/conf/eth0/arp_notify", "1").unwrap();
    lab.client.netns.sysctl("ipv6/conf/eth0/ndisc_notify", "1").unwrap();
    let _controller = plain::start_up_of(&lab, family).unwrap();

    let target = plain::target_of(&lab, family);
    let mut client = lab.client.netns.on_thread(|| Ok(TcpStream::connect(target)?)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(6))).unwrap();
    client.write_all(b"?").unwrap();
    let mut server = accepted(&listener).unwrap();
    lab.client.netns.ip(&format!("link set dev eth0 address {MAC}")).unwrap();
    let clock = Recorder::new();
    server.write_all(b"!").unwrap();
    let heard = client.read(&mut [0; 8]);
    measured(&format!("{} {family:?}: heard after {:.1?}", lab.mode, clock.now()));
    assert_eq!(heard.unwrap(), 1);
}

/// The first connection that says something, which no probe does.
fn accepted(listener: &TcpListener) -> Result<TcpStream> {
    let says = |stream: &mut TcpStream| {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.read(&mut [0; 8])
    };
    eventually("a connection", Duration::from_secs(5), || {
        let Ok((mut stream, _)) = listener.accept() else {
            return Ok(Seen::Pending("none".to_owned()));
        };
        Ok(match says(&mut stream) {
            Ok(1..) => Seen::Done(stream),
            silent => Seen::Pending(format!("{silent:?}")),
        })
    })
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_handshake_that_a_clients_new_mac_interrupts_completes_at_the_next_syn() {
    let lab = Topology::build(&Plan { backends: 1, ..Plan::default() }).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let _controller = plain::start_up(&lab).unwrap();
    let (lb, client) = (&lab.lbs[0].host.netns, &lab.client);
    answered(&lab, plain::target(&lab)).unwrap();
    // Until the LB has seen where the client is.
    sleep(Duration::from_millis(500));

    // The client's own ARP would tell the LB its new MAC: it is given the VIP's instead.
    let (lb_mac, vip) = (mac_of(lb).unwrap(), lab.vip());
    client.netns.ip(&format!("link set dev eth0 address {MAC}")).unwrap();
    let to_vip = format!("neigh replace {vip} lladdr {lb_mac} dev eth0 nud permanent");
    client.netns.ip(&to_vip).unwrap();
    let clock = Recorder::new();
    let (server, took) = thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let server = answered(&lab, plain::target(&lab));
            (server, clock.now())
        });
        // The SYN-ACK went to the old MAC; before the next SYN, after a second, the new one is known.
        sleep(Duration::from_millis(300));
        let to_client = format!("neigh replace {} lladdr {MAC} dev eth0", client.address);
        lb.ip(&to_client).unwrap();
        connecting.join().unwrap()
    });
    measured(&format!("a handshake that a new MAC interrupts takes {took:.1?}"));
    assert_eq!(server.unwrap(), "cp1", "after {took:?}");
    assert!(took > Duration::from_millis(300), "the SYN-ACK was not lost: {took:?}");
    assert!(took < Duration::from_millis(2_500), "not at the first retry: {took:?}");
}

pub(super) fn mac_of(netns: &Netns) -> Result<String> {
    let link = netns.ip("-o link show eth0")?;
    let mac = link.split_once("link/ether ").context("no MAC")?.1.split_whitespace().next();
    Ok(mac.context("no MAC")?.to_owned())
}

/// `host` gets another MAC under load and says so by gratuitous ARP: connections fail for no longer
/// than it takes to hear it, and those that are established go on.
fn changed_mac_is_followed(lab: &Topology, host: &Host, is_backend: bool) {
    let _servers = plain::echo_servers(lab).unwrap();
    // The LB's kernel believes the first ARP that it hears, and the host sends one when its MAC changes.
    lab.lbs[0].host.netns.sysctl("ipv4/neigh/eth0/locktime", "0").unwrap();
    host.netns.sysctl("ipv4/conf/eth0/arp_notify", "1").unwrap();
    let controller = plain::start_up(lab).unwrap();
    let target = plain::target(lab);

    let mut held = lab.client.netns.on_thread(|| EchoClient::connect(target, None)).unwrap();
    let load = Load {
        target,
        talk: Talk::Plain { server_closes_first: false },
        pace: Pace::Open { per_second: 200 },
        watches: 0,
    };
    let running = load.start(&lab.client.netns.handle()).unwrap();
    let recorder = &running.recorder;
    sleep(Duration::from_secs(1));
    held.exchange("before").unwrap();

    let changed = recorder.now();
    host.netns.ip(&format!("link set dev eth0 address {MAC}")).unwrap();
    if is_backend {
        let mac = || Ok(next_hop(&controller, &host.name)?["mac"].as_str().map(str::to_owned));
        let patience = Duration::from_secs(5);
        eventually_is("the new MAC", patience, mac, |mac| mac.as_deref() == Some(MAC)).unwrap();
        measured(&format!("in the status {:.1?} after the change", recorder.now() - changed));
    }
    held.exchange("after").unwrap();
    let exchanged = recorder.now() - changed;
    sleep(Duration::from_secs(2));
    let recorder = running.stop().unwrap();

    let report = recorder.report(&(Duration::ZERO..Duration::MAX));
    measured(&format!(
        "the MAC of {} changes: {} connections, {} failed, longest gap {:.1?}, slowest to connect \
         {:.1?}; an old connection's line takes {exchanged:.1?}",
        host.name,
        report.sent,
        report.failed_total(),
        report.longest_gap,
        report.connect_max,
    ));
    let outside = recorder.samples().into_iter().filter(|sample| {
        let in_the_gap = changed - Duration::from_millis(100)..changed + Duration::from_secs(1);
        // A SYN that is lost is sent again after a second.
        let connected = sample.connected_after.unwrap_or(Duration::MAX);
        !in_the_gap.contains(&sample.started) && connected > Duration::from_millis(900)
    });
    let outside: Vec<_> = outside.collect();
    assert!(outside.is_empty(), "not within a second of the change: {:?}", outside[0]);
    assert!(report.longest_gap < Duration::from_secs(2), "{:?}", report.longest_gap);
    assert_eq!(report.failed_total(), 0, "{:?}", report.failures.first());
    // The client's place is looked at once a second, and then its TCP has to try again.
    let patience = Duration::from_secs(if is_backend { 2 } else { 6 });
    assert!(exchanged < patience, "{exchanged:?}");
    assert!(report.sent > 300, "{}", report.sent);
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_backend_that_no_arp_finds_is_named_and_the_others_serve() {
    let nobody = Ipv4Addr::new(10, 77, 0, 99);
    let lab = Topology::build(&Plan { backends: 2, ..Plan::default() }).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let mut controller = Controller::new(&lab.lbs[0], &plain::binary().unwrap(), lab.directory());
    let mut backends = plain::backends(&lab);
    backends.push(("nobody", nobody.into()));
    controller.write_config(&plain::config(&lab, &backends, controller.socket())).unwrap();
    controller.start().unwrap();

    let patience = Duration::from_secs(10);
    for name in ["cp1", "cp2"] {
        controller.wait_backend(name, "up", patience).unwrap();
        let look = || next_hop(&controller, name);
        let known = |seen: &Value| seen["mac"].is_string() && seen["interface"] == "eth0";
        eventually_is(&format!("{name} found"), patience, look, known).unwrap();
    }
    let look = || next_hop(&controller, "nobody");
    let failed = |seen: &Value| seen["state"] == "failed" && seen["mac"].is_null();
    let seen = eventually_is("nobody's neighbour failed", patience, look, failed).unwrap();
    measured(&format!("the neighbour that is not there: {seen}"));
    controller.wait_backend("nobody", "down", patience).unwrap();
    assert!(controller.log().contains(&nobody.to_string()), "{}", controller.log());

    for _ in 0..20 {
        answered(&lab, plain::target(&lab)).unwrap();
    }
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_backend_whose_link_goes_down_is_named_as_failed_and_found_again() {
    let lab = Topology::build(&Plan::default()).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let lb = &lab.lbs[0].host.netns;
    // The kernel doubts a neighbour after 5 s of silence; here sooner.
    for (name, value) in [("delay_first_probe_time", "1"), ("base_reachable_time_ms", "1000")] {
        lb.sysctl(&format!("ipv4/neigh/eth0/{name}"), value).unwrap();
    }
    let controller = plain::start_up(&lab).unwrap();
    let cp3 = lab.backend("cp3").unwrap();
    let state = || Ok(next_hop(&controller, "cp3")?["state"].as_str().map(str::to_owned));
    let patience = Duration::from_secs(15);

    cp3.netns.ip("link set eth0 down").unwrap();
    eventually_is("cp3 failed", patience, state, |state| state.as_deref() == Some("failed"))
        .unwrap();
    controller.wait_backend("cp3", "down", patience).unwrap();
    for _ in 0..20 {
        assert_ne!(answered(&lab, plain::target(&lab)).unwrap(), "cp3");
    }
    cp3.netns.ip("link set eth0 up").unwrap();
    controller.wait_backend("cp3", "up", patience).unwrap();
    let serves = || answered(&lab, plain::target(&lab));
    eventually_is("cp3 serves", patience, serves, |server| server == "cp3").unwrap();
    // The kernel was told to doubt it every second, so its state changes all the time.
    let known = |state: &Option<String>| state.as_deref() == Some("known");
    eventually_is("cp3 known", patience, state, known).unwrap();
}

/// The name of the server that answers a client's new connection.
fn answered(lab: &Topology, target: SocketAddr) -> Result<String> {
    lab.client.netns.on_thread(|| {
        let mut client = EchoClient::connect(target, None)?;
        client.exchange("hello")?;
        let server = client.server.clone();
        client.close()?;
        Ok(server)
    })
}

/// What the status says of the way to a backend.
fn next_hop(controller: &Controller<'_>, name: &str) -> Result<Value> {
    let status = controller.status()?;
    let backends = status["services"][0]["backends"].as_array().context("no backends")?;
    let backend = backends.iter().find(|backend| backend["name"] == name);
    Ok(backend.with_context(|| format!("no backend {name}"))?["next_hop"].clone())
}
