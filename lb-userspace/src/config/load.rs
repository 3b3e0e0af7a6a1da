//! Reads the configuration file and looks at the files that it refers to. I/O; the commands call
//! it at start and at each reload.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

use super::Config;
use super::error::{ConfigError, Problem, remedy};
use super::file::{Reference, Referenced, parse_with_references};
use super::notify;

/// 256 services with 1,024 backends each have less; what is larger was named by mistake.
const MAX_BYTES: u64 = 32 * 1024 * 1024;

/// Reads, validates and translates the configuration in `path`.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = read(path)?;
    let (config, references) = parse_with_references(&text, path)?;
    let problems: Vec<Problem> =
        references.iter().filter_map(|reference| check(reference, path)).collect();
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::Invalid { problems, omitted: 0 })
    }
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

fn check(reference: &Reference, file: &Path) -> Option<Problem> {
    match reference.what {
        Referenced::Ca => check_ca(reference, file),
        Referenced::Program => check_program(reference, file),
        Referenced::Token => check_token(reference, file),
    }
}

/// A program that cannot be run would be missed only when it matters.
fn check_program(Reference { path, spot, .. }: &Reference, file: &Path) -> Option<Problem> {
    let shown = path.display();
    let message = match fs::metadata(path) {
        Err(error) => format!("cannot run {shown}: {error}; {}", remedy(&error)),
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => return None,
        Ok(_) => format!("{shown} is not executable; chmod +x it, or name another program"),
    };
    Some(spot.problem(file, message))
}

fn check_token(Reference { path, spot, .. }: &Reference, file: &Path) -> Option<Problem> {
    let shown = path.display();
    let message = match read_bounded(path) {
        Err(error) => format!("cannot read {shown}: {error}; {}", remedy(&error)),
        Ok(Some(bytes)) if notify::token(&bytes).is_some() => return None,
        // What it says is secret.
        Ok(_) => format!("{shown} has no token; write one line of visible characters there"),
    };
    Some(spot.problem(file, message))
}

/// A CA that cannot be read now would make every probe fail later, which looks like an outage.
fn check_ca(Reference { path, spot, .. }: &Reference, file: &Path) -> Option<Problem> {
    let shown = path.display();
    let bytes = match read_bounded(path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let message = format!("{shown} is too large; name the cluster's CA, a PEM file");
            return Some(spot.problem(file, message));
        }
        Err(error) => {
            let message = format!("cannot read {shown}: {error}; {}", remedy(&error));
            return Some(spot.problem(file, message));
        }
    };
    let certificates: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
    let message = match certificates {
        Err(error) => format!("{shown} is broken PEM: {error}; copy the cluster's CA there again"),
        Ok(certificates) if certificates.is_empty() => {
            format!("{shown} has no PEM certificate; name the cluster's CA, such as ca.crt")
        }
        Ok(certificates) => {
            let mut store = RootCertStore::empty();
            let error = certificates.into_iter().find_map(|it| store.add(it).err())?;
            format!(
                "{shown} has an unusable certificate: {error}; copy the cluster's CA there again"
            )
        }
    };
    Some(spot.problem(file, message))
}

#[cfg(test)]
mod tests;
