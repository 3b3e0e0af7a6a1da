//! TLS below HTTP, and what its errors say. I/O.

use std::sync::Arc;

use hyper::header::HeaderValue;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error};
use tokio_rustls::TlsConnector;

use super::session::Session;
use super::{Reason, Stage, Target, TlsCache, http, tcp};
use crate::config::{Request, Tls};

/// What the connections of one probe have in common.
pub(super) struct Secured {
    name: ServerName<'static>,
    session: Arc<Session>,
    config: Arc<ClientConfig>,
    authorization: Option<HeaderValue>,
}

/// Waits for files only if none were ever read.
pub(super) async fn prepare(
    target: Target,
    tls: &Tls,
    cache: &TlsCache,
) -> Result<Secured, Reason> {
    let name = ServerName::try_from(tls.server_name.as_str())
        .map_err(|_| Reason::Local("the server name is not valid".to_owned()))?
        .to_owned();
    let files = async {
        let (session, config) = cache.session(target.endpoint, tls).await?;
        let authorization = cache.authorization(tls).await?;
        Ok((session, config, authorization))
    };
    let (session, config, authorization) = target.budget.spend(Stage::Prepare, files).await?;
    Ok(Secured { name, session, config, authorization })
}

/// Asks for `path` over a connection of its own.
pub(super) async fn ask(
    target: Target,
    secured: &Secured,
    request: &Request,
    path: &str,
) -> Result<Reason, Reason> {
    let name = secured.name.to_str();
    let host = request.host.as_deref().unwrap_or(&name);
    let request = http::request(path, host, secured.authorization.as_ref())?;
    let stream = tcp::connect(target).await?;
    let handshake = async {
        let connector = TlsConnector::from(Arc::clone(&secured.config));
        let connecting = connector.connect(secured.name.clone(), stream);
        connecting.await.map_err(|error| super::classify(&error))
    };
    let stream = target.budget.spend(Stage::Handshake, handshake).await?;
    secured.session.shaken(stream.get_ref().1.handshake_kind());
    http::exchange(stream, &request, target.budget).await
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
        Error::AlertReceived(alert) => Reason::Tls(refusal(*alert)),
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

/// What a server does not like about us; with TLS 1.3 it says so after the handshake.
#[expect(clippy::wildcard_enum_match_arm, reason = "only those about a client's certificate")]
fn refusal(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "the server wants a client certificate: set client_cert_file".to_owned()
        }
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown => {
            Reason::bounded(format_args!("the server refused the client certificate: {alert:?}"))
        }
        alert => Reason::bounded(format_args!("the server sent the alert {alert:?}")),
    }
}
