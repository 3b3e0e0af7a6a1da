//! What nodes share their flows by. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::super::sync::{MAX_PEERS, Sync};
use super::super::{Service, Vrrp};
use super::reader::Reader;
use super::scalar::{self, quoted};
use super::{Content, Field, Reference, Spot};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SyncFile {
    listen: Field,
    peers: Option<Spanned<Vec<Spanned<String>>>>,
    key_file: Field,
}

impl Reader<'_> {
    pub(super) fn sync(
        &mut self,
        root: &Spot,
        file: Option<&Spanned<SyncFile>>,
        services: &[Service],
        vrrp: &[Vrrp],
    ) -> Option<Sync> {
        let file = file?;
        let scope = root.of("sync", file);
        let own = services.iter().flat_map(|it| it.vips.iter().chain(&it.snat_addresses));
        let vips = own.chain(vrrp.iter().flat_map(|it| &it.vips)).copied().collect();
        let SyncFile { listen, peers, key_file } = &file.value;
        let listen = match listen {
            Some(listen) => {
                self.node(&scope.of("listen", listen), &listen.value, "10.0.0.2:7946", &vips)
            }
            None => {
                self.missing(&scope, "listen", "an address of this node and a port: 10.0.0.2:7946");
                None
            }
        };
        let peers = self.sync_peers(&scope, peers.as_ref(), listen, &vips);
        let key_file = self.sync_key(&scope, key_file);
        Some(Sync { listen: listen?, peers, key_file: key_file? })
    }

    fn sync_peers(
        &mut self,
        scope: &Spot,
        list: Option<&Spanned<Vec<Spanned<String>>>>,
        listen: Option<SocketAddr>,
        vips: &BTreeSet<IpAddr>,
    ) -> Vec<SocketAddr> {
        let example = "where the other node listens: [10.0.0.3:7946]";
        let Some(list) = list else {
            self.missing(scope, "peers", example);
            return Vec::new();
        };
        let scope = scope.of("peers", list);
        if list.value.is_empty() {
            self.wrong(&scope, format_args!("is empty; write {example}"));
        }
        if list.value.len() > MAX_PEERS {
            self.wrong(&scope, format_args!("has too many; write at most {MAX_PEERS}"));
        }
        let mut peers: Vec<SocketAddr> = Vec::new();
        for (index, text) in list.value.iter().enumerate() {
            let spot = scope.element(index, text);
            let Some(peer) = self.node(&spot, &text.value, "10.0.0.3:7946", vips) else { continue };
            if listen.is_some_and(|listen| listen.ip() == peer.ip()) {
                self.wrong(&spot, "is this node itself, as `listen` says; write the other nodes");
            } else if listen.is_some_and(|listen| listen.is_ipv4() != peer.is_ipv4()) {
                self.wrong(&spot, "is of another family than `listen`; write both of one family");
            } else if peers.iter().any(|known| known.ip() == peer.ip()) {
                let address = peer.ip();
                self.wrong(
                    &spot,
                    format_args!("{address} is in the list already; remove one of the two"),
                );
            } else {
                peers.push(peer);
            }
        }
        peers
    }

    /// Address and port of a node.
    fn node(
        &mut self,
        spot: &Spot,
        text: &str,
        example: &str,
        vips: &BTreeSet<IpAddr>,
    ) -> Option<SocketAddr> {
        let Some(node) = text.parse::<SocketAddr>().ok().filter(|node| node.port() != 0) else {
            let shown = quoted(text);
            self.wrong(
                spot,
                format_args!(
                    "{shown} is no address with a port; write one such as {example} or [fd00::2]:7946"
                ),
            );
            return None;
        };
        if let Err(fault) = scalar::peer(&node.ip().to_string()) {
            self.wrong(spot, fault);
            return None;
        }
        if vips.contains(&node.ip()) {
            self.wrong(
                spot,
                format_args!("{} is a VIP, which moves; write the node's own address", node.ip()),
            );
            return None;
        }
        Some(node)
    }

    fn sync_key(&mut self, scope: &Spot, field: &Field) -> Option<PathBuf> {
        let Some(text) = field else {
            let example =
                "a file with 32 random bytes: openssl rand -hex 32 > /etc/fairlead/sync-key";
            self.missing(scope, "key_file", example);
            return None;
        };
        let spot = scope.of("key_file", text);
        let path = PathBuf::from(&text.value);
        if !path.is_absolute() {
            let shown = quoted(&text.value);
            self.wrong(
                &spot,
                format_args!(
                    "{shown} is not an absolute path; write one such as /etc/fairlead/sync-key"
                ),
            );
            return None;
        }
        let content = Content::SyncKeys;
        self.references.push(Reference { path: path.clone(), spot, content });
        Some(path)
    }
}
