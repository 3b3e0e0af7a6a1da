//! What can be wrong with a configuration, said so that its operator can put it right. Pure.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: cannot read the configuration: {error}; {}", .file.display(), remedy(.error))]
    Unreadable { file: PathBuf, error: io::Error },
    /// The file is larger than any configuration is.
    #[error(
        "{}: larger than {} KiB, so it is no configuration; name the right file with --config",
        .file.display(), .limit / 1024
    )]
    TooLarge { file: PathBuf, limit: u64 },
    /// The file says something it must not. Never empty.
    #[error("{}", lines(.problems, *.omitted))]
    Invalid {
        problems: Vec<Problem>,
        /// Problems found beyond those listed.
        omitted: usize,
    },
}

impl ConfigError {
    /// What is wrong in the file, in the order found; empty when it was not read at all.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Unreadable { .. } | Self::TooLarge { .. } => &[],
            Self::Invalid { problems, .. } => problems,
        }
    }
}

/// One thing to put right, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}:{line}:{column}: {}{message}", .file.display(), prefix(.key))]
pub struct Problem {
    pub file: PathBuf,
    /// From 1.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
    /// Such as `services[0].backends[1].port`; empty when it concerns the whole file.
    pub key: String,
    /// What is wrong; then, after a semicolon, what would be right.
    pub message: String,
}

fn prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

fn lines(problems: &[Problem], omitted: usize) -> String {
    let mut lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    if omitted > 0 {
        lines.push(format!("and {omitted} more"));
    }
    lines.join("\n")
}

/// What an operator can do about a file that cannot be read.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::NotFound {
        "create it, or name another one"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "let this user read it, or run as root"
    } else {
        "name a regular file that this user can read"
    }
}
