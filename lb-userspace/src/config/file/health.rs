//! How a service's backends are probed. Pure.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde_saphyr::Spanned;

use super::super::{HealthCheck, Probe, Verify};
use super::reader::Reader;
use super::scalar::{quoted, show};
use super::{Field, HealthFile, Reference, Referenced, Spot};

/// Where kubeadm puts the cluster's CA.
const DEFAULT_CA: &str = "/etc/kubernetes/pki/ca.crt";
const DEFAULT_PATH: &str = "/readyz";
const DEFAULT_SERVER_NAME: &str = "kubernetes";

const SHORTEST: Duration = Duration::from_millis(10);
const INTERVAL: Duration = Duration::from_secs(1);
const FAST_INTERVAL: Duration = Duration::from_millis(250);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);
const TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
const COUNT: RangeInclusive<u32> = 1..=100;
const RISE: u32 = 2;
const FALL: u32 = 3;

#[derive(Clone, Copy)]
enum Kind {
    Https,
    Http,
    Tcp,
}

impl Reader<'_> {
    pub(super) fn health(
        &mut self,
        service: &Spot,
        file: Option<&Spanned<HealthFile>>,
    ) -> HealthCheck {
        let Some(file) = file else {
            let scope = service.key("health");
            let file = HealthFile::default();
            let verify = self.ca(scope.key("ca_file"), DEFAULT_CA);
            let probe = self.https(&scope, &file, verify);
            return self.pace(&scope, &file, probe);
        };
        let scope = service.of("health", file);
        let file = &file.value;
        let kind = self.choice(
            &scope.field("type", &file.kind),
            &file.kind,
            &[("https", Kind::Https), ("http", Kind::Http), ("tcp", Kind::Tcp)],
        );
        let probe = match kind {
            Some(Kind::Https) => {
                let verify = self.verify(&scope, file);
                self.https(&scope, file, verify)
            }
            Some(Kind::Http) => {
                self.no_tls(&scope, file, "http");
                Probe::Http { path: self.path(&scope, file) }
            }
            Some(Kind::Tcp) => {
                self.no_tls(&scope, file, "tcp");
                self.pointless(&scope, "path", &file.path, "tcp");
                Probe::Tcp
            }
            // Which keys belong here is not known; the type is refused already.
            None => Probe::Tcp,
        };
        self.pace(&scope, file, probe)
    }

    fn https(&mut self, scope: &Spot, file: &HealthFile, verify: Verify) -> Probe {
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
        Probe::Https { path: self.path(scope, file), server_name: name.to_owned(), verify }
    }

    /// Who says nothing trusts the cluster's CA, where kubeadm puts it.
    fn verify(&mut self, scope: &Spot, file: &HealthFile) -> Verify {
        let spot = scope.field("insecure_skip_verify", &file.insecure_skip_verify);
        let is_insecure = self.boolean(&spot, &file.insecure_skip_verify);
        match (&file.ca_file, is_insecure) {
            (Some(ca), false) => self.ca(scope.of("ca_file", ca), &ca.value),
            (None, true) => Verify::Skip,
            (Some(_), true) => {
                self.wrong(
                    &spot,
                    "ca_file is there too; keep ca_file, or remove it to accept any certificate",
                );
                Verify::Skip
            }
            (None, false) => self.ca(scope.key("ca_file"), DEFAULT_CA),
        }
    }

    fn ca(&mut self, spot: Spot, text: &str) -> Verify {
        let path = PathBuf::from(text);
        if path.is_absolute() {
            self.references.push(Reference { path: path.clone(), spot, what: Referenced::Ca });
        } else {
            self.wrong(
                &spot,
                format_args!(
                    "{} is not an absolute path; write one such as {DEFAULT_CA}",
                    quoted(text)
                ),
            );
        }
        Verify::Ca(path)
    }

    fn path(&mut self, scope: &Spot, file: &HealthFile) -> String {
        let Some(path) = &file.path else {
            return DEFAULT_PATH.to_owned();
        };
        let text = &path.value;
        let is_refused = |c: char| !c.is_ascii_graphic();
        if !text.starts_with('/') || text.contains(is_refused) {
            self.wrong(
                &scope.of("path", path),
                format_args!(
                    "{} is no HTTP path; write one that starts with / and has no spaces: \
                     {DEFAULT_PATH}",
                    quoted(text)
                ),
            );
        }
        text.clone()
    }

    fn no_tls(&mut self, scope: &Spot, file: &HealthFile, kind: &str) {
        self.pointless(scope, "ca_file", &file.ca_file, kind);
        self.pointless(scope, "insecure_skip_verify", &file.insecure_skip_verify, kind);
        self.pointless(scope, "server_name", &file.server_name, kind);
    }

    fn pointless(&mut self, scope: &Spot, key: &str, field: &Field, kind: &str) {
        if let Some(value) = field {
            let spot = scope.of(key, value);
            self.wrong(
                &spot,
                format_args!(
                    "means nothing to a probe of type {kind}; remove it, or write `type: https`"
                ),
            );
        }
    }

    fn pace(&mut self, scope: &Spot, file: &HealthFile, probe: Probe) -> HealthCheck {
        let interval = self.duration(
            &scope.field("interval", &file.interval),
            &file.interval,
            &(SHORTEST..=LONGEST_INTERVAL),
            INTERVAL,
        );
        HealthCheck {
            probe,
            interval,
            fast_interval: self.fast_interval(scope, file, interval),
            timeout: self.duration(
                &scope.field("timeout", &file.timeout),
                &file.timeout,
                &(SHORTEST..=LONGEST_TIMEOUT),
                TIMEOUT,
            ),
            rise: self.number(&scope.field("rise", &file.rise), &file.rise, &COUNT, RISE),
            fall: self.number(&scope.field("fall", &file.fall), &file.fall, &COUNT, FALL),
        }
    }

    fn fast_interval(&mut self, scope: &Spot, file: &HealthFile, interval: Duration) -> Duration {
        let default = FAST_INTERVAL.min(interval);
        let spot = scope.field("fast_interval", &file.fast_interval);
        let range = SHORTEST..=LONGEST_INTERVAL;
        let fast = self.duration(&spot, &file.fast_interval, &range, default);
        if fast > interval {
            let (fast, interval) = (show(fast), show(interval));
            self.wrong(
                &spot,
                format_args!(
                    "{fast} is longer than `interval`; write at most {interval}, or remove the key"
                ),
            );
        }
        fast
    }
}
