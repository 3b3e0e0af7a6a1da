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
use super::super::file::{Content, Reference};
use super::read_bounded;

/// What is wrong with the file, if anything.
pub(super) fn check(Reference { path, spot, content }: &Reference, file: &Path) -> Option<Problem> {
    let shown = path.display();
    if matches!(content, Content::Program) {
        return program(path).map(|message| spot.problem(file, message));
    }
    let message = match read(path, content) {
        Ok(bytes) => format!("{shown} {}", fault(content, &bytes)?),
        Err(message) => message,
    };
    Some(spot.problem(file, message))
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
        Content::ClientCertificate => "a client certificate, a PEM file",
        Content::ClientKey(_) => "the key of the client certificate, a PEM file",
        Content::Token => "a file with one token",
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
        // Not read.
        Content::Program => None,
    };
    fault.map(|fault| fault.to_string())
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
