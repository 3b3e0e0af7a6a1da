//! What is counted of a backend, and what stays counted without it.

use lb_common::backend::{BackendEvents, BackendTraffic, Forwarded};
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, Frame};
use rstest::rstest;

use crate::harness::{CLIENT, Connection, Harness, OTHER_LINK};

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn verdicts_stay_counted_when_their_backend_is_gone(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    connection.exchange(&mut harness, b"question", b"answer!");
    let (before, id) = (harness.counters(), connection.id);
    let Forwarded { bytes, packets: [requests, across, local] } = harness.traffic(id).requests;
    assert!(requests > 2 && bytes > 54 * requests, "{requests} packets of {bytes} bytes");
    assert_eq!((across, local), (0, 0));
    assert_eq!((harness.events(id).flows, harness.events(id).connections), (1, 1));

    harness.forget_backend(id);
    assert_eq!(harness.traffic(id), BackendTraffic::default());
    assert_eq!(harness.events(id), BackendEvents::default());
    assert_eq!(harness.counters(), before);
    connection.request(&mut harness, &connection.of_client(ACK));
    assert_eq!(harness.traffic(id).requests.packets, [1, 0, 0]);
    assert_eq!(harness.counters_of_a_successor(), harness.counters());
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn bytes_are_those_of_frames_without_padding(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    let before = harness.traffic(connection.id);
    let (bare, full): (Frame, Frame) =
        (connection.of_client(ACK), connection.of_client(ACK).payload(b"data"));
    let length = harness.local(&bare).bytes().len() as u64;
    connection.request(&mut harness, &bare.padding(&[0; 6]));
    connection.request(&mut harness, &full);
    let after = harness.traffic(connection.id);
    assert_eq!(after.requests.bytes - before.requests.bytes, 2 * length + 4);
    assert_eq!(after.replies, before.replies);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_leaves_by_another_interface_is_counted_as_such(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    let before = harness.traffic(connection.id).requests;
    harness.change_backend(connection.id, |backend| backend.next_hop.link = OTHER_LINK);
    harness.add_device(OTHER_LINK);
    assert_eq!(harness.send(&connection.of_client(ACK)).counter, "redirect_request");
    let after = harness.traffic(connection.id).requests;
    assert_eq!(after.packets, [before.packets[0], 1, 0]);
}
