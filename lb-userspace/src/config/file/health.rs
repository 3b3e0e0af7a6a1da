//! How a service's backends are probed. Pure.

use std::time::Duration;

use serde_saphyr::Spanned;

use super::super::{HealthCheck, Probe};
use super::reader::Reader;
use super::scalar::show;
use super::{HealthFile, Spot};

const SHORTEST: Duration = Duration::from_millis(10);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

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
            let probe = self.https(&scope, &file);
            return self.timed(&scope, &file, probe);
        };
        let scope = service.of("health", file);
        let file = &file.value;
        let kind = self.choice(
            &scope.field("type", &file.kind),
            &file.kind,
            &[("https", Kind::Https), ("http", Kind::Http), ("tcp", Kind::Tcp)],
        );
        let probe = match kind {
            Some(Kind::Https) => self.https(&scope, file),
            Some(Kind::Http) => {
                self.no_tls(&scope, file, "http");
                Probe::Http { request: self.request(&scope, file) }
            }
            Some(Kind::Tcp) => {
                self.no_tls(&scope, file, "tcp");
                self.no_http(&scope, file);
                Probe::Tcp
            }
            // Which keys belong here is not known; the type is refused already.
            None => Probe::Tcp,
        };
        self.timed(&scope, file, probe)
    }

    fn timed(&mut self, scope: &Spot, file: &HealthFile, probe: Probe) -> HealthCheck {
        let spot = scope.field("timeout", &file.timeout);
        let range = SHORTEST..=LONGEST_TIMEOUT;
        let timeout = self.duration(&spot, &file.timeout, &range, TIMEOUT);
        let connect_timeout = self.connect_timeout(scope, file, timeout);
        HealthCheck { probe, connect_timeout, timeout, pace: self.pace(scope, file) }
    }

    fn connect_timeout(&mut self, scope: &Spot, file: &HealthFile, timeout: Duration) -> Duration {
        let default = CONNECT_TIMEOUT.min(timeout);
        let spot = scope.field("connect_timeout", &file.connect_timeout);
        let range = SHORTEST..=LONGEST_TIMEOUT;
        let connect = self.duration(&spot, &file.connect_timeout, &range, default);
        if connect > timeout {
            let (connect, timeout) = (show(connect), show(timeout));
            self.wrong(
                &spot,
                format_args!(
                    "{connect} is longer than `timeout`; write at most {timeout}, or remove the key"
                ),
            );
        }
        connect
    }
}
