//! What the probes of a service ask for, whom they trust and what they show of themselves. Pure.

use std::borrow::Cow;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use rustls::pki_types::ServerName;
use serde_saphyr::Spanned;

use super::super::{Identity, Probe, Request, Statuses, Tls, Verify};
use super::reader::Reader;
use super::scalar::quoted;
use super::{Content, Field, HealthFile, Nullable, OneOrMany, Reference, Spot, scalar};

/// Where kubeadm puts the cluster's CA.
const DEFAULT_CA: &str = "/etc/kubernetes/pki/ca.crt";
const DEFAULT_PATH: &str = "/readyz";
const DEFAULT_SERVER_NAME: &str = "kubernetes";
/// The checks that fail on every apiserver at once when etcd does.
const WITHOUT_ETCD: &str = "exclude=etcd&exclude=etcd-readiness";
/// What is below is not the end of an answer.
const STATUS: RangeInclusive<u16> = 200..=599;
const MAX_STATUSES: usize = 32;
const MAX_HOST: usize = 255;

impl Reader<'_> {
    pub(super) fn https(&mut self, scope: &Spot, file: &HealthFile) -> Probe {
        let name = file.server_name.as_ref().map_or(DEFAULT_SERVER_NAME, |it| it.value.as_str());
        if ServerName::try_from(name).is_err() {
            self.wrong(
                &scope.field("server_name", &file.server_name),
                format_args!(
                    "{} is neither a DNS name nor an address; write a name that the certificates \
                     have, such as {DEFAULT_SERVER_NAME}",
                    quoted(name)
                ),
            );
        }
        let verify = self.verify(scope, file);
        let tls = Tls {
            server_name: name.to_owned(),
            identity: self.identity(scope, file),
            token_file: self.token_file(scope, file, &verify),
            verify,
        };
        Probe::Https { request: self.request(scope, file), tls }
    }

    pub(super) fn request(&mut self, scope: &Spot, file: &HealthFile) -> Request {
        let path = file.path.as_ref();
        let path = path.map_or_else(
            || DEFAULT_PATH.to_owned(),
            |path| self.path(&scope.of("path", path), &path.value),
        );
        let (degraded, live) = tiers(&path).unzip();
        Request {
            degraded_path: self.tier(scope, "degraded_path", &file.degraded_path, degraded),
            live_path: self.tier(scope, "live_path", &file.live_path, live),
            host: self.host(scope, &file.host),
            expect_status: self.expect_status(scope, file.expect_status.as_ref()),
            path,
        }
    }

    /// Who says nothing trusts the cluster's CA, where kubeadm puts it.
    fn verify(&mut self, scope: &Spot, file: &HealthFile) -> Verify {
        let spot = scope.field("insecure_skip_verify", &file.insecure_skip_verify);
        let is_insecure = self.boolean(&spot, &file.insecure_skip_verify);
        if !is_insecure {
            let text = file.ca_file.as_ref().map_or(DEFAULT_CA, |it| it.value.as_str());
            let spot = scope.field("ca_file", &file.ca_file);
            return Verify::Ca(self.file(spot, text, DEFAULT_CA, Content::Ca));
        }
        if file.ca_file.is_some() {
            self.wrong(
                &spot,
                "ca_file is there too; keep ca_file, or remove it to accept any certificate",
            );
        }
        Verify::Skip
    }

    fn identity(&mut self, scope: &Spot, file: &HealthFile) -> Option<Identity> {
        let (cert, key) = match (&file.client_cert_file, &file.client_key_file) {
            (None, None) => return None,
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => {
                self.missing(scope, "client_key_file", "the key of client_cert_file");
                return None;
            }
            (None, Some(_)) => {
                self.missing(scope, "client_cert_file", "the certificate of client_key_file");
                return None;
            }
        };
        let spot = scope.of("client_cert_file", cert);
        let example = "/etc/fairlead/client.crt";
        let cert_file = self.file(spot, &cert.value, example, Content::ClientCertificate);
        let spot = scope.of("client_key_file", key);
        let content = Content::ClientKey(cert_file.clone());
        let key_file = self.file(spot, &key.value, "/etc/fairlead/client.key", content);
        Some(Identity { cert_file, key_file })
    }

    fn token_file(&mut self, scope: &Spot, file: &HealthFile, verify: &Verify) -> Option<PathBuf> {
        let token = file.token_file.as_ref()?;
        let spot = scope.of("token_file", token);
        if *verify == Verify::Skip {
            self.wrong(
                &spot,
                "whoever answers would get the token; write ca_file in place of \
                 insecure_skip_verify, or remove the token",
            );
            return None;
        }
        Some(self.file(spot, &token.value, "/etc/fairlead/token", Content::Token))
    }

    pub(super) fn file(
        &mut self,
        spot: Spot,
        text: &str,
        example: &str,
        content: Content,
    ) -> PathBuf {
        let path = PathBuf::from(text);
        if path.is_absolute() {
            self.references.push(Reference { path: path.clone(), spot, content });
        } else {
            self.wrong(
                &spot,
                format_args!(
                    "{} is not an absolute path; write one such as {example}",
                    quoted(text)
                ),
            );
        }
        path
    }

    fn path(&mut self, spot: &Spot, text: &str) -> String {
        let is_refused = |c: char| !c.is_ascii_graphic() || c == '#';
        if !text.starts_with('/') || text.contains(is_refused) {
            self.wrong(
                spot,
                format_args!(
                    "{} is no HTTP path; write one that starts with / and has no spaces: \
                     {DEFAULT_PATH}",
                    quoted(text)
                ),
            );
        }
        text.to_owned()
    }

    fn tier(
        &mut self,
        scope: &Spot,
        key: &str,
        field: &Nullable,
        default: Option<String>,
    ) -> Option<String> {
        match field {
            None => default,
            Some(None) => None,
            Some(Some(path)) => Some(self.path(&scope.of(key, path), &path.value)),
        }
    }

    fn host(&mut self, scope: &Spot, host: &Field) -> Option<String> {
        let host = host.as_ref()?;
        let text = &host.value;
        let is_refused = |c: char| !c.is_ascii_graphic() || matches!(c, '/' | '@' | '?' | '#');
        if text.is_empty() || text.len() > MAX_HOST || text.contains(is_refused) {
            self.wrong(
                &scope.of("host", host),
                format_args!(
                    "{} cannot be a Host header; write a name and perhaps a port, such as \
                     api.example.com:6443",
                    quoted(text)
                ),
            );
        }
        Some(text.clone())
    }

    fn expect_status(&mut self, scope: &Spot, list: Option<&Spanned<OneOrMany>>) -> Statuses {
        let Some(list) = list else { return Statuses::default() };
        let spot = scope.of("expect_status", list);
        match &list.value {
            OneOrMany::One(text) => Statuses::new(self.statuses(&spot, text)),
            OneOrMany::Many(many) => {
                if many.is_empty() || many.len() > MAX_STATUSES {
                    self.wrong(
                        &spot,
                        format_args!("has {}; write 1 to {MAX_STATUSES} statuses", many.len()),
                    );
                }
                let many = many.iter().enumerate();
                Statuses::new(many.filter_map(|(index, value)| {
                    self.statuses(&spot.element(index, value), &value.value)
                }))
            }
        }
    }

    /// One status, or a range such as 200-299.
    fn statuses(&mut self, spot: &Spot, text: &str) -> Option<RangeInclusive<u16>> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| scalar::number(text.trim(), &STATUS).ok();
        let range = number(first).zip(number(last)).map(|(first, last)| first..=last);
        let range = range.filter(|range| !range.is_empty());
        if range.is_none() {
            self.wrong(
                spot,
                format_args!(
                    "{} is no status; write one from {} to {}, or a range such as 200-299",
                    quoted(text),
                    STATUS.start(),
                    STATUS.end()
                ),
            );
        }
        range
    }

    pub(super) fn no_tls(&mut self, scope: &Spot, file: &HealthFile, kind: &str) {
        for (key, field) in [
            ("ca_file", &file.ca_file),
            ("insecure_skip_verify", &file.insecure_skip_verify),
            ("server_name", &file.server_name),
            ("client_cert_file", &file.client_cert_file),
            ("client_key_file", &file.client_key_file),
            ("token_file", &file.token_file),
        ] {
            self.pointless(scope, key, field.as_ref(), kind);
        }
    }

    pub(super) fn no_http(&mut self, scope: &Spot, file: &HealthFile) {
        for (key, field) in [
            ("path", file.path.as_ref()),
            ("degraded_path", file.degraded_path.as_ref().and_then(Option::as_ref)),
            ("live_path", file.live_path.as_ref().and_then(Option::as_ref)),
            ("host", file.host.as_ref()),
        ] {
            self.pointless(scope, key, field, "tcp");
        }
        self.pointless(scope, "expect_status", file.expect_status.as_ref(), "tcp");
    }

    fn pointless<T>(
        &mut self,
        scope: &Spot,
        key: &str,
        field: Option<&Spanned<T>>,
        kind: impl Display,
    ) {
        if let Some(value) = field {
            self.wrong(
                &scope.of(key, value),
                format_args!(
                    "means nothing to a probe of type {kind}; remove it, or write `type: https`"
                ),
            );
        }
    }
}

/// The degraded and the live path of an apiserver whose ready path this is.
fn tiers(path: &str) -> Option<(String, String)> {
    let (bare, query) = path.split_once('?').map_or((path, None), |(bare, it)| (bare, Some(it)));
    let prefix = bare.strip_suffix("/readyz")?;
    let query = query
        .map_or(Cow::Borrowed(WITHOUT_ETCD), |query| Cow::Owned(format!("{query}&{WITHOUT_ETCD}")));
    Some((format!("{bare}?{query}"), format!("{prefix}/livez")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_ready_path_has_tiers() {
        let tiers = |path| tiers(path).map(|(degraded, live)| format!("{degraded} {live}"));
        let cases = [
            ("/readyz", Some("/readyz?exclude=etcd&exclude=etcd-readiness /livez")),
            (
                "/k8s/readyz?verbose",
                Some("/k8s/readyz?verbose&exclude=etcd&exclude=etcd-readiness /k8s/livez"),
            ),
            ("/readyz/etcd", None),
            ("/healthz", None),
            ("/?a=/readyz", None),
        ];
        for (path, expected) in cases {
            assert_eq!(tiers(path).as_deref(), expected, "{path}");
        }
    }
}
