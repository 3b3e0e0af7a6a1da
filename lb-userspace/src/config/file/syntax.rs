//! YAML to the mirror types of `file`, and the parser's errors in our words. Pure.

use std::path::Path;

use serde::Deserialize;
use serde_path_to_error::{Deserializer, Segment, Track};
use serde_saphyr::{DefaultMessageFormatter, Error, Location, MessageFormatter, Options};

use super::super::error::{ConfigError, Problem};
use super::{Document, Spot};

/// Values repeated by aliases: enough to share blocks between services, no bomb.
const MAX_REPEATED: usize = 20_000;
/// Keys and values: 256 services with 1,024 backends each, written out in full, take 2.7 millions.
const MAX_NODES: usize = 4_000_000;
/// Farther apart, two keys have nothing to do with each other (0 to 1).
const MIN_SIMILARITY: f64 = 0.8;

const NEEDED: &str = "write at least `services:` with name, vips, port and backends";

pub(super) fn read(text: &str, name: &Path) -> Result<Document, ConfigError> {
    let mut track = Track::new();
    let document = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
        Option::<Document>::deserialize(Deserializer::new(yaml, &mut track))
    });
    let problem = match document {
        Ok(Some(document)) => return Ok(document),
        Ok(None) => Spot::root().problem(name, format_args!("the file is empty; {NEEDED}")),
        Err(error) => explain(&error, key(&track.path()), text, name),
    };
    Err(ConfigError::Invalid { problems: vec![problem], omitted: 0 })
}

fn options() -> Options {
    serde_saphyr::options! {
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPEATED },
        budget: serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_events: MAX_NODES * 2,
        },
        // Comments are never read; by default many of them in one place are an error.
        emit_comments: false,
        with_snippet: false,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the parser's enum; most of it is syntax")]
fn explain(error: &Error, key: String, text: &str, name: &Path) -> Problem {
    let at = error.location().unwrap_or(Location::UNKNOWN);
    let mut spot = Spot { key, at };
    let message = match innermost(error) {
        Error::SerdeUnknownField { field, expected, .. } => unknown_key(field, expected),
        Error::DuplicateMappingKey { key, .. } => {
            spot = spot.key(key.as_deref().unwrap_or_default());
            "this key is there twice; remove one of the two".to_owned()
        }
        Error::MultipleDocuments { .. } => {
            "a second document starts here; keep one, and remove the lines that say `---`"
                .to_owned()
        }
        Error::NullIntoString { .. } => {
            "there is no value here; write one, or remove the line".to_owned()
        }
        Error::Unexpected { expected, .. } => shape(expected, &spot.key),
        Error::SerdeInvalidType { expected, .. } => {
            format!("this is something else than {expected}; write {expected}")
        }
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::RecursiveReferencesRequireWeakTypes { .. }
        | Error::Budget { .. } => "this repeats or nests without end, or nearly so; write the \
                                   values out, without aliases"
            .to_owned(),
        other => return not_yaml(other, &spot, text, name),
    };
    spot.problem(name, message)
}

fn innermost(error: &Error) -> &Error {
    let error = error.without_snippet();
    if let Error::AliasError { error, .. } = error { innermost(error) } else { error }
}

fn not_yaml(error: &Error, spot: &Spot, text: &str, name: &Path) -> Problem {
    if let Some((line, column)) = indenting_tab(text, spot.at) {
        let message = "a tab indents this line; YAML is indented by spaces only, so replace it";
        return Problem { line, column, ..spot.problem(name, message) };
    }
    let detail = DefaultMessageFormatter.format_message(error);
    let message = format!("not valid YAML: {detail}; correct the syntax here or just above");
    spot.problem(name, message)
}

/// The full key at which the parser stopped.
fn key(path: &serde_path_to_error::Path) -> String {
    let mut spot = Spot::root();
    for segment in path {
        match segment {
            // `Spanned` looks like a mapping with a key `value`; the configuration has none.
            Segment::Map { key } if key == "value" => {}
            Segment::Map { key } => spot = spot.key(key),
            Segment::Seq { index } => spot.key.push_str(&format!("[{index}]")),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    spot.key
}

fn unknown_key(field: &str, expected: &[&str]) -> String {
    let nearest = expected
        .iter()
        .map(|key| (strsim::jaro_winkler(field, key), key))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    let keys = expected.join(", ");
    match nearest {
        Some((_, key)) => format!("unknown key; did you mean `{key}`? Keys known here: {keys}"),
        None => format!("unknown key; remove it. Keys known here: {keys}"),
    }
}

fn shape(expected: &str, key: &str) -> String {
    if expected.contains("sequence") {
        "this is not a list; write one: [a, b], or a line for each element starting with `- `"
            .to_owned()
    } else if !expected.contains("mapping") {
        "this is not a single value; write one on the key's line".to_owned()
    } else if key.is_empty() {
        format!("this is no mapping of keys to values; {NEEDED}")
    } else {
        "this is not a mapping; write `key: value` lines indented below it".to_owned()
    }
}

/// Line and column of a tab that indents the line of an error or the next: the parser may stop at
/// the end of the line before it.
fn indenting_tab(text: &str, at: Location) -> Option<(u64, u64)> {
    (at.line()..).zip(text.lines().skip(index(at.line()))).take(2).find_map(|(number, line)| {
        let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        Some((number, indent.find('\t')? as u64 + 1))
    })
}

fn index(line: u64) -> usize {
    usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1)
}
