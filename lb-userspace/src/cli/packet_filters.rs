//! Which packets, for the commands that look at them. Pure.

use clap::Args;
use clap_complete::{ArgValueCandidates, CompletionCandidate};

use super::completions;
use crate::admin::model::packet::{Class, DEFAULT_DURATION, DEFAULT_RATE, MAX_RATE, PacketQuery};

/// Which packets, and how many.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub(super) struct PacketFilters {
    /// Only packets of flows to this backend.
    #[arg(long, value_name = "[SERVICE/]BACKEND",
        add = ArgValueCandidates::new(completions::backends))]
    backend: Option<String>,
    /// Only what comes from clients, or from backends.
    #[arg(long, value_name = "END", value_parser = ["client", "backend"])]
    from: Option<String>,
    /// Only packets with one of these verdicts, with commas between: forward, redirect, reset, answer,
    /// drop, pass, or a counter of `fairlead status` such as drop_not_allowed.
    #[arg(long, value_name = "VERDICTS", add = ArgValueCandidates::new(verdicts))]
    verdict: Option<String>,
    /// End after so many packets.
    #[arg(long, short = 'c', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so long, an hour at most [default: 1m]
    #[arg(long, value_name = "DURATION")]
    duration: Option<String>,
    /// At most so many packets in a second; how many were left out is said [default: 1000]
    #[arg(long, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RATE)))]
    rate: Option<u32>,
}

const _: () = assert!(DEFAULT_DURATION.as_secs() == 60 && DEFAULT_RATE == 1000, "said above");

fn verdicts() -> Vec<CompletionCandidate> {
    Class::ALL.map(|class| CompletionCandidate::new(class.as_str())).into()
}

impl PacketFilters {
    /// The question, of packets between these ends: a client, a VIP, both or neither.
    ///
    /// # Errors
    /// What is wrong with a value.
    pub(super) fn query(&self, words: &[String], snap: Option<u32>) -> Result<PacketQuery, String> {
        let Self { backend, from, verdict, count, duration, rate } = self;
        let (client, vip) = ends(words);
        let query = PacketQuery {
            client: (!client.is_empty()).then_some(client),
            vip,
            backend: backend.clone(),
            from: from.clone(),
            verdict: verdict.clone(),
            count: *count,
            duration: duration.clone(),
            rate: *rate,
            snap,
        };
        query.wish().map(|_| query)
    }
}

/// `CLIENT`, `CLIENT VIP`, or in one word `CLIENT -> VIP`.
pub(super) fn ends(words: &[String]) -> (String, Option<String>) {
    let text = words.join(" ");
    let (client, vip) = match text.split_once("->") {
        Some((client, vip)) => (client, Some(vip)),
        None => match text.trim().split_once(' ') {
            Some((client, vip)) => (client, Some(vip)),
            None => (text.as_str(), None),
        },
    };
    (client.trim().to_owned(), vip.map(|vip| vip.trim().to_owned()))
}
