//! What is for a service and no sound segment drops: the kernel, which owns the VIP, would answer it.

use lb_tests::family::Family::{self, V4, V6};
use lb_tests::packet::{ACK, FIN, Frame, PSH, RST, SYN, URG};
use rstest::rstest;

use crate::harness::{BACKENDS, CLIENT, Connection, Harness, SERVICE, from_client, syn};

#[rstest]
#[case::version_5(syn(CLIENT).version(5), "drop_malformed")]
#[case::total_beyond_the_frame(from_client(CLIENT, SYN).total_len(41), "drop_malformed")]
#[case::total_far_beyond_the_frame(syn(CLIENT).total_len(65_535), "drop_malformed")]
#[case::total_0(syn(CLIENT).total_len(0), "drop_malformed")]
#[case::total_of_the_ip_header(syn(CLIENT).total_len(20), "drop_malformed")]
#[case::total_within_the_tcp_header(syn(CLIENT).total_len(39), "drop_malformed")]
#[case::total_within_the_tcp_options(syn(CLIENT).total_len(44), "drop_malformed")]
#[case::data_offset_0(syn(CLIENT).data_offset(0), "drop_malformed")]
#[case::data_offset_4(syn(CLIENT).data_offset(4), "drop_malformed")]
#[case::data_offset_beyond_the_segment(from_client(CLIENT, SYN).data_offset(6), "drop_malformed")]
#[case::data_offset_15(from_client(CLIENT, ACK).data_offset(15).payload(&[0; 39]), "drop_malformed")]
#[case::first_fragment(syn(CLIENT).frags(0x2000), "drop_fragment")]
#[case::middle_fragment(syn(CLIENT).frags(0x2002), "drop_fragment")]
#[case::last_fragment(syn(CLIENT).frags(0x0002), "drop_fragment")]
#[case::farthest_fragment(syn(CLIENT).frags(0x1fff), "drop_fragment")]
#[case::fragment_that_may_not_be(syn(CLIENT).frags(0x6000), "drop_fragment")]
#[case::fragment_of_a_backend(Frame::tcp(BACKENDS[0], SERVICE).flags(ACK).frags(0x2000), "drop_fragment")]
#[case::ttl_0(syn(CLIENT).ttl(0), "answer_time_exceeded")]
#[case::ttl_1(syn(CLIENT).ttl(1), "answer_time_exceeded")]
#[case::data_with_ttl_1(from_client(CLIENT, ACK).ttl(1), "answer_time_exceeded")]
#[case::null(from_client(CLIENT, 0), "drop_bad_flags")]
#[case::push_only(from_client(CLIENT, PSH), "drop_bad_flags")]
#[case::syn_fin(from_client(CLIENT, SYN | FIN), "drop_bad_flags")]
#[case::syn_rst(from_client(CLIENT, SYN | RST), "drop_bad_flags")]
#[case::syn_ack(from_client(CLIENT, SYN | ACK), "drop_bad_flags")]
#[case::syn_fin_ack(from_client(CLIENT, SYN | FIN | ACK), "drop_bad_flags")]
#[case::christmas_tree(from_client(CLIENT, FIN | PSH | URG).flags(0xff), "drop_bad_flags")]
#[case::rst(from_client(CLIENT, RST), "drop_rst_without_flow")]
#[case::rst_ack(from_client(CLIENT, RST | ACK), "drop_rst_without_flow")]
#[case::rst_fin(from_client(CLIENT, RST | FIN), "drop_rst_without_flow")]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_is_no_sound_segment_drops_untouched(
    #[case] frame: Frame,
    #[case] counter: &str,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    harness.expect(&frame, counter);
    assert_eq!(harness.flows(), (0, 0));
}

#[rstest]
#[ignore = "needs root: cargo xtask test datapath"]
fn segments_cut_anywhere_drop(#[values(V4, V6)] family: Family) {
    let mut harness = Harness::new(family);
    let frame = syn(CLIENT).ip_options(&[1; 8]).payload(b"early");
    let frame = harness.local(&frame).bytes();
    for length in family.pick(34, 54)..frame.len() {
        let outcome = harness.send_bytes(&frame[..length]);
        assert_eq!(outcome.counter, "drop_malformed", "{length} bytes");
    }
    assert_eq!(harness.send_bytes(&frame).counter, "forward_request");
}

#[rstest]
#[case::ihl_0(|frame: Frame| frame.ihl(0))]
#[case::ihl_4(|frame: Frame| frame.ihl(4))]
#[case::ihl_beyond_the_packet(|frame: Frame| frame.options(&[]).ihl(15))]
#[case::version_6(|frame: Frame| frame.version(6))]
#[ignore = "needs root: cargo xtask test datapath"]
fn a_wrong_ipv4_header_drops(#[case] spoil: fn(Frame) -> Frame) {
    let mut harness = Harness::new(V4);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    for frame in [syn(CLIENT), connection.of_client(ACK), connection.of_backend(ACK)] {
        harness.expect(&spoil(frame), "drop_malformed");
    }
    connection.exchange(&mut harness, b"question", b"answer");
}

/// What belongs to a flow is judged no milder, and leaves the flow alone.
#[rstest]
#[case::fragment(|frame: Frame| frame.frags(0x2000), "drop_fragment")]
#[case::short_data_offset(|frame: Frame| frame.data_offset(4), "drop_malformed")]
#[case::total_beyond_the_frame(|frame: Frame| frame.total_len(2000), "drop_malformed")]
#[case::ttl_1(|frame: Frame| frame.ttl(1), "answer_time_exceeded")]
#[ignore = "needs root: cargo xtask test datapath"]
fn what_is_no_sound_segment_of_a_flow_drops(
    #[case] spoil: fn(Frame) -> Frame,
    #[case] counter: &str,
    #[values(V4, V6)] family: Family,
) {
    let mut harness = Harness::new(family);
    let mut connection = Connection::establish(&mut harness, CLIENT);
    harness.expect(&spoil(connection.of_client(ACK).payload(b"lost")), counter);
    harness.expect(&spoil(connection.of_backend(ACK).payload(b"lost")), counter);
    connection.exchange(&mut harness, b"question", b"answer");
}
