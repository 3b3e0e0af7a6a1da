//! `server`, `server-template` and `default-server` lines. Pure.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::findings::{Findings, Kind};
use super::super::source::{Place, Read, Sited, Word};
use super::section::Line;
use super::value::{Endpoint, duration, endpoint};

/// More than this many servers of one template are no cluster's.
const TEMPLATE: RangeInclusive<u32> = 1..=1024;
const WEIGHT: RangeInclusive<u32> = 0..=256;
const COUNT: RangeInclusive<u32> = 1..=u32::MAX;
const PORT: RangeInclusive<u16> = 1..=u16::MAX;

/// One server, or several of one template.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) name: Word,
    pub(crate) endpoint: Sited<Endpoint>,
    /// Of a template: how many there may be.
    pub(crate) count: Option<u32>,
    /// Those of `default-server` included.
    pub(crate) options: Options,
}

/// What may follow a server's address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) check: bool,
    pub(crate) check_ssl: Option<bool>,
    pub(crate) ssl: Option<Place>,
    pub(crate) verify: Option<Sited<bool>>,
    pub(crate) ca_file: Option<Word>,
    pub(crate) check_sni: Option<Word>,
    pub(crate) verify_host: Option<Word>,
    pub(crate) inter: Option<Sited<Duration>>,
    pub(crate) fast_inter: Option<Sited<Duration>>,
    pub(crate) down_inter: Option<Sited<Duration>>,
    pub(crate) slow_start: Option<Sited<Duration>>,
    pub(crate) rise: Option<Sited<u32>>,
    pub(crate) fall: Option<Sited<u32>>,
    pub(crate) weight: Option<Sited<u32>>,
    pub(crate) backup: Option<Place>,
    pub(crate) disabled: Option<Place>,
    pub(crate) check_port: Option<Sited<u16>>,
    pub(crate) source: Option<Word>,
    pub(crate) send_proxy: Option<Place>,
    pub(crate) shutdown_sessions: Option<Place>,
    pub(crate) resolvers: Option<Word>,
}

/// Options that take no value, and need no counterpart here or are refused with `ssl`.
const WITHOUT_VALUE: [&str; 32] = [
    "agent-check",
    "allow-0rtt",
    "check-reuse-pool",
    "check-send-proxy",
    "check-via-socks4",
    "force-sslv3",
    "force-tlsv10",
    "force-tlsv11",
    "force-tlsv12",
    "force-tlsv13",
    "no-agent-check",
    "no-check-send-proxy",
    "no-renegotiate",
    "no-ssl-reuse",
    "no-sslv3",
    "no-tfo",
    "no-tls-tickets",
    "no-tlsv10",
    "no-tlsv11",
    "no-tlsv12",
    "no-tlsv13",
    "non-stick",
    "renegotiate",
    "ssl-reuse",
    "sslv3",
    "stick",
    "strict-maxconn",
    "tfo",
    "tls-tickets",
    "tlsv10",
    "tlsv11",
    "tlsv12",
];

/// Options with one value and no counterpart, and what to do about them.
const WITH_VALUE: [(&str, Kind, &str); 49] = [
    ("addr", Kind::NotCarriedOver, "Fairlead probes the address that it sends connections to"),
    ("agent-addr", Kind::NotCarriedOver, AGENT),
    ("agent-inter", Kind::NotCarriedOver, AGENT),
    ("agent-port", Kind::NotCarriedOver, AGENT),
    ("agent-send", Kind::NotCarriedOver, AGENT),
    ("alpn", Kind::Needless, TLS),
    ("check-alpn", Kind::Needless, "Fairlead's probe speaks HTTP/1.1"),
    ("check-pool-conn-name", Kind::Needless, "Fairlead opens a connection for each probe"),
    ("check-proto", Kind::Needless, "Fairlead's probe speaks HTTP/1.1"),
    ("ciphers", Kind::Needless, TLS),
    ("ciphersuites", Kind::Needless, TLS),
    ("client-sigalgs", Kind::Needless, TLS),
    ("cookie", Kind::Needless, "cookies need HTTP, which Fairlead does not look into"),
    ("crl-file", Kind::NotCarriedOver, "Fairlead's probe knows no revocation lists"),
    ("crt", Kind::NotCarriedOver, CLIENT_CERTIFICATE),
    ("curves", Kind::Needless, TLS),
    ("error-limit", Kind::Needless, OBSERVE),
    ("guid", Kind::Needless, "Fairlead's backends have names only"),
    ("hash-key", Kind::Needless, "Fairlead's Maglev table uses the backends' names"),
    ("id", Kind::Needless, "Fairlead's backends have names only"),
    ("idle-ping", Kind::Needless, POOL),
    ("init-addr", Kind::Needless, "Fairlead keeps the last answer when DNS fails"),
    ("init-state", Kind::Needless, "Fairlead adopts the states of its last run"),
    ("log-proto", Kind::Needless, "it is for log servers"),
    ("max-reuse", Kind::Needless, POOL),
    ("maxconn", Kind::NotCarriedOver, QUEUE),
    ("maxqueue", Kind::NotCarriedOver, QUEUE),
    ("minconn", Kind::NotCarriedOver, QUEUE),
    ("namespace", Kind::NotCarriedOver, "run Fairlead in the namespace that has the interfaces"),
    ("npn", Kind::Needless, TLS),
    ("observe", Kind::Changed, OBSERVE),
    ("on-error", Kind::Changed, OBSERVE),
    ("on-marked-up", Kind::NotCarriedOver, "connections stay on their backend while it is up"),
    ("pool-conn-name", Kind::Needless, POOL),
    ("pool-low-conn", Kind::Needless, POOL),
    ("pool-max-conn", Kind::Needless, POOL),
    ("pool-purge-delay", Kind::Needless, POOL),
    ("proto", Kind::Needless, "Fairlead forwards TCP as it is"),
    ("proxy-v2-options", Kind::Needless, "it belongs to send-proxy"),
    ("redir", Kind::Needless, "redirects need HTTP, which Fairlead does not look into"),
    ("resolve-net", Kind::NotCarriedOver, "all addresses of the name become backends"),
    ("resolve-opts", Kind::NotCarriedOver, "all addresses of the name become backends"),
    ("resolve-prefer", Kind::NotCarriedOver, "all addresses of the name become backends"),
    ("sigalgs", Kind::Needless, TLS),
    ("sni", Kind::Needless, "it is for TLS to the server, which Fairlead leaves to the client"),
    ("socks4", Kind::NotCarriedOver, "Fairlead reaches backends directly: route to them"),
    ("ssl-max-ver", Kind::Needless, TLS),
    ("ssl-min-ver", Kind::Needless, TLS),
    ("tcp-ut", Kind::Changed, "clients of a dead backend are reset after reset_delay"),
];

const AGENT: &str = "use `fairlead backend weight` or `drain` where an agent set them";
const TLS: &str = "the client's own TLS reaches the server untouched";
const CLIENT_CERTIFICATE: &str = "401 and 403 count as alive, so the probe needs no certificate";
const OBSERVE: &str = "refused and unanswered connections make Fairlead probe at once";
const POOL: &str = "Fairlead keeps no connections of its own to servers";
const QUEUE: &str =
    "Fairlead never queues; limit requests in the apiserver (--max-requests-inflight)";

/// `server NAME ADDRESS ...`
pub(crate) fn server(line: &Line, defaults: &Options, findings: &mut Findings) -> Read<Server> {
    line.expanded()?;
    let name = line.required(1, "the server's name")?.clone();
    let address = line.required(2, "the server's address")?;
    let endpoint = Sited::new(endpoint(&address.text, address)?, &address.at);
    let mut options = defaults.clone();
    options.read(&line.words[3..], findings)?;
    Ok(Server { name, endpoint, count: None, options })
}

/// `server-template PREFIX COUNT|FIRST-LAST NAME:PORT ...`
pub(crate) fn template(line: &Line, defaults: &Options, findings: &mut Findings) -> Read<Server> {
    line.expanded()?;
    let name = line.required(1, "a prefix of names")?.clone();
    let numbers = line.required(2, "how many servers there may be")?;
    let address = line.required(3, "a name to look up")?;
    let part = |text: &str| Word::new(text, numbers.at.clone()).number(&TEMPLATE);
    let count = match numbers.text.split_once('-') {
        None => part(&numbers.text)?,
        Some((first, last)) => match part(last)?.checked_sub(part(first)?) {
            Some(more) => more + 1,
            None => return Err(numbers.at.error("expected the lower number first, such as 1-3")),
        },
    };
    let endpoint = Sited::new(endpoint(&address.text, address)?, &address.at);
    let mut options = defaults.clone();
    options.read(&line.words[4..], findings)?;
    Ok(Server { name, endpoint, count: Some(count), options })
}

impl Options {
    /// Reads options over those there are.
    pub(crate) fn read(&mut self, words: &[Word], findings: &mut Findings) -> Read<()> {
        let mut rest = words;
        while let Some((word, values)) = rest.split_first() {
            let used = self.switch(word) || self.unvalued(word, findings);
            let used = if used { Some(0) } else { self.valued(word, values, findings)? };
            let used = match used {
                Some(used) => used,
                None => without_counterpart(word, values, findings)?,
            };
            rest = &values[used..];
        }
        Ok(())
    }

    /// Options that are on or off; whether this is one.
    fn switch(&mut self, word: &Word) -> bool {
        match word.text.as_str() {
            "check" => self.check = true,
            "no-check" => self.check = false,
            "check-ssl" => self.check_ssl = Some(true),
            "no-check-ssl" => self.check_ssl = Some(false),
            "ssl" => self.ssl = Some(word.at.clone()),
            "no-ssl" => self.ssl = None,
            "backup" => self.backup = Some(word.at.clone()),
            "no-backup" => self.backup = None,
            "disabled" => self.disabled = Some(word.at.clone()),
            "enabled" => self.disabled = None,
            "no-verifyhost" => self.verify_host = None,
            "send-proxy" | "send-proxy-v2" | "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn" => {
                self.send_proxy = Some(word.at.clone());
            }
            "no-send-proxy"
            | "no-send-proxy-v2"
            | "no-send-proxy-v2-ssl"
            | "no-send-proxy-v2-ssl-cn" => self.send_proxy = None,
            _ => return false,
        }
        true
    }

    fn unvalued(&self, word: &Word, findings: &mut Findings) -> bool {
        let known = WITHOUT_VALUE.contains(&word.text.as_str());
        if known {
            let (message, remedy) = match word.text.as_str() {
                "agent-check" => ("Fairlead asks no agents", AGENT),
                _ => ("it is of no use to a balancer that forwards packets", "nothing to do"),
            };
            let is_agent = word.text == "agent-check";
            let kind = if is_agent { Kind::NotCarriedOver } else { Kind::Needless };
            findings.add(kind, &word.at, &word.text, message, remedy);
        }
        known
    }

    /// Options with values that mean something here; how many of the values they took.
    fn valued(
        &mut self,
        word: &Word,
        values: &[Word],
        findings: &mut Findings,
    ) -> Read<Option<usize>> {
        let value = || value(word, values);
        match word.text.as_str() {
            "verify" => self.verify = Some(Sited::new(verify(value()?)?, &word.at)),
            "ca-file" => self.ca_file = Some(value()?.clone()),
            "check-sni" => self.check_sni = Some(value()?.clone()),
            "verifyhost" => self.verify_host = Some(value()?.clone()),
            "resolvers" => self.resolvers = Some(value()?.clone()),
            "inter" => self.inter = Some(duration(value()?)?),
            "fastinter" => self.fast_inter = Some(duration(value()?)?),
            "slowstart" => self.slow_start = Some(duration(value()?)?),
            "downinter" => self.down_inter = Some(duration(value()?)?),
            "rise" => self.rise = Some(Sited::new(value()?.number(&COUNT)?, &word.at)),
            "fall" => self.fall = Some(Sited::new(value()?.number(&COUNT)?, &word.at)),
            "weight" => self.weight = Some(Sited::new(value()?.number(&WEIGHT)?, &word.at)),
            "port" => self.check_port = Some(Sited::new(value()?.number(&PORT)?, &word.at)),
            "on-marked-down" => {
                if value()?.text != "shutdown-sessions" {
                    findings.not_understood(value()?);
                }
                self.shutdown_sessions = Some(word.at.clone());
            }
            "track" => {
                let remedy = "it is probed itself";
                findings.add(
                    Kind::Changed,
                    &word.at,
                    &word.text,
                    "Fairlead tracks no other server",
                    remedy,
                );
                value()?;
                self.check = true;
            }
            "source" => {
                self.source = Some(value()?.clone());
                let extra = matches!(
                    values.get(1).map(|it| it.text.as_str()),
                    Some("usesrc" | "interface")
                );
                return Ok(Some(if extra { 3.min(values.len()) } else { 1 }));
            }
            _ => return Ok(None),
        }
        Ok(Some(1))
    }
}

fn value<'a>(word: &Word, values: &'a [Word]) -> Read<&'a Word> {
    values.first().ok_or_else(|| {
        word.at.error(format_args!("`{}` ends the line; expected its value", word.text))
    })
}

/// Options with a value and no counterpart; how many of the values they took.
fn without_counterpart(word: &Word, values: &[Word], findings: &mut Findings) -> Read<usize> {
    let Some((_, kind, remedy)) = WITH_VALUE.iter().find(|(name, ..)| *name == word.text) else {
        findings.not_understood(word);
        return Ok(0);
    };
    let subject = format!("{} {}", word.text, value(word, values)?.text);
    let message = match kind {
        Kind::Changed => "Fairlead does this in its own way",
        Kind::Needless => "Fairlead has no need of it",
        Kind::ToDo | Kind::NotUnderstood | Kind::NotCarriedOver | Kind::Assumed => {
            "Fairlead has no such thing"
        }
    };
    findings.add(*kind, &word.at, &subject, message, remedy);
    Ok(1)
}

fn verify(word: &Word) -> Read<bool> {
    match word.text.as_str() {
        "none" => Ok(false),
        "required" => Ok(true),
        _ => Err(word.at.error(format_args!("`{}`; expected none or required", word.text))),
    }
}
