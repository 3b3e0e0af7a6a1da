//! `virtual_server` blocks to services. Pure.

use std::collections::BTreeSet;

use super::super::draft::{BackendDraft, HealthDraft, Noted, ProbeDraft, ServiceDraft, Target};
use super::super::findings::Kind;
use super::super::keepalived::Keepalived;
use super::super::keepalived::server::{CheckerKind, Forwarding, VirtualServer};
use super::Translator;
use super::health::{statuses, verify_remedy};
use super::name::Names;

const NOTHING: &str = "nothing to do";
const MAX_WEIGHT: u32 = 1000;
const APISERVER_PORT: u16 = 6443;

impl Translator<'_> {
    pub(super) fn virtual_servers(&mut self, keepalived: &Keepalived) {
        for server in &keepalived.servers {
            self.virtual_server(server);
        }
    }

    fn virtual_server(&mut self, server: &VirtualServer) {
        let subject = format!("virtual_server {} {}", server.address, server.port);
        let refusal = if !server.is_tcp {
            Some("Fairlead balances TCP only")
        } else if server.method == Forwarding::Tunnel {
            Some("Fairlead has no tunnels")
        } else if server.servers.is_empty() {
            Some("it has no real_server")
        } else {
            None
        };
        if let Some(message) = refusal {
            let remedy = "write a service by hand, in mode nat, dnat or dsr, if it is needed";
            self.findings.add(Kind::NotCarriedOver, &server.at, &subject, message, remedy);
            return;
        }
        let name = self.names.unique(&format!("{}-{}", server.address, server.port));
        let mode = self.forwarding(server, &subject);
        let backends = self.real_servers(server, mode.value == "dsr");
        let service = ServiceDraft {
            notes: vec![format!("{}: {subject}", server.at)],
            name,
            vips: Noted::plain(vec![server.address]),
            standalone: self.standalone(server, &subject),
            port: Noted::plain(server.port),
            mode: Some(mode),
            snat: None,
            established: None,
            idle: Vec::new(),
            backends,
            health: self.checker(server, &subject),
        };
        self.draft.services.value.push(service);
    }

    fn standalone(&mut self, server: &VirtualServer, subject: &str) -> Option<Noted<bool>> {
        if self.vips.contains_key(&server.address) {
            return None;
        }
        let message =
            format!("{} is in no vrrp_instance, so this node owns it always", server.address);
        let remedy = "see that no other node does";
        Some(Noted::new(true, self.note(Kind::Assumed, &server.at, subject, message, remedy)))
    }

    fn forwarding(&mut self, server: &VirtualServer, subject: &str) -> Noted<&'static str> {
        let (mode, message, remedy) = match server.method {
            Forwarding::Direct => {
                ("dsr", "DR of IPVS: the VIP stays on a loopback of each server", NOTHING)
            }
            Forwarding::Nat | Forwarding::Tunnel => (
                "dnat",
                "NAT of IPVS: the servers see the clients' addresses, and answer through this node",
                "write `mode: nat` if that need not be",
            ),
        };
        Noted::new(mode, self.note(Kind::Changed, &server.at, subject, message, remedy))
    }

    fn real_servers(&mut self, server: &VirtualServer, is_dsr: bool) -> Noted<Vec<BackendDraft>> {
        let mut backends: Noted<Vec<BackendDraft>> = Noted::default();
        let mut names = Names::default();
        let mut seen = BTreeSet::new();
        let weight = |at: usize| server.servers[at].weight.as_ref().map_or(1, |it| it.value);
        let is_uneven = (0..server.servers.len()).any(|at| weight(at) != weight(0));
        for (index, real) in server.servers.iter().enumerate() {
            let shown = format!("real_server {} {}", real.address, real.port);
            let mut left_out = None;
            if real.address.is_ipv4() != server.address.is_ipv4() {
                let message = "it is not of the VIP's family";
                let remedy = "write its address of that family";
                left_out = Some(self.note(Kind::NotCarriedOver, &real.at, &shown, message, remedy));
            } else if is_dsr && real.port != server.port {
                let message = format!("mode dsr leaves port {} as it is", server.port);
                let remedy = "let the server listen there too";
                left_out = Some(self.note(Kind::NotCarriedOver, &real.at, &shown, message, remedy));
            } else if !seen.insert((real.address, real.port)) {
                let message = "it is in the list already";
                left_out =
                    Some(self.note(Kind::NotCarriedOver, &real.at, &shown, message, NOTHING));
            }
            if real.method.is_some_and(|method| method != server.method) {
                let message = "the servers of a service are reached in one way";
                let remedy = "write a service of its own for it";
                self.findings.add(Kind::Changed, &real.at, &shown, message, remedy);
            }
            let given = weight(index);
            if given > MAX_WEIGHT {
                let message = format!("weight {given} is written as {MAX_WEIGHT}");
                let remedy = "scale all weights of the service down";
                self.findings.add(Kind::Changed, &real.at, &shown, message, remedy);
            }
            backends.value.push(BackendDraft {
                name: names.unique(&real.address.to_string()),
                target: Target::Ip(real.address),
                port: (real.port != server.port).then_some(real.port),
                weight: is_uneven.then_some(given.min(MAX_WEIGHT)),
                left_out,
            });
        }
        let subject = format!("virtual_server {} {}", server.address, server.port);
        self.need_one(&mut backends, &server.at, &subject);
        backends
    }

    fn checker(&mut self, server: &VirtualServer, subject: &str) -> HealthDraft {
        let Some(checker) = server.servers.iter().find_map(|real| real.checker.as_ref()) else {
            let is_apiserver = server.servers.iter().any(|real| real.port == APISERVER_PORT);
            let (probe, message, remedy) = if is_apiserver {
                let message = "no server is checked; Fairlead asks apiservers for /readyz";
                (ProbeDraft::readyz(), message, verify_remedy())
            } else {
                let message = "no server is checked; Fairlead sees whether they take connections";
                (ProbeDraft::Tcp, message, NOTHING.to_owned())
            };
            let note = self.note(Kind::Assumed, &server.at, subject, message, remedy);
            return HealthDraft::of(Noted::new(probe, note));
        };
        let path = checker.path.as_ref().map_or("/", |path| path.text.as_str()).to_owned();
        let at = &checker.at;
        let probe = match checker.kind {
            CheckerKind::Tcp => Noted::plain(ProbeDraft::Tcp),
            CheckerKind::Http => Noted::plain(ProbeDraft::Http { path }),
            CheckerKind::Https => {
                let message = "keepalived takes any certificate, and so does the probe";
                let note = self.note(Kind::Changed, at, "SSL_GET", message, verify_remedy());
                Noted::new(ProbeDraft::Https { path, ca_file: None, server_name: None }, note)
            }
            CheckerKind::Other => {
                let message = "Fairlead probes by HTTPS, HTTP or TCP, so it only connects";
                let remedy = "see whether that will do";
                Noted::new(
                    ProbeDraft::Tcp,
                    self.note(Kind::Changed, at, "checker", message, remedy),
                )
            }
        };
        let mut health = HealthDraft::of(probe);
        if matches!(checker.kind, CheckerKind::Http | CheckerKind::Https) {
            let words: Vec<&str> = checker.statuses.iter().map(|word| word.text.as_str()).collect();
            let default = vec!["200-299".to_owned()];
            health.expect_status = match statuses(words.iter().copied()) {
                Some(list) if list == ["200"] => Noted::default(),
                Some(list) => Noted::plain(list),
                None if words.is_empty() => Noted::plain(default),
                None => {
                    let message = "these are not statuses from 200 to 599, and ranges of them";
                    let remedy = "write `expect_status:` by hand";
                    let note = self.note(Kind::Changed, at, "status_code", message, remedy);
                    Noted::new(default, note)
                }
            };
        }
        health.interval =
            self.within(server.delay_loop.as_ref(), &super::health::INTERVAL, "delay_loop");
        let timeout = checker.connect_timeout.as_ref();
        health.timeout = self.within(timeout, &super::health::TIMEOUT, "connect_timeout");
        if let Some(retry) = &checker.retry {
            health.fall = Some(Noted::new(
                retry.value.saturating_add(1).min(100),
                format!("{}: the first failure and {} retries", retry.at, retry.value),
            ));
        }
        health
    }
}
