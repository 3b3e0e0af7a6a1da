//! `fairlead trace --follow`. I/O, but for `query()`.

use anyhow::Result;
use clap::Args;
use clap_complete::{ArgValueCandidates, CompletionCandidate};

use super::line::show;
use super::{Arguments, ends};
use crate::admin::model::packet::{
    Class, DEFAULT_DURATION, DEFAULT_RATE, Line, MAX_RATE, Missing, PacketQuery,
};
use crate::cli::{Usage, ask, completions, print, warn};

/// Which packets, and how many.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Follow packets as they come, until interrupted, or enough were seen.
    #[arg(long, short)]
    pub(super) follow: bool,
    /// Only packets of flows to this backend.
    #[arg(long, value_name = "[SERVICE/]BACKEND", requires = "follow",
        add = ArgValueCandidates::new(completions::backends))]
    backend: Option<String>,
    /// Only what comes from clients, or from backends.
    #[arg(long, value_name = "END", requires = "follow", value_parser = ["client", "backend"])]
    from: Option<String>,
    /// Only packets with one of these verdicts, with commas between: forward, redirect, reset, answer,
    /// drop, pass, or a counter of `fairlead status` such as drop_not_allowed.
    #[arg(long, value_name = "VERDICTS", requires = "follow",
        add = ArgValueCandidates::new(verdicts))]
    verdict: Option<String>,
    /// End after so many packets.
    #[arg(long, short = 'c', value_name = "N", requires = "follow",
        value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so long, an hour at most [default: 1m]
    #[arg(long, value_name = "DURATION", requires = "follow")]
    duration: Option<String>,
    /// At most so many packets in a second; how many were left out is said [default: 1000]
    #[arg(long, value_name = "N", requires = "follow",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RATE)))]
    rate: Option<u32>,
}

const _: () = assert!(DEFAULT_DURATION.as_secs() == 60 && DEFAULT_RATE == 1000, "said above");

fn verdicts() -> Vec<CompletionCandidate> {
    Class::ALL.map(|class| CompletionCandidate::new(class.as_str())).into()
}

fn query(arguments: &Arguments) -> Result<PacketQuery, String> {
    let Options { follow: _, backend, from, verdict, count, duration, rate } = &arguments.follow;
    let (client, vip) = ends(&arguments.ends);
    let query = PacketQuery {
        client: (!client.is_empty()).then_some(client),
        vip,
        backend: backend.clone(),
        from: from.clone(),
        verdict: verdict.clone(),
        count: *count,
        duration: duration.clone(),
        rate: *rate,
    };
    query.wish().map(|_| query)
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let query = query(arguments).map_err(Usage)?;
    let mut last = Missing::default();
    ask(&arguments.socket.socket, async |client| {
        let see = |text: &str, line: Line| match line {
            _ if arguments.json => print(&format!("{text}\n")),
            Line::Packet(packet) => print(&(show(&packet) + "\n")),
            Line::Missing(missing) => {
                said(&last, &missing);
                last = missing;
                Ok(())
            }
        };
        client.packets(&query, || warn("following packets; Ctrl-C ends it"), see).await
    })
}

/// What was left out since the last time.
fn said(last: &Missing, missing: &Missing) {
    let suppressed = missing.suppressed.saturating_sub(last.suppressed);
    if suppressed > 0 {
        warn(&format!("{suppressed} packets left out: more than --rate in a second"));
    }
    let lost = missing.lost.saturating_sub(last.lost);
    if lost > 0 {
        warn(&format!("{lost} packets lost: they came faster than they were read"));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn read(words: &str) -> Result<PacketQuery, String> {
        let line = Line::try_parse_from(std::iter::once("trace").chain(words.split_whitespace()));
        query(&line.map_err(|error| error.to_string())?.arguments)
    }

    #[test]
    fn both_ends_may_be_left_out() {
        assert_eq!(read("--follow").unwrap(), PacketQuery::default());
        let query = read("--follow 10.0.0.0/24 10.0.0.100:6443 --from client -c 3").unwrap();
        assert_eq!(query.client.as_deref(), Some("10.0.0.0/24"));
        assert_eq!(query.vip.as_deref(), Some("10.0.0.100:6443"));
        assert_eq!((query.from.as_deref(), query.count), (Some("client"), Some(3)));
    }

    #[test]
    fn filters_are_for_following_only() {
        assert!(read("10.0.0.2 --count 3").is_err());
        assert!(read("").is_err());
        assert!(read("--follow --verdict dropped").is_err());
        assert!(read("--follow --duration 0s").is_err());
        assert!(read("--follow --rate 0").is_err());
    }
}
