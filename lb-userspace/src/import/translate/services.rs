//! Frontends and their backends to services. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::super::draft::{Noted, ServiceDraft};
use super::super::findings::Kind;
use super::super::haproxy::server::Server;
use super::super::haproxy::{Haproxy, Proxy};
use super::super::source::{MAX_ENTRIES, Read, Sited, Word, quoted};
use super::super::write::time;
use super::Translator;
use super::listeners::Listener;

const NOTHING: &str = "nothing to do";
/// Shorter idle timeouts cut watches and `kubectl exec`.
const SHORTEST_IDLE: Duration = Duration::from_secs(3600);
const LONGEST_IDLE: Duration = Duration::from_secs(14 * 24 * 3600);
const MOST_BACKENDS: usize = 10_000;

/// A frontend with what is behind it.
pub(super) struct Pair<'a> {
    pub(super) frontend: &'a Proxy,
    pub(super) backend: &'a Proxy,
    /// Where the CA files with relative names are.
    pub(super) ca_base: Option<&'a Word>,
}

impl Translator<'_> {
    pub(super) fn frontends(&mut self, haproxy: &Haproxy) -> Read<()> {
        let mut pairs: Vec<(Pair<'_>, BTreeMap<u16, Listener>)> = Vec::new();
        for frontend in haproxy.proxies.iter().filter(|proxy| proxy.is_frontend) {
            if !self.is_possible(frontend) {
                continue;
            }
            let listeners = self.listeners(frontend);
            let Some(backend) = self.backend_of(frontend, haproxy)? else { continue };
            for (port, listener) in &listeners {
                self.claimed.extend(listener.named.iter().map(|address| (*address, *port)));
            }
            let pair = Pair { frontend, backend, ca_base: haproxy.ca_base.as_ref() };
            pairs.push((pair, listeners));
        }
        for (pair, listeners) in &pairs {
            self.findings.extend(pair.frontend.findings.clone());
            if pair.frontend.name.at != pair.backend.name.at {
                self.findings.extend(pair.backend.findings.clone());
            }
            for (port, listener) in listeners {
                self.service(pair, *port, listener, listeners.len() > 1);
            }
        }
        self.unused(haproxy, &pairs.into_iter().map(|(pair, _)| pair).collect::<Vec<_>>());
        Ok(())
    }

    /// Whether Fairlead could do what the section does.
    fn is_possible(&mut self, proxy: &Proxy) -> bool {
        let name = &proxy.name;
        if let Some(at) = &proxy.disabled {
            let message = format!("{} is disabled", quoted(&name.text));
            self.findings.add(Kind::NotCarriedOver, at, "disabled", message, NOTHING);
            return false;
        }
        if proxy.is_tcp() {
            return true;
        }
        let mode = proxy.settings.mode.as_ref().map_or("", |mode| mode.value.as_str());
        let message = format!("it is of mode {mode}, but Fairlead forwards TCP as it is");
        let remedy = "leave it to HAProxy if it is more than a statistics page";
        self.findings.add(Kind::NotCarriedOver, &name.at, &name.text, message, remedy);
        false
    }

    /// The section with the servers.
    fn backend_of<'h>(
        &mut self,
        frontend: &'h Proxy,
        haproxy: &'h Haproxy,
    ) -> Read<Option<&'h Proxy>> {
        let mut chosen = None;
        for (backend, is_conditional) in &frontend.uses {
            if *is_conditional {
                let message = "Fairlead chooses a service by address and port alone";
                let remedy = "give that backend a VIP or port of its own";
                let subject = format!("use_backend {}", backend.text);
                self.findings.add(Kind::NotCarriedOver, &backend.at, &subject, message, remedy);
            } else if chosen.is_none() {
                chosen = Some(backend);
            }
        }
        if frontend.is_backend && !frontend.servers.is_empty() {
            return Ok(Some(frontend));
        }
        let Some(name) = chosen.or(frontend.settings.default_backend.as_ref()) else {
            let message = "it has no servers and no default_backend";
            let remedy = "write a service by hand if it is needed";
            let name = &frontend.name;
            self.findings.add(Kind::NotCarriedOver, &name.at, &name.text, message, remedy);
            return Ok(None);
        };
        let found = haproxy.proxies.iter().find(|it| it.is_backend && it.name.text == name.text);
        let Some(backend) = found else {
            let text = quoted(&name.text);
            return Err(name.at.error(format_args!("no backend is called {text}; expected one")));
        };
        Ok(self.is_possible(backend).then_some(backend))
    }

    fn unused(&mut self, haproxy: &Haproxy, pairs: &[Pair<'_>]) {
        for proxy in haproxy.proxies.iter().filter(|proxy| proxy.is_backend && !proxy.is_frontend) {
            let is_used = pairs.iter().any(|pair| pair.backend.name.at == proxy.name.at);
            if !is_used {
                let message = "no service that is carried over uses this backend";
                let name = &proxy.name;
                self.findings.add(Kind::NotCarriedOver, &name.at, &name.text, message, NOTHING);
            }
        }
    }

    fn service(&mut self, pair: &Pair<'_>, port: u16, listener: &Listener, is_one_of_many: bool) {
        let vips = self.vips_of(listener, port);
        if vips.value.is_empty() && listener.any_v4.is_none() && listener.any_v6.is_none() {
            return;
        }
        if !self.servers_take_plain_tcp(pair) || !self.has_room(pair) {
            return;
        }
        let frontend = &pair.frontend.name;
        let name = if is_one_of_many {
            format!("{}-{port}", frontend.text)
        } else {
            frontend.text.clone()
        };
        let name = self.names.unique(&name);
        let mut notes = vec![format!("{}: frontend {}", frontend.at, frontend.text)];
        if frontend.at != pair.backend.name.at {
            let backend = &pair.backend.name;
            notes.push(format!("{}: backend {}", backend.at, backend.text));
        }
        self.balance(pair);
        let (established, idle) = self.idle(pair);
        let mut service = ServiceDraft {
            notes,
            name,
            vips,
            standalone: None,
            port: Noted::plain(port),
            mode: None,
            snat: self.snat(pair),
            established,
            idle,
            backends: Noted::default(),
            health: self.health(pair, port),
        };
        service.backends = self.backends(pair, port);
        self.match_families(&mut service, pair);
        self.port_note(pair, &mut service);
        self.draft.services.value.push(service);
    }

    /// Ports times servers may be many.
    fn has_room(&mut self, pair: &Pair<'_>) -> bool {
        let services = &self.draft.services.value;
        let backends: usize = services.iter().map(|service| service.backends.value.len()).sum();
        let has_room =
            services.len() < MAX_ENTRIES && backends + pair.backend.servers.len() <= MOST_BACKENDS;
        if !has_room {
            let message = "there are too many services or backends, so this one is left out";
            let remedy = "import fewer ports at once";
            let name = &pair.frontend.name;
            self.findings.add(Kind::ToDo, &name.at, &name.text, message, remedy);
        }
        has_room
    }

    /// Whether HAProxy adds nothing of its own to what the client sends.
    fn servers_take_plain_tcp(&mut self, pair: &Pair<'_>) -> bool {
        let servers = &pair.backend.servers;
        if let Some(at) = servers.iter().find_map(|server| server.options.ssl.as_ref()) {
            let name = quoted(&pair.backend.name.text);
            let message = format!(
                "HAProxy itself speaks TLS to the servers of {name}, but Fairlead forwards TCP as it \
                 is"
            );
            let remedy = "let clients speak TLS to the servers, and remove `ssl` (`check-ssl` is \
                          for checks alone)";
            self.findings.add(Kind::NotCarriedOver, at, "server ... ssl", message, remedy);
            return false;
        }
        if let Some(at) = servers.iter().find_map(|server| server.options.send_proxy.as_ref()) {
            let message = "Fairlead adds nothing to connections, and apiservers do not understand the \
                           PROXY protocol";
            let remedy = "let the servers do without it; for clients' addresses write `mode: dnat` \
                          or `mode: dsr`";
            self.findings.add(Kind::NotCarriedOver, at, "send-proxy", message, remedy);
        }
        true
    }

    fn balance(&mut self, pair: &Pair<'_>) {
        let settings = [&pair.backend.settings, &pair.frontend.settings];
        let Some(balance) = settings.iter().find_map(|it| it.balance.as_ref()) else { return };
        let message = "new connections are spread by a Maglev table of the client's address and port, \
                       in proportion to the weights";
        let subject = format!("balance {}", balance.value);
        self.findings.add(Kind::Changed, &balance.at, &subject, message, NOTHING);
    }

    /// `timeouts.established`, or why there is none.
    fn idle(&mut self, pair: &Pair<'_>) -> (Option<Noted<Duration>>, Vec<String>) {
        let tunnel = pair.backend.settings.tunnel.as_ref();
        let tunnel = tunnel.or(pair.frontend.settings.tunnel.as_ref());
        let sides = [&pair.frontend.settings.client, &pair.backend.settings.server];
        let sides: Vec<&Sited<Duration>> = sides.into_iter().flatten().collect();
        let shortest = sides.into_iter().min_by_key(|time| time.value);
        let Some(idle) = tunnel.or(shortest) else { return (None, Vec::new()) };
        // 0 is for ever in HAProxy.
        if idle.value.is_zero() || idle.value > LONGEST_IDLE {
            let message = "a connection may be idle for 336h at most";
            let note = self.note(Kind::Changed, &idle.at, "timeout", message, NOTHING);
            return (Some(Noted::new(LONGEST_IDLE, note)), Vec::new());
        }
        if idle.value < SHORTEST_IDLE {
            let message = format!(
                "HAProxy cuts connections that are idle for {}, such as watches and `kubectl \
                 exec`; Fairlead forgets them after 24h",
                time(idle.value)
            );
            let remedy = "write `timeouts: { established: ... }` to have them cut";
            let note = self.note(Kind::Changed, &idle.at, "timeout", message, remedy);
            return (None, vec![note]);
        }
        (Some(Noted::new(idle.value, format!("{}: idle timeout", idle.at))), Vec::new())
    }

    fn snat(&mut self, pair: &Pair<'_>) -> Option<Noted<IpAddr>> {
        let servers = &pair.backend.servers;
        let of_server = servers.iter().find_map(|it| it.options.source.as_ref());
        let source = of_server.or(pair.backend.settings.source.as_ref())?;
        let is_same =
            |it: &Server| it.options.source.as_ref().is_some_and(|own| own.text == source.text);
        if of_server.is_some() && !servers.iter().all(is_same) {
            let message = "the servers of a service are reached from one address";
            let remedy = "write a VIP as `snat_address` if it is for all of them";
            self.findings.add(Kind::NotCarriedOver, &source.at, "source", message, remedy);
            return None;
        }
        let host = source.text.rsplit_once(':').map_or(source.text.as_str(), |(host, _)| host);
        let address: Option<IpAddr> = host.parse().ok();
        let subject = format!("source {}", source.text);
        match address.filter(|address| self.vips.contains_key(address)) {
            Some(address) => {
                Some(Noted::new(address, format!("{}: requests come from this VIP", source.at)))
            }
            None => {
                let message = "requests come from the VIP, which floats with the connections";
                let remedy = "write a further VIP as `snat_address` where the servers expect another \
                              one; for clients' addresses write `mode: dnat` or `mode: dsr`";
                self.findings.add(Kind::Changed, &source.at, &subject, message, remedy);
                None
            }
        }
    }

    /// Drops VIPs that no backend's family serves, and backends that no VIP's does.
    fn match_families(&mut self, service: &mut ServiceDraft, pair: &Pair<'_>) {
        use super::super::draft::Target;
        let written = || service.backends.value.iter().filter(|it| it.left_out.is_none());
        let has_hosts = written().any(|it| matches!(it.target, Target::Host(_)));
        let serves = |is_v6: bool| {
            has_hosts
                || written().any(|it| matches!(it.target, Target::Ip(ip) if ip.is_ipv6() == is_v6))
        };
        let (serves_v4, serves_v6) = (serves(false), serves(true));
        if !serves_v4 && !serves_v6 {
            return;
        }
        let all = std::mem::take(&mut service.vips.value);
        for vip in all {
            if if vip.is_ipv6() { serves_v6 } else { serves_v4 } {
                service.vips.value.push(vip);
                continue;
            }
            let family = if vip.is_ipv6() { "IPv6" } else { "IPv4" };
            let message = format!("{vip} is left out: no backend has an {family} address");
            let remedy =
                "add backends of that family: Fairlead does not translate between families";
            let name = &pair.frontend.name;
            let note = self.note(Kind::NotCarriedOver, &name.at, &name.text, message, remedy);
            service.vips.notes.push(note);
        }
        if service.vips.value.is_empty() {
            let message = "none of its VIPs is of a family that the backends have";
            let remedy = "write a VIP of their family";
            let name = &pair.frontend.name;
            let note = self.note(Kind::ToDo, &name.at, &name.text, message, remedy);
            service.vips.notes.push(note);
            return;
        }
        for backend in &mut service.backends.value {
            let Target::Ip(address) = backend.target else { continue };
            let has_vip = service.vips.value.iter().any(|vip| vip.is_ipv6() == address.is_ipv6());
            if has_vip || backend.left_out.is_some() {
                continue;
            }
            let message = format!("{address} is left out: no VIP is of its family");
            let remedy = "add such a VIP: Fairlead does not translate between families";
            let name = &pair.backend.name;
            backend.left_out =
                Some(self.note(Kind::NotCarriedOver, &name.at, &backend.name, message, remedy));
        }
    }

    /// Co-located balancers listen on another port than the apiserver, which Fairlead need not.
    fn port_note(&mut self, pair: &Pair<'_>, service: &mut ServiceDraft) {
        use super::super::draft::Target;
        let ports: Vec<u16> = service.backends.value.iter().filter_map(|it| it.port).collect();
        let Some(port) = ports.first().filter(|port| ports.iter().all(|it| it == *port)) else {
            return;
        };
        let is_here = |target: &Target| matches!(target, Target::Ip(ip) if self.own.contains(ip));
        let local = service.backends.value.iter().find(|it| is_here(&it.target));
        let place = local.map_or(String::new(), |it| format!(", as {} is here", it.name));
        let message = format!(
            "clients use port {}, the servers {port}; Fairlead could serve {port} too, on a node with \
             an apiserver as well{place}",
            service.port.value
        );
        let remedy = "keep it unless the clients' kubeconfigs and controlPlaneEndpoint are changed";
        let name = &pair.frontend.name;
        let note = self.note(Kind::Assumed, &name.at, &name.text, message, remedy);
        service.port.notes.push(note);
    }
}
