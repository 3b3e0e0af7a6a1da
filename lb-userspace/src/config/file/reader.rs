//! What a translation has found wrong so far. Pure.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde_saphyr::{Location, Spanned};

use super::super::error::{ConfigError, Problem};
use super::scalar::{self, Fault};
use super::{Field, Reference, Spot};

/// More would scroll the first ones, which the others may follow from, off the screen.
const MAX_PROBLEMS: usize = 20;

/// Collects problems, so that an operator sees all of them at once, and the files to look at.
///
/// Its methods return a usable value where there is none, and so keep the translation going;
/// `finish` keeps such a value from ever getting out.
pub(super) struct Reader<'a> {
    file: &'a Path,
    problems: Vec<Problem>,
    pub(super) references: Vec<Reference>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a Path) -> Self {
        Self { file, problems: Vec::new(), references: Vec::new() }
    }

    pub(super) fn wrong(&mut self, spot: &Spot, message: impl Display) {
        self.problems.push(spot.problem(self.file, message));
    }

    /// The value of a scalar, if it has one.
    pub(super) fn accept<T>(&mut self, spot: &Spot, value: Result<T, Fault>) -> Option<T> {
        value.map_err(|fault| self.wrong(spot, fault)).ok()
    }

    /// A whole number in `range`; `default` where the key is absent.
    pub(super) fn number<T>(
        &mut self,
        spot: &Spot,
        field: &Field,
        range: &RangeInclusive<T>,
        default: T,
    ) -> T
    where
        T: Display + FromStr + PartialOrd,
    {
        let number = field.as_ref().map(|text| scalar::number(&text.value, range));
        number.and_then(|number| self.accept(spot, number)).unwrap_or(default)
    }

    /// A duration in `range`; `default` where the key is absent.
    pub(super) fn duration(
        &mut self,
        spot: &Spot,
        field: &Field,
        range: &RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        let duration = field.as_ref().map(|text| scalar::duration(&text.value, range));
        duration.and_then(|duration| self.accept(spot, duration)).unwrap_or(default)
    }

    /// `true` or `false`, which is the default.
    pub(super) fn boolean(&mut self, spot: &Spot, field: &Field) -> bool {
        self.choice(spot, field, &[("false", false), ("true", true)]).unwrap_or_default()
    }

    /// One of several words, the first where the key is absent; nothing if it is none of them.
    pub(super) fn choice<T: Copy>(
        &mut self,
        spot: &Spot,
        field: &Field,
        choices: &[(&str, T)],
    ) -> Option<T> {
        match field {
            Some(text) => self.accept(spot, scalar::choice(&text.value, choices)),
            None => choices.first().map(|(_, value)| *value),
        }
    }

    /// Says that a required key is not there.
    pub(super) fn missing(&mut self, scope: &Spot, key: &str, example: &str) {
        self.wrong(&scope.key(key), format_args!("is missing; add {example}"));
    }

    /// Fails if anything was wrong.
    pub(super) fn finish(self) -> Result<Vec<Reference>, ConfigError> {
        let mut problems = self.problems;
        if problems.is_empty() {
            return Ok(self.references);
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        let omitted = problems.len().saturating_sub(MAX_PROBLEMS);
        problems.truncate(MAX_PROBLEMS);
        Err(ConfigError::Invalid { problems, omitted })
    }
}

impl Spot {
    /// The whole document.
    pub(super) fn root() -> Self {
        Self { key: String::new(), at: Location::UNKNOWN }
    }

    /// A key of this mapping whose value has no place of its own.
    pub(super) fn key(&self, name: &str) -> Self {
        let key =
            if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) };
        Self { key, at: self.at }
    }

    /// The value of a key of this mapping.
    pub(super) fn of<T>(&self, name: &str, value: &Spanned<T>) -> Self {
        Self { at: value.referenced, ..self.key(name) }
    }

    /// The value of a key of this mapping, or the mapping itself where the key is absent.
    pub(super) fn field(&self, name: &str, field: &Field) -> Self {
        field.as_ref().map_or_else(|| self.key(name), |value| self.of(name, value))
    }

    /// An element of this list.
    pub(super) fn element<T>(&self, index: usize, value: &Spanned<T>) -> Self {
        Self { key: format!("{}[{index}]", self.key), at: value.referenced }
    }

    pub(in super::super) fn problem(&self, file: &Path, message: impl Display) -> Problem {
        Problem {
            file: file.to_owned(),
            // The location of a whole document is unknown, and then zero.
            line: self.at.line().max(1),
            column: self.at.column().max(1),
            key: self.key.clone(),
            message: message.to_string(),
        }
    }
}
