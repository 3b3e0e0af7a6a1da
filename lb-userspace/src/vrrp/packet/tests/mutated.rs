//! A million packets that were right once.

use super::*;

/// Xorshift: the same packets in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

#[test]
fn a_million_mutated_packets_do_not_panic() {
    let v2 = Advert { version: Version::V2, auth: Auth::Simple([7; 8]), ..advert() };
    let v6 = Advert { addresses: [FROM_V6].into_iter().collect(), ..advert() };
    let seeds = [
        (built(&advert(), &multicast_v4()), multicast_v4()),
        (built(&v2, &multicast_v4()), multicast_v4()),
        (built(&v6, &multicast_v6()), multicast_v6()),
        (built(&advert(), &unicast_v4()), unicast_v4()),
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut taken, mut counted) = (0_u32, [0_u32; Discard::COUNTERS.len()]);
    for round in 0..1_000_000 {
        let (mut packet, envelope) = seeds[round % seeds.len()].clone();
        for _ in 0..random.below(3) {
            let at = random.below(packet.len());
            packet[at] = u8::try_from(random.below(256)).unwrap();
        }
        packet.truncate(random.below(packet.len() * 4).max(1));
        packet.resize(packet.len() + random.below(2) * random.below(40), 0xa5);
        if random.below(2) == 0 && packet.len() >= 8 {
            let end = match envelope.family() {
                Family::V4 => 8 + usize::from(packet[3]) * 4,
                Family::V6 => 8 + usize::from(packet[3]) * 16,
            };
            let end = end.min(packet.len());
            packet[6..8].fill(0);
            let sum = sum_of(&[&packet[..end]]);
            packet[6..8].copy_from_slice(&sum.to_be_bytes());
        }
        let version = [Version::V2, Version::V3][random.below(2)];
        match parse(&packet, &envelope, version) {
            Ok(advert) => {
                assert!(advert.vrid > 0 && !advert.interval.is_zero());
                assert!(!advert.addresses.is_empty());
                taken += 1;
            }
            Err(discard) => counted[discard.index()] += 1,
        }
    }
    assert!(taken > 10_000, "{taken}");
    assert!(counted[Discard::Length.index()] > 10_000, "{counted:?}");
    assert!(counted[Discard::Checksum.index()] > 10_000, "{counted:?}");
}
