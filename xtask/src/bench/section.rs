//! The smaller tables, as rows of text: terminal and page show the same. Pure.

use super::findings::{Findings, NsFigure};
use super::number::{show, whole};
use super::observed::{Cost, Scrape, Whole};
use super::stats::Verdict;

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) about: &'static str,
    pub(crate) head: Vec<&'static str>,
    /// As wide as the head; the first column is text.
    pub(crate) rows: Vec<Vec<String>>,
}

/// Those for which there are figures, in order.
pub(crate) fn all(findings: &Findings) -> Vec<Section> {
    let sections = [
        memory(findings),
        ns(
            "Nanoseconds per packet",
            "The XDP program above a program that only sends, on the same frames.",
            &findings.ns_per_packet,
        ),
        packets(findings),
        looking(findings),
        scrape(findings),
        outages(findings),
        ns(
            "Known flows, more and more",
            "nat over IPv4, 100 backends, as above.",
            &findings.ns_by_flows,
        ),
        growth(findings),
        tables(findings),
    ];
    sections.into_iter().filter(|section| !section.rows.is_empty()).collect()
}

fn memory(findings: &Findings) -> Section {
    let row = |peer: &super::peer::Peer| {
        let memory = findings.memory.get(peer)?;
        let mib = |kib: i64| show(kib as f64 / 1024.0);
        Some(vec![
            peer.label().to_owned(),
            memory.connections.to_string(),
            findings.balancer_kib(*peer).map_or_else(|| "–".to_owned(), mib),
            mib(memory.processes_kib),
            mib(memory.processes_grown_kib),
            mib(memory.maps_kib),
            mib(memory.slab_grown_kib),
        ])
    };
    Section {
        title: "Memory with idle connections, MiB",
        about: "What the balancer takes: its processes, its BPF maps, which are allocated at start for all the \
                connections that there may be, and what the kernel's slabs (sockets, connection tracking) grew more \
                than without a balancer.",
        head: vec![
            "peer",
            "connections",
            "balancer",
            "processes",
            "processes grew",
            "BPF maps",
            "slabs grew, all",
        ],
        rows: findings.peers.iter().filter_map(row).collect(),
    }
}

fn ns(title: &'static str, about: &'static str, figures: &[NsFigure]) -> Section {
    let row = |figure: &NsFigure| {
        vec![
            format!("IPv{} {}, {}", figure.family, figure.mode, figure.path.replace('_', " ")),
            if figure.flows == 0 { "–".to_owned() } else { whole(figure.flows as f64) },
            format!("{:.1}", figure.ns),
            format!("{:.1} to {:.1}", figure.low, figure.high),
            format!("{:.1}", figure.floor_ns),
        ]
    };
    let head = vec!["path", "flows", "ns", "quartiles", "floor, ns"];
    Section { title, about, head, rows: figures.iter().map(row).collect() }
}

fn packets(findings: &Findings) -> Section {
    let row = |packets: &super::packets::Packets| {
        let rate = packets.millions_s;
        vec![
            packets.program.to_owned(),
            show(rate.median),
            format!("{} to {}", show(rate.low), show(rate.high)),
            show(1e3 / rate.median),
        ]
    };
    Section {
        title: "Packets a second on one core",
        about: "Frames of 64 bytes of known flows, made in the kernel by the same core that does all the rest, through the \
                veth driver in both directions.",
        head: vec!["program", "millions/s", "quartiles", "ns each, in all"],
        rows: findings.packets.iter().map(row).collect(),
    }
}

fn looking(findings: &Findings) -> Section {
    let row = |cost: &Cost| {
        let percent = |ratio: f64| format!("{:.1}", (1.0 - 1.0 / ratio) * 100.0);
        let [share, spread, verdict] = match cost.packet {
            None => ["–"; 3].map(str::to_owned),
            Some(Whole { ratio, verdict, .. }) => [
                percent(ratio.value),
                format!("{} to {}", percent(ratio.low), percent(ratio.high)),
                match verdict {
                    None => "–".to_owned(),
                    Some(Verdict::Holds) => "holds".to_owned(),
                    Some(Verdict::Missed) => "MISSED".to_owned(),
                    Some(Verdict::Unclear) => "too wide to conclude".to_owned(),
                },
            ],
        };
        let flows = if cost.flows == 1 { "1 flow".to_owned() } else { whole(cost.flows as f64) };
        vec![
            format!("{}: {}, {flows}", cost.what, cost.path),
            format!("{:.1}", cost.without_ns),
            format!("{:.1}", cost.with_ns),
            format!("{:.1}", cost.more_ns.median),
            format!("{:.1} to {:.1}", cost.more_ns.low, cost.more_ns.high),
            share,
            spread,
            verdict,
        ]
    };
    Section {
        title: "What looking costs a packet",
        about: "Nanoseconds of the XDP program, floor included: as it is beside the same program built without counting (verdicts, \
                traffic and connections of backends, times to connect), and with the one in front that follows packets while \
                somebody reads, in turns on the same frames. Per cent of speed: of the time that a packet takes in all, which is \
                that of the packets a second above, of 1 flow, and what the path takes longer. What is on by default, \
                counting, is to cost less than 2 %; following packets may cost more, as long as it lasts.",
        head: vec![
            "what: path",
            "without",
            "with",
            "more, ns",
            "quartiles",
            "% of speed",
            "quartiles",
            "less than 2 %",
        ],
        rows: findings.costs().iter().map(row).collect(),
    }
}

fn scrape(findings: &Findings) -> Section {
    /// As Prometheus is often told to ask, in seconds.
    const EVERY: f64 = 15.0;
    let row = |scrape: Scrape| {
        vec![
            "one scrape in 15 s".to_owned(),
            show(scrape.ms),
            format!("{:.3}", scrape.share(EVERY) * 100.0),
            format!("{:.2}", scrape.idle * 100.0),
        ]
    };
    Section {
        title: "What looking costs the controller",
        about: "CPU time of its threads for a scrape of the metrics that has to be rendered, and what it takes unasked: health checks, \
                sweeps, counters and events included.",
        head: vec!["what", "ms each", "% of a core", "% of a core, unasked"],
        rows: findings.looking.scrape.into_iter().map(row).collect(),
    }
}

fn outages(findings: &Findings) -> Section {
    let row = |outage: &super::failover::Outage| {
        vec![
            format!("{}: {}", outage.name, outage.event),
            outage.connections.to_string(),
            outage.failed.to_string(),
            whole(outage.longest_gap_ms),
            whole(outage.slowest_connect_ms),
            format!("{} of {}", outage.lost, outage.open),
        ]
    };
    Section {
        title: "Outages",
        about: "500 new connections a second. HAProxy's VIP is keepalived's; both have an advertisement interval of 1 s, and \
                health checks by TCP with their defaults. HAProxy connects anew for a client whose backend refuses. Restarted \
                in order: `stop --handover` and start, or a new process with `-sf`.",
        head: vec![
            "event",
            "connections",
            "failed",
            "longest gap, ms",
            "slowest connect, ms",
            "open ones lost",
        ],
        rows: findings.outages.iter().map(row).collect(),
    }
}

fn growth(findings: &Findings) -> Section {
    let row = |grown: &super::growth::Grown| {
        vec![
            grown.name.to_owned(),
            grown.size.services.to_string(),
            grown.size.backends.to_string(),
            whole(f64::from(grown.size.flows)),
            whole(grown.start_ms),
            whole(grown.reload_ms),
            show(grown.resident_kib as f64 / 1024.0),
            show(grown.maps_kib as f64 / 1024.0),
        ]
    };
    Section {
        title: "Start, reload and memory, by what is configured",
        about: "Start: from the process's start to the first answer through the last service, health checks included. Reload: \
                from asking for it to the first answer through a service that it adds.",
        head: vec![
            "peer",
            "services",
            "backends of each",
            "room for flows",
            "start, ms",
            "reload, ms",
            "resident, MiB",
            "BPF maps, MiB",
        ],
        rows: findings.growth.iter().map(row).collect(),
    }
}

fn tables(findings: &Findings) -> Section {
    let row = |table: &super::findings::Rebuilt| {
        vec![table.backends.to_string(), whole(table.slots as f64), show(table.ms)]
    };
    Section {
        title: "Computing a service's table anew",
        about: "In the controller, at every change of a backend.",
        head: vec!["backends", "slots", "ms"],
        rows: findings.tables.iter().map(row).collect(),
    }
}
