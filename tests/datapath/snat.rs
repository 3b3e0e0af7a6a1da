//! Which port a flow gets towards its backend.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use lb_common::lease::Lease;
use lb_common::nat::port_candidate;
use lb_common::service::SnatAddress;
use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, FIN, RST, SYN};
use rstest::rstest;

use crate::harness::{
    BACKENDS, CLIENT, Connection, Harness, OTHER_CLIENT, SERVICE, client_hash_of, from_client, key,
    syn,
};

const SECOND: u64 = 1_000_000_000;
const THIRD_CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 4), 40_000);
const SECOND_VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

/// One backend, and so few ports.
fn with_ports(family: Family, count: u16) -> Harness {
    let mut harness = Harness::with(family, &BACKENDS[..1]);
    harness.change_service(|service| {
        service.snat_port_min = 20_000;
        service.snat_port_max = 20_000 + count - 1;
    });
    harness
}

/// The backend sends the first FIN.
fn close_by_backend(harness: &mut Harness, connection: &mut Connection) {
    connection.reply(harness, &connection.of_backend(FIN | ACK));
    connection.backend_next += 1;
    connection.request(harness, &connection.of_client(FIN | ACK));
    connection.client_next = connection.client_next.wrapping_add(1);
    connection.reply(harness, &connection.of_backend(ACK));
}

fn close_by_client(harness: &mut Harness, connection: &mut Connection) {
    connection.request(harness, &connection.of_client(FIN | ACK));
    connection.client_next = connection.client_next.wrapping_add(1);
    connection.reply(harness, &connection.of_backend(FIN | ACK));
    connection.backend_next += 1;
    connection.request(harness, &connection.of_client(ACK));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_taken_first_choice_leads_to_the_second(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::with(family, &BACKENDS[..1]);
    let choice = |attempt| {
        let hash = client_hash_of(family, &key(CLIENT, SERVICE));
        port_candidate(hash, attempt, 1024, 64_512).get()
    };
    let other = Connection::establish(&mut harness, OTHER_CLIENT);
    let (_, reply) = other.halves(&harness);
    let taken = key(BACKENDS[0], SocketAddrV4::new(*SERVICE.ip(), choice(0)));
    harness.store(&taken, reply);

    let mut connection = Connection::establish(&mut harness, CLIENT);
    assert_eq!(connection.snat.port(), choice(1));
    connection.exchange(&mut harness, b"question", b"answer");
    assert_eq!(harness.established(&taken), Some(reply));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn without_collision_the_first_choice_is_taken(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::syn(&mut harness, CLIENT);
    let hash = client_hash_of(family, &key(CLIENT, SERVICE));
    assert_eq!(connection.snat.port(), port_candidate(hash, 0, 1024, 64_512).get());
    assert_eq!(connection.snat.ip(), SERVICE.ip());
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn live_flows_keep_their_ports_and_a_new_one_is_refused(#[values(V4, V6)] family: Family) {
    let mut harness = with_ports(family, 2);
    let mut first = Connection::establish(&mut harness, CLIENT);
    let mut second = Connection::establish(&mut harness, OTHER_CLIENT);
    assert_ne!(first.snat, second.snat);
    harness.expect(&syn(THIRD_CLIENT), "drop_snat_exhausted");
    // Age does not make a flow less alive.
    harness.age(&first.reply_key(), 3600 * SECOND);
    harness.expect(&syn(THIRD_CLIENT), "drop_snat_exhausted");
    first.exchange(&mut harness, b"question", b"answer");
    second.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn each_backend_has_ports_of_its_own(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    harness.change_service(|service| {
        service.snat_port_min = 20_000;
        service.snat_port_max = 20_000;
    });
    let mut connections: Vec<Connection> = vec![];
    for id in 1..=3 {
        harness.set_table(&[id]);
        let client = SocketAddrV4::new(*CLIENT.ip(), 41_000 + u16::try_from(id).unwrap());
        connections.push(Connection::establish(&mut harness, client));
    }
    for connection in &mut connections {
        assert_eq!(connection.snat.port(), 20_000);
        connection.exchange(&mut harness, b"question", b"answer");
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_client_with_one_port_for_all_takes_it_in_time_wait(#[values(V4, V6)] family: Family) {
    let mut harness = with_ports(family, 1);
    let mut first = Connection::establish(&mut harness, CLIENT);
    close_by_backend(&mut harness, &mut first);
    let mut next = SocketAddrV4::new(*CLIENT.ip(), CLIENT.port() + 1);
    let mut second = Connection::establish(&mut harness, next);
    assert_eq!(second.snat, first.snat);
    second.exchange(&mut harness, b"question", b"answer");
    assert_eq!(harness.established(&first.original_key()), None);
    next.set_port(CLIENT.port() + 2);
    harness.expect(&syn(next), "drop_snat_exhausted");
}

/// Its backend may refuse at first what comes from another port of the same client.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn the_same_client_takes_a_free_port_before_one_in_time_wait(#[values(V4, V6)] family: Family) {
    for more in 1..=16 {
        let mut harness = with_ports(family, 2);
        let mut first = Connection::establish(&mut harness, CLIENT);
        close_by_backend(&mut harness, &mut first);
        let next = SocketAddrV4::new(*CLIENT.ip(), CLIENT.port() + more);
        let second = Connection::establish(&mut harness, next);
        assert_ne!(second.snat, first.snat, "{more}");
        first.halves(&harness);
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn another_client_takes_a_free_port_before_one_in_time_wait(#[values(V4, V6)] family: Family) {
    let mut harness = with_ports(family, 2);
    let mut first = Connection::establish(&mut harness, CLIENT);
    close_by_backend(&mut harness, &mut first);
    let second = Connection::establish(&mut harness, OTHER_CLIENT);
    assert_ne!(second.snat, first.snat);
    first.halves(&harness);
    // There is no other: it takes that one.
    let third = Connection::establish(&mut harness, THIRD_CLIENT);
    assert_eq!(third.snat, first.snat);
    assert_eq!(harness.established(&first.original_key()), None);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn another_client_takes_the_oldest_in_time_wait(#[values(V4, V6)] family: Family) {
    for oldest in 0..2 {
        let mut harness = with_ports(family, 2);
        let mut connections = [
            Connection::establish(&mut harness, CLIENT),
            Connection::establish(&mut harness, OTHER_CLIENT),
        ];
        for connection in &mut connections {
            close_by_backend(&mut harness, connection);
        }
        harness.age(&connections[oldest].reply_key(), 5 * SECOND);
        let third = Connection::establish(&mut harness, THIRD_CLIENT);
        assert_eq!(third.snat, connections[oldest].snat);
        connections[1 - oldest].halves(&harness);
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_port_is_held_for_a_minute_after_a_backends_close_and_two_seconds_after_a_clients(
    #[values(V4, V6)] family: Family,
) {
    for (by_backend, seconds, free) in
        [(true, 59, false), (true, 61, true), (false, 1, false), (false, 3, true)]
    {
        let mut harness = with_ports(family, 2);
        let mut first = Connection::establish(&mut harness, CLIENT);
        if by_backend {
            close_by_backend(&mut harness, &mut first);
        } else {
            close_by_client(&mut harness, &mut first);
        }
        harness.age(&first.reply_key(), seconds * SECOND);
        // A client whose first choice is the first one's port.
        let same_choice = (1..=250)
            .map(|host| SocketAddrV4::new(Ipv4Addr::new(10, 0, 9, host), 40_000))
            .find(|client| {
                let hash = client_hash_of(family, &key(*client, SERVICE));
                port_candidate(hash, 0, 20_000, 2).get() == first.snat.port()
            })
            .unwrap();
        let second = Connection::establish(&mut harness, same_choice);
        assert_eq!(second.snat == first.snat, free, "{by_backend}, {seconds} s");
    }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_port_is_free_after_a_rst(#[values(V4, V6)] family: Family) {
    let mut harness = with_ports(family, 1);
    let first = Connection::establish(&mut harness, CLIENT);
    first.reply(&mut harness, &first.of_backend(RST));
    harness.age(&first.reply_key(), 3 * SECOND);
    let second = Connection::establish(&mut harness, OTHER_CLIENT);
    assert_eq!(second.snat, first.snat);
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_unconfirmed_flow_gives_its_port_up_when_there_is_no_other(#[values(V4, V6)] family: Family) {
    let mut harness = with_ports(family, 1);
    let flood = Connection::syn(&mut harness, OTHER_CLIENT);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    assert_eq!(connection.snat, flood.snat);
    connection.exchange(&mut harness, b"question", b"answer");
}

/// The first flow's original half still names the port that the second one was given.
#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_flow_that_lost_its_port_sends_nothing_into_the_live_flow_that_has_it(
    #[values(V4, V6)] family: Family,
) {
    let mut harness = with_ports(family, 1);
    Connection::syn(&mut harness, OTHER_CLIENT);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    let into = from_client(OTHER_CLIENT, ACK).payload(b"into it");
    assert_eq!(harness.send(&into).counter, "reset_no_flow");
    harness.expect(&syn(OTHER_CLIENT), "drop_snat_exhausted");
    connection.exchange(&mut harness, b"question", b"answer");
}

/// The second VIP of the service, with a lease of its own.
fn add_snat_address(harness: &mut Harness) -> SnatAddress {
    harness.add_vip(SECOND_VIP, 1);
    harness.set_lease(1, Lease::FOREVER);
    SnatAddress { address: harness.ip(SECOND_VIP), vip: 1, ..SnatAddress::default() }
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn requests_are_sent_from_the_snat_address(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let address = add_snat_address(&mut harness);
    harness.change_service(|service| service.snat[0] = address);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    assert_eq!(*connection.snat.ip(), SECOND_VIP);
    connection.exchange(&mut harness, b"question", b"answer");
    // Each direction is under the lease of the VIP that it is sent to.
    harness.set_lease(1, Lease::EXPIRED);
    connection.request(&mut harness, &connection.of_client(ACK));
    harness.expect(&connection.of_backend(ACK), "drop_lease_expired");
    harness.set_lease(1, Lease::FOREVER);
    harness.set_lease(0, Lease::EXPIRED);
    harness.expect(&connection.of_client(ACK), "drop_lease_expired");
    connection.reply(&mut harness, &connection.of_backend(ACK));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn several_snat_addresses_share_the_flows_and_raise_the_ceiling(#[values(V4, V6)] family: Family) {
    let mut harness = with_ports(family, 1);
    let address = add_snat_address(&mut harness);
    harness.change_service(|service| {
        service.snat[1] = address;
        service.snat_count = 2;
    });
    let mut first = Connection::establish(&mut harness, CLIENT);
    let mut second = Connection::establish(&mut harness, OTHER_CLIENT);
    let used: BTreeSet<_> = [first.snat, second.snat].into();
    let port = 20_000;
    let all = [SocketAddrV4::new(*SERVICE.ip(), port), SocketAddrV4::new(SECOND_VIP, port)];
    assert_eq!(used, all.into());
    harness.expect(&syn(THIRD_CLIENT), "drop_snat_exhausted");
    first.exchange(&mut harness, b"question", b"answer");
    second.exchange(&mut harness, b"question", b"answer");
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn an_answer_of_a_backend_to_a_port_of_no_flow_drops(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let connection = Connection::establish(&mut harness, CLIENT);
    for port in [1024, 1025, 6444, 65_535] {
        let to = SocketAddrV4::new(*SERVICE.ip(), port);
        for flags in [SYN | ACK, ACK, RST, FIN | ACK, SYN] {
            harness.expect(&connection.of_backend(flags).to(to), "drop_stale_reply");
        }
    }
    // Of another backend to this flow's port.
    let [other, ..] =
        BACKENDS.into_iter().filter(|b| *b != connection.backend).collect::<Vec<_>>()[..]
    else {
        panic!("one backend");
    };
    harness.expect(&connection.of_backend(ACK).from(other), "drop_stale_reply");
}
