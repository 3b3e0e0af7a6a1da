//! How long frames may be. Pure.

use super::super::facts::Interface;
use super::super::finding::Finding;
use crate::preflight::version;

/// What Ethernet carries everywhere.
const ETHERNET: u32 = 1500;
/// The least that IPv6 can work with (RFC 8200 section 5).
const LEAST: u32 = 1280;
/// Native XDP has one page for a frame, with room in front and behind it.
const ONE_PAGE: u32 = 3498;
/// From here on there is XDP for frames of several buffers.
const FRAGMENTS: (u32, u32) = (5, 18);

/// `v6`: there is an IPv6 VIP.
pub(super) fn judge(interfaces: &[Interface], kernel: &str, v6: bool) -> Vec<Finding> {
    let known: Vec<(&str, u32)> = interfaces
        .iter()
        .filter(|interface| interface.balances)
        .filter_map(|interface| Some((interface.name.as_str(), interface.link.as_ref()?.mtu)))
        .collect();
    let mut found: Vec<Finding> =
        known.iter().map(|(name, mtu)| size(name, *mtu, kernel, v6)).collect();
    found.extend(differs(&known));
    found
}

fn size(name: &str, mtu: u32, kernel: &str, v6: bool) -> Finding {
    const ID: &str = "mtu.small";
    let what = format!("the MTU of {name} is {mtu}");
    let set = format!("ip link set dev {name} mtu {ETHERNET}");
    if mtu < LEAST {
        let why = if v6 {
            "IPv6 does not work below 1280, and longer frames of clients and apiservers are lost here"
        } else {
            "longer frames of clients and apiservers are lost here: they agree on a size without asking this node"
        };
        return Finding::problem(ID, what).because(why).fix(set);
    }
    if mtu < ETHERNET {
        return Finding::warning(ID, what)
            .because(
                "clients and apiservers agree on the size of segments past this node: if theirs is 1500, full frames are \
                 lost here, and connections hang once much is sent",
            )
            .fix(set)
            .fix("# or give clients or apiservers this MTU too");
    }
    if mtu > ONE_PAGE && version(kernel).is_none_or(|found| found < FRAGMENTS) {
        return Finding::warning("mtu.jumbo", what)
            .because("native XDP takes frames of more than a page from Linux 5.18 on; before, generic mode is left")
            .fix("# a newer kernel, or an MTU of 3498 at most");
    }
    Finding::ok(ID, what)
}

fn differs(known: &[(&str, u32)]) -> Option<Finding> {
    let (least, most) = (known.iter().min_by_key(|it| it.1)?, known.iter().max_by_key(|it| it.1)?);
    (least.1 != most.1).then(|| {
        Finding::problem("mtu.differs", format!("{} has MTU {}, {} has {}", most.0, most.1, least.0, least.1))
            .because("what is longer than the lesser is lost on its way from one to the other, and nobody is told")
            .fix(format!("ip link set dev {} mtu {}", most.0, least.1))
            .fix("# and the same MTU on the hosts of that side; or raise the lesser")
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{has, severities};
    use super::*;
    use crate::doctor::Severity;

    const NEW: &str = "6.1.0";

    fn judged(mtus: &[u32], kernel: &str, v6: bool) -> Vec<Finding> {
        let known: Vec<(&str, u32)> =
            ["eth0", "eth1"].into_iter().zip(mtus.iter().copied()).collect();
        let mut found: Vec<Finding> =
            known.iter().map(|(name, mtu)| size(name, *mtu, kernel, v6)).collect();
        found.extend(differs(&known));
        found
    }

    #[test]
    fn frames_are_judged_by_length() {
        use Severity::{Problem, Warning};
        assert_eq!(severities(&judged(&[1500, 1500], NEW, true)), [Severity::Ok]);
        assert_eq!(severities(&judged(&[9000, 9000], NEW, true)), [Severity::Ok]);
        for (mtus, kernel, v6, id, severity) in [
            (&[1279][..], NEW, true, "mtu.small", Problem),
            (&[1000], NEW, false, "mtu.small", Problem),
            (&[1450], NEW, false, "mtu.small", Warning),
            (&[9000], "5.15.0", false, "mtu.jumbo", Warning),
            (&[1500, 9000], NEW, false, "mtu.differs", Problem),
        ] {
            let found = judged(mtus, kernel, v6);
            assert!(has(&found, id, severity), "{mtus:?}: {found:#?}");
        }
    }
}
