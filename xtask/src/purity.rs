//! `cargo xtask purity`: a file whose module doc's first paragraph ends with `Pure.` must not
//! reach for the world, and the rules and machines must be so marked.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::command::root;

const CRATES: [&str; 2] = ["lb-common", "lb-userspace"];

/// Sockets, files, clocks, logs, and what is made of them.
const FORBIDDEN: [&str; 16] = [
    "File::",
    "Instant::now",
    "SystemTime::now",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
    "aya",
    "fs::",
    "log::",
    "rtnetlink",
    "socket2",
    "std::fs",
    "tokio",
];

/// Files that have to be pure where they exist; a folder stands for all of it.
const REQUIRED: [&str; 13] = [
    "lb-common/src/",
    "lb-userspace/src/config/file.rs",
    "lb-userspace/src/config/mod.rs",
    "lb-userspace/src/control/desired.rs",
    "lb-userspace/src/control/maglev.rs",
    "lb-userspace/src/control/plan.rs",
    "lb-userspace/src/health/fsm.rs",
    "lb-userspace/src/resolve/fsm.rs",
    "lb-userspace/src/sync/fsm.rs",
    "lb-userspace/src/sync/packet.rs",
    "lb-userspace/src/vrrp/announce.rs",
    "lb-userspace/src/vrrp/fsm.rs",
    "lb-userspace/src/vrrp/packet.rs",
];

pub(crate) fn run() -> Result<()> {
    check()?;
    println!("purity: ok");
    Ok(())
}

/// Fails with one line for each thing that is wrong.
pub(crate) fn check() -> Result<()> {
    let mut found = Vec::new();
    for name in CRATES {
        for path in rust_files(&root().join(name).join("src"))? {
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let path = path.strip_prefix(root()).unwrap_or(&path).to_string_lossy();
            found.extend(violations(&path, &text));
        }
    }
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    Ok(())
}

fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries =
        fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", directory.display()))?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn violations(path: &str, text: &str) -> Vec<String> {
    if !is_marked(text) {
        let is_test = path.ends_with("/tests.rs") || path.ends_with("/proptests.rs");
        let required = !is_test && REQUIRED.iter().any(|required| path.starts_with(required));
        let complaint =
            format!("{path}: must be pure; end its module doc's first paragraph with `Pure.`");
        return required.then_some(complaint).into_iter().collect();
    }
    let mut found = Vec::new();
    for (number, line) in production_lines(text) {
        let mut code = line.split("//").next().unwrap_or_default().to_owned();
        if path.starts_with("lb-common/") {
            // A trait without behaviour: what makes a layout fit for a map.
            code = code.replace("aya::Pod", "");
        }
        for name in FORBIDDEN.iter().filter(|name| mentions(&code, name)) {
            found.push(format!("{path}:{number}: a pure file mentions `{name}`"));
        }
    }
    found
}

/// Whether the first paragraph of the module's doc ends with the word `Pure.`
fn is_marked(text: &str) -> bool {
    let doc = text.lines().map(str::trim).skip_while(|line| !line.starts_with("//!"));
    let paragraph = doc.map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let last = paragraph.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty());
    last.last().is_some_and(|line| line.split_whitespace().last() == Some("Pure."))
}

/// The numbered lines outside `#[cfg(test)] mod …`, which ends where its brace is closed in the
/// first column: files are formatted.
fn production_lines(text: &str) -> Vec<(usize, &str)> {
    let mut kept = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let opens_module = |next: &&(usize, &str)| next.1.starts_with("mod ");
        if line == "#[cfg(test)]"
            && let Some((_, module)) = lines.peek().filter(opens_module).copied()
        {
            if module.ends_with('{') {
                for _ in lines.by_ref().take_while(|(_, line)| *line != "}") {}
            }
            continue;
        }
        kept.push((index + 1, line));
    }
    kept
}

/// Whether `name` occurs in `code`, not as a part of a longer name.
fn mentions(code: &str, name: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    let ends_open = name.ends_with(is_part);
    code.match_indices(name).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        let after = code[start + name.len()..].chars().next();
        let inside = before.is_some_and(is_part) || (ends_open && after.is_some_and(is_part));
        !inside
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str = "//! Decides. Pure.\n\n";

    fn complaints(path: &str, code: &str) -> usize {
        violations(path, &format!("{MARK}{code}")).len()
    }

    #[test]
    fn a_pure_file_that_reads_the_clock_or_a_file_fails() {
        let code = "fn f() {\n    let now = Instant::now();\n    std::fs::read(\"x\");\n}\n";
        let found = violations("lb-userspace/src/health/fsm.rs", &format!("{MARK}{code}"));
        assert_eq!(
            found[0],
            "lb-userspace/src/health/fsm.rs:4: a pure file mentions `Instant::now`"
        );
        assert!(found.len() > 1);
    }

    #[test]
    fn every_forbidden_name_is_found() {
        for name in FORBIDDEN {
            assert_ne!(complaints("lb-userspace/src/a.rs", &format!("use {name};\n")), 0, "{name}");
        }
    }

    #[test]
    fn longer_names_comments_and_tests_are_not_mentions() {
        for code in [
            "use my_tokio::layaway;\n",
            "blog::post(); // Instant::now\n",
            "#[cfg(test)]\nmod tests {\n    use tokio::time;\n}\n",
            "#[cfg(test)]\nmod tests;\n",
        ] {
            assert_eq!(complaints("lb-userspace/src/a.rs", code), 0, "{code}");
        }
    }

    #[test]
    fn what_follows_the_tests_counts() {
        let code = "#[cfg(test)]\nmod tests {\n}\n\nuse tokio::time;\n";
        assert_eq!(complaints("lb-userspace/src/a.rs", code), 1);
        assert_eq!(complaints("lb-userspace/src/a.rs", "#[cfg(test)]\nuse tokio::time;\n"), 1);
    }

    #[test]
    fn only_lb_common_may_name_pod() {
        let code = "unsafe impl aya::Pod for Key {}\n";
        assert_eq!(complaints("lb-common/src/flow.rs", code), 0);
        assert_eq!(complaints("lb-userspace/src/a.rs", code), 1);
        assert_eq!(complaints("lb-common/src/flow.rs", "use aya::maps;\n"), 1);
    }

    #[test]
    fn a_required_file_without_the_mark_fails() {
        let text = "#![no_std]\n//! Layouts. Pure.\n//!\n//! More.\n";
        assert!(violations("lb-common/src/lib.rs", text).is_empty());
        for text in ["//! Layouts.\n", "//! Layouts.\n//!\n//! Pure.\n", "use core::fmt;\n"] {
            assert_eq!(violations("lb-common/src/lib.rs", text).len(), 1, "{text}");
            assert!(violations("lb-userspace/src/daemon.rs", text).is_empty(), "{text}");
        }
    }
}
