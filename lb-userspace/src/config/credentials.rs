//! What probes and listeners show of themselves: a certificate with its key, a bearer token. `load` and who shows
//! them read files with it. No error quotes a file. Pure.

use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use thiserror::Error;

/// Tokens of service accounts are about a kilobyte.
const MAX_TOKEN: usize = 16 * 1024;
/// 96 bits in hexadecimal digits.
const MIN_ADMIN_TOKEN: usize = 24;

/// Why a file cannot be used; then, after a semicolon, what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CredentialError {
    #[error("is broken PEM; copy the file there again")]
    Pem,
    #[error("has no PEM certificate; name a certificate, such as client.crt or tls.crt")]
    NoCertificate,
    #[error("has no PEM private key; name a key, not encrypted, such as client.key or tls.key")]
    NoKey,
    #[error("has a key of an unknown kind; make an ECDSA, Ed25519 or RSA key")]
    Key,
    #[error("is not the key of that certificate; name the two files that were made together")]
    Mismatch,
    #[error("has an unusable certificate; copy it there again")]
    Certificate,
    #[error("is no bearer token; name a file with one token of visible ASCII characters")]
    Token,
    #[error(
        "is shorter than {MIN_ADMIN_TOKEN} characters, so that it can be guessed; make one: openssl rand -hex 32"
    )]
    ShortToken,
}

/// The certificates of a PEM file; never none.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| CredentialError::Pem)?;
    if certificates.is_empty() {
        return Err(CredentialError::NoCertificate);
    }
    Ok(certificates)
}

/// The first private key of a PEM file.
#[expect(clippy::wildcard_enum_match_arm, reason = "what else there is in PEM is not quoted")]
pub fn key(pem: &[u8]) -> Result<Arc<dyn SigningKey>, CredentialError> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => CredentialError::NoKey,
        _ => CredentialError::Pem,
    })?;
    ring::sign::any_supported_type(&key).map_err(|_| CredentialError::Key)
}

/// The two together, if they are of one.
pub fn pair(
    certificates: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
) -> Result<CertifiedKey, CredentialError> {
    let pair = CertifiedKey::new(certificates, key);
    match pair.keys_match() {
        // This kind of key does not say; the server will.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => Err(CredentialError::Mismatch),
        Err(_) => Err(CredentialError::Certificate),
    }
}

/// The token in a file, without the white space around it.
pub fn token(bytes: &[u8]) -> Result<&str, CredentialError> {
    let token = bytes.trim_ascii();
    let is_token =
        !token.is_empty() && token.len() <= MAX_TOKEN && token.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(token).ok().filter(|_| is_token).ok_or(CredentialError::Token)
}

/// The same of a token that lets somebody in here: not one that can be guessed.
pub fn admin_token(bytes: &[u8]) -> Result<&str, CredentialError> {
    let token = token(bytes)?;
    if token.len() < MIN_ADMIN_TOKEN { Err(CredentialError::ShortToken) } else { Ok(token) }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn a_certificate_and_its_key_are_a_pair() {
        let (one, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let pem = CertificateParams::new(Vec::new()).unwrap().self_signed(&one).unwrap().pem();
        let certificates = certificates(pem.as_bytes()).unwrap();
        let with = |key: &KeyPair| {
            pair(certificates.clone(), super::key(key.serialize_pem().as_bytes()).unwrap())
        };
        assert!(with(&one).is_ok());
        assert_eq!(with(&other).unwrap_err(), CredentialError::Mismatch);
        assert_eq!(key(pem.as_bytes()).unwrap_err(), CredentialError::NoKey);
        let other = one.serialize_pem();
        assert_eq!(super::certificates(other.as_bytes()), Err(CredentialError::NoCertificate));
        let cut = &other.as_bytes()[..other.len() / 2];
        assert_eq!(key(cut).unwrap_err(), CredentialError::Pem);
    }

    #[test]
    fn a_token_is_one_word() {
        let long = vec![b'a'; MAX_TOKEN + 1];
        assert_eq!(token(b" ab.c-_~+/=\n"), Ok("ab.c-_~+/="));
        for wrong in [&b""[..], b" \n", b"a b", b"a\nb", b"caf\xe9", b"\0", &long] {
            assert_eq!(token(wrong), Err(CredentialError::Token));
        }
        assert_eq!(admin_token(b"0123456789abcdef01234567\n"), Ok("0123456789abcdef01234567"));
        assert_eq!(admin_token(b"0123456789abcdef0123456"), Err(CredentialError::ShortToken));
        assert_eq!(admin_token(b""), Err(CredentialError::Token));
    }
}
