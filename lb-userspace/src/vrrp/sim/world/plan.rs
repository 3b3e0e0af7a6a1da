//! Which nodes there are. Pure.

use super::*;

/// What is fixed for a run.
pub(in super::super) struct Plan {
    pub(in super::super) nodes: Vec<Settings>,
}

impl Plan {
    pub(in super::super) fn any(random: &mut Random) -> Self {
        let version = if random.chance(75) { Version::V3 } else { Version::V2 };
        let family = match version {
            Version::V2 => Family::V4,
            Version::V3 => random.pick(&Family::BOTH),
        };
        let millis = match version {
            Version::V2 => random.pick(&[1000, 2000]),
            Version::V3 => random.pick(&[10, 100, 1000, 2000]),
        };
        let differ = version == Version::V3 && random.chance(25);
        let alike = random.pick(&[Some(true), Some(true), Some(false), None]);
        let few_priorities = random.chance(40);
        let node = |random: &mut Random| Settings {
            version,
            family,
            vrid: 7,
            priority: if few_priorities {
                random.pick(&[100, 150])
            } else {
                u8::try_from(2 + random.below(253)).unwrap()
            },
            advert_interval: Duration::from_millis(if differ {
                millis * (1 + random.below(3))
            } else {
                millis
            }),
            down_timer_adverts: 3,
            preempt: alike.unwrap_or_else(|| random.chance(50)),
            yields_when_stalled: false,
            preempt_delay: Duration::ZERO,
            startup_delay: Duration::ZERO,
            receive_gate: Duration::from_millis(millis),
            recovery_hold: Duration::from_millis(millis),
            last_advert: random.chance(80),
            linger: Duration::from_millis(millis),
            restart_grace: Duration::from_millis(match version {
                Version::V2 => 0,
                Version::V3 => millis * random.pick(&[0, 0, 5, 10]),
            }),
            grouped: false,
            vips: vip(family),
            unicast_peers: [].into(),
            password: None,
            checksum: ChecksumForm::PseudoHeader,
        };
        let count = 2 + random.below(2);
        Self { nodes: (0..count).map(|_| node(random)).collect() }
    }
}

fn vip(family: Family) -> std::sync::Arc<[IpAddr]> {
    match family {
        Family::V4 => [Ipv4Addr::new(10, 0, 0, 100).into()].into(),
        Family::V6 => [Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100).into()].into(),
    }
}
