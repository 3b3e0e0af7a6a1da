//! Whatever the bytes are: an error with its place, or a result; never a panic, never for long.

use std::fs;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// A file of HAProxy's, and one of keepalived's.
type Pair = (Vec<u8>, Vec<u8>);

/// The files of the corpus.
static CORPUS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/import/corpus");
    let mut pairs: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    pairs.sort();
    let read = |pair: &Path, name: &str| fs::read(pair.join(name)).unwrap();
    pairs.iter().map(|pair| (read(pair, "haproxy.cfg"), read(pair, "keepalived.conf"))).collect()
});

/// Words that mean something to one of the readers.
const WORDS: [&str; 24] = [
    "\"",
    "'",
    "\\",
    "{",
    "}",
    "\n",
    "#",
    "!",
    "@main ",
    "$A=${A}",
    "\"${A}\"",
    "bind ",
    "server ",
    ":",
    "::",
    "-",
    "65536",
    "999999999999999999999",
    "listen ",
    "vrrp_instance ",
    "check ",
    "server-template x 1-3 y:1",
    "inter ",
    "\0",
];

#[derive(Clone, Debug)]
enum Change {
    Remove { at: usize, length: usize },
    Repeat { at: usize, length: usize },
    Insert { at: usize, word: usize },
    Byte { at: usize, byte: u8 },
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = 0..4096usize;
    let change = prop_oneof![
        (at.clone(), 0..80usize).prop_map(|(at, length)| Change::Remove { at, length }),
        (at.clone(), 0..80usize).prop_map(|(at, length)| Change::Repeat { at, length }),
        (at.clone(), 0..WORDS.len()).prop_map(|(at, word)| Change::Insert { at, word }),
        (at, any::<u8>()).prop_map(|(at, byte)| Change::Byte { at, byte }),
    ];
    prop::collection::vec(change, 1..12)
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let size = bytes.len().max(1);
    let range = |at: usize, length: usize| {
        let start = (at % size).min(bytes.len());
        start..(start + length).min(bytes.len())
    };
    match change {
        Change::Remove { at, length } => {
            bytes.drain(range(*at, *length));
        }
        Change::Repeat { at, length } => {
            let range = range(*at, *length);
            let copy = bytes[range.clone()].to_vec();
            bytes.splice(range.start..range.start, copy);
        }
        Change::Insert { at, word } => {
            let start = range(*at, 0).start;
            bytes.splice(start..start, WORDS[*word].bytes());
        }
        Change::Byte { at, byte } => {
            let start = range(*at, 0).start;
            if let Some(changed) = bytes.get_mut(start) {
                *changed = *byte;
            }
        }
    }
}

/// Either file may be missing or wrong, but the result is what it says it is.
fn check(haproxy: &[u8], keepalived: &[u8]) -> Result<(), TestCaseError> {
    let result = import(&Inputs {
        haproxy: Some(Source { name: "haproxy.cfg", bytes: haproxy }),
        keepalived: Some(Source { name: "keepalived.conf", bytes: keepalived }),
        config_id: Some("main"),
        environment: BTreeMap::from([("A".to_owned(), "b c".to_owned())]),
    });
    match result {
        Err(error) => {
            prop_assert!(error.line >= 1 && error.column >= 1, "{error}");
            prop_assert!(error.message.contains("expected"), "{error}");
        }
        Ok(imported) => {
            let refused = match config::parse(&imported.yaml, Path::new("f")) {
                Ok(_) => Vec::new(),
                Err(error) => error.problems().to_vec(),
            };
            let refused = refused.iter().any(|problem| problem.key != "vrrp");
            prop_assert!(!(refused && imported.is_complete()), "{}", imported.yaml);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn random_bytes_are_refused_or_read(
        haproxy in prop::collection::vec(any::<u8>(), 0..512),
        keepalived in prop::collection::vec(any::<u8>(), 0..512),
    ) {
        check(&haproxy, &keepalived)?;
    }

    #[test]
    fn random_words_are_refused_or_read(
        words in prop::collection::vec((0..WORDS.len(), any::<bool>()), 0..60),
    ) {
        let text: String = words
            .iter()
            .map(|(word, ends)| format!("{}{}", WORDS[*word], if *ends { "\n" } else { " " }))
            .collect();
        check(text.as_bytes(), text.as_bytes())?;
        check(format!("listen a\n{text}").as_bytes(), b"")?;
        check(b"", format!("vrrp_instance a {{\n{text}\n}}").as_bytes())?;
    }

    #[test]
    fn changed_files_are_refused_or_read(
        pair in 0..20usize, other in 0..20usize, haproxy in changes(), keepalived in changes(),
    ) {
        let (mut first, mut second) = (CORPUS[pair].0.clone(), CORPUS[other].1.clone());
        haproxy.iter().for_each(|change| apply(&mut first, change));
        keepalived.iter().for_each(|change| apply(&mut second, change));
        check(&first, &CORPUS[pair].1)?;
        check(&CORPUS[other].0, &second)?;
        check(&first, &second)?;
    }
}

fn error(haproxy: &str, keepalived: &str) -> String {
    texts(haproxy, keepalived).unwrap_err().to_string()
}

#[test]
fn blocks_cannot_be_nested_without_bound() {
    let deep = "a {\n".repeat(100_000);
    assert_eq!(
        error("", &deep),
        "keepalived.conf:17:3: too many blocks in one another; expected at most 16"
    );
}

#[test]
fn files_and_what_variables_make_of_them_are_bounded() {
    let large = "#".repeat(MAX_BYTES + 1);
    assert!(error(&large, "").contains("larger than 1024 KiB"));
    assert!(error("", &large).contains("larger than 1024 KiB"));
    let doubling =
        "global\nsetenv A xxxxxxxxxxxxxxxx\n".to_owned() + &"setenv A \"$A$A\"\n".repeat(64);
    assert!(error(&doubling, "").contains("variables make the word too long"));
    let many = format!("global\nsetenv A {}\n", "x".repeat(60_000)) + &"x \"$A\"\n".repeat(1000);
    assert!(error(&many, "").contains("variables make the file too large"));
    let many = format!("$A={}\n", "x ".repeat(8000)) + &"$A\n".repeat(1000);
    assert!(error("", &many).contains("parameters make the file too large"));
}

/// The largest files of the most expensive kinds take seconds at most, even when not optimized.
#[test]
fn large_files_take_no_long_time() {
    let ports = "listen a\nbind 10.0.0.1:1-16\n".to_owned()
        + &(0..4000).map(|port| format!("bind :{}\n", port + 20)).collect::<String>();
    let ports = ports.lines().take(1000).collect::<Vec<_>>().join("\n") + "\n";
    let servers = ports + &"server a 10.0.0.2:80 check\n".repeat(1000);
    let sections = "listen a\n".to_owned() + &"backend a\n".repeat(20_000);
    let lines = "defaults\n".to_owned() + &"frob\n".repeat(20_000);
    let addresses = "vrrp_instance a {\nvirtual_router_id 1\nvirtual_ipaddress {\n".to_owned()
        + &(0..1000).map(|n| format!("10.1.{}.{}\n", n / 250, n % 250 + 1)).collect::<String>()
        + "}\n}\n";
    #[expect(clippy::disallowed_methods, reason = "it is about the time that passes")]
    let start = Instant::now();
    for (haproxy, keepalived) in [(&servers, &addresses), (&sections, &addresses), (&lines, &lines)]
    {
        let _ = texts(haproxy, keepalived);
    }
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}
