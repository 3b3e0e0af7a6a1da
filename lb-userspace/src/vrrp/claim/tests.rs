use super::super::announce;
use super::*;

const OWNER: Mac = Mac([2, 0, 0, 0, 0, 0x11]);
const SENDER: Mac = Mac([2, 0, 0, 0, 0, 0x99]);

fn v4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 2, 3, 4, 5, 6, last)
}

/// As the kernel runs it: what is behind the end ends the packet.
fn run(filter: &[Instruction], packet: &[u8]) -> u32 {
    assert!(filter.len() <= 4096, "{} instructions", filter.len());
    let (mut value, mut next) = (0, 0);
    loop {
        let Instruction { code, jump_true, jump_false, operand } = filter[next];
        let width = match code {
            LOAD_WORD => 4,
            LOAD_HALF => 2,
            LOAD_BYTE => 1,
            IS => {
                next += 1 + usize::from(if value == operand { jump_true } else { jump_false });
                continue;
            }
            RETURN => return operand,
            other => panic!("instruction {other:#x}"),
        };
        let start = usize::try_from(operand).unwrap();
        let Some(bytes) = packet.get(start..start + width) else { return 0 };
        value = bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
        next += 1;
    }
}

/// Without the Ethernet header.
fn announced(vip: IpAddr) -> Vec<u8> {
    announce::announcement(OWNER, vip, false)[14..].to_vec()
}

#[test]
fn announcements_are_claims() {
    let claim = Claim { address: v4(100).into(), owner: OWNER };
    assert_eq!(of_arp(&announced(v4(100).into())), Some(claim));
    let claim = Claim { address: v6(100).into(), owner: OWNER };
    assert_eq!(of_ipv6(&announced(v6(100).into()), SENDER), Some(claim));
}

#[test]
fn an_advertisement_without_its_option_is_its_senders() {
    let mut packet = announced(v6(100).into());
    packet.truncate(64);
    assert_eq!(of_ipv6(&packet, SENDER).map(|claim| claim.owner), Some(SENDER));
    packet.extend([1, 1, 7, 7, 7, 7, 7, 7]);
    assert_eq!(of_ipv6(&packet, SENDER).map(|claim| claim.owner), Some(SENDER));
}

#[test]
fn what_is_cut_claims_nothing() {
    let (arp, advertisement) = (announced(v4(100).into()), announced(v6(100).into()));
    for length in 0..18 {
        assert_eq!(of_arp(&arp[..length]), None, "{length}");
    }
    for length in 0..64 {
        assert_eq!(of_ipv6(&advertisement[..length], SENDER), None, "{length}");
    }
}

/// A question about a VIP is no claim, nor is one of a newcomer that has no address yet.
#[test]
fn the_filter_of_arp_takes_what_claims_a_vip() {
    let filter = arp_filter(&[v4(100), v4(101)]);
    for (last, taken) in [(100, true), (101, true), (102, false), (0, false)] {
        assert_eq!(run(&filter, &announced(v4(last).into())) > 0, taken, "{last}");
    }
    let question = &announce::question(OWNER, v4(2), v4(100))[14..];
    assert_eq!(run(&filter, question), 0);
    let mut other = announced(v4(100).into());
    other[1] = 6;
    assert_eq!(run(&filter, &other), 0, "of another kind of link");
    assert_eq!(run(&filter, &announced(v4(100).into())[..16]), 0, "cut");
    let all: Vec<Ipv4Addr> = (0..1024).map(|n| Ipv4Addr::from_bits(0x0a00_0000 + n)).collect();
    let filter = arp_filter(&all);
    for vip in [all[0], all[1023]] {
        assert!(run(&filter, &announced(vip.into())) > 0);
    }
    assert_eq!(run(&arp_filter(&[]), &announced(v4(100).into())), 0);
}

#[test]
fn the_filter_of_advertisements_takes_what_claims_a_vip() {
    let filter = advertisement_filter(&[v6(100), v6(101)]);
    for (last, taken) in [(100, true), (101, true), (102, false)] {
        assert_eq!(run(&filter, &announced(v6(last).into())) > 0, taken, "{last}");
    }
    for (at, value) in [(6, 17), (7, 254), (40, 135), (48, 0xfc), (55, 9), (59, 9)] {
        let mut other = announced(v6(100).into());
        other[at] = value;
        assert_eq!(run(&filter, &other), 0, "byte {at}");
    }
    let question = announce::solicitation(OWNER, v6(2), v6(100));
    assert_eq!(run(&filter, &question[14..]), 0);
    let all: Vec<Ipv6Addr> = (0..1024).map(v6).collect();
    let filter = advertisement_filter(&all);
    let taken = |vip: Ipv6Addr| run(&filter, &announced(vip.into())) > 0;
    assert!(taken(all[0]) && taken(all[399]) && !taken(all[400]));
}
