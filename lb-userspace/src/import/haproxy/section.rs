//! Lines of haproxy.cfg to sections. Pure.

use std::rc::Rc;

use super::super::findings::{Findings, Kind};
use super::super::source::{MAX_EXPANDED, Place, Read, Word, decode, numbered, quoted};
use super::lexer::{Environment, words};

/// What is between a section's first line and the next section.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) kind: SectionKind,
    /// Where its first line is.
    pub(crate) at: Place,
    pub(crate) name: Option<Word>,
    /// `from NAME`: the defaults it has.
    pub(crate) from: Option<Word>,
    pub(crate) lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SectionKind {
    Global,
    Defaults,
    Frontend,
    Backend,
    Listen,
    /// One that balances nothing itself.
    Other(&'static str),
}

/// Sections without a counterpart.
const OTHERS: [&str; 17] = [
    "acme",
    "cache",
    "crt-store",
    "dynamic-update",
    "fcgi-app",
    "healthcheck",
    "http-errors",
    "log-forward",
    "log-profile",
    "mailers",
    "namespace_list",
    "peers",
    "program",
    "resolvers",
    "ring",
    "traces",
    "userlist",
];

/// A line with at least one word.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) words: Vec<Word>,
}

impl Line {
    /// Its first word.
    pub(crate) fn keyword(&self) -> &Word {
        // `sections` keeps no line without words.
        &self.words[0]
    }

    /// The text of a word; empty if there is none.
    pub(crate) fn text(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |word| word.text.as_str())
    }

    /// A word that must be there.
    pub(crate) fn required(&self, index: usize, expected: &str) -> Read<&Word> {
        self.words.get(index).ok_or_else(|| {
            let last = &self.words[self.words.len() - 1];
            let place = Place { column: last.at.column, ..last.at.clone() };
            let after = quoted(&last.text);
            place.error(format_args!("the line ends after {after}; expected {expected}"))
        })
    }

    /// Refuses variables that have no value.
    pub(crate) fn expanded(&self) -> Read<()> {
        let unset = |word: &Word| word.unset.clone().map(|name| (name, word.at.clone()));
        match self.words.iter().find_map(unset) {
            None => Ok(()),
            Some((name, at)) => Err(at.error(format_args!(
                "the environment variable {name} is not set; expected `{name}=VALUE fairlead \
                 import ...` with what HAProxy's service has"
            ))),
        }
    }
}

/// The sections of a file. `environment` gains what the file sets itself.
pub(crate) fn sections(
    file: &Rc<str>,
    bytes: &[u8],
    mut environment: Environment,
    findings: &mut Findings,
) -> Read<Vec<Section>> {
    let text = decode(file, bytes)?;
    let mut sections: Vec<Section> = Vec::new();
    let mut size = 0;
    for (number, text) in numbered(&text) {
        let line = Line { words: words(file, number, text, &environment)? };
        let Some(first) = line.words.first() else { continue };
        size += line.words.iter().map(|word| word.text.len()).sum::<usize>();
        if size > MAX_EXPANDED {
            return Err(first.at.error("variables make the file too large; expected shorter ones"));
        }
        if first.text.starts_with('.') {
            macro_line(&line, findings)?;
        } else if let Some(kind) = SectionKind::named(&first.text) {
            sections.push(start(kind, &line)?);
        } else if let Some(section) = sections.last_mut() {
            if section.kind == SectionKind::Global {
                set_variable(&line, &mut environment)?;
            }
            section.lines.push(line);
        } else {
            let text = quoted(&first.text);
            return Err(first.at.error(format_args!(
                "{text} is in no section; expected `global`, `defaults`, `frontend`, `backend` or \
                 `listen`"
            )));
        }
    }
    Ok(sections)
}

impl SectionKind {
    fn named(name: &str) -> Option<Self> {
        match name {
            "global" => Some(Self::Global),
            "defaults" => Some(Self::Defaults),
            "frontend" => Some(Self::Frontend),
            "backend" => Some(Self::Backend),
            "listen" => Some(Self::Listen),
            _ => OTHERS.into_iter().find(|other| *other == name).map(Self::Other),
        }
    }
}

fn start(kind: SectionKind, line: &Line) -> Read<Section> {
    line.expanded()?;
    let mut section =
        Section { kind, at: line.keyword().at.clone(), name: None, from: None, lines: Vec::new() };
    let mut rest = 1;
    match kind {
        SectionKind::Global => {}
        SectionKind::Defaults => {
            if line.words.get(1).is_some_and(|word| word.text != "from") {
                section.name = line.words.get(1).cloned();
                rest = 2;
            }
        }
        SectionKind::Frontend | SectionKind::Backend | SectionKind::Listen => {
            section.name = Some(line.required(1, "a name")?.clone());
            rest = 2;
        }
        // Some have names, some have not; nothing in them is carried over.
        SectionKind::Other(_) => return Ok(section),
    }
    if line.text(rest) == "from" {
        section.from = Some(line.required(rest + 1, "the name of a `defaults` section")?.clone());
        rest += 2;
    }
    match line.words.get(rest) {
        None => Ok(section),
        Some(word) => {
            let text = quoted(&word.text);
            Err(word.at.error(format_args!("{text} follows; expected the end of the line")))
        }
    }
}

/// Conditions cannot be judged here, and both branches may matter.
fn macro_line(line: &Line, findings: &mut Findings) -> Read<()> {
    let word = line.keyword();
    if matches!(word.text.as_str(), ".notice" | ".warning" | ".alert" | ".diag") {
        let remedy = "nothing to do";
        findings.add(Kind::Needless, &word.at, &word.text, "a message of HAProxy's parser", remedy);
        return Ok(());
    }
    let text = quoted(&word.text);
    Err(word.at.error(format_args!(
        "{text} depends on the running HAProxy; expected a file without conditions: keep the lines \
         that hold on this host"
    )))
}

fn set_variable(line: &Line, environment: &mut Environment) -> Read<()> {
    let keyword = line.keyword();
    match keyword.text.as_str() {
        "setenv" | "presetenv" => {
            line.expanded()?;
            let name = line.required(1, "the name of a variable")?.text.clone();
            let value = line.required(2, "its value")?.text.clone();
            if keyword.text == "setenv" || !environment.contains_key(&name) {
                environment.insert(name, value);
            }
        }
        "unsetenv" => {
            for word in &line.words[1..] {
                environment.remove(&word.text);
            }
        }
        "resetenv" => {
            environment.retain(|name, _| line.words[1..].iter().any(|word| word.text == *name));
        }
        _ => {}
    }
    Ok(())
}
