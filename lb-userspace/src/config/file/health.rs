//! How a service's backends are probed. Pure.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_saphyr::Spanned;

use super::super::{HealthCheck, Probe};
use super::reader::Reader;
use super::scalar::show;
use super::{HealthFile, Spot};

const SHORTEST: Duration = Duration::from_millis(10);
const INTERVAL: Duration = Duration::from_secs(1);
const FAST_INTERVAL: Duration = Duration::from_millis(250);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
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
            let probe = self.https(&scope, &file);
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
        self.pace(&scope, file, probe)
    }

    fn pace(&mut self, scope: &Spot, file: &HealthFile, probe: Probe) -> HealthCheck {
        let interval = self.duration(
            &scope.field("interval", &file.interval),
            &file.interval,
            &(SHORTEST..=LONGEST_INTERVAL),
            INTERVAL,
        );
        let timeout = self.duration(
            &scope.field("timeout", &file.timeout),
            &file.timeout,
            &(SHORTEST..=LONGEST_TIMEOUT),
            TIMEOUT,
        );
        HealthCheck {
            probe,
            interval,
            fast_interval: self.fast_interval(scope, file, interval),
            connect_timeout: self.connect_timeout(scope, file, timeout),
            timeout,
            rise: self.number(&scope.field("rise", &file.rise), &file.rise, &COUNT, RISE),
            fall: self.number(&scope.field("fall", &file.fall), &file.fall, &COUNT, FALL),
        }
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
