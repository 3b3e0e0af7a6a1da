//! `fairlead flows …`. I/O, but for `list()` and `count()`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use clap_complete::{ArgValueCandidates, CompletionCandidate};

use super::completions;
use super::table::table;
use super::watch::{self, Output};
use super::{SocketOption, ask, csv, print, print_json};
use crate::admin::model::flows::{
    Closed, Flow, FlowCount, FlowList, FlowQuery, FlowState, MAX_LIMIT, Purge, Purged, duration,
    range,
};

mod top;

/// Show connections, count them, find who has the most, or remove some.
///
/// The filters may be combined; a flow must match all of them.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    List(List),
    Count(Count),
    Top(top::Top),
    Purge(PurgeArguments),
}

/// Which flows.
#[derive(Debug, Default, Args)]
struct Filters {
    /// Of this service.
    #[arg(long, value_name = "SERVICE", add = ArgValueCandidates::new(completions::services))]
    service: Option<String>,
    /// Of this backend.
    #[arg(long, value_name = "[SERVICE/]BACKEND",
        add = ArgValueCandidates::new(completions::backends))]
    backend: Option<String>,
    /// Of clients in this range, or of one address.
    #[arg(long, value_name = "CIDR", value_parser = checked(|text| range(text).map(drop)))]
    client: Option<String>,
    /// In this TCP state: established, time-wait, syn-sent …
    #[arg(long, value_name = "STATE", value_parser = checked(|text| text.parse::<FlowState>().map(drop)),
        add = ArgValueCandidates::new(states))]
    state: Option<String>,
    /// Idle for at least so long, such as 90s or 1h30m.
    #[arg(long, value_name = "DURATION", value_parser = checked(|text| duration(text).map(drop)))]
    older_than: Option<String>,
}

/// Show connections: both ends, what they are translated to, state and idle time.
///
/// In no particular order beyond that of the clients; if there are more than the limit, some of them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead flows list --client 10.0.0.0/24
  fairlead flows list --backend kube-apiserver/cp1 --state established --limit 50
  fairlead flows list --state syn-sent --watch
  fairlead flows list --older-than 1h --csv")]
pub(super) struct List {
    #[command(flatten)]
    filters: Filters,
    /// At most so many flows.
    #[arg(long, value_name = "N", default_value_t = crate::admin::model::flows::DEFAULT_LIMIT,
        value_parser = limit())]
    limit: usize,
    #[command(flatten)]
    output: Output,
    /// As comma-separated values, with the names of the JSON's keys in the first line.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    socket: SocketOption,
}

/// Count connections by state and by backend.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead flows count --watch
  fairlead flows count --service kube-apiserver --json")]
pub(super) struct Count {
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    socket: SocketOption,
}

/// Forget connections; needs a filter or --all.
///
/// A client that goes on is balanced anew, as one that is new to this node: if the table still has its
/// backend it notices nothing, else it is reset when the other backend answers. With --reset the
/// clients of established connections are told at once, 2,000 a second.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead flows purge --backend kube-apiserver/cp1 --reset
  fairlead flows purge --client 10.9.8.7
  fairlead flows purge --state time-wait --older-than 30s")]
pub(super) struct PurgeArguments {
    #[command(flatten)]
    filters: Filters,
    /// Every flow there is.
    #[arg(long)]
    all: bool,
    /// Send the clients a RST.
    #[arg(long)]
    reset: bool,
    /// At most so many flows; not given: all that match.
    #[arg(long, value_name = "N", value_parser = limit())]
    limit: Option<usize>,
    /// As JSON; its keys stay as they are, and others may come.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
}

fn states() -> Vec<CompletionCandidate> {
    let names = FlowState::ALL.map(|state| state.as_str().to_ascii_lowercase());
    names.map(CompletionCandidate::new).into()
}

fn limit() -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser as _;
    clap::value_parser!(u32)
        .range(1..=MAX_LIMIT as i64)
        .map(|limit| usize::try_from(limit).unwrap_or(MAX_LIMIT))
}

/// Text that the controller will understand.
fn checked(
    check: fn(&str) -> Result<(), String>,
) -> impl Fn(&str) -> Result<String, String> + Clone {
    move |text| check(text).map(|()| text.to_owned())
}

impl Filters {
    fn query(&self, limit: Option<usize>) -> FlowQuery {
        let Self { service, backend, client, state, older_than } = self;
        FlowQuery {
            service: service.clone(),
            backend: backend.clone(),
            client: client.clone(),
            state: state.clone(),
            older_than: older_than.clone(),
            limit,
        }
    }
}

pub(super) fn run(command: Command) -> Result<()> {
    match command {
        Command::List(arguments) => run_list(&arguments),
        Command::Count(arguments) => run_count(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Purge(arguments) => run_purge(&arguments),
    }
}

const OTHER_VERSION: &str = "the controller's answer is another version's; use --json";

fn run_list(arguments: &List) -> Result<()> {
    let List { filters, limit, output, csv: as_csv, socket } = arguments;
    let query = filters.query(Some(*limit));
    watch::show(output, &socket.socket, async |client| {
        let answer = client.flows(&query).await?;
        if output.json {
            return output.json_text(&answer);
        }
        let list: FlowList = serde_json::from_value(answer).context(OTHER_VERSION)?;
        if *as_csv { csv::of(&list.flows) } else { Ok(self::list(&list)) }
    })
}

fn run_count(arguments: &Count) -> Result<()> {
    let Count { filters, output, socket } = arguments;
    let query = filters.query(None);
    watch::show(output, &socket.socket, async |client| {
        let answer = client.flow_count(&query).await?;
        if output.json {
            return output.json_text(&answer);
        }
        Ok(count(&serde_json::from_value(answer).context(OTHER_VERSION)?))
    })
}

fn run_purge(arguments: &PurgeArguments) -> Result<()> {
    let FlowQuery { service, backend, client, state, older_than, limit } =
        arguments.filters.query(arguments.limit);
    let (all, reset) = (arguments.all, arguments.reset);
    let purge = Purge { service, backend, client, state, older_than, limit, all, reset };
    if !all && purge.query() == (FlowQuery { limit, ..FlowQuery::default() }) {
        bail!(super::Usage("which flows? give a filter, or --all for every flow".to_owned()));
    }
    let purged = ask(&arguments.socket.socket, async |client| {
        let mut sum = Purged::default();
        loop {
            let Purged { removed, reset, truncated } = client.purge(&purge).await?;
            sum.removed += removed;
            sum.reset += reset;
            sum.truncated = truncated;
            // Flows that come as fast as they go would keep this busy for ever.
            if !truncated || removed == 0 || limit.is_some() {
                return Ok(sum);
            }
        }
    })?;
    if arguments.json {
        return print_json(&serde_json::to_value(purged)?);
    }
    let Purged { removed, reset, truncated } = purged;
    let told = if reset > 0 { format!(", {reset} clients were reset") } else { String::new() };
    let more = if truncated { "; more match" } else { "" };
    print(&format!("removed {removed} flows{told}{more}\n"))
}

fn list(list: &FlowList) -> String {
    let head = ["CLIENT", "VIP", "BACKEND", "FROM", "MODE", "STATE", "IDLE", "CLOSED BY"];
    let rows: Vec<_> = list.flows.iter().map(row).collect();
    let more =
        if list.truncated { "There are more; give a filter, or a higher --limit.\n" } else { "" };
    table(head, &rows) + more
}

fn row(flow: &Flow) -> [String; 8] {
    let names = flow.service.as_ref().zip(flow.backend.as_ref());
    let backend = match names {
        Some((service, backend)) => format!("{service}/{backend}"),
        None => flow.backend_address.to_string(),
    };
    let state = flow.state.as_str();
    let marks = [(flow.half_open, " (half-open)"), (flow.given_up, " (given up)")];
    let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
    let closed = match (flow.reset_by, flow.closed_first) {
        (Closed::Nobody, Closed::Nobody) => String::new(),
        (Closed::Nobody, by) => by.as_str().to_owned(),
        (by, _) => format!("{}, by RST", by.as_str()),
    };
    [
        flow.client.to_string(),
        flow.vip.to_string(),
        backend,
        flow.source.to_string(),
        flow.mode.clone(),
        format!("{state}{marks}"),
        idle(flow.idle_ms),
        closed,
    ]
}

/// In its two largest units.
fn idle(ms: u64) -> String {
    let seconds = Duration::from_millis(ms).as_secs();
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn count(count: &FlowCount) -> String {
    let FlowCount { flows, half_open, states, backends } = count;
    let mut text = format!("{flows} flows, {half_open} of them half-open\n");
    if *flows == 0 {
        return text;
    }
    let rows: Vec<_> =
        states.iter().map(|(state, count)| [state.clone(), count.to_string()]).collect();
    text += &format!("\n{}\n", table(["STATE", "FLOWS"], &rows));
    let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "(gone)".to_owned());
    let rows: Vec<_> = backends
        .iter()
        .map(|it| {
            let backend = format!("{}/{}", name(&it.service), name(&it.backend));
            [backend, it.address.to_string(), it.flows.to_string()]
        })
        .collect();
    text + &table(["BACKEND", "ADDRESS", "FLOWS"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        Flow {
            client: "10.0.0.2:40000".parse().unwrap(),
            vip: "10.0.0.100:6443".parse().unwrap(),
            service: Some("api".to_owned()),
            backend: Some("cp1".to_owned()),
            backend_address: "10.0.0.11:6443".parse().unwrap(),
            source: "10.0.0.100:2000".parse().unwrap(),
            mode: "nat".to_owned(),
            state: FlowState::TimeWait,
            half_open: false,
            idle_ms: 90_500,
            expires_in_ms: Some(1),
            closed_first: Closed::Backend,
            reset_by: Closed::Nobody,
            given_up: false,
            attempts: 0,
        }
    }

    #[test]
    fn a_list_has_a_line_for_each_flow() {
        let gone = Flow { service: None, given_up: true, closed_first: Closed::Nobody, ..flow() };
        let text = list(&FlowList { flows: vec![flow(), gone], truncated: true });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("CLIENT          VIP              BACKEND"), "{text}");
        let whole = "10.0.0.2:40000  10.0.0.100:6443  api/cp1         10.0.0.100:2000  nat   \
                     TIME-WAIT             1m30s  backend";
        assert_eq!(lines[1], whole);
        assert!(lines[2].contains("10.0.0.11:6443") && lines[2].contains("TIME-WAIT (given up)"));
        assert!(lines[3].starts_with("There are more"));
    }

    #[test]
    fn a_count_is_by_state_and_backend() {
        let backends = vec![crate::admin::model::flows::BackendCount {
            service: None,
            backend: None,
            address: "10.0.0.11:6443".parse().unwrap(),
            flows: 3,
        }];
        let states = [("ESTABLISHED".to_owned(), 3)].into();
        let text = count(&FlowCount { flows: 3, half_open: 1, states, backends });
        assert!(text.starts_with("3 flows, 1 of them half-open\n"), "{text}");
        assert!(text.contains("ESTABLISHED  3\n"), "{text}");
        assert!(text.contains("(gone)/(gone)  10.0.0.11:6443  3\n"), "{text}");
        assert_eq!(count(&FlowCount::default()), "0 flows, 0 of them half-open\n");
    }
}
