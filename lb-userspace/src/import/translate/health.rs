//! HAProxy's checks to a service's probe. Pure.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::draft::{HealthDraft, Noted, ProbeDraft};
use super::super::findings::Kind;
use super::super::haproxy::check::Method;
use super::super::haproxy::server::{Options, Server};
use super::super::haproxy::value::Port;
use super::super::source::{Place, Sited, Word};
use super::super::write::time;
use super::Translator;
use super::services::Pair;

const NOTHING: &str = "nothing to do";
const READYZ: &str = "/readyz";
const APISERVER_PORT: u16 = 6443;
/// Paths at which an apiserver answers about itself.
const APISERVER_PATHS: [&str; 4] = ["/healthz", "/livez", READYZ, "/version"];
const CA: &str = "/etc/kubernetes/pki/ca.crt";

pub(super) const INTERVAL: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(3600);
pub(super) const TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(60);
const SLOW_START: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const COUNT: RangeInclusive<u32> = 1..=100;
const MAX_HOST: usize = 255;

impl Translator<'_> {
    pub(super) fn health(&mut self, pair: &Pair<'_>, port: u16) -> HealthDraft {
        let servers = &pair.backend.servers;
        let checked = servers.iter().find(|server| server.options.check);
        self.check_port(pair, port);
        let Some(checked) = checked else {
            return HealthDraft::of(self.unchecked(pair, port));
        };
        let probe = self.probe(pair, port, &checked.options);
        let mut health = HealthDraft::of(probe);
        self.request(pair, &mut health);
        self.pace(pair, &checked.options, &mut health);
        self.odd_ones(servers, checked);
        health
    }

    /// Fairlead probes always.
    fn unchecked(&mut self, pair: &Pair<'_>, port: u16) -> Noted<ProbeDraft> {
        let name = &pair.backend.name;
        if is_apiserver(pair, port) {
            let message = "HAProxy checks no server here; Fairlead asks apiservers for /readyz";
            let remedy = verify_remedy();
            let note = self.note(Kind::Assumed, &name.at, &name.text, message, remedy);
            return Noted::new(ProbeDraft::readyz(), note);
        }
        let message = "HAProxy checks no server here; Fairlead sees whether they take connections";
        let note = self.note(Kind::Assumed, &name.at, &name.text, message, NOTHING);
        Noted::new(ProbeDraft::Tcp, note)
    }

    fn probe(&mut self, pair: &Pair<'_>, port: u16, options: &Options) -> Noted<ProbeDraft> {
        let check = &pair.backend.settings.check;
        let is_tls = check.connect_ssl.is_some() || options.check_ssl == Some(true);
        let name = &pair.backend.name;
        let at = check.method.as_ref().map_or(&name.at, |method| &method.at);
        match check.method.as_ref().map(|method| method.value) {
            Some(Method::Http) => {
                let mut probe = Noted::default();
                let path = self.path(pair, port, at, &mut probe.notes);
                if !is_tls {
                    return Noted { value: ProbeDraft::Http { path }, notes: probe.notes };
                }
                let ca_file = self.ca(pair, options, at, &mut probe.notes);
                let server_name =
                    self.server_name(pair, options, ca_file.is_some(), &mut probe.notes);
                probe.value = ProbeDraft::Https { path, ca_file, server_name };
                probe
            }
            Some(Method::SslHello) => self.hello(pair, port, at, "option ssl-hello-chk"),
            Some(Method::Tcp) | None if is_tls => self.hello(pair, port, at, "check-ssl"),
            Some(Method::Tcp | Method::Other) | None => {
                if !is_apiserver(pair, port) {
                    return Noted::plain(ProbeDraft::Tcp);
                }
                let message = "HAProxy only connects, and so does the probe: an apiserver that is not \
                               ready stays in use, and logs failed handshakes";
                let remedy =
                    format!("write `health: {{ type: https, path: {READYZ}, ca_file: {CA} }}`");
                let note = self.note(Kind::Assumed, at, "check", message, remedy);
                Noted::new(ProbeDraft::Tcp, note)
            }
        }
    }

    /// A check that sees whether the server speaks TLS.
    fn hello(
        &mut self,
        pair: &Pair<'_>,
        port: u16,
        at: &Place,
        subject: &str,
    ) -> Noted<ProbeDraft> {
        if is_apiserver(pair, port) {
            let message =
                "HAProxy only begins a TLS handshake; Fairlead asks apiservers for /readyz";
            let note = self.note(Kind::Changed, at, subject, message, verify_remedy());
            return Noted::new(ProbeDraft::readyz(), note);
        }
        let message = "Fairlead has no probe of TLS alone, so it only connects";
        let remedy = "write a probe of type https if there is a path to ask for";
        Noted::new(ProbeDraft::Tcp, self.note(Kind::Changed, at, subject, message, remedy))
    }

    fn path(&mut self, pair: &Pair<'_>, port: u16, at: &Place, notes: &mut Vec<String>) -> String {
        let check = &pair.backend.settings.check;
        let method = check.http_method.as_ref().map_or("OPTIONS", |method| method.text.as_str());
        if method != "GET" {
            let message = format!("the probe sends GET, not {method}");
            let at = check.http_method.as_ref().map_or(at, |word| &word.at);
            self.findings.add(Kind::Changed, at, method, message, NOTHING);
        }
        let (path, at) =
            check.path.as_ref().map_or(("/", at), |path| (path.text.as_str(), &path.at));
        let asks_itself =
            APISERVER_PATHS.contains(&path) || (path == "/" && is_apiserver(pair, port));
        if asks_itself && path != READYZ {
            let message = format!(
                "{READYZ} instead of {path}, which does not say that an apiserver is about to stop"
            );
            notes.push(self.note(Kind::Changed, at, path, message, NOTHING));
            return READYZ.to_owned();
        }
        if !path.starts_with('/') || path.contains(|c: char| !c.is_ascii_graphic() || c == '#') {
            let message = "it is no path that the probe can ask for, so / is written";
            let remedy = "write one that starts with / and has no spaces";
            notes.push(self.note(Kind::Changed, at, path, message, remedy));
            return "/".to_owned();
        }
        path.to_owned()
    }

    /// What else the probe asks and wants.
    fn request(&mut self, pair: &Pair<'_>, health: &mut HealthDraft) {
        let check = &pair.backend.settings.check;
        if check.method.as_ref().is_none_or(|method| method.value != Method::Http) {
            return;
        }
        if let Some(host) = &check.host {
            let is_refused = |c: char| !c.is_ascii_graphic() || matches!(c, '/' | '@' | '?' | '#');
            let text = &host.text;
            if text.is_empty() || text.len() > MAX_HOST || text.contains(is_refused) {
                let message = "it cannot be a Host header";
                let remedy = "write `host:` with a name, and perhaps a port";
                self.findings.add(Kind::NotCarriedOver, &host.at, text, message, remedy);
            } else {
                health.host = Some(text.clone());
            }
        }
        let Some(status) = &check.expect_status else {
            // HAProxy takes what is no error; of an apiserver's /readyz only 200 is well.
            if health.probe.value.path() != Some(READYZ) {
                health.expect_status = Noted::plain(vec!["200-399".to_owned()]);
            }
            return;
        };
        match statuses(status.text.split(',')) {
            Some(list) if list == ["200"] => {}
            Some(list) => health.expect_status = Noted::plain(list),
            None => {
                let message = "these are not statuses from 200 to 599, and ranges of them";
                let remedy = "write `expect_status:` by hand: 200 alone is well meanwhile";
                let subject = format!("http-check expect status {}", status.text);
                self.findings.add(Kind::NotCarriedOver, &status.at, &subject, message, remedy);
            }
        }
    }

    /// The CA that signs the certificates; `None`: any certificate will do.
    fn ca(
        &mut self,
        pair: &Pair<'_>,
        options: &Options,
        at: &Place,
        notes: &mut Vec<String>,
    ) -> Option<String> {
        let is_none = options.verify.as_ref().is_some_and(|verify| !verify.value);
        let at = options.verify.as_ref().map_or(at, |verify| &verify.at).clone();
        let Some(file) = options.ca_file.as_ref().filter(|_| !is_none) else {
            let (kind, message) = if is_none {
                (Kind::Changed, "HAProxy takes any certificate, and so does the probe")
            } else {
                (Kind::Assumed, "no CA is given, so the probe takes any certificate")
            };
            notes.push(self.note(kind, &at, "verify", message, verify_remedy()));
            return None;
        };
        if file.text.starts_with('/') {
            return Some(file.text.clone());
        }
        let base = pair.ca_base.filter(|_| !file.text.starts_with('@'));
        if let Some(base) = base.filter(|base| base.text.starts_with('/')) {
            return Some(format!("{}/{}", base.text.trim_end_matches('/'), file.text));
        }
        let message = "the probe needs a file with an absolute path, so it takes any certificate";
        notes.push(self.note(Kind::Changed, &file.at, &file.text, message, verify_remedy()));
        None
    }

    fn server_name(
        &mut self,
        pair: &Pair<'_>,
        options: &Options,
        is_verified: bool,
        notes: &mut Vec<String>,
    ) -> Option<String> {
        let check = &pair.backend.settings.check;
        let candidates = [&options.check_sni, &check.connect_sni, &options.verify_host];
        if let Some(name) = candidates.into_iter().flatten().next() {
            return Some(name.text.clone());
        }
        if is_verified {
            let message = "HAProxy does not look at the name in the certificates; the probe wants \
                           `kubernetes`, which those of apiservers have";
            let remedy = "write `server_name:` with another one if need be";
            let name = &pair.backend.name;
            notes.push(self.note(Kind::Assumed, &name.at, &name.text, message, remedy));
        }
        None
    }

    /// Intervals and counts, where they are given.
    fn pace(&mut self, pair: &Pair<'_>, options: &Options, health: &mut HealthDraft) {
        let timeout = pair.backend.settings.check_timeout.as_ref();
        health.interval = self.within(options.inter.as_ref(), &INTERVAL, "inter");
        health.timeout = self.within(timeout, &TIMEOUT, "timeout check");
        health.fast_interval = self.within(options.fast_inter.as_ref(), &INTERVAL, "fastinter");
        health.rise = self.count(options.rise.as_ref(), "rise");
        health.fall = self.count(options.fall.as_ref(), "fall");
        let interval = health.interval.as_ref().map_or(Duration::from_secs(1), |it| it.value);
        let too_slow = health.fast_interval.as_ref().is_some_and(|fast| fast.value > interval);
        if let Some(given) = options.fast_inter.as_ref().filter(|_| too_slow) {
            let message = "the fast interval cannot be longer than the interval";
            let note = self.note(Kind::Changed, &given.at, "fastinter", message, NOTHING);
            health.fast_interval = Some(Noted::new(interval, note));
        }
        health.down_interval = self.within(options.down_inter.as_ref(), &INTERVAL, "downinter");
        health.slow_start = self.within(options.slow_start.as_ref(), &SLOW_START, "slowstart");
        if let Some(at) = &options.shutdown_sessions {
            let message = "connections of a backend that is down are reset after `reset_delay`, 3s";
            let remedy = "write `reset_delay: 0s` to have it at once";
            let subject = "on-marked-down shutdown-sessions";
            self.findings.add(Kind::Changed, at, subject, message, remedy);
        }
    }

    pub(super) fn within(
        &mut self,
        given: Option<&Sited<Duration>>,
        range: &RangeInclusive<Duration>,
        subject: &str,
    ) -> Option<Noted<Duration>> {
        let given = given?;
        let value = Duration::from_millis(
            u64::try_from(given.value.as_micros().div_ceil(1000)).unwrap_or(u64::MAX),
        );
        let value = value.clamp(*range.start(), *range.end());
        if value == given.value {
            return Some(Noted::plain(value));
        }
        let message = format!("{} is not possible", time(given.value));
        Some(Noted::new(value, self.note(Kind::Changed, &given.at, subject, message, NOTHING)))
    }

    fn count(&mut self, given: Option<&Sited<u32>>, subject: &str) -> Option<Noted<u32>> {
        let given = given?;
        let value = given.value.clamp(*COUNT.start(), *COUNT.end());
        if value == given.value {
            return Some(Noted::plain(value));
        }
        let message = format!("{} is not possible", given.value);
        Some(Noted::new(value, self.note(Kind::Changed, &given.at, subject, message, NOTHING)))
    }

    /// Probes go where connections go.
    fn check_port(&mut self, pair: &Pair<'_>, port: u16) {
        let check = &pair.backend.settings.check;
        let for_all = check.connect_port.as_ref().map(|word| (word.text.clone(), word.at.clone()));
        for server in &pair.backend.servers {
            let own = port_of(server, port);
            let asked = server.options.check_port.as_ref();
            let asked = asked.map(|it| (it.value.to_string(), it.at.clone()));
            let Some((asked, at)) = asked.or_else(|| for_all.clone()) else { continue };
            if own.is_some_and(|own| own.to_string() == asked) {
                continue;
            }
            let message = "Fairlead probes the port that it sends connections to";
            let remedy = "see that it answers the probe";
            let subject = format!("port {asked}");
            self.findings.add(Kind::NotCarriedOver, &at, &subject, message, remedy);
        }
    }

    /// Servers that are checked in another way than the one that the probe was made of.
    fn odd_ones(&mut self, servers: &[Server], first: &Server) {
        for server in servers {
            let name: &Word = &server.name;
            let is_same = |a: &Server, b: &Server| {
                fn value<T: Copy>(sited: Option<&Sited<T>>) -> Option<T> {
                    sited.map(|sited| sited.value)
                }
                let (a, b) = (&a.options, &b.options);
                value(a.inter.as_ref()) == value(b.inter.as_ref())
                    && value(a.rise.as_ref()) == value(b.rise.as_ref())
                    && value(a.fall.as_ref()) == value(b.fall.as_ref())
                    && value(a.verify.as_ref()) == value(b.verify.as_ref())
            };
            if !server.options.check {
                let message = "HAProxy does not check it, but Fairlead probes every backend";
                self.findings.add(Kind::Changed, &name.at, &name.text, message, NOTHING);
            } else if !is_same(server, first) {
                let message = format!(
                    "the backends of a service are probed alike, so this one as {}",
                    first.name.text
                );
                self.findings.add(Kind::Changed, &name.at, &name.text, message, NOTHING);
            }
        }
    }
}

impl HealthDraft {
    pub(super) fn of(probe: Noted<ProbeDraft>) -> Self {
        Self { probe, ..Self::default() }
    }
}

/// Statuses and ranges of them as Fairlead writes them; nothing if one is neither.
pub(super) fn statuses<'a>(words: impl Iterator<Item = &'a str>) -> Option<Vec<String>> {
    let number = |text: &str| text.parse().ok().filter(|status: &u16| (200..=599).contains(status));
    words
        .map(|word| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let (first, last) = (number(first)?, number(last)?);
            let text = if first == last { first.to_string() } else { format!("{first}-{last}") };
            (first <= last).then_some(text)
        })
        .collect::<Option<Vec<String>>>()
        .filter(|list| (1..=32).contains(&list.len()))
}

impl ProbeDraft {
    pub(super) fn path(&self) -> Option<&str> {
        match self {
            Self::Tcp => None,
            Self::Http { path } | Self::Https { path, .. } => Some(path),
        }
    }

    pub(super) fn readyz() -> Self {
        Self::Https { path: READYZ.to_owned(), ca_file: None, server_name: None }
    }
}

pub(super) fn verify_remedy() -> String {
    format!("write `ca_file: {CA}` instead of `insecure_skip_verify` where the cluster's CA is")
}

/// Whether the servers are apiservers, by their port and the path that is asked for.
fn is_apiserver(pair: &Pair<'_>, port: u16) -> bool {
    let path = pair.backend.settings.check.path.as_ref();
    let asks = path.is_some_and(|path| APISERVER_PATHS.contains(&path.text.as_str()));
    asks || pair.backend.servers.iter().any(|it| port_of(it, port) == Some(APISERVER_PORT))
}

/// Where a server takes connections that clients make to `port`.
fn port_of(server: &Server, port: u16) -> Option<u16> {
    match server.endpoint.value.port {
        Port::None => Some(port),
        Port::Fixed(own) | Port::Range(own, _) => Some(own),
        Port::Offset(offset) => u16::try_from(i32::from(port) + offset).ok(),
    }
}
