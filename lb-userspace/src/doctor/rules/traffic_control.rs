//! What of traffic control is on the interfaces. Pure.

use lb_common::EGRESS_PROGRAM;

use super::super::facts::interfaces::{Facts, Tc};
use super::super::finding::Finding;

const WHY: &str = "XDP runs before ingress, and what it sends never passes egress: they do not see balanced traffic";

pub(super) fn judge(name: &str, facts: &Facts) -> Vec<Finding> {
    // Before Linux 6.6 there are none; without privileges nobody can tell.
    let programs = facts.tc.as_deref().unwrap_or_default();
    let mut found: Vec<Finding> = programs_of(name, programs).into_iter().collect();
    found.extend(order(name, programs));
    found.extend(filters(name, facts));
    found
}

fn is_ours(program: &Tc) -> bool {
    !program.ingress && program.name == EGRESS_PROGRAM
}

const fn direction(ingress: bool) -> &'static str {
    if ingress { "ingress" } else { "egress" }
}

fn programs_of(name: &str, programs: &[Tc]) -> Option<Finding> {
    let others = programs.iter().filter(|program| !is_ours(program));
    let names: Vec<String> =
        others.map(|tc| format!("{} ({})", tc.name, direction(tc.ingress))).collect();
    let names = (!names.is_empty()).then(|| names.join(", "))?;
    let what = format!("{name} has BPF programs of traffic control: {names}");
    Some(
        Finding::info("tc.programs", what).because(WHY).fix(format!("bpftool net show dev {name}")),
    )
}

/// Replies of backends on this node are met at egress, where one that ends the chain hides what comes behind it.
fn order(name: &str, programs: &[Tc]) -> Option<Finding> {
    let mut egress = programs.iter().filter(|program| !program.ingress);
    let before: Vec<&str> = egress
        .by_ref()
        .take_while(|program| !is_ours(program))
        .map(|it| it.name.as_str())
        .collect();
    let has_ours = programs.iter().any(is_ours);
    (has_ours && !before.is_empty()).then(|| {
        let before = before.join(", ");
        Finding::warning("tc.order", format!("{before} comes before Fairlead's program at the egress of {name}"))
            .because(
                "what it sends elsewhere, or drops, Fairlead does not meet: replies of the backend on this node then leave with an \
                 address that their client does not know",
            )
            .fix(format!("bpftool net show dev {name}     # the order; attach the other one behind"))
            .fix("fairlead stop --handover; systemctl start fairlead     # stands first again")
    })
}

fn filters(name: &str, facts: &Facts) -> Option<Finding> {
    const ID: &str = "tc.filters";
    let filters = facts.filters.as_ref()?;
    let show = format!("tc filter show dev {name} ingress; tc filter show dev {name} egress");
    if filters.is_empty() {
        let what = format!("{name} has a clsact or ingress qdisc, and no filter in it");
        return Some(Finding::ok(ID, what));
    }
    let of = |filter: &crate::netlink::filters::Filter| {
        let program = filter.name.as_ref().map_or_else(String::new, |name| format!(" {name}"));
        format!("{}{program} ({})", filter.kind, direction(filter.ingress))
    };
    let names: Vec<String> = filters.iter().map(of).collect();
    let what = format!("{name} has filters of traffic control: {}", names.join(", "));
    Some(Finding::info(ID, what).because(WHY).fix(show))
}

#[cfg(test)]
mod tests {
    use super::super::interfaces::tests::facts;
    use super::super::testing::{has, severities};
    use super::*;
    use crate::doctor::Severity;
    use crate::netlink::filters::Filter;

    fn tc(ingress: bool, name: &str) -> Tc {
        Tc { ingress, name: name.to_owned() }
    }

    fn programs(programs: &[Tc]) -> Vec<Finding> {
        judge("eth0", &Facts { tc: Ok(programs.to_vec()), ..facts() })
    }

    #[test]
    fn programs_of_others_are_named_and_ours_is_not() {
        assert!(programs(&[tc(false, EGRESS_PROGRAM)]).is_empty());
        let found = programs(&[tc(true, "cil"), tc(false, EGRESS_PROGRAM), tc(false, "last")]);
        assert_eq!(severities(&found), [Severity::Info]);
        assert!(found[0].what.ends_with("cil (ingress), last (egress)"), "{}", found[0].what);
    }

    #[test]
    fn who_comes_before_our_program_may_hide_its_packets() {
        let before = programs(&[tc(false, "first"), tc(false, EGRESS_PROGRAM)]);
        assert!(has(&before, "tc.order", Severity::Warning), "{before:#?}");
        for other in [
            programs(&[tc(false, EGRESS_PROGRAM), tc(false, "second")]),
            programs(&[tc(true, "first"), tc(false, EGRESS_PROGRAM)]),
            programs(&[tc(false, "alone")]),
        ] {
            assert!(!has(&other, "tc.order", Severity::Warning), "{other:#?}");
        }
    }

    #[test]
    fn filters_are_named_with_their_programs() {
        let of = |filters: &[Filter]| {
            let filters = Some(filters.iter().cloned().collect());
            judge("eth0", &Facts { filters, ..facts() })
        };
        assert_eq!(severities(&of(&[])), [Severity::Ok]);
        let bpf = Filter { ingress: true, kind: "bpf".into(), name: Some("legacy".into()) };
        let flower = Filter { ingress: false, kind: "flower".into(), name: None };
        let found = of(&[bpf, flower]);
        assert!(has(&found, "tc.filters", Severity::Info));
        let what = &found[0].what;
        assert!(
            what.contains("bpf legacy (ingress)") && what.contains("flower (egress)"),
            "{what}"
        );
        assert!(judge("eth0", &facts()).is_empty(), "there is no place for any");
    }
}
