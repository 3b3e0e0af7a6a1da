//! `fairlead events`. I/O.

use anyhow::Result;
use clap::Args;

use super::{SocketOption, ask, print};
use crate::admin::model::Event;

/// Show what happened, in order: the last 4,096 events.
///
/// Backends that came and went, commands and who gave them, reloads, VIPs. Each event has a number, larger
/// than those before it, also over restarts. What is no longer kept is said to be missing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead events --last 20
  fairlead events --follow --json")]
pub(super) struct Arguments {
    /// Go on with what happens from now on, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Only what came after the event with this number.
    #[arg(long, value_name = "N")]
    since: Option<u64>,
    /// Only the last N of those kept.
    #[arg(long, short = 'n', value_name = "N", conflicts_with = "since")]
    last: Option<u64>,
    /// A line of JSON for each event; its keys stay as they are, and others may come.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { json, socket, .. } = arguments;
    let question = question(arguments);
    ask(&socket.socket, async |client| {
        let see = |line: &str, event: Event| {
            let text = if *json { line.to_owned() } else { describe(&event) };
            print(&(text + "\n"))
        };
        client.events(&question, see).await
    })
}

fn question(arguments: &Arguments) -> String {
    let words = [
        arguments.since.map(|number| format!("since={number}")),
        arguments.last.map(|number| format!("last={number}")),
        arguments.follow.then(|| "follow=true".to_owned()),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join("&")
}

fn describe(event: &Event) -> String {
    let Event { sequence, time, message, what } = event;
    // A message of several lines, such as the errors of a file, stays one event.
    let message = message.replace('\n', "\n    ");
    let time = if time.is_empty() { "-" } else { time };
    format!("{sequence} {time} {:8} {message}", what.kind().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::model::What;

    #[test]
    fn an_event_is_a_line() {
        let what =
            What::Alarm { subject: "a".to_owned(), reason: "b\nc".to_owned(), resolved: false };
        let time = "2026-01-02T03:04:05.006Z".to_owned();
        let event = Event { sequence: 7, time, message: what.to_string(), what };
        assert_eq!(describe(&event), "7 2026-01-02T03:04:05.006Z alarm    a: b\n    c");
    }
}
