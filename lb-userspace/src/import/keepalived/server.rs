//! `virtual_server` blocks: IPVS. Pure.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::findings::{Findings, Kind};
use super::super::source::{Place, Read, Sited, Word, quoted};
use super::block::Node;
use super::instance::{ip, time};

const PORT: RangeInclusive<u16> = 1..=u16::MAX;
const WEIGHT: RangeInclusive<u32> = 0..=65_535;
const RETRY: RangeInclusive<u32> = 0..=1_000;

/// One service of IPVS.
#[derive(Clone, Debug)]
pub(crate) struct VirtualServer {
    pub(crate) at: Place,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) method: Forwarding,
    pub(crate) is_tcp: bool,
    pub(crate) servers: Vec<RealServer>,
    pub(crate) delay_loop: Option<Sited<Duration>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarding {
    Nat,
    Direct,
    Tunnel,
}

/// One server behind it.
#[derive(Clone, Debug)]
pub(crate) struct RealServer {
    pub(crate) at: Place,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) weight: Option<Sited<u32>>,
    pub(crate) checker: Option<Checker>,
    /// Its own way of forwarding, where it is not the service's.
    pub(crate) method: Option<Forwarding>,
}

#[derive(Clone, Debug)]
pub(crate) struct Checker {
    pub(crate) at: Place,
    pub(crate) kind: CheckerKind,
    pub(crate) path: Option<Word>,
    /// `status_code`
    pub(crate) statuses: Vec<Word>,
    pub(crate) connect_timeout: Option<Sited<Duration>>,
    pub(crate) retry: Option<Sited<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckerKind {
    Tcp,
    Http,
    Https,
    Other,
}

/// The block's service; nothing if it has no single address and port.
pub(crate) fn virtual_server(node: &Node, findings: &mut Findings) -> Read<Option<VirtualServer>> {
    let word = node.required(1, "an address")?;
    if matches!(word.text.as_str(), "fwmark" | "group") {
        let message = "it is not one address and one port";
        let remedy = "write a service for each of its addresses";
        findings.add(Kind::NotCarriedOver, &word.at, &word.text, message, remedy);
        return Ok(None);
    }
    let mut server = VirtualServer {
        at: node.keyword().at.clone(),
        address: ip(word)?.value,
        port: node.required(2, "a port")?.number(&PORT)?,
        method: Forwarding::Nat,
        is_tcp: true,
        servers: Vec::new(),
        delay_loop: None,
    };
    let mut checks = Checks::default();
    for line in &node.children {
        if !server.line(line, findings)? && !checks.line(line)? {
            known(line, findings);
        }
    }
    for line in node.children.iter().filter(|line| line.name() == "real_server") {
        server.servers.push(real_server(line, server.port, &checks, findings)?);
    }
    Ok(Some(server))
}

impl VirtualServer {
    fn line(&mut self, line: &Node, findings: &mut Findings) -> Read<bool> {
        match line.name() {
            "real_server" => {}
            "lvs_method" | "lb_kind" => self.method = forwarding(line)?,
            "protocol" => {
                let word = line.required(1, "TCP")?;
                self.is_tcp = word.text == "TCP";
            }
            "delay_loop" => self.delay_loop = Some(time(line)?),
            "lvs_sched" | "lb_algo" => {
                let subject = format!("{} {}", line.name(), line.text(1));
                let message = "new connections are spread by a Maglev table";
                findings.add(Kind::Changed, &line.keyword().at, &subject, message, "nothing to do");
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// What the virtual server says for all checkers.
#[derive(Clone, Default)]
struct Checks {
    connect_timeout: Option<Sited<Duration>>,
    retry: Option<Sited<u32>>,
}

impl Checks {
    fn line(&mut self, line: &Node) -> Read<bool> {
        match line.name() {
            "connect_timeout" => self.connect_timeout = Some(time(line)?),
            "retry" | "nb_get_retry" => {
                let number = line.required(1, "a number")?.number(&RETRY)?;
                self.retry = Some(Sited::new(number, &line.keyword().at));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn real_server(
    node: &Node,
    port: u16,
    defaults: &Checks,
    findings: &mut Findings,
) -> Read<RealServer> {
    let address = ip(node.required(1, "an address")?)?.value;
    let port = node.words.get(2).map_or(Ok(port), |word| word.number(&PORT))?;
    let at = node.keyword().at.clone();
    let mut server = RealServer { at, address, port, weight: None, checker: None, method: None };
    let mut checks = defaults.clone();
    for line in node.children.iter().filter(|line| !line.is_block) {
        match line.name() {
            "weight" => {
                let number = line.required(1, "a number")?.number(&WEIGHT)?;
                server.weight = Some(Sited::new(number, &line.keyword().at));
            }
            "lvs_method" | "lb_kind" => server.method = Some(forwarding(line)?),
            _ if checks.line(line)? => {}
            _ => known(line, findings),
        }
    }
    for line in node.children.iter().filter(|line| line.is_block) {
        let Some(kind) = checker_kind(line.name()) else {
            findings.not_understood(line.keyword());
            continue;
        };
        if server.checker.is_some() {
            let message = "Fairlead has one probe for each backend";
            let remedy = "see whether the first checker is enough";
            let keyword = line.keyword();
            findings.add(Kind::NotCarriedOver, &keyword.at, &keyword.text, message, remedy);
            continue;
        }
        server.checker = Some(checker(kind, line, &checks, findings)?);
    }
    Ok(server)
}

fn checker_kind(name: &str) -> Option<CheckerKind> {
    match name {
        "TCP_CHECK" => Some(CheckerKind::Tcp),
        "HTTP_GET" => Some(CheckerKind::Http),
        "SSL_GET" => Some(CheckerKind::Https),
        "SMTP_CHECK" | "DNS_CHECK" | "MISC_CHECK" | "BFD_CHECK" | "UDP_CHECK" | "PING_CHECK"
        | "FILE_CHECK" => Some(CheckerKind::Other),
        _ => None,
    }
}

fn checker(
    kind: CheckerKind,
    node: &Node,
    defaults: &Checks,
    findings: &mut Findings,
) -> Read<Checker> {
    let mut checks = defaults.clone();
    let mut path = None;
    let mut statuses = Vec::new();
    for line in &node.children {
        match line.name() {
            _ if kind == CheckerKind::Other => {}
            "url" => {
                if path.is_some() {
                    let message = "Fairlead's probe asks for one path";
                    let remedy = "see whether the first one is enough";
                    findings.add(Kind::NotCarriedOver, &line.keyword().at, "url", message, remedy);
                    continue;
                }
                let asked = line.child("path").and_then(|it| it.words.get(1)).cloned();
                path = Some(asked.unwrap_or_else(|| Word::new("/", line.keyword().at.clone())));
                statuses =
                    line.child("status_code").map(|it| it.words[1..].to_vec()).unwrap_or_default();
                url(line, findings);
            }
            _ if checks.line(line)? => {}
            _ => known(line, findings),
        }
    }
    let Checks { connect_timeout, retry } = checks;
    let at = node.keyword().at.clone();
    Ok(Checker { at, kind, path, statuses, connect_timeout, retry })
}

/// What is asked of the answer.
fn url(node: &Node, findings: &mut Findings) {
    for line in &node.children {
        let at = &line.keyword().at;
        match line.name() {
            "path" | "status_code" => {}
            "digest" | "regex" | "regex_no_match" | "regex_options" | "regex_min_offset"
            | "regex_max_offset" | "regex_stack" | "tls_compliant" | "virtualhost" => {
                let message = "Fairlead judges an answer by its status alone: 200 is up";
                let remedy = "see that the path answers 200 exactly when the server is well";
                findings.add(Kind::NotCarriedOver, at, line.name(), message, remedy);
            }
            _ => findings.not_understood(line.keyword()),
        }
    }
}

fn known(line: &Node, findings: &mut Findings) {
    let (kind, message, remedy) = match line.name() {
        "persistence_timeout" | "persistence_engine" | "persistence_granularity" => (
            Kind::NotCarriedOver,
            "a client's next connection may go to another backend",
            "nothing to do for apiservers, which hold no sessions",
        ),
        "sorry_server" | "sorry_server_inhibit" | "sorry_server_lvs_method" => (
            Kind::NotCarriedOver,
            "Fairlead has no servers of last resort",
            "see `on_all_down` for what happens when no backend is up",
        ),
        "quorum" | "hysteresis" | "quorum_up" | "quorum_down" => (
            Kind::NotCarriedOver,
            "a service is up while one backend is",
            "write `notify:` with a program or a webhook, for the events of kind `panic`",
        ),
        "notify_up" | "notify_down" | "smtp_alert" => (
            Kind::NotCarriedOver,
            "who is told, `notify:` says for all backends",
            "write `notify:` with a program or a webhook, for the events of kind `backend`",
        ),
        "connect_port" | "connect_ip" => (
            Kind::NotCarriedOver,
            "Fairlead probes the address and port that it sends connections to",
            "see that they answer the probe",
        ),
        "uthreshold" | "lthreshold" => {
            (Kind::NotCarriedOver, "Fairlead has no limit for each backend", "nothing to do")
        }
        "inhibit_on_failure" => (
            Kind::Changed,
            "connections of a failed backend are reset after `reset_delay`, 3s",
            "write a longer `reset_delay` to keep them",
        ),
        "alpha" | "omega" | "ha_suspend" | "warmup" | "delay_before_retry" | "ops" | "flag-1"
        | "flag-2" | "flag-3" | "sh-port" | "sh-fallback" | "mh-port" | "mh-fallback"
        | "virtualhost" | "snmp_name" | "ip_family" | "bindto" | "bind_if" | "bind_port"
        | "fwmark" | "log_all_failures" | "http_protocol" | "fast_recovery" | "enable_sni" => {
            (Kind::Needless, "Fairlead has no need of it", "nothing to do")
        }
        _ => return findings.not_understood(line.keyword()),
    };
    findings.add(kind, &line.keyword().at, line.name(), message, remedy);
}

fn forwarding(line: &Node) -> Read<Forwarding> {
    let word = line.required(1, "NAT or DR")?;
    match word.text.as_str() {
        "NAT" => Ok(Forwarding::Nat),
        "DR" => Ok(Forwarding::Direct),
        "TUN" => Ok(Forwarding::Tunnel),
        other => {
            let other = quoted(other);
            Err(word.at.error(format_args!("{other} is unknown; expected NAT, DR or TUN")))
        }
    }
}
