//! What matters of an X.509 certificate. Pure.

use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Of a text that somebody else has chosen.
const MOST_TEXT: usize = 80;

/// A certificate's subject and the time that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its distinguished name, cut to a bounded length.
    pub subject: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Certificate {
    /// # Errors
    /// What is wrong with it. Its signature is not looked at.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| "it is no certificate".to_owned())?;
        let validity = certificate.validity();
        let time = |at: x509_parser::time::ASN1Time| {
            Timestamp::from_second(at.timestamp()).map_err(|_| "its time makes no sense".to_owned())
        };
        let subject = certificate.subject().to_string();
        Ok(Self {
            subject: subject.chars().filter(|it| !it.is_control()).take(MOST_TEXT).collect(),
            not_before: time(validity.not_before)?,
            not_after: time(validity.not_after)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn a_certificate_says_whose_it_is_and_until_when() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "kube\u{7}-".repeat(100));
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let found = Certificate::read(certificate.der()).unwrap();
        assert_eq!(found.not_before.to_string(), "2020-01-01T00:00:00Z");
        assert_eq!(found.not_after.to_string(), "2021-01-01T00:00:00Z");
        assert!(found.subject.contains("kube-") && found.subject.chars().count() <= MOST_TEXT);
    }

    #[test]
    fn broken_ones_are_errors() {
        let whole = CertificateParams::new(Vec::new()).unwrap();
        let whole = whole.self_signed(&KeyPair::generate().unwrap()).unwrap();
        for length in 0..whole.der().len() {
            assert!(Certificate::read(&whole.der()[..length]).is_err(), "{length}");
        }
    }
}
