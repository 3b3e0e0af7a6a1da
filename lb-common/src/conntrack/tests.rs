use super::closing::FIN_WINDOW;
use super::*;
use crate::addr::{PortBe, Ports};
use core::net::Ipv4Addr;
use rstest::rstest;

const NOW: Ticks = Ticks(1_000);

const fn later(ticks: u32) -> Ticks {
    Ticks(NOW.0 + ticks)
}

fn half(flags: u32) -> FlowHalf<Ipv4Be> {
    let address = Ipv4Be::new(Ipv4Addr::new(10, 0, 0, 1));
    let key = FlowKey::new(address, address, Ports::new(PortBe::new(1), PortBe::new(2)));
    // SAFETY: integers only.
    let mut half: FlowHalf<Ipv4Be> = unsafe { core::mem::zeroed() };
    half.init(Kind::Nat, &key, &key);
    (half.flags, half.seq_end, half.ack) = (flags, 1000, 5000);
    (half.last_seen, half.checked) = (NOW, NOW);
    half
}

/// A confirmed flow whose client is at 1000 and whose backend is at 5000.
fn flow() -> (FlowHalf<Ipv4Be>, FlowHalf<Ipv4Be>) {
    let original = half(flag::ORIGINAL | flag::SYN | flag::CONFIRMED);
    let mut reply = half(flag::SYN | flag::CONFIRMED);
    (reply.seq_end, reply.ack) = (5000, 1000);
    (original, reply)
}

fn segment(flags: u8, seq: u32, ack: u32) -> Segment {
    Segment { seq, ack, payload: 0, flags }
}

/// After a take-over a backend on the node that had the VIP answers by itself: its FIN is not seen here.
#[rstest]
#[case::the_client_alone(flag::FIN, flag::REPLICA, TcpState::Closing)]
#[case::seen_since(flag::FIN, 0, TcpState::FinWait1)]
#[case::by_the_peer_s_word(flag::FIN | flag::REPLICA, flag::REPLICA, TcpState::FinWait1)]
#[case::both(flag::FIN, flag::FIN | flag::REPLICA, TcpState::Closing)]
#[case::neither(0, flag::REPLICA, TcpState::Established)]
fn what_a_client_closes_of_which_no_reply_is_seen_is_closing(
    #[case] original_flags: u32,
    #[case] reply_flags: u32,
    #[case] expected: TcpState,
) {
    let (mut original, mut reply) = flow();
    original.flags |= original_flags;
    original.fin_end = 1001;
    reply.flags |= reply_flags;
    reply.fin_end = 5001;
    assert_eq!(TcpState::of(&original, &reply), expected);
}

/// Every combination of what the rule reads, against the table of RFC 9293 section 3.3.2 in words.
#[test]
fn the_state_table_is_exhaustive() {
    let bools = [false, true];
    for confirmed in bools {
        for reply_syn in bools {
            for (original_fin, original_acked) in [(false, false), (true, false), (true, true)] {
                for (reply_fin, reply_acked) in [(false, false), (true, false), (true, true)] {
                    for reply_first in bools {
                        for (original_rst, reply_rst) in
                            [(false, false), (true, false), (false, true), (true, true)]
                        {
                            let mut original = half(flag::ORIGINAL | flag::SYN);
                            let mut reply = half(0);
                            let set = |half: &mut FlowHalf<Ipv4Be>, on: bool, bits: u32| {
                                half.flags |= if on { bits } else { 0 };
                            };
                            set(&mut original, confirmed, flag::CONFIRMED);
                            set(&mut reply, reply_syn, flag::SYN);
                            set(&mut original, original_fin, flag::FIN);
                            set(&mut reply, reply_fin, flag::FIN);
                            set(&mut reply, reply_fin && reply_first, flag::FIN_FIRST);
                            set(&mut original, original_rst, flag::RST);
                            set(&mut reply, reply_rst, flag::RST);
                            original.fin_end = 1001;
                            reply.fin_end = 5001;
                            reply.ack = if original_acked { 1001 } else { 1000 };
                            original.ack = if reply_acked { 5001 } else { 5000 };

                            let first_acked =
                                if reply_fin && reply_first { reply_acked } else { original_acked };
                            let expected = if original_rst || reply_rst {
                                TcpState::Closed
                            } else if original_fin && reply_fin {
                                if original_acked && reply_acked {
                                    TcpState::TimeWait
                                } else if first_acked {
                                    TcpState::LastAck
                                } else {
                                    TcpState::Closing
                                }
                            } else if original_fin || reply_fin {
                                if original_acked || reply_acked {
                                    TcpState::FinWait2
                                } else {
                                    TcpState::FinWait1
                                }
                            } else if confirmed {
                                TcpState::Established
                            } else if reply_syn {
                                TcpState::SynReceived
                            } else {
                                TcpState::SynSent
                            };
                            assert_eq!(TcpState::of(&original, &reply), expected);
                        }
                    }
                }
            }
        }
    }
}

#[rstest]
#[case::syn_sent(TcpState::SynSent, false, 30)]
#[case::syn_received(TcpState::SynReceived, false, 30)]
#[case::established(TcpState::Established, false, 86_400)]
#[case::fin_wait_1(TcpState::FinWait1, false, 3600)]
#[case::fin_wait_2(TcpState::FinWait2, true, 3600)]
#[case::closing(TcpState::Closing, false, 60)]
#[case::last_ack(TcpState::LastAck, true, 60)]
#[case::time_wait_of_the_client(TcpState::TimeWait, false, 2)]
#[case::time_wait_of_the_backend(TcpState::TimeWait, true, 60)]
#[case::closed(TcpState::Closed, true, 2)]
fn timeouts_of_each_state(#[case] state: TcpState, #[case] backend_first: bool, #[case] secs: u64) {
    let expected = Ticks::in_ns(secs * 1_000_000_000);
    assert_eq!(state.timeout(backend_first, &Timeouts::default()), expected);
}

#[test]
fn a_client_that_closes_first_ends_in_time_wait_of_two_seconds() {
    let (mut original, mut reply) = flow();
    let timeouts = Timeouts::default();
    original.close(&mut reply, &segment(tcp::FIN | tcp::ACK, 1000, 5000), NOW);
    assert_eq!(TcpState::of(&original, &reply), TcpState::FinWait1);
    assert!(reply.has(flag::PEER_FIN));
    reply.close(&mut original, &segment(tcp::FIN | tcp::ACK, 5000, 1001), NOW);
    assert_eq!(TcpState::of(&original, &reply), TcpState::LastAck);
    original.advance(&segment(tcp::ACK, 1001, 5001), NOW);
    assert_eq!(TcpState::of(&original, &reply), TcpState::TimeWait);
    assert!(original.has(flag::FIN_FIRST) && !reply.has(flag::FIN_FIRST));
    assert!(!original.is_expired(&reply, &timeouts, later(timeouts.closed - 1)));
    assert!(original.is_expired(&reply, &timeouts, later(timeouts.closed)));
}

#[test]
fn a_backend_that_closes_first_holds_its_port_for_a_minute() {
    let (mut original, mut reply) = flow();
    reply.close(&mut original, &segment(tcp::FIN | tcp::ACK, 5000, 1000), NOW);
    original.close(&mut reply, &segment(tcp::FIN | tcp::ACK, 1000, 5001), NOW);
    reply.advance(&segment(tcp::ACK, 5001, 1001), NOW);
    assert_eq!(TcpState::of(&original, &reply), TcpState::TimeWait);
    let timeouts = Timeouts::default();
    assert!(!original.is_expired(&reply, &timeouts, later(timeouts.closing - 1)));
    assert!(original.is_expired(&reply, &timeouts, later(timeouts.closing)));
}

#[rstest]
#[case::where_the_backend_expects_it(1000, true)]
#[case::beside(1001, false)]
#[case::far_off(77_000_000, false)]
fn a_reset_counts_where_it_is_expected(#[case] seq: u32, #[case] counts: bool) {
    let (mut original, mut reply) = flow();
    original.close(&mut reply, &segment(tcp::RST, seq, 0), NOW);
    assert_eq!(TcpState::of(&original, &reply) == TcpState::Closed, counts);
}

#[test]
fn the_sender_of_a_reset_that_goes_on_revives_the_flow() {
    let (mut original, mut reply) = flow();
    original.close(&mut reply, &segment(tcp::RST, 1000, 0), NOW);
    original.revive(&mut reply);
    assert_eq!(TcpState::of(&original, &reply), TcpState::Established);
}

#[test]
fn a_fin_out_of_reach_closes_nothing() {
    let (mut original, mut reply) = flow();
    original.close(&mut reply, &segment(tcp::FIN | tcp::ACK, 1000 + FIN_WINDOW + 1, 5000), NOW);
    assert_eq!(TcpState::of(&original, &reply), TcpState::Established);
}

#[test]
fn progress_wraps_and_never_goes_back() {
    let mut half = half(flag::ORIGINAL);
    half.seq_end = u32::MAX - 10;
    half.ack = u32::MAX - 1;
    let data = Segment { payload: 100, ..segment(tcp::ACK, u32::MAX - 10, 3) };
    half.advance(&data, NOW);
    assert_eq!((half.seq_end, half.ack), (89, 3));
    half.advance(&segment(tcp::ACK, u32::MAX - 10, u32::MAX - 1), NOW);
    assert_eq!((half.seq_end, half.ack), (89, 3));
}

#[rstest]
#[case::its_synack(tcp::ACK, 5000, true)]
#[case::behind_early_data(tcp::ACK, 4900, true)]
#[case::more_than_was_sent(tcp::ACK, 5001, false)]
#[case::of_another_age(tcp::ACK, 5000u32.wrapping_sub(1 << 20), false)]
#[case::no_ack(0, 5000, false)]
fn handshakes_complete(#[case] flags: u8, #[case] ack: u32, #[case] completes: bool) {
    let (_, reply) = flow();
    assert_eq!(completes_handshake(&reply, &segment(flags, 1000, ack)), completes);
}

#[test]
fn a_handshake_without_synack_does_not_complete() {
    let (_, mut reply) = flow();
    reply.flags &= !flag::SYN;
    assert!(!completes_handshake(&reply, &segment(tcp::ACK, 1000, 5000)));
}

#[rstest]
#[case::acknowledges_all(tcp::ACK, 5000, 1000, true)]
#[case::acknowledges_some(tcp::ACK, 5000, 400, true)]
#[case::acknowledges_what_a_predecessor_forwarded(tcp::ACK, 5000, 1000 + 65_535, true)]
#[case::acknowledges_the_future(tcp::ACK, 5000, 0x0010_0000, false)]
#[case::another_connection(tcp::ACK, 0x8000_0000, 0x4000_0000, false)]
#[case::sends_from_elsewhere(tcp::ACK, 0x8000_0000, 1000, false)]
#[case::reset(tcp::ACK | tcp::RST, 5000, 1000, false)]
#[case::synack(tcp::ACK | tcp::SYN, 5000, 1000, false)]
#[case::no_ack(0, 5000, 1000, false)]
fn guesses_are_confirmed(
    #[case] flags: u8,
    #[case] seq: u32,
    #[case] ack: u32,
    #[case] fits: bool,
) {
    let (original, _) = flow();
    assert_eq!(confirms_guess(&original, &segment(flags, seq, ack)), fits);
}

#[rstest]
#[case::acknowledgement(1000, 0, 5001, true, true)]
#[case::question_with_acknowledgement(1000, 4, 5001, true, false)]
#[case::question(1000, 4, 5000, false, false)]
#[case::retransmission(996, 4, 5000, false, true)]
#[case::keepalive(999, 0, 5000, false, true)]
#[case::keepalive_with_a_byte(999, 1, 5000, false, true)]
#[case::repeated_acknowledgement(1000, 0, 5000, false, true)]
#[case::late_acknowledgement(1000, 0, 4000, false, true)]
fn a_client_hears_its_backend_or_may_not(
    #[case] seq: u32,
    #[case] payload: u32,
    #[case] ack: u32,
    #[case] answered: bool,
    #[case] repeats: bool,
) {
    let half = half(flag::ORIGINAL | flag::SYN | flag::CONFIRMED);
    let segment = Segment { seq, ack, payload, flags: tcp::ACK };
    assert_eq!(half.is_answered(&segment), answered);
    assert_eq!(half.repeats(&segment), repeats);
}

#[rstest]
#[case::of_all_of_it(tcp::RST | tcp::ACK, 1000, flag::SYN, 0, true)]
#[case::of_less(tcp::RST | tcp::ACK, 999, flag::SYN, 0, false)]
#[case::of_more(tcp::RST | tcp::ACK, 1001, flag::SYN, 0, false)]
#[case::without_acknowledgement(tcp::RST, 1000, flag::SYN, 0, false)]
#[case::no_reset(tcp::ACK, 1000, flag::SYN, 0, false)]
#[case::syn_ack(tcp::SYN | tcp::ACK, 1000, flag::SYN, 0, false)]
#[case::with_fin(tcp::RST | tcp::ACK | tcp::FIN, 1000, flag::SYN, 0, false)]
#[case::after_the_syn_ack(tcp::RST | tcp::ACK, 1000, flag::SYN, flag::SYN, false)]
#[case::again(tcp::RST | tcp::ACK, 1000, flag::SYN, flag::REFUSED, true)]
#[case::of_a_flow_that_is_reset(tcp::RST | tcp::ACK, 1000, flag::SYN | flag::PEER_RST, flag::RST, false)]
#[case::of_a_flow_in_mid_stream(tcp::RST | tcp::ACK, 1000, flag::MID_STREAM, flag::MID_STREAM, false)]
#[case::of_a_connection(tcp::RST | tcp::ACK, 1000, flag::SYN | flag::CONFIRMED, flag::SYN, false)]
fn a_syn_is_refused(
    #[case] flags: u8,
    #[case] ack: u32,
    #[case] original: u32,
    #[case] reply: u32,
    #[case] refused: bool,
) {
    let (original, reply) = (half(flag::ORIGINAL | original), half(reply));
    assert_eq!(refuses_syn(&original, &reply, &segment(flags, 0, ack)), refused);
}

#[test]
fn only_what_is_over_gives_way() {
    for state in TcpState::ALL {
        let gives_way = state >= TcpState::Closing;
        assert_eq!(state.gives_way_to_syn(), gives_way, "{state:?}");
        assert_eq!(state.is_over(), state >= TcpState::TimeWait, "{state:?}");
    }
}

#[rstest]
#[case::established(0, 90_000, PortHold::Live)]
#[case::half_closed(flag::FIN, 90_000, PortHold::Live)]
#[case::reset_just_now(flag::RST, 1, PortHold::TimeWait)]
#[case::reset_by_the_client(flag::PEER_RST, 2, PortHold::Free)]
#[case::client_closed_first(flag::FIN | flag::PEER_FIN, 1, PortHold::TimeWait)]
#[case::client_closed_first_long_ago(flag::FIN | flag::PEER_FIN, 2, PortHold::Free)]
#[case::backend_closed_first(flag::FIN | flag::PEER_FIN | flag::FIN_FIRST, 59, PortHold::TimeWait)]
#[case::backend_closed_a_minute_ago(flag::FIN | flag::PEER_FIN | flag::FIN_FIRST, 60, PortHold::Free)]
fn ports_are_held(#[case] flags: u32, #[case] idle_secs: u64, #[case] hold: PortHold) {
    let reply = half(flag::SYN | flag::CONFIRMED | flags);
    let now = later(Ticks::in_ns(idle_secs * 1_000_000_000));
    assert_eq!(reply.port_hold(&Timeouts::default(), now), hold);
}

#[test]
fn a_flow_that_a_peer_told_of_starts_where_its_next_segment_is() {
    let mut half = half(flag::ORIGINAL | flag::SYN | flag::CONFIRMED | flag::REPLICA);
    half.seq_end = 1000;
    half.ack = 5000;
    // Half of the sequence space later, where comparing would be wrong.
    half.resume(&Segment { seq: 0xc000_0000, ack: 0xe000_0000, payload: 10, flags: tcp::ACK });
    assert_eq!((half.seq_end, half.ack), (0xc000_0000, 0xe000_0000));
    assert!(!half.has(flag::REPLICA));
}

#[rstest]
#[case::there(flag::REPLICA, 1000, true)]
#[case::near(flag::REPLICA, 1000 + 500_000, true)]
#[case::far(flag::REPLICA, 1000 + 3_000_000, false)]
#[case::near_a_flow_of_ours(0, 1000 + 500_000, false)]
fn a_reset_of_a_flow_that_a_peer_told_of_fits_nearby(
    #[case] flags: u32,
    #[case] seq: u32,
    #[case] fits: bool,
) {
    let mut original = half(flag::ORIGINAL | flag::SYN | flag::CONFIRMED | flags);
    original.seq_end = 1000;
    let mut reply = half(flag::SYN | flag::CONFIRMED | flags);
    reply.ack = 999;
    let reset = Segment { seq, ack: 0, payload: 0, flags: tcp::RST };
    original.close(&mut reply, &reset, Ticks(1));
    assert_eq!(original.has(flag::RST), fits);
    let mut alone = FlowHalf { kind: Kind::Dsr as u8, ..half(flag::ORIGINAL | flags) };
    alone.seq_end = 1000;
    alone.close_alone(&reset, Ticks(1));
    assert_eq!(alone.has(flag::RST), fits);
}

#[rstest]
#[case::its_syn_alone(flag::ORIGINAL | flag::SYN, UNANSWERED, Kind::Nat, true)]
#[case::answered(flag::ORIGINAL | flag::SYN, 0, Kind::Nat, false)]
#[case::guessed(flag::ORIGINAL | flag::MID_STREAM, 0, Kind::Dnat, true)]
#[case::confirmed(flag::ORIGINAL | flag::SYN | flag::CONFIRMED, UNANSWERED, Kind::Nat, false)]
#[case::told_by_a_peer(flag::ORIGINAL | flag::SYN | flag::REPLICA, UNANSWERED, Kind::Nat, false)]
#[case::reset(flag::ORIGINAL | flag::SYN | flag::RST, UNANSWERED, Kind::Nat, false)]
#[case::reset_by_its_backend(flag::ORIGINAL | flag::MID_STREAM | flag::PEER_RST, 0, Kind::Nat, false)]
#[case::closing(flag::ORIGINAL | flag::SYN | flag::FIN, UNANSWERED, Kind::Nat, false)]
#[case::without_another_half(flag::ORIGINAL | flag::SYN, UNANSWERED, Kind::Dsr, false)]
#[case::reply_half(0, UNANSWERED, Kind::Nat, false)]
fn only_an_unanswered_client_needs_no_other_half(
    #[case] flags: u32,
    #[case] fin_end: u32,
    #[case] kind: Kind,
    #[case] expected: bool,
) {
    let half = FlowHalf { fin_end, kind: kind as u8, ..half(flags) };
    assert_eq!(half.needs_no_peer(), expected);
}

#[rstest]
#[case::is_answered(flag::ORIGINAL | flag::SYN, UNANSWERED, 0)]
#[case::was_answered(flag::ORIGINAL | flag::SYN, 0, 0)]
#[case::has_ended(flag::ORIGINAL | flag::SYN | flag::FIN, UNANSWERED, UNANSWERED)]
#[case::has_ended_elsewhere(flag::ORIGINAL | flag::SYN | flag::FIN, 1234, 1234)]
fn an_answer_does_not_change_where_a_client_ended(
    #[case] flags: u32,
    #[case] fin_end: u32,
    #[case] expected: u32,
) {
    let mut half = FlowHalf { fin_end, ..half(flags) };
    half.note_answer();
    assert_eq!(half.fin_end, expected);
}
