//! The text of the files that are imported: its limits, and where in it a word stands. Pure.

use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::str::FromStr;

use thiserror::Error;

/// The largest file that is read, in bytes; those of real clusters have some thousands.
pub const MAX_BYTES: usize = 1024 * 1024;

/// The most text that variables may make of a file, in bytes.
pub(crate) const MAX_EXPANDED: usize = 4 * MAX_BYTES;

/// How many of a kind there may be: sections, servers, addresses. More are no cluster's, and some are
/// compared with each other.
pub(crate) const MAX_ENTRIES: usize = 1024;

/// Longest text that a message quotes, in characters.
const MAX_SHOWN: usize = 64;

/// A file that cannot be read, and what was expected where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct ImportError {
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// What is wrong; then, after a semicolon, what was expected.
    pub message: String,
}

pub(crate) type Read<T> = Result<T, ImportError>;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: Rc<str>,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Place {
    pub(crate) fn new(file: &Rc<str>, line: u32, column: u32) -> Self {
        Self { file: Rc::clone(file), line, column }
    }

    pub(crate) fn error(&self, message: impl fmt::Display) -> ImportError {
        ImportError {
            file: self.file.to_string(),
            line: self.line,
            column: self.column,
            message: message.to_string(),
        }
    }
}

/// As a comment refers to it: `haproxy.cfg:12`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Refuses one more than `MAX_ENTRIES` of a kind.
pub(crate) fn room(count: usize, what: &str, at: &Place) -> Read<()> {
    if count < MAX_ENTRIES {
        return Ok(());
    }
    Err(at.error(format_args!("there are too many {what}; expected at most {MAX_ENTRIES}")))
}

/// A word of a file, without its quotes and escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) at: Place,
    /// An environment variable in it that has no value.
    pub(crate) unset: Option<String>,
}

impl Word {
    pub(crate) fn new(text: &str, at: Place) -> Self {
        Self { text: text.to_owned(), at, unset: None }
    }

    /// A whole number in `range`.
    pub(crate) fn number<T>(&self, range: &RangeInclusive<T>) -> Read<T>
    where
        T: fmt::Display + FromStr + PartialOrd,
    {
        let number = self.text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            let text = quoted(&self.text);
            self.at.error(format_args!(
                "{text} is not possible; expected a number from {from} to {to}"
            ))
        })
    }
}

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sited<T> {
    pub(crate) value: T,
    pub(crate) at: Place,
}

impl<T> Sited<T> {
    pub(crate) fn new(value: T, at: &Place) -> Self {
        Self { value, at: at.clone() }
    }
}

/// What the file says, on one line, and short.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        None => format!("`{}`", text.escape_debug()),
        Some((end, _)) => format!("`{}...`", text[..end].escape_debug()),
    }
}

/// The text of a file. Bytes that are no UTF-8 can only matter in a value, which then is refused.
pub(crate) fn decode(file: &Rc<str>, bytes: &[u8]) -> Read<String> {
    let start = Place::new(file, 1, 1);
    if bytes.len() > MAX_BYTES {
        let limit = MAX_BYTES / 1024;
        return Err(start
            .error(format_args!("the file is larger than {limit} KiB; expected a configuration")));
    }
    let text = String::from_utf8_lossy(bytes).into_owned();
    match text.find('\0') {
        None => Ok(text),
        Some(end) => Err(after(&start, &text[..end]).error("a zero byte; expected a text file")),
    }
}

/// Where `text` ends that starts at `start`.
fn after(start: &Place, text: &str) -> Place {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let last = text.rsplit('\n').next().unwrap_or_default();
    let line = start.line.saturating_add(count(text.matches('\n').count()));
    Place::new(&start.file, line, count(last.chars().count()).saturating_add(1))
}

/// The lines of a text with their numbers, from 1, without what ends them.
pub(crate) fn numbered(text: &str) -> impl Iterator<Item = (u32, &str)> {
    (1..).zip(text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_refused_with_its_place() {
        let file = Rc::from("f");
        let error = decode(&file, b"a\nbc\0d").unwrap_err();
        assert_eq!(error.to_string(), "f:2:3: a zero byte; expected a text file");
        let error = decode(&file, &vec![b'a'; MAX_BYTES + 1]).unwrap_err();
        assert!(error.to_string().starts_with("f:1:1: the file is larger than 1024 KiB"));
        assert_eq!(decode(&file, b"# caf\xe9").unwrap(), "# caf\u{fffd}");
    }

    #[test]
    fn long_texts_and_line_ends_are_shown_short() {
        assert_eq!(quoted("a\tb"), "`a\\tb`");
        assert_eq!(quoted(&"x".repeat(65)).len(), 64 + 5);
    }
}
