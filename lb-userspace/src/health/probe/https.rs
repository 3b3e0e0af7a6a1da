//! TLS below HTTP, and what its errors say. I/O.

use std::net::{IpAddr, SocketAddr};

use rustls::pki_types::ServerName;
use rustls::{CertificateError, Error};
use tokio_rustls::TlsConnector;

use super::{Budget, Reason, Stage, TlsCache, http, tcp};
use crate::config::Verify;

/// Whom a probe expects to find, and what it asks for.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) path: &'a str,
    pub(super) server_name: &'a str,
    pub(super) verify: &'a Verify,
}

pub(super) async fn probe(
    endpoint: SocketAddr,
    source: Option<IpAddr>,
    target: Target<'_>,
    tls: &TlsCache,
    budget: Budget,
) -> Result<Reason, Reason> {
    let request = http::request(target.path, target.server_name)?;
    let name = ServerName::try_from(target.server_name)
        .map_err(|_| Reason::Local("the server name is not valid".to_owned()))?
        .to_owned();
    let config = budget.spend(Stage::Prepare, tls.config(target.verify)).await?;
    let stream = tcp::connect(endpoint, source, budget).await?;
    let handshake = async {
        let connecting = TlsConnector::from(config).connect(name, stream);
        connecting.await.map_err(|error| super::classify(&error))
    };
    let stream = budget.spend(Stage::Handshake, handshake).await?;
    http::exchange(stream, request, budget).await
}

/// Errors of certificates apart from those of the protocol: they call for another remedy.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what else there is in rustls is of the protocol"
)]
pub(super) fn classify(error: &Error) -> Reason {
    match error {
        Error::InvalidCertificate(error) => Reason::Certificate(certificate(error)),
        Error::NoCertificatesPresented => Reason::Certificate("none presented".to_owned()),
        error => Reason::Tls(Reason::bounded(error)),
    }
}

/// The same text for the same fault: rustls' own contain the time of day.
#[expect(clippy::wildcard_enum_match_arm, reason = "rustls' text will do for rare faults")]
fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "not valid yet".to_owned()
        }
        // A bad signature is that of another cluster's CA: they all have the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "signed by an unknown authority".to_owned()
        }
        CertificateError::NotValidForName => "not valid for the server name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => Reason::bounded(
            format_args!("not valid for {}, but for {}", expected.to_str(), presented.join(", ")),
        ),
        error => Reason::bounded(error),
    }
}
