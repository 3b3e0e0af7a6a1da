//! `fairlead flows top`. I/O, but for `show()`.

use anyhow::{Context as _, Result};
use clap::Args;

use super::super::table::table;
use super::super::watch::{self, Output};
use super::super::{SocketOption, csv};
use super::{Filters, OTHER_VERSION, idle};
use crate::admin::model::flows::top::{By, DEFAULT_TOP, FlowTop, Group, MAX_TOP, TopQuery};

/// Show who has the most connections: clients, or backends.
///
/// By the number of connections: the datapath counts no bytes of a connection, only those of a backend, which
/// `fairlead status --json` has. Nor does it know when one began, only how long it has been idle.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead flows top --watch
  fairlead flows top --by backend --state established
  fairlead flows top --service kube-apiserver -n 100 --csv > clients.csv")]
pub(in crate::cli) struct Top {
    #[command(flatten)]
    filters: Filters,
    /// What to put together: client (its address) or backend.
    #[arg(long, value_name = "WHAT", default_value = By::Client.as_str(),
        value_parser = clap::builder::PossibleValuesParser::new(By::ALL.map(By::as_str)))]
    by: String,
    /// At most so many of them.
    #[arg(long, short = 'n', value_name = "N", default_value_t = DEFAULT_TOP, value_parser = limit())]
    top: usize,
    #[command(flatten)]
    output: Output,
    /// As comma-separated values, with the names of the JSON's keys in the first line.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    socket: SocketOption,
}

fn limit() -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser as _;
    let range = clap::value_parser!(u32).range(1..=MAX_TOP as i64);
    range.map(|limit| usize::try_from(limit).unwrap_or(MAX_TOP))
}

pub(super) fn run(arguments: &Top) -> Result<()> {
    let query = arguments.query();
    watch::show(&arguments.output, &arguments.socket.socket, async |client| {
        let answer = client.flow_top(&query).await?;
        if arguments.output.json {
            return arguments.output.json_text(&answer);
        }
        let top: FlowTop = serde_json::from_value(answer).context(OTHER_VERSION)?;
        if arguments.csv { csv::of(&top.groups) } else { Ok(show(&top)) }
    })
}

impl Top {
    fn query(&self) -> TopQuery {
        let all = self.filters.query(Some(self.top));
        TopQuery {
            by: Some(self.by.clone()),
            service: all.service,
            backend: all.backend,
            client: all.client,
            state: all.state,
            older_than: all.older_than,
            limit: all.limit,
        }
    }
}

fn show(top: &FlowTop) -> String {
    let FlowTop { by, flows, groups, truncated, uncounted } = top;
    let head = match by {
        By::Client => "CLIENT",
        By::Backend => "BACKEND",
    };
    let rows: Vec<_> = groups.iter().map(|group| row(group, *flows)).collect();
    let mut text = format!("{flows} flows\n\n");
    text +=
        &table([head, "FLOWS", "SHARE", "ESTABLISHED", "HALF-OPEN", "SEEN", "LONGEST IDLE"], &rows);
    if *truncated {
        text += "There are more; a higher -n shows them.\n";
    }
    if *uncounted > 0 {
        text += &format!("{uncounted} flows of further clients were not put together.\n");
    }
    text
}

fn row(group: &Group, all: u64) -> [String; 7] {
    let Group { client, service, backend, address, .. } = group;
    let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "(gone)".to_owned());
    let who = match (client, address) {
        (Some(client), _) => client.to_string(),
        (None, Some(address)) => format!("{}/{} ({address})", name(service), name(backend)),
        (None, None) => format!("{}/{}", name(service), name(backend)),
    };
    [
        who,
        group.flows.to_string(),
        format!("{:.1} %", group.flows as f64 * 100.0 / all.max(1) as f64),
        group.established.to_string(),
        group.half_open.to_string(),
        format!("{} ago", idle(group.idle_ms)),
        idle(group.longest_idle_ms),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Group {
        Group {
            client: Some("10.0.0.2".parse().unwrap()),
            flows: 3,
            established: 2,
            half_open: 1,
            idle_ms: 20,
            longest_idle_ms: 90_000,
            ..Group::default()
        }
    }

    #[test]
    fn clients_have_a_line_each() {
        let top =
            FlowTop { flows: 4, groups: vec![group()], truncated: true, ..FlowTop::default() };
        let text = show(&top);
        let line = "10.0.0.2  3      75.0 %  2            1          20ms ago  1m30s\n";
        assert!(text.starts_with("4 flows\n\nCLIENT"), "{text}");
        assert!(text.contains(line) && text.contains("There are more"), "{text}");
    }

    #[test]
    fn backends_are_named_with_their_address() {
        let address = Some("10.0.0.11:6443".parse().unwrap());
        let gone = Group { client: None, address, ..group() };
        let known = Group {
            service: Some("api".to_owned()),
            backend: Some("cp1".to_owned()),
            client: None,
            address,
            ..group()
        };
        let top =
            FlowTop { by: By::Backend, flows: 6, groups: vec![known, gone], ..FlowTop::default() };
        let text = show(&top);
        assert!(text.contains("api/cp1 (10.0.0.11:6443)"), "{text}");
        assert!(text.contains("(gone)/(gone) (10.0.0.11:6443)"), "{text}");
    }

    #[test]
    fn csv_has_the_keys_of_the_json() {
        let text = csv::of(&[group()]).unwrap();
        let expected = "client,service,backend,address,flows,established,half_open,idle_ms,longest_idle_ms\n\
                        10.0.0.2,,,,3,2,1,20,90000\n";
        assert_eq!(text, expected);
    }
}
