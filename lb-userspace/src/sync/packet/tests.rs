use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::sync::record::{FlowId, Progress};

mod golden;

proptest! {
    #[test]
    fn what_is_written_is_read_back_as_it_was(message in message()) {
        let bytes = message.emit();
        prop_assert!(bytes.len() <= MAX_MESSAGE);
        prop_assert_eq!(Message::parse(&bytes), Ok(Some(message)));
    }

    /// What a later version adds behind what is known here.
    #[test]
    fn what_follows_a_message_is_skipped(message in message(), more in vec(any::<u8>(), 0..64)) {
        let mut bytes = message.emit();
        bytes.extend(more);
        prop_assert_eq!(Message::parse(&bytes), Ok(Some(message)));
    }

    #[test]
    fn a_message_that_is_cut_is_refused(message in message(), at in any::<prop::sample::Index>()) {
        let bytes = message.emit();
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(Message::parse(cut).is_err());
    }

    #[test]
    fn mutated_messages_are_read_or_refused(
        message in message(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = message.emit();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(Some(read)) = Message::parse(&bytes) {
            // Whatever it is, it can be said again.
            prop_assert_eq!(Message::parse(&read.emit()), Ok(Some(read)));
        }
    }

    #[test]
    fn hostile_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..2048), kind in 0..12_u8) {
        let _ = Message::parse(&bytes);
        let mut bytes = bytes;
        bytes.insert(0, kind);
        let _ = Message::parse(&bytes);
    }
}

#[test]
fn the_longest_messages_have_room() {
    let records: Vec<FlowRecord> = (0..MAX_CHANGES).map(|_| longest()).collect();
    let changes = records.iter().copied().map(Change::Put).collect();
    let vips = (0..MAX_VIPS)
        .map(|index| IpAddr::from(((1_u128 << 120) + index as u128).to_be_bytes()))
        .collect();
    for message in [
        Message::Records { round: 1, records },
        Message::Changes(Changes { first: 1, sent: 2, changes }),
        Message::Serving(vips),
    ] {
        let bytes = message.emit();
        assert!(bytes.len() <= MAX_MESSAGE, "{}", bytes.len());
        assert_eq!(Message::parse(&bytes), Ok(Some(message)));
    }
}

#[test]
fn a_name_is_cut_where_a_character_ends_and_has_no_control_characters() {
    let hello = |name: &str| Hello { name: name.to_owned(), ..golden::hello() };
    let name_of = |message: &Message| match Message::parse(&message.emit()) {
        Ok(Some(Message::Hello(hello))) => Ok(hello.name),
        Ok(_) => panic!("another message"),
        Err(error) => Err(error),
    };
    let long = name_of(&Message::Hello(hello(&"ä".repeat(40))));
    assert_eq!(long, Ok("ä".repeat(32)));
    let odd = name_of(&Message::Hello(hello(&format!("a{}", "ä".repeat(40)))));
    assert_eq!(odd, Ok(format!("a{}", "ä".repeat(31))));
    assert_eq!(name_of(&Message::Hello(hello("a\nb"))), Err(PacketError::Name));
}

#[test]
fn unknown_types_are_refused_or_skipped_by_their_highest_bit() {
    assert_eq!(Message::parse(&[11, 0]), Err(PacketError::Type(11)));
    assert_eq!(Message::parse(&[OPTIONAL | 1, 0, 7]), Ok(None));
    assert_eq!(Message::parse(&[]), Err(PacketError::Short));
}

/// As long as a record gets.
fn longest() -> FlowRecord {
    let at = "[fd00::1]:6443".parse().unwrap();
    let progress = Progress { seq_end: 1, ack: 2, fin_end: 3, flags: 4 };
    FlowRecord {
        id: FlowId { client: at, vip: at },
        kind: lb_common::nat::Kind::Nat,
        source: at,
        backend: at,
        original: progress,
        reply: Some(progress),
    }
}

fn endpoints() -> impl Strategy<Value = [SocketAddr; 4]> {
    let v4 = any::<[([u8; 4], u16); 4]>().prop_map(|all| all.map(SocketAddr::from));
    let v6 = any::<[([u8; 16], u16); 4]>().prop_map(|all| all.map(SocketAddr::from));
    prop_oneof![v4, v6]
}

fn progress() -> impl Strategy<Value = Progress> {
    any::<[u32; 4]>().prop_map(|[seq_end, ack, fin_end, flags]| Progress {
        seq_end,
        ack,
        fin_end,
        flags,
    })
}

fn record() -> impl Strategy<Value = FlowRecord> {
    use lb_common::nat::Kind;
    let kind = prop_oneof![Just(Kind::Nat), Just(Kind::Dnat), Just(Kind::Dsr)];
    (kind, endpoints(), progress(), proptest::option::of(progress())).prop_map(
        |(kind, [client, vip, source, backend], original, reply)| FlowRecord {
            id: FlowId { client, vip },
            kind,
            source,
            backend,
            original,
            reply,
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    let removed = endpoints().prop_map(|[client, vip, ..]| Change::Removed(FlowId { client, vip }));
    prop_oneof![record().prop_map(Change::Put), removed]
}

fn buckets() -> impl Strategy<Value = Box<Buckets>> {
    vec(0..COUNT, 0..COUNT).prop_map(|all| Box::new(all.into_iter().collect()))
}

fn message() -> impl Strategy<Value = Message> {
    let hello = (any::<(u8, u8, u64, u32)>(), endpoints(), "[a-z0-9.äß-]{0,20}").prop_map(
        |((oldest, newest, instance, capabilities), [listen, ..], name)| {
            Message::Hello(Hello { oldest, newest, instance, capabilities, listen, name })
        },
    );
    let serving = btree_set(any::<IpAddr>(), 0..40).prop_map(Message::Serving);
    let changes = (any::<(u64, u64)>(), vec(change(), 0..40))
        .prop_map(|((first, sent), changes)| Message::Changes(Changes { first, sent, changes }));
    let ack = any::<(u64, u64, u64)>()
        .prop_map(|(next, sent, held)| Message::Ack(Ack { next, sent, held }));
    let digest = (any::<(u32, bool, u64)>(), vec(any::<u64>(), COUNT)).prop_map(
        |((round, is_resync, flows), all)| {
            let mut digest = Box::<Digest>::default();
            digest.0.copy_from_slice(&all);
            Message::Digest { round, is_resync, flows, digest }
        },
    );
    let request =
        (any::<u32>(), buckets()).prop_map(|(round, buckets)| Message::Request { round, buckets });
    let records = (any::<u32>(), vec(record(), 0..40))
        .prop_map(|(round, records)| Message::Records { round, records });
    let end =
        (any::<u32>(), buckets()).prop_map(|(round, buckets)| Message::End { round, buckets });
    let bye = any::<u8>().prop_map(|code| Message::Bye(Bye::from_code(code)));
    prop_oneof![
        hello,
        serving,
        changes,
        ack,
        digest,
        request,
        records,
        end,
        bye,
        Just(Message::KeepAlive)
    ]
}
