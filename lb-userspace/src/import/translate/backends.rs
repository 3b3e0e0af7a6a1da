//! `server` lines to backends. Pure.

use std::collections::BTreeSet;

use super::super::draft::{BackendDraft, Noted, Target};
use super::super::findings::Kind;
use super::super::haproxy::server::Server;
use super::super::haproxy::value::{Host, Port};
use super::super::source::{Place, quoted};
use super::Translator;
use super::name::Names;
use super::services::Pair;

const NOTHING: &str = "nothing to do";
const RESOLVERS: &str = "see that they know the backends' names";
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
        self.need_one(&mut backends, &pair.backend.name.at, &pair.backend.name.text);
        backends
    }

    /// A service that no server is left of is refused.
    pub(super) fn need_one(
        &mut self,
        backends: &mut Noted<Vec<BackendDraft>>,
        at: &Place,
        subject: &str,
    ) {
        if backends.value.iter().all(|backend| backend.left_out.is_some()) {
            let message = "none of the servers can be carried over";
            let remedy = "write the apiservers' addresses";
            backends.notes.push(self.note(Kind::ToDo, at, subject, message, remedy));
        }
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
            Host::Ip(address) => {
                self.same_address(server);
                Target::Ip(*address)
            }
            Host::Name(host) => {
                let note = self.host(server, host);
                left_out = left_out.or(note);
                Target::Host(host.to_ascii_lowercase())
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

    /// A name that Fairlead looks up: why it is left out, if it is.
    fn host(&mut self, server: &Server, host: &str) -> Option<String> {
        let (at, subject) = (&server.endpoint.at, &server.name.text);
        if is_local(host) || !is_host(host) {
            let message = format!("{host} is not the name of another host");
            let remedy = "write the apiserver's address";
            return Some(self.note(Kind::NotCarriedOver, at, subject, message, remedy));
        }
        if host.starts_with('_') {
            let message = format!("{host} is an SRV record, and Fairlead looks up addresses");
            let remedy = "write a backend for each server, or a name that has their addresses";
            return Some(self.note(Kind::NotCarriedOver, at, subject, message, remedy));
        }
        let message = match server.count {
            None => format!("each address of {host} is a backend, and followed as DNS changes"),
            Some(count) => format!(
                "each address of {host} is a backend, however many: HAProxy took {count} at most"
            ),
        };
        self.findings.add(Kind::Changed, at, subject, message, NOTHING);
        if let Some(resolvers) = &server.options.resolvers {
            let message = "Fairlead asks the servers of /etc/resolv.conf";
            let subject = format!("resolvers {}", resolvers.text);
            self.findings.add(Kind::Changed, &resolvers.at, &subject, message, RESOLVERS);
        }
        None
    }

    /// A template of one address is one server.
    fn same_address(&mut self, server: &Server) {
        let Some(count) = server.count else { return };
        let message = format!("{count} servers with one address are one backend");
        let (at, subject) = (&server.endpoint.at, &server.name.text);
        self.findings.add(Kind::Changed, at, subject, message, NOTHING);
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

fn is_local(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.eq_ignore_ascii_case("localhost.")
}

/// What Fairlead takes for a DNS name.
fn is_host(host: &str) -> bool {
    let labels = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| (1..=63).contains(&label.len());
    let ends_in_number = labels.rsplit('.').next().is_some_and(|it| it.parse::<u64>().is_ok());
    labels.len() <= 253 && !ends_in_number && labels.split('.').all(is_label)
}
