//! The README's table of counters is the one of the source.

use lb_common::counters::Counter;

const README: &str = include_str!("../../README.md");
const SOURCE: &str = include_str!("../../lb-common/src/counters.rs");
const HEAD: &str = "| counter | frames |\n|---|---|\n";

#[test]
fn the_readme_lists_every_counter() {
    let expected = table();
    let start = README.find(HEAD).expect("the README has no table of counters");
    let found: String = README[start..]
        .lines()
        .take_while(|line| line.starts_with('|'))
        .fold(String::new(), |table, line| table + line + "\n");
    assert!(found == expected, "paste this into the README:\n\n{expected}");
}

/// A row for each counter, with what its doc comment says.
fn table() -> String {
    let rows = Counter::ALL.iter().map(|counter| {
        let name = counter.name();
        format!("| `{name}` | {} |\n", doc(name))
    });
    HEAD.to_owned() + &rows.collect::<String>()
}

/// The comment above the line that gives a counter its name, without the full stop.
fn doc(name: &str) -> String {
    let lines: Vec<&str> = SOURCE.lines().map(str::trim).collect();
    let end = format!("= \"{name}\",");
    let at = lines.iter().position(|line| line.ends_with(&end)).expect("a counter of the source");
    let mut doc: Vec<&str> =
        lines[..at].iter().rev().map_while(|line| line.strip_prefix("/// ")).collect();
    assert!(!doc.is_empty(), "{name} has no doc comment");
    doc.reverse();
    doc.join(" ").trim_end_matches('.').to_owned()
}
