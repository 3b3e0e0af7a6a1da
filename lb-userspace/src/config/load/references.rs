//! Looks at the files that the configuration names: one that cannot be used now would make every
//! probe fail later, which looks like an outage. I/O.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

use super::super::credentials::{self, CredentialError};
use super::super::error::{Problem, remedy};
use super::super::file::{Content, Reference, password_of};
use super::read_bounded;
use crate::sync::key;
use crate::vrrp::settings::Password;

/// What is wrong with the file, if anything.
pub(super) fn check(Reference { path, spot, content }: &Reference, file: &Path) -> Option<Problem> {
    let shown = path.display();
    if *content == Content::Program {
        return program(path).map(|message| spot.problem(file, message));
    }
    if matches!(content, Content::SyncKeys | Content::AdminToken)
        && let Some(message) = exposed(path)
    {
        return Some(spot.problem(file, message));
    }
    let message = match read(path, content) {
        Ok(bytes) => format!("{shown} {}", fault(content, &bytes)?),
        Err(message) => message,
    };
    Some(spot.problem(file, message))
}

/// A program that cannot be run would be missed only when it matters.
fn program(path: &Path) -> Option<String> {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) => Some(format!("cannot run {shown}: {error}; {}", remedy(&error))),
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => None,
        Ok(_) => Some(format!("{shown} is not executable; chmod +x it, or name another program")),
    }
}

/// A secret that everybody on this machine can read, or many can change.
fn exposed(path: &Path) -> Option<String> {
    const FOR_OTHERS: u32 = 0o027;
    let mode = fs::metadata(path).ok()?.permissions().mode();
    let shown = path.display();
    (mode & FOR_OTHERS != 0).then(|| {
        format!("{shown} is open to others (mode {:03o}); chmod 600 {shown}", mode & 0o777)
    })
}

fn read(path: &Path, content: &Content) -> Result<Vec<u8>, String> {
    let shown = path.display();
    match read_bounded(path) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!("{shown} is too large; name {}", wanted(content))),
        Err(error) => Err(format!("cannot read {shown}: {error}; {}", remedy(&error))),
    }
}

const fn wanted(content: &Content) -> &'static str {
    match content {
        Content::Ca => "the cluster's CA, a PEM file",
        Content::ClientCertificate => "a certificate, a PEM file",
        Content::ClientKey(_) => "the key of the certificate, a PEM file",
        Content::Token | Content::AdminToken => "a file with one token",
        Content::Password(_) => "a file with one password",
        Content::SyncKeys => "a file with one key",
        Content::Program => "a program",
    }
}

/// What follows the file's name in the message.
fn fault(content: &Content, bytes: &[u8]) -> Option<String> {
    let fault = match content {
        Content::Ca => return ca(bytes),
        Content::ClientCertificate => credentials::certificates(bytes).err(),
        Content::ClientKey(cert_file) => client_key(bytes, cert_file).err(),
        Content::Token => credentials::token(bytes).err(),
        Content::AdminToken => credentials::admin_token(bytes).err(),
        Content::Password(_) => return first_line(bytes).err(),
        Content::SyncKeys => return key::parse(bytes).err().map(|fault| fault.to_string()),
        Content::Program => return None,
    };
    fault.map(|fault| fault.to_string())
}

/// The password in a file that was looked at.
pub(super) fn password(
    Reference { path, spot, content }: &Reference,
    file: &Path,
) -> Result<Password, Problem> {
    let shown = path.display();
    let password = read(path, content)
        .and_then(|bytes| first_line(&bytes).map_err(|fault| format!("{shown} {fault}")));
    password.map_err(|message| spot.problem(file, message))
}

fn first_line(bytes: &[u8]) -> Result<Password, String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().next().unwrap_or_default();
    password_of(line).map_err(|fault| format!("has a password that {fault}"))
}

fn client_key(bytes: &[u8], cert_file: &Path) -> Result<(), CredentialError> {
    let key = credentials::key(bytes)?;
    // What is wrong with the certificate is said where it is named.
    let Ok(Some(pem)) = read_bounded(cert_file) else { return Ok(()) };
    let Ok(certificates) = credentials::certificates(&pem) else { return Ok(()) };
    credentials::pair(certificates, key).map(drop)
}

fn ca(bytes: &[u8]) -> Option<String> {
    let certificates: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(bytes).collect();
    match certificates {
        Err(error) => Some(format!("is broken PEM: {error}; copy the cluster's CA there again")),
        Ok(certificates) if certificates.is_empty() => {
            Some("has no PEM certificate; name the cluster's CA, such as ca.crt".to_owned())
        }
        Ok(certificates) => {
            let mut store = RootCertStore::empty();
            let error = certificates.into_iter().find_map(|it| store.add(it).err())?;
            Some(format!("has an unusable certificate: {error}; copy the cluster's CA there again"))
        }
    }
}
