//! Reads the configuration file and looks at the files that it refers to. I/O; the commands call
//! it at start and at each reload.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Config;
use super::error::{ConfigError, Problem};
use super::file::{Content, Reference, parse_with_references};

mod references;

/// 256 services with 1,024 backends each have less; what is larger was named by mistake.
const MAX_BYTES: u64 = 32 * 1024 * 1024;

/// Reads, validates and translates the configuration in `path`.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    load_with_files(path).map(|(config, _)| config)
}

/// The files that a configuration names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Certificates, keys, tokens, passwords.
    pub read: BTreeSet<PathBuf>,
    /// Programs of `notify`.
    pub run: BTreeSet<PathBuf>,
}

/// The same as [`load`], and what the configuration needs beside it.
pub fn load_with_files(path: &Path) -> Result<(Config, Files), ConfigError> {
    let text = read(path)?;
    let (mut config, references) = parse_with_references(&text, path)?;
    let mut problems: Vec<Problem> =
        references.iter().filter_map(|reference| references::check(reference, path)).collect();
    for reference in &references {
        if let Content::Password(index) = reference.content {
            match references::password(reference, path) {
                Ok(password) => config.vrrp[index].password = Some(password),
                Err(problem) => problems.push(problem),
            }
        }
    }
    if problems.is_empty() {
        Ok((config, files(references)))
    } else {
        Err(ConfigError::Invalid { problems, omitted: 0 })
    }
}

fn files(references: Vec<Reference>) -> Files {
    let mut files = Files::default();
    for Reference { path, content, .. } in references {
        match content {
            Content::Program => files.run.insert(path),
            Content::Ca
            | Content::ClientCertificate
            | Content::ClientKey(_)
            | Content::Token
            | Content::AdminToken
            | Content::Password(_)
            | Content::SyncKeys => files.read.insert(path),
        };
    }
    files
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let bytes = read_bounded(path)
        .map_err(|error| ConfigError::Unreadable { file: path.to_owned(), error })?
        .ok_or_else(|| ConfigError::TooLarge { file: path.to_owned(), limit: MAX_BYTES })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        ConfigError::Invalid { problems: vec![not_utf8(path, valid)], omitted: 0 }
    })
}

/// The file's content; nothing if it is too large to be looked at.
fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // Opening a pipe may wait for ever, and a device may never end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_BYTES).then_some(bytes))
}

fn not_utf8(file: &Path, valid: &[u8]) -> Problem {
    let text = String::from_utf8_lossy(valid);
    let line = text.split('\n').count();
    let column = text.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Problem {
        file: file.to_owned(),
        line: line as u64,
        column: column as u64,
        key: String::new(),
        message: "this byte is not UTF-8; save the file as UTF-8 text".to_owned(),
    }
}

#[cfg(test)]
mod tests;
