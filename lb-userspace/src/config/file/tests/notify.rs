//! Who is told of events: right and wrong.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use rstest::rstest;

use super::super::super::notify::{Action, Target, Url};
use super::refused::assert_refused;
use super::{MINIMAL, parsed};
use crate::admin::model::Kind;

/// What `other.yaml` says.
pub(super) fn notifications() -> Vec<Target> {
    let webhook = |url: &str, token: Option<&str>, ca: Option<&str>, retries| Action::Webhook {
        webhook: Url::parse(url).unwrap(),
        token_file: token.map(PathBuf::from),
        ca_file: ca.map(PathBuf::from),
        retries,
    };
    let exec = ["/usr/bin/logger", "-t", "my lb"].map(str::to_owned).to_vec();
    vec![
        Target {
            events: BTreeSet::from([Kind::Backend, Kind::Vip]),
            action: Action::Exec { exec },
            timeout: Duration::from_secs(2),
            queue: 5,
        },
        Target {
            events: Kind::CHOICES.into(),
            action: webhook(
                "https://hooks.example:8443/a/b?c=d",
                Some("/etc/fairlead/token"),
                Some("/etc/fairlead/ca.crt"),
                0,
            ),
            timeout: Duration::from_secs(10),
            queue: 256,
        },
        Target {
            events: BTreeSet::from([Kind::Alarm]),
            action: webhook("http://10.0.0.9/hook", None, None, 3),
            timeout: Duration::from_secs(10),
            queue: 256,
        },
    ]
}

/// The example's, with its comment signs removed.
#[test]
fn the_examples_comments_are_valid() {
    let example = super::EXAMPLE;
    let start = example.find("# - exec:").unwrap();
    let end = example.find("\nadmin:").unwrap();
    let section: String = example[start..end]
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or_default().to_owned() + "\n")
        .collect();
    let config = parsed(&format!("{MINIMAL}notify:\n{section}"));
    assert_eq!(config.notify.len(), 2);
    assert_eq!(config.notify[0].queue, 256);
}

#[rstest]
#[case::neither("{}", "7:5", "exec", "or `webhook: https://...`")]
#[case::both("{ exec: [/a], webhook: \"http://a\" }", "7:28", "webhook", "write two entries")]
#[case::kind(
    "{ exec: [/a], events: [vips] }",
    "7:28",
    "events[0]",
    "write start or stop or backend"
)]
#[case::no_kind("{ exec: [/a], events: [] }", "7:27", "events", "name some, or remove the key")]
#[case::twice("{ exec: [/a], events: [vip, vip] }", "7:33", "events[1]", "remove one of the two")]
#[case::no_list("{ exec: /a }", "7:13", "exec", "a line for each element")]
#[case::empty("{ exec: [] }", "7:13", "exec", "write a program")]
#[case::relative("{ exec: [page] }", "7:14", "exec[0]", "write one such as /usr/local/bin/page")]
#[case::zero("{ exec: [/a, \"\\0\"] }", "7:18", "exec[1]", "remove it")]
#[case::retries("{ exec: [/a], retries: 3 }", "7:28", "retries", "is for a webhook")]
#[case::url("{ webhook: alerts }", "7:16", "webhook", "write one such as https://")]
#[case::scheme("{ webhook: \"ftp://a/b\" }", "7:16", "webhook", "write one such as https://")]
#[case::user("{ webhook: \"https://u:p@a/b\" }", "7:16", "webhook", "belongs into token_file")]
#[case::plain_ca("{ webhook: \"http://a\", ca_file: /a }", "7:37", "ca_file", "or write https://")]
#[case::token("{ webhook: \"http://a\", token_file: t }", "7:40", "token_file", "absolute path")]
#[case::timeout("{ exec: [/a], timeout: 1h }", "7:28", "timeout", "from 100ms to 1m")]
#[case::queue("{ exec: [/a], queue: 0 }", "7:26", "queue", "from 1 to 4096")]
#[case::unknown("{ execute: [/a] }", "7:7", "execute", "did you mean `exec`?")]
fn wrong_ones(#[case] entry: &str, #[case] place: &str, #[case] key: &str, #[case] remedy: &str) {
    let text = format!("{MINIMAL}notify:\n  - {entry}\n");
    assert_refused(&text, place, &format!("notify[0].{key}"), remedy);
}

#[test]
fn a_wrong_url_is_not_repeated() {
    let text = format!("{MINIMAL}notify:\n  - webhook: \"https://u:hunter2@a/b\"\n");
    assert!(!super::refusal(&text).to_string().contains("hunter2"));
}
