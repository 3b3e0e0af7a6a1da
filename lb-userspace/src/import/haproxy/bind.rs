//! `bind` lines. Pure.

use super::super::findings::{Findings, Kind};
use super::super::source::{Place, Read, Sited, Word};
use super::section::Line;
use super::value::{Endpoint, endpoint};

/// One `bind` line.
#[derive(Clone, Debug)]
pub(crate) struct Bind {
    pub(crate) endpoints: Vec<Sited<Endpoint>>,
    pub(crate) interface: Option<Word>,
    /// TLS ends here.
    pub(crate) ssl: Option<Place>,
    /// Clients send the PROXY protocol's header.
    pub(crate) accept_proxy: Option<Place>,
    /// Of `::`: `v4v6` or `v6only`.
    pub(crate) families: Option<V6>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum V6 {
    Both,
    Only,
}

/// Options without a value that need no counterpart.
const WITHOUT_VALUE: [&str; 24] = [
    "allow-0rtt",
    "defer-accept",
    "force-sslv3",
    "force-strict-sni",
    "force-tlsv10",
    "force-tlsv11",
    "force-tlsv12",
    "force-tlsv13",
    "generate-certificates",
    "no-alpn",
    "no-ca-names",
    "no-sslv3",
    "no-strict-sni",
    "no-tls-tickets",
    "no-tlsv10",
    "no-tlsv11",
    "no-tlsv12",
    "no-tlsv13",
    "prefer-client-ciphers",
    "quic-force-retry",
    "strict-sni",
    "tfo",
    "tls-tickets",
    "transparent",
];

/// Options with a value that need none.
const WITH_VALUE: [&str; 42] = [
    "accept-netscaler-cip",
    "alpn",
    "backlog",
    "ca-file",
    "ca-ignore-err",
    "ca-sign-file",
    "ca-sign-pass",
    "ca-verify-file",
    "cc",
    "ciphers",
    "ciphersuites",
    "client-sigalgs",
    "crl-file",
    "crt",
    "crt-ignore-err",
    "crt-list",
    "curves",
    "default-crt",
    "ecdhe",
    "expose-fd",
    "gid",
    "group",
    "guid-prefix",
    "id",
    "level",
    "maxconn",
    "mode",
    "mss",
    "name",
    "nbconn",
    "nice",
    "npn",
    "process",
    "proto",
    "severity-output",
    "shards",
    "sigalgs",
    "ssl-max-ver",
    "ssl-min-ver",
    "tcp-ut",
    "thread",
    "tls-ticket-keys",
];

/// The same, but what they do may be missed.
const MISSED: [(&str, &str); 5] = [
    ("namespace", "run Fairlead in the namespace that has the interfaces"),
    ("uid", "nothing to do: it is for Unix sockets"),
    ("user", "nothing to do: it is for Unix sockets"),
    ("verify", "client certificates reach the apiserver, which checks them"),
    ("quic-cc-algo", "Fairlead forwards TCP only"),
];

/// `bind ADDRESS[,ADDRESS...] ...`
pub(crate) fn bind(line: &Line, findings: &mut Findings) -> Read<Bind> {
    line.expanded()?;
    let addresses = line.required(1, "an address")?;
    let endpoints = addresses
        .text
        .split(',')
        .map(|text| Ok(Sited::new(endpoint(text, addresses)?, &addresses.at)))
        .collect::<Read<Vec<_>>>()?;
    let mut bind =
        Bind { endpoints, interface: None, ssl: None, accept_proxy: None, families: None };
    let mut rest = &line.words[2..];
    while let Some((word, values)) = rest.split_first() {
        let used = bind.option(word, values, findings)?;
        rest = &values[used..];
    }
    Ok(bind)
}

impl Bind {
    /// Reads one option; how many of the values it took.
    fn option(&mut self, word: &Word, values: &[Word], findings: &mut Findings) -> Read<usize> {
        let value = || {
            let message = format!("`{}` ends the line; expected its value", word.text);
            values.first().ok_or_else(|| word.at.error(message))
        };
        match word.text.as_str() {
            "ssl" => self.ssl = Some(word.at.clone()),
            "accept-proxy" => self.accept_proxy = Some(word.at.clone()),
            "v4v6" => self.families = Some(V6::Both),
            "v6only" => self.families = Some(V6::Only),
            "interface" => {
                self.interface = Some(value()?.clone());
                return Ok(1);
            }
            text if WITHOUT_VALUE.contains(&text) => {
                let message = "it is of no use to a balancer that forwards packets";
                findings.add(Kind::Needless, &word.at, text, message, "nothing to do");
            }
            text if WITH_VALUE.contains(&text) => {
                value()?;
                let message = "it is of no use to a balancer that forwards packets";
                findings.add(Kind::Needless, &word.at, text, message, "nothing to do");
                return Ok(1);
            }
            text => match MISSED.iter().find(|(name, _)| *name == text) {
                Some((_, remedy)) => {
                    value()?;
                    let message = "Fairlead has no such thing";
                    findings.add(Kind::NotCarriedOver, &word.at, text, message, remedy);
                    return Ok(1);
                }
                None => findings.not_understood(word),
            },
        }
        Ok(0)
    }
}
