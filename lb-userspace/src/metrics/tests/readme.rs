//! The README's table of metrics is the one of the source.

use std::path::Path;

use super::*;

const HEAD: &str = "| metric | type | labels | what it says |\n|---|---|---|---|\n";

/// `UPDATE_README=1` writes it.
#[test]
fn the_readme_lists_every_metric() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let start = readme.find(HEAD).expect("the README has no table of metrics");
    let length: usize = readme[start..]
        .split_inclusive('\n')
        .take_while(|it| it.starts_with('|'))
        .map(str::len)
        .sum();
    let (before, rest) = readme.split_at(start);
    let (found, after) = rest.split_at(length);
    let expected = HEAD.to_owned() + &families::ALL.iter().map(|it| row(it)).collect::<String>();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, format!("{before}{expected}{after}")).unwrap();
        return;
    }
    assert!(
        found == expected,
        "`UPDATE_README=1 cargo test -p lb-userspace --lib readme` writes it"
    );
}

fn row(family: &families::Family) -> String {
    let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
    let help = family.help().trim_end_matches('.');
    let (name, kind) = (family.full_name(), family.kind.as_str());
    format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(" "))
}
