//! What is asked of paths in relation to others.

use crate::report::{Goal, Ratio, Report};
use crate::table::{CLIENTS, HOT, KNOWN, MIX, REPLIES, of_beside};

/// All ratios whose two paths were measured.
pub(crate) fn all(reports: &[Report]) -> Vec<Ratio> {
    let of = |name: &str| reports.iter().find(|report| report.scenario.to_string() == name);
    let mut ratios = vec![];
    for mode in ["nat", "dnat", "dsr"] {
        if let (Some(v6), Some(v4)) = (of(&format!("IPv6 {mode}")), of(&format!("IPv4 {mode}"))) {
            let name = format!("IPv6 to IPv4, {mode}");
            ratios.extend(ratio(&name, (v6, HOT), (v4, HOT), Goal::most(1.35)));
        }
    }
    let large = reports.iter().find(|report| report.scenario.backends == 1000);
    if let (Some(large), Some(usual)) = (large, of("IPv4 nat")) {
        for path in [KNOWN, REPLIES, MIX, CLIENTS] {
            let name = "1,000,000 flows to 60,000";
            ratios.extend(ratio(name, (large, path), (usual, path), Goal::most(1.5)));
        }
    }
    let mixed = Goal { most: Some(1.38), aim: Some(1.0) };
    for report in reports {
        for (path, goal) in [(HOT, Goal::most(0.8)), (KNOWN, Goal::default()), (CLIENTS, mixed)] {
            let name = format!("{} to the program beside", report.scenario);
            ratios.extend(ratio(&name, (report, path), (report, &of_beside(path)), goal));
        }
    }
    ratios
}

fn ratio(name: &str, a: (&Report, &str), b: (&Report, &str), goal: Goal) -> Option<Ratio> {
    let value = a.0.net(a.1)? / b.0.net(b.1)?;
    Some(Ratio { name: format!("{name}: {}", a.1), value, goal })
}
