//! Clients of a backend that is gone are told so; nobody else is.

use std::io::ErrorKind;
use std::time::Duration;

use lb_tests::eventually::{Seen, eventually};
use lb_tests::plain::{self, EchoClient};
use lb_tests::topology::{Plan, Topology};

/// `reset_delay` (3 s), what a black hole takes to be found (4.1 s at most), and a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);
const CLIENTS: usize = 30;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn clients_of_a_black_hole_are_reset_and_those_of_others_go_on() {
    let lab = Topology::build(&Plan::default()).unwrap();
    let _servers = plain::echo_servers(&lab).unwrap();
    let controller = plain::start_up(&lab).unwrap();
    let target = plain::target(&lab);
    let mut clients: Vec<EchoClient> = lab
        .client
        .netns
        .on_thread(|| (0..CLIENTS).map(|_| EchoClient::connect(target, None)).collect())
        .unwrap();
    for client in &mut clients {
        client.exchange("before").unwrap();
    }
    // Its kernel answers nothing any more, not even with RST.
    lab.fabric.ip("link set cp1 down").unwrap();

    let (lost, kept): (Vec<_>, Vec<_>) =
        clients.into_iter().partition(|client| client.server == "cp1");
    assert!(!lost.is_empty() && !kept.is_empty());
    plain::wait_counter(&controller, "reset_backend_down", |count| *count == 0).unwrap();
    let mut lost: Vec<_> = lost.into_iter().map(Some).collect();
    eventually("every client of cp1 to be reset", PATIENCE, || {
        for slot in &mut lost {
            if slot.as_mut().is_some_and(is_reset) {
                *slot = None;
            }
        }
        let waiting = lost.iter().flatten().count();
        Ok(if waiting == 0 { Seen::Done(()) } else { Seen::Pending(format!("{waiting} hang")) })
    })
    .unwrap();
    for mut client in kept {
        client.exchange("after").unwrap();
    }
}

/// Sends something; a client that hangs only fills its send buffer.
fn is_reset(client: &mut EchoClient) -> bool {
    client.send("anyone?").is_err_and(|error| {
        matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
    })
}
