//! `fairlead trace`: what would become of a SYN, or of packets as they come. I/O, but for `show()`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::packet_filters::{PacketFilters, ends};
use super::{Negative, SocketOption, ask, print, print_json};
use crate::admin::model::trace::{Trace, TraceQuery, Traces, Verdict};

mod explain;
mod follow;
mod line;

pub(super) use follow::said;

/// Say which backend a client would get, and why; or follow packets through the datapath.
///
/// Without --follow: the datapath's decisions on a SYN sent now: the flow that is there already, or lease,
/// allow list, rate, table and SNAT port. Changes nothing, and sends nothing. Without the client's port
/// there is no single backend: the shares of the table are shown. Without a VIP, every service is asked.
/// The exit code is 4 if a connection would not be forwarded.
///
/// With --follow: a line for each packet of the client's or the VIP's, in both directions: what came in,
/// the verdict and its reason, what left, and the flow's state behind it. The kernel filters; the
/// datapath pays for it while the command runs, and only then.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead trace 10.0.0.2:40000
  fairlead trace 10.0.0.2:40000 10.0.0.100:6443
  fairlead trace '10.0.0.2:40000 -> 10.0.0.100:6443'
  fairlead trace [fd00::2]:40000 --json
  fairlead trace --explain client.pcapng --packet 7
  fairlead trace --follow 10.0.0.2
  fairlead trace --follow 10.0.0.0/24 10.0.0.100:6443 --verdict drop,reset --duration 10m
  fairlead trace --follow --backend kube-apiserver/cp1 --count 20")]
pub(super) struct Arguments {
    /// The client's address, with or without its port; then the VIP, with or without its port. With
    /// --follow the client may be a range, and neither has to be given.
    #[arg(value_name = "CLIENT[:PORT] [VIP[:PORT]]",
        required_unless_present_any = ["follow", "explain"], num_args = 1..=2)]
    ends: Vec<String>,
    /// Ask for the packets of a capture, pcap or pcapng: each pair of ends once.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["follow", "ends"])]
    explain: Option<PathBuf>,
    /// Of the capture only this packet, counted from 1 as Wireshark does.
    #[arg(long, value_name = "N", requires = "explain",
        value_parser = clap::value_parser!(u64).range(1..))]
    packet: Option<u64>,
    /// Follow packets as they come, until interrupted, or enough were seen. The filters are for this.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    filters: PacketFilters,
    /// As JSON; its keys stay as they are, and others may come. With --follow a line for each packet.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
}

impl Arguments {
    fn check(&self) -> Result<(), String> {
        if self.follow || self.filters == PacketFilters::default() {
            return Ok(());
        }
        Err("filters of packets are for --follow".to_owned())
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    arguments.check().map_err(super::Usage)?;
    if arguments.follow {
        return follow::run(arguments);
    }
    if let Some(file) = &arguments.explain {
        return explain::run(arguments, file);
    }
    let query = query(&arguments.ends).map_err(super::Usage)?;
    let answer = ask(&arguments.socket.socket, async |client| client.trace(&query).await)?;
    let traces: Result<Traces, _> = serde_json::from_value(answer.clone());
    if arguments.json {
        print_json(&answer)?;
    }
    let traces = traces.context("the controller's answer is another version's; use --json")?;
    if !arguments.json {
        let shown: Vec<String> = traces.traces.iter().map(show).collect();
        print(&shown.join("\n"))?;
    }
    if traces.traces.iter().any(|trace| trace.verdict != Verdict::Forward) {
        bail!(Negative);
    }
    Ok(())
}

fn query(words: &[String]) -> Result<TraceQuery, String> {
    let (client, vip) = ends(words);
    let query = TraceQuery { client, vip, port: None };
    query.question().map(|_| query)
}

fn show(trace: &Trace) -> String {
    let port =
        trace.client_port.map_or_else(|| "any port".to_owned(), |port| format!("port {port}"));
    let mut text = format!("{}, {port}, to {}\n", trace.client, trace.vip);
    let width = trace.steps.iter().map(|step| step.step.len()).max().unwrap_or(0);
    for step in &trace.steps {
        let mark = if step.passed { ' ' } else { '!' };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark} {:width$}  {}", step.step, step.detail);
    }
    for share in &trace.shares {
        let percent = f64::from(share.slots) * 100.0 / f64::from(share.of.max(1));
        let _ = writeln!(text, "  {percent:5.1} % of the connections go to {}", share.backend);
    }
    let address = trace.backend_address.map(|address| address.to_string());
    let backend = trace.backend.clone().or_else(|| address.clone());
    let _ = match (trace.verdict, backend) {
        (Verdict::Forward, Some(backend)) => {
            writeln!(text, "= {backend} ({})", address.unwrap_or_default())
        }
        (Verdict::Forward, None) => writeln!(text, "= by the client's port"),
        (verdict, _) => writeln!(text, "= {} ({})", verdict.as_str(), trace.counter),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::model::trace::{Share, Step};

    #[test]
    fn an_arrow_is_optional() {
        for words in [
            &["10.0.0.2:1", "10.0.0.100:6443"][..],
            &["10.0.0.2:1 -> 10.0.0.100:6443"],
            &["10.0.0.2:1->10.0.0.100:6443"],
        ] {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            let query = query(&words).unwrap();
            assert_eq!(query.client, "10.0.0.2:1");
            assert_eq!(query.vip.as_deref(), Some("10.0.0.100:6443"));
        }
        let only = query(&["[fd00::2]:9".to_owned()]).unwrap();
        assert_eq!((only.client.as_str(), only.vip), ("[fd00::2]:9", None));
        assert!(query(&["cp1".to_owned()]).is_err());
    }

    fn trace() -> Trace {
        let step = |step: &str, passed, detail: &str| Step {
            step: step.to_owned(),
            passed,
            detail: detail.to_owned(),
        };
        Trace {
            client: "10.0.0.2".parse().unwrap(),
            client_port: Some(40_000),
            vip: "10.0.0.100:6443".parse().unwrap(),
            service: Some("api".to_owned()),
            verdict: Verdict::Forward,
            counter: "forward_request".to_owned(),
            backend: Some("cp1".to_owned()),
            backend_address: Some("10.0.0.11:6443".parse().unwrap()),
            source: None,
            mode: None,
            flow: None,
            shares: vec![],
            steps: vec![step("service", true, "it is api"), step("rate", false, "too many")],
        }
    }

    #[test]
    fn every_decision_is_a_line() {
        let text = show(&trace());
        let expected = "10.0.0.2, port 40000, to 10.0.0.100:6443\n  service  it is api\n\
                        ! rate     too many\n= cp1 (10.0.0.11:6443)\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn refusals_and_shares_are_shown() {
        let counter = "drop_not_allowed".to_owned();
        let text = show(&Trace { verdict: Verdict::Drop, counter, ..trace() });
        assert!(text.ends_with("= drop (drop_not_allowed)\n"), "{text}");
        let shares = vec![Share { backend: "cp1".to_owned(), slots: 1, of: 3 }];
        let text = show(&Trace { shares, backend: None, backend_address: None, ..trace() });
        assert!(text.contains("33.3 % of the connections go to cp1\n= by the client's port\n"));
    }
}
