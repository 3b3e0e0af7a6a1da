//! The ways to the backends. Pure.

use super::super::facts::echo::Echo;
use super::super::facts::ways::{State, Way};
use super::super::finding::Finding;
use crate::preflight::version;

/// Of one kind that are said one by one.
const MOST_SAID: usize = 8;

/// The oldest kernel that shows us what backends on this node send (tcx).
const TCX: (u32, u32) = (6, 6);

/// `interfaces`: those that XDP attaches to. `kernel`: its release.
pub(super) fn judge(ways: &[Way], interfaces: &[String], kernel: &str) -> Vec<Finding> {
    let has_tcx = version(kernel).is_none_or(|found| found >= TCX);
    let fault = |way: &Way| fault(way, interfaces, has_tcx);
    let mut found: Vec<Finding> = ways.iter().filter_map(fault).collect();
    let more = found.len().saturating_sub(MOST_SAID);
    found.truncate(MOST_SAID);
    if more > 0 {
        found.push(
            Finding::info("way.more", format!("{more} more backends have such a way"))
                .because("they are left out of this list"),
        );
    }
    let fine = ways.iter().filter(|way| fault(way).is_none()).count();
    if fine > 0 {
        found.push(Finding::ok(
            "way.known",
            format!("the way to {fine} backends' addresses is known"),
        ));
    }
    found
}

fn fault(way: &Way, interfaces: &[String], has_tcx: bool) -> Option<Finding> {
    let Way { address, backends, state, narrow, echo } = way;
    let who = format!("{} ({address})", backends.join(", "));
    let nobody = "it gets no connections";
    match state {
        State::Failed { neighbour, interface } => Some(
            Finding::problem("way.neighbour", format!("{who} is out of reach: {neighbour} does not answer ARP or ND on {interface}"))
                .because(nobody)
                .fix(format!("ip neigh show {neighbour} dev {interface}; ping -c1 -I {interface} {neighbour}")),
        ),
        State::Unresolved { neighbour, interface } => Some(
            Finding::warning("way.neighbour", format!("{who}: the MAC of {neighbour} on {interface} is not known yet"))
                .because(format!("{nobody} until it is; a controller that runs asks for it"))
                .fix(format!("ping -c1 -I {interface} {neighbour}")),
        ),
        State::NoRoute => Some(
            Finding::problem("way.route", format!("there is no route to {who}"))
                .because(format!("{nobody}; routes of the main table count, those of rules and other tables do not"))
                .fix(format!("ip route get {address}")),
        ),
        State::Local if !has_tcx => Some(
            Finding::warning("way.local", format!("{who} is this node's own address, and this kernel has no tcx"))
                .because(format!(
                    "{nobody} unless the distribution has added tcx (Linux 6.6), as its answers could not be met; the others are used"
                ))
                .fix("# a newer kernel"),
        ),
        State::Local => Some(
            Finding::info("way.local", format!("{who} is this node's own address"))
                .because("the kernel takes its connections on: see \"A backend on this node\" in the README"),
        ),
        State::Known(interface) if !interfaces.is_empty() && !interfaces.contains(interface) => Some(
            Finding::problem("way.interface", format!("{who} is behind {interface}, which is not in `interfaces`"))
                .because(format!("{nobody}: its answers would arrive where no XDP program is"))
                .fix(format!("interfaces: [{}, {interface}]     # in the configuration", interfaces.join(", "))),
        ),
        State::Known(interface) if narrow.is_none() => {
            let hole = echo.filter(|echo| echo.short && !echo.long)?;
            Some(black_hole(way, &who, interface, hole))
        }
        State::Known(interface) => narrow.map(|mtu| {
            Finding::warning("mtu.path", format!("only packets of {mtu} bytes get from {interface} to {who}"))
                .because(
                    "somebody on the way said so by ICMP; clients have to hear it too, or their full segments are lost. Filters that drop \
                     ICMP make such connections hang",
                )
                .fix(format!("tracepath -n {address}"))
        }),
    }
}

/// Long packets vanish, and nobody says so.
fn black_hole(way: &Way, who: &str, interface: &str, echo: Echo) -> Finding {
    let (address, length) = (way.address, echo.length);
    let payload = length.saturating_sub(if address.is_ipv4() { 28 } else { 48 });
    Finding::warning("mtu.black_hole", format!("packets of {length} bytes from {interface} do not come back from {who}, short ones do"))
        .because(
            "something on the way, or the host itself, takes only shorter ones and does not say so: health checks are short and see \
             nothing, and connections hang once much is sent. (Or it answers no long echo requests: look with another tool.)",
        )
        .fix(format!("tracepath -n {address}; ping -M do -s {payload} {address}"))
        .fix("# the same MTU on this node, the switches and that host")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{has, severities};
    use super::*;
    use crate::doctor::Severity;

    fn way(state: State) -> Way {
        let address = "10.0.0.11".parse().unwrap();
        Way { address, backends: vec!["api/cp1".to_owned()], state, narrow: None, echo: None }
    }

    const fn echo(short: bool, long: bool) -> Echo {
        Echo { length: 1500, short, long }
    }

    #[test]
    fn ways_are_judged_by_how_far_they_are_known() {
        use Severity::{Info, Ok, Problem, Warning};
        let (neighbour, interface) = ("10.0.0.1".parse().unwrap(), "eth0".to_owned());
        let known = State::Known("eth0".to_owned());
        for (way, id, severity) in [
            (way(known.clone()), "way.known", Ok),
            (
                way(State::Failed { neighbour, interface: interface.clone() }),
                "way.neighbour",
                Problem,
            ),
            (way(State::Unresolved { neighbour, interface }), "way.neighbour", Warning),
            (way(State::NoRoute), "way.route", Problem),
            (way(State::Local), "way.local", Info),
            (way(State::Known("eth1".to_owned())), "way.interface", Problem),
            (Way { narrow: Some(1400), ..way(known.clone()) }, "mtu.path", Warning),
            (
                Way { echo: Some(echo(true, false)), ..way(known.clone()) },
                "mtu.black_hole",
                Warning,
            ),
            // Nobody said that it answers echo requests.
            (Way { echo: Some(echo(false, false)), ..way(known.clone()) }, "way.known", Ok),
            (Way { echo: Some(echo(true, true)), ..way(known) }, "way.known", Ok),
        ] {
            let found = judge(std::slice::from_ref(&way), &["eth0".to_owned()], "6.6.0");
            assert!(has(&found, id, severity), "{way:?}: {found:#?}");
        }
    }

    #[test]
    fn a_backend_on_the_node_needs_tcx() {
        for (kernel, severity) in [
            ("6.5.0-35-generic", Severity::Warning),
            ("6.6.0", Severity::Info),
            ("unknown", Severity::Info),
        ] {
            let found = judge(&[way(State::Local)], &["eth0".to_owned()], kernel);
            assert!(has(&found, "way.local", severity), "{kernel}: {found:#?}");
        }
    }

    #[test]
    fn of_many_some_are_said() {
        let ways = vec![way(State::NoRoute); 100];
        let found = judge(&ways, &[], "6.6.0");
        assert_eq!(found.len(), MOST_SAID + 1);
        assert_eq!(severities(&found), [Severity::Problem, Severity::Info]);
    }
}
