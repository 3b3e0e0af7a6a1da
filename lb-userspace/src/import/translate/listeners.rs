//! `bind` lines to ports and VIPs. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::draft::Noted;
use super::super::findings::Kind;
use super::super::haproxy::Proxy;
use super::super::haproxy::bind::{Bind, V6};
use super::super::haproxy::value::{Host, Port};
use super::super::source::Place;
use super::Translator;

/// A range of more ports is not made into services.
const MOST_PORTS: u16 = 16;

/// Where a frontend listens on one port.
#[derive(Clone, Debug, Default)]
pub(super) struct Listener {
    /// Addresses that were named.
    pub(super) named: Vec<IpAddr>,
    /// All addresses of a family, and where that is said.
    pub(super) any_v4: Option<Place>,
    pub(super) any_v6: Option<Place>,
    pub(super) notes: Vec<String>,
}

impl Translator<'_> {
    /// The ports of a frontend that can be carried over.
    pub(super) fn listeners(&mut self, proxy: &Proxy) -> BTreeMap<u16, Listener> {
        let mut listeners = BTreeMap::new();
        for bind in &proxy.binds {
            if self.can_forward(bind) {
                self.listen(bind, &mut listeners);
            }
        }
        listeners
    }

    fn can_forward(&mut self, bind: &Bind) -> bool {
        if let Some(at) = &bind.ssl {
            let message = "TLS ends in HAProxy here, but Fairlead forwards TCP as it is";
            let remedy = "let the servers speak TLS themselves, or leave this one to HAProxy";
            self.findings.add(Kind::NotCarriedOver, at, "bind ... ssl", message, remedy);
        }
        if let Some(at) = &bind.accept_proxy {
            let message = "clients send the PROXY protocol's header, which the servers would get";
            let remedy = "let the clients connect without it";
            self.findings.add(Kind::NotCarriedOver, at, "accept-proxy", message, remedy);
        }
        bind.ssl.is_none() && bind.accept_proxy.is_none()
    }

    fn listen(&mut self, bind: &Bind, listeners: &mut BTreeMap<u16, Listener>) {
        if let Some(interface) = &bind.interface {
            self.interface(&interface.text);
        }
        for endpoint in &bind.endpoints {
            let (first, last) = match endpoint.value.port {
                Port::Fixed(port) => (port, port),
                Port::Range(first, last) if last - first < MOST_PORTS => (first, last),
                Port::Range(first, last) => {
                    let count = u32::from(last - first) + 1;
                    let message = format!("{count} ports would be as many services");
                    let remedy = "write those that are needed";
                    let subject = format!("ports {first}-{last}");
                    self.findings.add(
                        Kind::NotCarriedOver,
                        &endpoint.at,
                        &subject,
                        message,
                        remedy,
                    );
                    continue;
                }
                Port::None | Port::Offset(_) => {
                    if endpoint.value.host != Host::Local {
                        self.no_address(&endpoint.at, "it has no port", "write the port");
                    } else {
                        let message = "it is no TCP port";
                        self.no_address(&endpoint.at, message, "clients must use the VIP");
                    }
                    continue;
                }
            };
            for port in first..=last {
                let listener = listeners.entry(port).or_default();
                self.address(&endpoint.value.host, bind.families, &endpoint.at, listener);
            }
        }
        listeners
            .retain(|_, it| !it.named.is_empty() || it.any_v4.is_some() || it.any_v6.is_some());
    }

    fn no_address(&mut self, at: &Place, message: &str, remedy: &str) {
        self.findings.add(Kind::NotCarriedOver, at, "bind", message, remedy);
    }

    fn address(&mut self, host: &Host, families: Option<V6>, at: &Place, listener: &mut Listener) {
        match host {
            Host::Any => listener.any_v4 = Some(at.clone()),
            Host::Ip(IpAddr::V4(v4)) if v4.is_unspecified() => listener.any_v4 = Some(at.clone()),
            Host::Ip(IpAddr::V6(v6)) if v6.is_unspecified() => {
                listener.any_v6 = Some(at.clone());
                if families == Some(V6::Only) {
                    return;
                }
                listener.any_v4 = Some(at.clone());
                if families.is_none() {
                    let message = "`::` is taken for all IPv4 addresses too, as Linux does unless \
                                   net.ipv6.bindv6only is set";
                    let remedy = "remove the IPv4 VIPs if it is";
                    listener.notes.push(self.note(Kind::Assumed, at, "bind", message, remedy));
                }
            }
            Host::Ip(address) => self.named(*address, at, listener),
            Host::Name(name) => {
                let message = format!("{name} is not looked up");
                self.no_address(at, &message, "write its address");
            }
            Host::Local => self.no_address(at, "it is no TCP port", "clients must use the VIP"),
        }
    }

    fn named(&mut self, address: IpAddr, at: &Place, listener: &mut Listener) {
        if address.is_loopback() {
            let message = format!("{address} is for clients on this node itself");
            self.no_address(at, &message, "let them use the VIP");
        } else if !self.knows_vips {
            let message = format!("{address} is taken for a VIP, which Fairlead adds and removes");
            let remedy = "if it is the node's own address, write a VIP instead";
            listener.notes.push(self.note(Kind::Assumed, at, "bind", message, remedy));
            listener.named.push(address);
        } else if self.vips.contains_key(&address) {
            listener.named.push(address);
        } else {
            let message = format!(
                "{address} is no VIP of keepalived.conf, so it is taken for the node's own address, \
                 which Fairlead must not own"
            );
            self.no_address(at, &message, "let clients use a VIP");
        }
    }

    /// The VIPs of a listener. Empty when they are not known.
    pub(super) fn vips_of(&mut self, listener: &Listener, port: u16) -> Noted<Vec<IpAddr>> {
        let mut vips = Noted { value: listener.named.clone(), notes: listener.notes.clone() };
        for (place, is_v6) in [(&listener.any_v4, false), (&listener.any_v6, true)] {
            let Some(at) = place else { continue };
            let rest: Vec<IpAddr> = self
                .vips
                .keys()
                .filter(|vip| vip.is_ipv6() == is_v6 && !self.claimed.contains(&(**vip, port)))
                .copied()
                .collect();
            if rest.is_empty() {
                continue;
            }
            let family = if is_v6 { "IPv6" } else { "IPv4" };
            let message = format!(
                "it listens on all addresses, of which the {family} VIPs of keepalived.conf are \
                 taken"
            );
            let remedy = "remove those that clients do not use for this";
            vips.notes.push(self.note(Kind::Assumed, at, "bind", message, remedy));
            vips.value.extend(rest);
        }
        let mut seen = Vec::new();
        vips.value.retain(|vip| {
            !seen.contains(vip) && {
                seen.push(*vip);
                true
            }
        });
        if vips.value.is_empty()
            && let Some(at) = listener.any_v4.as_ref().or(listener.any_v6.as_ref())
        {
            let message = "it listens on all addresses, and no VIP is known";
            let remedy = "write the address that clients use: `vips: [10.0.0.100]`";
            vips.notes.push(self.note(Kind::ToDo, at, "bind", message, remedy));
        }
        vips
    }
}
