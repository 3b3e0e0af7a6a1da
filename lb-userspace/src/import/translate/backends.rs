//! `server` lines to backends. Pure.

use std::collections::BTreeSet;

use super::super::draft::{BackendDraft, Noted, Target};
use super::super::findings::Kind;
use super::super::haproxy::server::Server;
use super::super::haproxy::value::{Host, Port};
use super::super::source::quoted;
use super::Translator;
use super::name::Names;
use super::services::Pair;

/// HAProxy's.
const DEFAULT_WEIGHT: u32 = 1;

impl Translator<'_> {
    /// The backends of the service on `port`.
    pub(super) fn backends(&mut self, pair: &Pair<'_>, port: u16) -> Noted<Vec<BackendDraft>> {
        let servers = &pair.backend.servers;
        let mut backends = Noted::plain(Vec::new());
        let mut names = Names::default();
        let mut endpoints = BTreeSet::new();
        let all_backup = servers.iter().all(|server| server.options.backup.is_some());
        for server in servers {
            let name = names.unique(&server.name.text);
            let Some(mut backend) = self.backend(server, name, port) else { continue };
            if backend.left_out.is_none() && !all_backup {
                backend.left_out = self.backup(server);
            }
            if backend.left_out.is_none() {
                let endpoint = (shown(&backend.target), backend.port);
                if !endpoints.insert(endpoint) {
                    let message = "another server has this address and port";
                    let at = &server.endpoint.at;
                    let remedy = "give the first one a higher weight if it was meant";
                    let subject = quoted(&server.name.text);
                    backend.left_out =
                        Some(self.note(Kind::NotCarriedOver, at, &subject, message, remedy));
                }
            }
            backends.value.push(backend);
        }
        self.weights(pair, &mut backends);
        if backends.value.iter().all(|backend| backend.left_out.is_some()) {
            let message = "none of the servers can be carried over";
            let remedy = "write the apiservers' addresses";
            let name = &pair.backend.name;
            let note = self.note(Kind::ToDo, &name.at, &name.text, message, remedy);
            backends.notes.push(note);
        }
        backends
    }

    /// One backend; nothing where there is no address.
    fn backend(&mut self, server: &Server, name: String, port: u16) -> Option<BackendDraft> {
        let at = &server.endpoint.at;
        let own_port = match server.endpoint.value.port {
            Port::None => Some(port),
            Port::Fixed(own) | Port::Range(own, _) => Some(own),
            Port::Offset(offset) => {
                u16::try_from(i32::from(port) + offset).ok().filter(|it| *it > 0)
            }
        };
        let Some(own_port) = own_port else {
            let message = format!("{port} and its offset are no port");
            let subject = &server.name.text;
            self.findings.add(Kind::NotCarriedOver, at, subject, message, "write the port");
            return None;
        };
        let mut left_out = self.disabled(server);
        let target = match &server.endpoint.value.host {
            Host::Ip(address) if address.is_loopback() => {
                let message = format!(
                    "{address} is this node itself, by an address that Fairlead \
                                       cannot send to"
                );
                let remedy = "write the node's own address";
                let note = self.note(Kind::NotCarriedOver, at, &server.name.text, message, remedy);
                left_out.get_or_insert(note);
                Target::Ip(*address)
            }
            Host::Ip(address) => Target::Ip(*address),
            Host::Name(host) => {
                let note = self.host(server, host);
                left_out.get_or_insert(note);
                Target::Host(host.clone())
            }
            Host::Any | Host::Local => {
                let message = "it is no TCP address of another host";
                let subject = &server.name.text;
                let remedy = "write the apiserver's own address";
                self.findings.add(Kind::NotCarriedOver, at, subject, message, remedy);
                return None;
            }
        };
        let port = (own_port != port).then_some(own_port);
        Some(BackendDraft { name, target, port, weight: None, left_out })
    }

    /// Why a server with a name instead of an address is left out.
    fn host(&mut self, server: &Server, host: &str) -> String {
        let message = match server.count {
            None => format!("{host} is a name, and backends have addresses"),
            Some(count) => {
                format!("{host} stands for up to {count} servers, and backends have addresses")
            }
        };
        let remedy = "write a backend for each address that it has";
        let subject = &server.name.text;
        self.note(Kind::NotCarriedOver, &server.endpoint.at, subject, message, remedy)
    }

    fn disabled(&mut self, server: &Server) -> Option<String> {
        let at = server.options.disabled.as_ref()?;
        let message = "it starts in maintenance, which the configuration cannot say";
        let remedy = "add it, and then `fairlead backend disable` it until it is needed";
        Some(self.note(Kind::NotCarriedOver, at, &server.name.text, message, remedy))
    }

    fn backup(&mut self, server: &Server) -> Option<String> {
        let at = server.options.backup.as_ref()?;
        let message = "it is used when no other is up; Fairlead has no backup servers";
        let remedy = "add it as one of the others if it is no worse";
        Some(self.note(Kind::NotCarriedOver, at, &server.name.text, message, remedy))
    }

    /// Written only where they differ. HAProxy's unit is 1, Fairlead's 100: only their ratio counts.
    fn weights(&mut self, pair: &Pair<'_>, backends: &mut Noted<Vec<BackendDraft>>) {
        let servers = &pair.backend.servers;
        let weight = |server: &Server| {
            server.options.weight.as_ref().map_or(DEFAULT_WEIGHT, |weight| weight.value)
        };
        let Some(first) = servers.first().map(weight) else { return };
        if servers.iter().all(|server| weight(server) == first) {
            let given = servers.first().and_then(|server| server.options.weight.as_ref());
            if let Some(given) = given.filter(|given| given.value == 0) {
                let message = "no weight is above 0, so HAProxy would use none of the servers";
                let remedy = "see what was meant: they are written without weights";
                backends.notes.push(self.note(
                    Kind::Assumed,
                    &given.at,
                    "weight 0",
                    message,
                    remedy,
                ));
            }
            return;
        }
        for backend in &mut backends.value {
            let of_name =
                |server: &&Server| Names::default().unique(&server.name.text) == backend.name;
            if let Some(server) = servers.iter().find(of_name) {
                backend.weight = Some(weight(server));
            }
        }
    }
}

fn shown(target: &Target) -> String {
    match target {
        Target::Ip(address) => address.to_string(),
        Target::Host(host) => host.clone(),
    }
}
