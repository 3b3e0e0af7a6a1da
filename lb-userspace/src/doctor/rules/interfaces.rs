//! Interfaces, and what XDP makes of them. Pure.

use super::super::facts::Interface;
use super::super::facts::interfaces::{Facts, Xdp};
use super::super::finding::Finding;
use super::traffic_control;
use crate::config::XdpMode;

/// What is known besides the interfaces.
#[derive(Clone, Copy)]
pub(super) struct Given {
    pub(super) mode: XdpMode,
    /// Another owner's program is removed.
    pub(super) replaces: bool,
    /// A controller runs.
    pub(super) running: bool,
}

pub(super) fn judge(interfaces: &[Interface], given: Given) -> Vec<Finding> {
    let balancing = interfaces.iter().filter(|interface| interface.balances).count();
    if balancing == 0 {
        return vec![
            Finding::warning("interface.none", "no interface to balance on is named")
                .because("the controller does not start without one")
                .fix("interfaces: [eth0]     # in the configuration, or --iface eth0"),
        ];
    }
    let of = |interface: &Interface| match &interface.link {
        None => vec![missing(&interface.name)],
        Some(facts) => present(interface, facts, balancing > 1, given),
    };
    interfaces.iter().flat_map(of).collect()
}

fn missing(name: &str) -> Finding {
    Finding::problem("interface.missing", format!("there is no interface {name}"))
        .because(
            "the controller does not start without it, and takes it up again when it comes back",
        )
        .fix("ip -brief link     # which there are")
}

fn present(interface: &Interface, facts: &Facts, two_arms: bool, given: Given) -> Vec<Finding> {
    let name = &interface.name;
    let mut found = vec![link(name, facts)];
    if !interface.balances {
        return found;
    }
    found.extend(facts.aggregate.as_ref().map(|master| port(name, master)));
    if !facts.is_ethernet {
        found.push(
            Finding::problem("interface.kind", format!("{name} has no Ethernet address"))
                .because("clients and apiservers are reached by plain Ethernet only"),
        );
    }
    found.push(match &facts.xdp {
        Some(xdp) if !xdp.ours => foreign(name, xdp, given),
        Some(xdp) => attached(name, xdp, given),
        None => attachable(name, facts, given),
    });
    found.extend(two_arms.then(|| redirect(name, facts)).flatten());
    found.extend(offloads(name, facts));
    found.extend(traffic_control::judge(name, facts));
    found.extend(veth(name, facts));
    found
}

fn link(name: &str, facts: &Facts) -> Finding {
    const ID: &str = "interface.up";
    if facts.up {
        let driver = facts.driver.as_deref().unwrap_or("an unknown driver");
        return Finding::ok(ID, format!("{name} is up ({driver}, MTU {})", facts.mtu));
    }
    Finding::problem(ID, format!("{name} is down, or has no carrier"))
        .because("nothing is received there, and VRRP instances on it are at fault")
        .fix(format!("ip link set dev {name} up"))
}

fn port(name: &str, master: &str) -> Finding {
    Finding::problem("interface.port", format!("{name} is a port of {master}"))
        .because("what arrives there is the master's, and the controller refuses it")
        .fix(format!("interfaces: [{master}]     # in place of {name}"))
}

fn foreign(name: &str, xdp: &Xdp, given: Given) -> Finding {
    const ID: &str = "xdp.foreign";
    let program = xdp.name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    let what = format!("{name} carries XDP program {}{program}, which is not Fairlead's", xdp.id);
    let whose = format!("bpftool net show dev {name}     # whose it is");
    if given.replaces {
        return Finding::warning(ID, what)
            .because("replace_xdp has it removed when ours is attached, and nobody puts it back")
            .fix(whose);
    }
    Finding::problem(ID, what)
        .because("Fairlead does not replace it by itself, so nothing is balanced on this interface")
        .fix(whose)
        .fix(format!("ip link set dev {name} xdp off     # if nobody needs it"))
        .fix("replace_xdp: true     # in the configuration, likewise")
}

fn attached(name: &str, xdp: &Xdp, given: Given) -> Finding {
    const ID: &str = "xdp.mode";
    if !given.running {
        return Finding::info(
            ID,
            format!("{name} carries Fairlead's program, and no controller runs"),
        )
        .because(
            "connections go on; backends are not probed, and elected VIPs end with their lease",
        )
        .fix("systemctl start fairlead     # it takes over what is there")
        .fix("fairlead cleanup     # or remove it; that ends its connections");
    }
    match (xdp.generic, given.mode) {
        (false, _) => Finding::ok(ID, format!("{name} has XDP in native mode")),
        (true, XdpMode::Generic) => {
            Finding::ok(ID, format!("{name} has XDP in generic mode, as the configuration says"))
        }
        (true, XdpMode::Auto | XdpMode::Native) => {
            Finding::warning(ID, format!("{name} has XDP in generic mode"))
                .because("the kernel makes a copy of most packets first: it works, at several times the CPU time")
                .fix("fairlead status     # its reason")
        }
    }
}

fn attachable(name: &str, facts: &Facts, given: Given) -> Finding {
    const ID: &str = "xdp.native";
    if given.running {
        return Finding::problem(
            "xdp.detached",
            format!("{name} has no XDP program, though a controller runs"),
        )
        .because("what arrives there is not balanced")
        .fix("fairlead events     # why")
        .fix("fairlead reload     # if the interface is not in the running configuration");
    }
    let driver = facts.driver.as_deref().unwrap_or("?");
    match (facts.native, given.mode) {
        (Some(false), XdpMode::Native) => {
            Finding::problem(ID, format!("the driver of {name} ({driver}) has no native XDP"))
                .because("the configuration wants it, and the controller will not attach otherwise")
                .fix("xdp_mode: auto     # in the configuration")
        }
        (Some(false), XdpMode::Auto) => {
            Finding::warning(ID, format!("the driver of {name} ({driver}) has no native XDP"))
                .because("generic XDP works, at several times the CPU time")
                .fix("# a newer kernel or another card; the README names none in particular")
        }
        (Some(true), _) => {
            Finding::ok(ID, format!("the driver of {name} ({driver}) has native XDP"))
        }
        (_, XdpMode::Generic) => Finding::ok(ID, format!("{name} will have XDP in generic mode")),
        (None, XdpMode::Auto | XdpMode::Native) => Finding::info(
            ID,
            format!("this kernel does not say whether {name} ({driver}) has native XDP"),
        )
        .because("Linux 6.3 and newer say so; the controller tries, and says what it got"),
    }
}

fn redirect(name: &str, facts: &Facts) -> Option<Finding> {
    (!facts.redirects?).then(|| {
        Finding::warning("xdp.redirect", format!("{name} cannot send what XDP redirects to it"))
            .because("with several interfaces requests leave by another one: the controller then attaches in generic mode")
            .fix("# on one subnet a single interface does: see \"one arm\" in the README")
    })
}

fn offloads(name: &str, facts: &Facts) -> Vec<Finding> {
    let Some(xdp) = facts.xdp.as_ref().filter(|xdp| xdp.ours) else { return Vec::new() };
    let on = |value: &Result<bool, String>| value.as_ref().is_ok_and(|on| *on);
    let cases = [
        (
            "offload.gro",
            xdp.generic && on(&facts.gro),
            "gro",
            "segments are merged before generic XDP sees them, and are then too long to be sent on; the controller \
             switched it off, and somebody switched it on again",
        ),
        (
            "offload.lro",
            on(&facts.lro),
            "lro",
            "the hardware merges segments, which are then too long to be sent on",
        ),
        (
            "offload.rxvlan",
            facts.has_vlans && on(&facts.rxvlan),
            "rxvlan",
            "XDP does not see tags that the hardware takes out: packets of VLANs are mistaken for others; the \
             controller switched it off, and somebody switched it on again",
        ),
    ];
    let of = |(id, is_wrong, feature, why): (&'static str, bool, &str, &str)| {
        if !is_wrong {
            return Finding::ok(id, format!("{feature} of {name} does no harm"));
        }
        Finding::problem(id, format!("{feature} of {name} is on"))
            .because(why)
            .fix(format!("ethtool -K {name} {feature} off"))
    };
    cases.map(of).into()
}

fn veth(name: &str, facts: &Facts) -> Option<Finding> {
    (facts.driver.as_deref() == Ok("veth")).then(|| {
        Finding::info("interface.veth", format!("{name} is one end of a veth pair"))
            .because(
                "what XDP sends is lost silently unless the other end has an XDP program too, if only one that passes \
                 everything; and TX checksums, TSO, GSO and GRO must be off on every end",
            )
            .fix(format!("ethtool -K {name} tx off tso off gso off gro off     # likewise at the other end"))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::{has, severities};
    use super::*;
    use crate::config::Family;
    use crate::doctor::Severity;

    pub(in super::super) fn facts() -> Facts {
        Facts {
            index: 2,
            up: true,
            mtu: 1500,
            driver: Ok("ice".to_owned()),
            is_ethernet: true,
            aggregate: None,
            has_vlans: false,
            addresses: vec![Family::V4],
            gro: Ok(true),
            lro: Ok(false),
            rxvlan: Ok(true),
            native: Some(true),
            redirects: Some(true),
            xdp: None,
            tc: Ok(vec![]),
            filters: None,
        }
    }

    fn interface(facts: Facts) -> Interface {
        Interface { name: "eth0".to_owned(), balances: true, link: Some(facts) }
    }

    const STOPPED: Given = Given { mode: XdpMode::Auto, replaces: false, running: false };
    const RUNNING: Given = Given { mode: XdpMode::Auto, replaces: false, running: true };

    /// With a program.
    fn with(ours: bool, generic: bool) -> Facts {
        let xdp = Xdp { id: 7, name: Some("other".to_owned()), generic, ours };
        Facts { xdp: Some(xdp), ..facts() }
    }

    #[test]
    fn a_good_interface_is_found_good() {
        let stopped = judge(&[interface(facts())], STOPPED);
        assert_eq!(severities(&stopped), [Severity::Ok], "{stopped:#?}");
        let running = judge(&[interface(with(true, false))], RUNNING);
        assert_eq!(severities(&running), [Severity::Ok], "{running:#?}");
    }

    #[test]
    fn every_fault_of_an_interface_is_named() {
        use Severity::{Info, Problem, Warning};
        let generic = with(true, true);
        let native = with(true, false);
        let only_native = Given { mode: XdpMode::Native, ..STOPPED };
        let replacing = Given { replaces: true, ..STOPPED };
        let cases = [
            ("interface.up", Problem, Facts { up: false, ..facts() }, STOPPED),
            (
                "interface.port",
                Problem,
                Facts { aggregate: Some("bond0".into()), ..facts() },
                STOPPED,
            ),
            ("interface.kind", Problem, Facts { is_ethernet: false, ..facts() }, STOPPED),
            ("xdp.foreign", Problem, with(false, false), RUNNING),
            ("xdp.foreign", Problem, with(false, true), STOPPED),
            ("xdp.foreign", Warning, with(false, true), replacing),
            ("xdp.detached", Problem, facts(), RUNNING),
            ("xdp.mode", Warning, generic.clone(), RUNNING),
            ("xdp.mode", Info, native.clone(), STOPPED),
            ("xdp.native", Problem, Facts { native: Some(false), ..facts() }, only_native),
            ("xdp.native", Warning, Facts { native: Some(false), ..facts() }, STOPPED),
            ("xdp.native", Info, Facts { native: None, ..facts() }, STOPPED),
            ("offload.gro", Problem, generic, RUNNING),
            ("offload.lro", Problem, Facts { lro: Ok(true), ..native.clone() }, RUNNING),
            ("offload.rxvlan", Problem, Facts { has_vlans: true, ..native }, RUNNING),
            ("interface.veth", Info, Facts { driver: Ok("veth".into()), ..facts() }, STOPPED),
        ];
        for (id, severity, facts, given) in cases {
            let found = judge(&[interface(facts)], given);
            assert!(has(&found, id, severity), "{id}: {found:#?}");
        }
    }

    #[test]
    fn interfaces_that_are_not_there_or_not_named_are_said() {
        let gone = Interface { name: "eth9".to_owned(), balances: true, link: None };
        assert!(has(&judge(&[gone], STOPPED), "interface.missing", Severity::Problem));
        assert!(has(&judge(&[], STOPPED), "interface.none", Severity::Warning));
        let elected = Interface { balances: false, ..interface(with(false, false)) };
        let both = [interface(facts()), elected];
        assert!(judge(&both, STOPPED).iter().all(|finding| finding.id != "xdp.foreign"));
    }

    #[test]
    fn redirects_matter_with_two_interfaces() {
        let deaf = interface(Facts { redirects: Some(false), ..facts() });
        let other = Interface { name: "eth1".to_owned(), ..interface(facts()) };
        let alone = judge(std::slice::from_ref(&deaf), STOPPED);
        assert!(!has(&alone, "xdp.redirect", Severity::Warning));
        assert!(has(&judge(&[deaf, other], STOPPED), "xdp.redirect", Severity::Warning));
    }
}
