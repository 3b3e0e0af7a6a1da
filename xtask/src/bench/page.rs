//! The report: one HTML file with everything in it, which loads nothing from anywhere. Pure.

use std::fmt::Write as _;

use anyhow::Result;

use super::chart::{self, Bar, Line, Words};
use super::findings::Findings;
use super::lab::Fabric;
use super::metric::Metric;
use super::number::show;
use super::peer::Peer;
use super::section::{self, Section};
use super::stats::{Goal, Verdict};

const STYLE: &str = include_str!("page.css");
const METHOD: &str = include_str!("method.html");

/// Charts of the rounds, in order.
const CHARTS: [Metric; 13] = [
    Metric::Requests,
    Metric::SmallRequests,
    Metric::Connections,
    Metric::Download,
    Metric::Upload,
    Metric::LoadedP50,
    Metric::LoadedP99,
    Metric::UnloadedP50,
    Metric::UnloadedP99,
    Metric::ConnectP50,
    Metric::AnswerP50,
    Metric::BalancerPerGb,
    Metric::BalancerPer100k,
];

pub(crate) fn render(findings: &Findings) -> Result<String> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Fairlead: bench</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    head(findings, &mut page)?;
    goals(findings, &mut page)?;
    charts(findings, &mut page)?;
    figures(findings, &mut page)?;
    sections(findings, &mut page)?;
    page += METHOD;
    versions(findings, &mut page)?;
    page += "</body>\n</html>\n";
    Ok(page)
}

fn head(findings: &Findings, page: &mut String) -> Result<()> {
    let machine = escape(&findings.machine.describe());
    let (rounds, seconds) = (findings.samples.rounds(), findings.seconds);
    writeln!(page, "<h1>Fairlead beside its peers</h1>\n<p class=\"soft\">{machine}</p>")?;
    let kind = if findings.quick { "a quick run" } else { "a run" };
    writeln!(
        page,
        "<p>{rounds} rounds, in {kind} of {seconds:.0} s. {:.0} % of the CPUs were busy before it \
         began. All peers share this machine's cores with their client and backends: what \
         counts is how they compare, not how fast they are.</p>",
        findings.machine.busy_before * 100.0
    )?;
    let fabric = match findings.fabric {
        Fabric::Alike => "at every link, for every peer",
        Fabric::Bare => "only where the balancer sends by XDP",
    };
    writeln!(page, "<p>XDP_PASS at the bridge's end: {fabric}.</p>")?;
    page.push_str("<ul>\n");
    for peer in &findings.peers {
        let (color, label, about) = (hex(*peer), peer.label(), peer.about());
        write!(
            page,
            "<li><span class=\"key\" style=\"background:{color}\"></span>{label}: {about}"
        )?;
        if let Some(why) = findings.failed.get(peer) {
            write!(page, " <span class=\"missed\">no figures: {}</span>", escape(why))?;
        }
        page.push_str("</li>\n");
    }
    for (name, why) in &findings.unavailable {
        writeln!(page, "<li>{name}: not available: {why}</li>")?;
    }
    page.push_str("</ul>\n");
    if !findings.notes.is_empty() {
        page.push_str("<ul>\n");
        for note in &findings.notes {
            writeln!(page, "<li>{}</li>", escape(note))?;
        }
        page.push_str("</ul>\n");
    }
    Ok(())
}

fn goals(findings: &Findings, page: &mut String) -> Result<()> {
    let comparisons = findings.comparisons();
    if comparisons.is_empty() {
        return Ok(());
    }
    page.push_str(
        "<h2>What is asked of Fairlead</h2>\n<div class=\"scroll\"><table>\n<tr><th>ratio</th>\
         <th>of medians</th><th>quartiles of the rounds</th><th>asked</th><th>verdict</th></tr>\n",
    );
    for comparison in comparisons {
        let asked = match comparison.goal {
            Goal::AtLeast(least) => format!("at least {least}"),
            Goal::AtMost(most) => format!("at most {most}"),
        };
        let (class, verdict) = match comparison.verdict {
            Verdict::Holds => ("holds", "holds"),
            Verdict::Missed => ("missed", "missed"),
            Verdict::Unclear => ("soft", "unclear: the rounds differ too much, or are too few"),
        };
        let ratio = comparison.ratio;
        writeln!(
            page,
            "<tr><td>{}: {} to {}</td><td>{:.2}</td><td>{:.2} to {:.2}</td><td>{asked}</td>\
             <td class=\"text {class}\">{verdict}</td></tr>",
            comparison.what, comparison.ours, comparison.theirs, ratio.value, ratio.low, ratio.high
        )?;
    }
    page.push_str("</table></div>\n");
    Ok(())
}

fn charts(findings: &Findings, page: &mut String) -> Result<()> {
    let mut drawn = Vec::new();
    for metric in CHARTS {
        let bars: Vec<Bar> = findings
            .measured()
            .into_iter()
            .filter_map(|peer| {
                let summary = findings.samples.summary(peer, metric)?;
                let mark = if summary.conclusive { "" } else { "~ " };
                Some(Bar {
                    label: format!("{mark}{}", peer.label()),
                    color: chart::color(peer),
                    value: summary.median,
                    spread: Some((summary.low, summary.high)),
                })
            })
            .collect();
        if !bars.is_empty() {
            let better = if metric.is_rate() { "more" } else { "less" };
            let unit = format!("{}: {better} is better", metric.unit());
            drawn.push(chart::bars(metric.label(), &unit, &bars)?);
        }
    }
    if !drawn.is_empty() {
        page.push_str(
            "<h2>Charts</h2>\n<p>The thin line is the rounds' quartiles; ~ before a name: they lie too far \
             apart to conclude anything.</p>\n",
        );
        group(&drawn, page)?;
    }
    let drawn: Vec<String> = [ns_charts(findings)?, growth_charts(findings)?].concat();
    if !drawn.is_empty() {
        page.push_str(
            "<h2>The XDP program alone</h2>\n<p>Nanoseconds for a packet, above a program that does nothing \
             but send it, on the same frames in turns.</p>\n",
        );
        group(&drawn, page)?;
    }
    Ok(())
}

fn ns_charts(findings: &Findings) -> Result<Vec<String>> {
    let mut drawn = Vec::new();
    for family in [4, 6] {
        for (mode, peer) in
            [("nat", Peer::FairleadNat), ("dnat", Peer::FairleadDnat), ("dsr", Peer::FairleadDsr)]
        {
            let of = |figure: &&super::findings::NsFigure| {
                figure.family == family && figure.mode == mode
            };
            let bars: Vec<Bar> = findings
                .ns_per_packet
                .iter()
                .filter(of)
                .map(|figure| Bar {
                    label: match figure.flows {
                        0 => figure.path.replace('_', " "),
                        1 => format!("{}, 1 flow", figure.path),
                        flows => format!("{}, {}", figure.path, super::number::whole(flows as f64)),
                    },
                    color: chart::color(peer),
                    value: figure.ns,
                    spread: Some((figure.low, figure.high)),
                })
                .collect();
            if !bars.is_empty() {
                let title = format!("IPv{family}, mode {mode}");
                drawn.push(chart::bars(&title, "ns per packet; paths with their flows", &bars)?);
            }
        }
    }
    Ok(drawn)
}

fn growth_charts(findings: &Findings) -> Result<Vec<String>> {
    let line = |path: &str, label: &str, peer| {
        let figures = findings.ns_by_flows.iter();
        let figures = figures.filter(|figure| figure.path == path && figure.flows > 1);
        let points = figures.map(|figure| (figure.flows as f64, figure.ns)).collect();
        Line { label: label.to_owned(), color: chart::color(peer), points }
    };
    if findings.ns_by_flows.is_empty() {
        return Ok(Vec::new());
    }
    let lines = [
        line("forward", "requests", Peer::FairleadNat),
        line("reply", "replies", Peer::FairleadDnat),
    ];
    let words = Words {
        title: "IPv4, mode nat: known flows, in scattered order",
        x: "flows",
        y: "ns per packet",
    };
    Ok(vec![chart::lines(words, &lines)?])
}

fn group(charts: &[String], page: &mut String) -> Result<()> {
    page.push_str("<div class=\"charts\">\n");
    for svg in charts {
        writeln!(page, "<div class=\"chart\">{svg}</div>")?;
    }
    page.push_str("</div>\n");
    Ok(())
}

fn figures(findings: &Findings, page: &mut String) -> Result<()> {
    let measured = findings.measured();
    if measured.is_empty() {
        return Ok(());
    }
    page.push_str(
        "<h2>All figures</h2>\n<div class=\"scroll\"><table>\n<tr><th>median</th><th>unit</th>",
    );
    for peer in &measured {
        write!(page, "<th>{}</th>", peer.label())?;
    }
    page.push_str("</tr>\n");
    for metric in Metric::ALL {
        write!(page, "<tr><td>{}</td><td>{}</td>", metric.label(), metric.unit())?;
        for peer in &measured {
            match findings.samples.summary(*peer, metric) {
                None => page.push_str("<td>–</td>"),
                Some(summary) => {
                    let mark = if summary.conclusive { "" } else { "~ " };
                    let (low, high) = (show(summary.low), show(summary.high));
                    let median = show(summary.median);
                    write!(page, "<td title=\"quartiles {low} to {high}\">{mark}{median}</td>")?;
                }
            }
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
    Ok(())
}

fn sections(findings: &Findings, page: &mut String) -> Result<()> {
    for Section { title, about, head, rows } in section::all(findings) {
        let about = escape(about);
        writeln!(page, "<h2>{title}</h2>\n<p>{about}</p>\n<div class=\"scroll\"><table>")?;
        row("th", head.into_iter(), page)?;
        for cells in &rows {
            row("td", cells.iter().map(String::as_str), page)?;
        }
        page.push_str("</table></div>\n");
    }
    Ok(())
}

fn row<'text>(
    kind: &str,
    cells: impl Iterator<Item = &'text str>,
    page: &mut String,
) -> Result<()> {
    page.push_str("<tr>");
    for cell in cells {
        write!(page, "<{kind}>{}</{kind}>", escape(cell))?;
    }
    page.push_str("</tr>\n");
    Ok(())
}

fn versions(findings: &Findings, page: &mut String) -> Result<()> {
    page.push_str("<footer><p>Versions: ");
    let each = findings.versions.iter();
    let each: Vec<_> = each.map(|(name, says)| format!("{name} ({})", escape(says))).collect();
    writeln!(page, "{}</p></footer>", each.join("; "))?;
    Ok(())
}

fn hex(peer: Peer) -> String {
    let plotters::style::RGBColor(red, green, blue) = chart::color(peer);
    format!("#{red:02X}{green:02X}{blue:02X}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::findings::tests::example;
    use super::*;

    #[test]
    fn the_page_has_all_in_it_and_loads_nothing() {
        let page = render(&example()).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        for outside in ["http:", "https:", "src=", "<script", "@import", "url("] {
            // SVG names its name space, which nobody loads.
            let text = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains(outside), "{outside}");
        }
        assert!(page.contains("keep-alive requests") && page.contains("IPv4, mode nat"));
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn what_others_said_is_text_and_not_html() {
        let page = render(&example()).unwrap();
        assert!(page.contains("only &lt;cp1&gt; answered") && !page.contains("<cp1>"));
        assert!(page.contains("a &amp; b"));
    }

    #[test]
    fn peers_have_the_same_colours_in_list_and_charts() {
        let page = render(&example()).unwrap();
        for peer in [Peer::Direct, Peer::Haproxy, Peer::FairleadNat] {
            assert!(page.matches(&hex(peer)).count() > 3, "{peer:?}");
        }
    }
}
