//! A SYN that a backend does not answer goes to another one when the client sends it again.

use std::time::Duration;

use lb_tests::controller::Controller;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::plain::{self, EchoClient};
use lb_tests::recorder::Recorder;
use lb_tests::standstill;
use lb_tests::topology::{Backends, Plan, Topology};
use rstest::rstest;

use crate::measured;
use crate::modes::{DNAT, NAT};

/// A client sends its SYN again after a second (RFC 6298 section 2.1).
const RETRIED: Duration = Duration::from_millis(950);
const SOON: Duration = Duration::from_millis(1_400);
const CLIENTS: usize = 60;

#[rstest]
#[ignore = "needs root: cargo xtask test netns"]
fn a_syn_that_is_not_answered_is_retried_at_another_backend(
    #[values(V4, V6)] family: Family,
    #[values(NAT, DNAT)] backends_are: Backends,
) {
    standstill::watch().unwrap();
    let lab = Topology::build(&Plan { backends_are, ..Plan::default() }).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let mut controller = Controller::new(&lab.lbs[0], &plain::binary().unwrap(), lab.directory());
    let backends = plain::backends_of(&lab, family);
    let config = plain::config(&lab, &backends, controller.socket());
    // Nobody finds out by probing.
    let config = config.replace("interval: 1s", "interval: 1m, fast_interval: 1m");
    controller.write_config(&config).unwrap();
    controller.start().unwrap();
    plain::wait_all_up(&lab, &controller).unwrap();

    lab.fabric.ip("link set cp1 down").unwrap();
    let target = plain::target_of(&lab, family);
    let connected = lab.client.netns.on_thread(|| {
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    scope.spawn(|| {
                        let clock = Recorder::new();
                        (EchoClient::connect(target, None), clock.now())
                    })
                })
                .collect();
            Ok(clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>())
        })
    });
    let soon = SOON + standstill::lately(SOON);
    let (mut at_once, mut retried, mut late) = (0, 0, Vec::new());
    for (client, took) in connected.unwrap() {
        assert_ne!(client.unwrap().server, "cp1");
        match took {
            _ if took < RETRIED => at_once += 1,
            _ if took < soon => retried += 1,
            _ => late.push(took),
        }
    }
    let counters = controller.status().unwrap()["counters"].clone();
    measured(&format!(
        "{} {family:?}: {at_once} at once, {retried} at the second SYN, later: {late:?}; {counters}",
        lab.mode
    ));
    assert!(retried > 0 && at_once > 0);
    assert!(late.is_empty(), "not at the second SYN: {late:?}");
}
