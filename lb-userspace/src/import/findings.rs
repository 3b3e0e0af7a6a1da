//! What an operator has to know about an import, beyond what the written file says. Pure.

use std::fmt;

use serde::Serialize;

use super::source::{Place, Word, quoted};

/// How much a finding matters, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The written file is refused until this is done.
    ToDo,
    /// The importer does not know what it means, so the written file lacks it.
    NotUnderstood,
    /// It has no counterpart.
    NotCarriedOver,
    /// It is done in another way.
    Changed,
    /// The files do not say it.
    Assumed,
    /// It has no counterpart, and none is needed.
    Needless,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::ToDo,
        Self::NotUnderstood,
        Self::NotCarriedOver,
        Self::Changed,
        Self::Assumed,
        Self::Needless,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ToDo => "to do",
            Self::NotUnderstood => "not understood",
            Self::NotCarriedOver => "not carried over",
            Self::Changed => "changed",
            Self::Assumed => "assumed",
            Self::Needless => "needless",
        }
    }
}

/// One thing to know, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    pub kind: Kind,
    /// The file it is about; none: the import as a whole.
    pub file: Option<String>,
    /// From 1; 0 without a file.
    pub line: u32,
    /// From 1, in characters; 0 without a file.
    pub column: u32,
    /// What the file says there, such as `balance leastconn`; empty without a file.
    pub subject: String,
    /// What is so.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:{}:{}: ", self.line, self.column)?;
        }
        write!(f, "{}: ", self.kind.as_str())?;
        if !self.subject.is_empty() {
            write!(f, "{}: ", self.subject)?;
        }
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

/// Findings as they are made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    /// About a word and those that follow it, of which `subject` are shown: never secrets.
    pub(crate) fn add(
        &mut self,
        kind: Kind,
        at: &Place,
        subject: &str,
        message: impl fmt::Display,
        remedy: impl fmt::Display,
    ) {
        self.0.push(Finding {
            kind,
            file: Some(at.file.to_string()),
            line: at.line,
            column: at.column,
            subject: if subject.is_empty() { String::new() } else { quoted(subject) },
            message: message.to_string(),
            remedy: remedy.to_string(),
        });
    }

    /// About no line in particular.
    pub(crate) fn general(
        &mut self,
        kind: Kind,
        message: impl fmt::Display,
        remedy: impl fmt::Display,
    ) {
        self.0.push(Finding {
            kind,
            file: None,
            line: 0,
            column: 0,
            subject: String::new(),
            message: message.to_string(),
            remedy: remedy.to_string(),
        });
    }

    pub(crate) fn not_understood(&mut self, word: &Word) {
        self.add(
            Kind::NotUnderstood,
            &word.at,
            &word.text,
            "not known to the importer, and not carried over",
            "find out what it does, and whether Fairlead has to do it too",
        );
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The most important first, then as the files have them; each once.
    pub(crate) fn finish(mut self) -> Vec<Finding> {
        self.0.sort();
        self.0.dedup();
        self.0
    }
}

/// As text: one finding a line, and how many of which kind there are.
pub fn report(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text += &format!("{finding}\n");
    }
    let counts: Vec<String> = Kind::ALL
        .into_iter()
        .map(|kind| (findings.iter().filter(|finding| finding.kind == kind).count(), kind))
        .filter(|(count, _)| *count > 0)
        .map(|(count, kind)| format!("{count} {}", kind.as_str()))
        .collect();
    let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
    text + &format!("findings: {counts}\n")
}
