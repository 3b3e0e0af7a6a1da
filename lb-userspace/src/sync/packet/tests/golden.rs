//! Messages as they were once recorded: a version that does not read them has broken an upgrade.

use super::*;
use crate::sync::testing::record;

/// Of version 1: what it says, and its bytes in hexadecimal.
fn recorded() -> Vec<(Message, &'static str)> {
    let (put, gone) = (Change::Put(record(1)), Change::Removed(record(2).id));
    let records = vec![longest()];
    let vips = ["10.0.0.100", "fd00::100"].map(|vip| vip.parse().unwrap()).into();
    let buckets = |of: &[usize]| Box::new(of.iter().copied().collect());
    vec![
        (Message::Hello(hello()), "010101010203040506070800000000040a0000021f0a036c6231"),
        (Message::Serving(vips), "020002040a00006406fd000000000000000000000000000100"),
        (
            Message::Changes(Changes { first: 7, sent: 9, changes: vec![put, gone] }),
            "03000000000000000700000000000000090002013b01040a01000004010a000064192b0a00006404010a00000b192b000000010000000200000000000000010100000001000000020000000000000001020d040a01000004020a000064192b",
        ),
        (
            Message::Ack(Ack { next: 8, sent: 9, held: 10 }),
            "0400000000000000080000000000000009000000000000000a",
        ),
        (
            Message::Request { round: 3, buckets: buckets(&[0, 1023]) },
            "06000000030100000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000080",
        ),
        (
            Message::Records { round: 3, records },
            "070000000300016b0106fd000000000000000000000000000001192bfd000000000000000000000000000001192bfd000000000000000000000000000001192bfd000000000000000000000000000001192b000000010000000200000003000000040100000001000000020000000300000004",
        ),
        (
            Message::End { round: 3, buckets: buckets(&[9]) },
            "08000000030002000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
        ),
        (Message::KeepAlive, "09"),
        (Message::Bye(Bye::Ending), "0a01"),
    ]
}

#[test]
fn version_1_is_written_and_read_as_it_was_recorded() {
    for (message, hex) in recorded() {
        let bytes = message.emit();
        assert_eq!(to_hex(&bytes), hex, "{message:?}");
        assert_eq!(Message::parse(&bytes), Ok(Some(message)));
    }
}

/// What a version 2 may do without the consent of a version 1: longer records, changes of another kind, more
/// behind a list.
#[test]
fn what_a_later_version_may_add_is_skipped() {
    let put = |record: &FlowRecord| {
        let mut writer = Writer::default();
        writer.u8(1);
        writer.sized(|writer| {
            record::emit(record, writer);
            writer.bytes(b"more of the record");
        });
        writer.finish()
    };
    let mut bytes = Message::Changes(Changes { first: 1, sent: 2, changes: vec![] }).emit();
    let count = bytes.len() - 1;
    bytes[count] = 3;
    bytes.extend(put(&record(1)));
    bytes.extend([77, 3, 1, 2, 3]);
    bytes.extend(put(&record(2)));
    bytes.extend(b"more of the message");
    let changes = vec![Change::Put(record(1)), Change::Put(record(2))];
    let expected = Message::Changes(Changes { first: 1, sent: 2, changes });
    assert_eq!(Message::parse(&bytes), Ok(Some(expected)));
}

pub(super) fn hello() -> Hello {
    Hello {
        oldest: 1,
        newest: 1,
        instance: 0x0102_0304_0506_0708,
        capabilities: 0,
        listen: "10.0.0.2:7946".parse().unwrap(),
        name: "lb1".to_owned(),
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
