//! `fairlead trace --follow`. I/O, but for `query()`.

use anyhow::Result;

use super::Arguments;
use super::line::show;
use crate::admin::model::packet::{Line, Missing, PacketQuery};
use crate::cli::{Usage, ask, print, warn};

fn query(arguments: &Arguments) -> Result<PacketQuery, String> {
    arguments.filters.query(&arguments.ends, None)
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
pub(in crate::cli) fn said(last: &Missing, missing: &Missing) {
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
        let arguments = line.map_err(|error| error.to_string())?.arguments;
        arguments.check().and_then(|()| query(&arguments))
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
        assert!(read("10.0.0.2 --count 3").unwrap_err().contains("--follow"));
        assert!(read("").is_err());
        assert!(read("--follow --verdict dropped").is_err());
        assert!(read("--follow --duration 0s").is_err());
        assert!(read("--follow --rate 0").is_err());
    }
}
