//! What a client can say against a backend has it probed, and no more (E41).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use lb_tests::packet::{ETH_LEN, Frame, Icmp, SYN};
use lb_tests::recorder::Recorder;
use lb_tests::topology::API_PORT;
use socket2::{Domain, Protocol, Socket, Type};

use crate::apiservers::{Apiservers, SLACK, assert_nothing_lost, more_answers, of_each, wait_each};
use crate::measured;

const BURST: Duration = Duration::from_secs(5);
/// Connections that are never answered, in each round, and rounds a second.
const CLIENTS: u16 = 8;
const ROUNDS: u16 = 40;
/// Where the TCP checksum is, from the IPv4 header on.
const TCP_CHECKSUM: usize = 36;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn one_client_can_have_backends_probed_and_not_taken_out() {
    let scene = Apiservers::build().unwrap();
    let controller = scene.balanced(&[]).unwrap();
    let since = of_each(&controller, "since").unwrap();
    let changes = || controller.log().matches(" -> ").count();
    let before = changes();
    let calm = probes(&scene, BURST);

    let target = SocketAddr::from((scene.lab.vip(), API_PORT));
    let own = scene.lab.client.address;
    let attack = || {
        scene.lab.client.netns.on_thread(|| {
            let raw = Protocol::from(i32::from(u8::MAX));
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(raw))?;
            let clock = Recorder::new();
            for round in 0_u16.. {
                if clock.now() >= BURST {
                    break;
                }
                // The same again after a second: sooner it is a duplicate.
                let first = 20_000 + round % ROUNDS * CLIENTS;
                send_round(&socket, (own, first).into(), target)?;
                std::thread::sleep(Duration::from_secs(1) / u32::from(ROUNDS));
            }
            Ok(())
        })
    };
    let start = all(&scene);
    attack().unwrap();
    let provoked = all(&scene) - start;

    let unanswered = of_each(&controller, "unanswered").unwrap();
    measured(&format!("{calm} probes in peace, {provoked} when provoked; {unanswered:?}"));
    assert!(unanswered.values().any(|count| count != "0"), "nothing was said against anybody");
    // At most one in a fast interval of each backend, and clearly more than without.
    let most = 3 * (BURST.as_millis() / 250 + 2);
    assert!(provoked > calm + 6 && u128::from(provoked) <= most, "{calm} {provoked} {most}");
    wait_each(&controller, "state", ["up"; 3], SLACK).unwrap();
    assert_eq!(of_each(&controller, "since").unwrap(), since);
    assert_eq!(changes(), before, "{}", controller.log());
    let load = scene.load(30, 3).unwrap();
    more_answers(&load, 30).unwrap();
    assert_nothing_lost(load);
}

/// SYNs that no backend takes for their checksum, so that they look lost; and errors that say that the
/// answers cannot be delivered.
fn send_round(socket: &Socket, first: SocketAddr, target: SocketAddr) -> Result<()> {
    for client in 0..CLIENTS {
        let own = SocketAddr::from((first.ip(), first.port() + client));
        let mut syn = Frame::tcp(own, target).flags(SYN).seq(1).bytes()[ETH_LEN..].to_vec();
        syn[TCP_CHECKSUM] ^= 0x55;
        let answer = Frame::tcp(target, own).flags(SYN).bytes();
        let body = answer[ETH_LEN..].to_vec();
        let unreachable = Icmp { kind: 3, code: 1, word: 0, body };
        let error = Frame::icmp(own.ip(), target.ip(), unreachable).bytes()[ETH_LEN..].to_vec();
        for packet in [&syn, &error] {
            socket.send_to(packet, &SocketAddr::from((target.ip(), 0)).into())?;
        }
    }
    Ok(())
}

/// Probes of all backends in that time.
fn probes(scene: &Apiservers, time: Duration) -> u64 {
    let start = all(scene);
    std::thread::sleep(time);
    all(scene) - start
}

fn all(scene: &Apiservers) -> u64 {
    ["cp1", "cp2", "cp3"].iter().map(|name| scene.control(name).connections()).sum()
}
