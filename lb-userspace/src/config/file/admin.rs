//! Socket and TCP listener of the API. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::super::admin::{DEFAULT_SOCKET, MAX_ALLOWED_HOSTS};
use super::super::{Admin, ServerTls, Service, Vrrp};
use super::reader::Reader;
use super::scalar::{self, quoted};
use super::{Content, Field, Reference, Spot};

/// `sun_path` less its terminating zero.
const MAX_SOCKET_PATH: usize = 107;
const LISTEN: &str = "127.0.0.1:9464";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdminFile {
    socket: Field,
    listen: Field,
    token_file: Field,
    tls: Option<Spanned<TlsFile>>,
    allowed_hosts: Option<Spanned<Vec<Spanned<String>>>>,
    state_file: Field,
    watch_config: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsFile {
    cert_file: Field,
    key_file: Field,
}

impl Reader<'_> {
    pub(super) fn admin(
        &mut self,
        root: &Spot,
        file: Option<&Spanned<AdminFile>>,
        services: &[Service],
        vrrp: &[Vrrp],
    ) -> Admin {
        let Some(file) = file else {
            return Admin::default();
        };
        let scope = root.of("admin", file);
        let AdminFile { socket, listen, token_file, tls, allowed_hosts, state_file, watch_config } =
            &file.value;
        if listen.is_none() {
            self.only_for_a_listener(&scope, &file.value);
        }
        let own = services.iter().flat_map(|it| it.vips.iter().chain(&it.snat_addresses));
        let vips = own.chain(vrrp.iter().flat_map(|it| &it.vips)).copied().collect();
        let listen = listen
            .as_ref()
            .and_then(|text| self.listen(&scope.of("listen", text), &text.value, &vips));
        let token_file = token_file.as_ref().map(|text| {
            let spot = scope.of("token_file", text);
            self.admin_file(spot, &text.value, Content::AdminToken, "/etc/fairlead/admin-token")
        });
        let tls = tls.as_ref().and_then(|tls| self.server_tls(&scope.of("tls", tls), &tls.value));
        Admin {
            socket: self.socket(&scope, socket),
            listen,
            token_file,
            tls,
            allowed_hosts: self.allowed_hosts(&scope, allowed_hosts.as_ref()),
            state_file: self.state_file(&scope, state_file),
            watch_config: self.boolean(&scope.field("watch_config", watch_config), watch_config),
        }
    }

    fn socket(&mut self, scope: &Spot, socket: &Field) -> PathBuf {
        let path = socket.as_ref().map_or(DEFAULT_SOCKET, |path| path.value.as_str());
        let spot = scope.field("socket", socket);
        self.file_path(&spot, path, DEFAULT_SOCKET);
        if path.len() > MAX_SOCKET_PATH {
            self.wrong(
                &spot,
                format_args!(
                    "is too long; write at most {MAX_SOCKET_PATH} bytes: {DEFAULT_SOCKET}"
                ),
            );
        }
        PathBuf::from(path)
    }

    fn state_file(&mut self, scope: &Spot, state_file: &Field) -> Option<PathBuf> {
        state_file.as_ref().map(|file| {
            let example = "/var/lib/fairlead/overrides.json";
            self.file_path(&scope.of("state_file", file), &file.value, example);
            PathBuf::from(&file.value)
        })
    }

    fn only_for_a_listener(&mut self, scope: &Spot, file: &AdminFile) {
        let spots = [
            file.token_file.as_ref().map(|it| scope.of("token_file", it)),
            file.tls.as_ref().map(|it| scope.of("tls", it)),
            file.allowed_hosts.as_ref().map(|it| scope.of("allowed_hosts", it)),
        ];
        for spot in spots.into_iter().flatten() {
            self.wrong(
                &spot,
                format_args!(
                    "is for a listener, and there is none; remove it, or add `listen: {LISTEN}`"
                ),
            );
        }
    }

    /// An address of this node and a port.
    fn listen(&mut self, spot: &Spot, text: &str, vips: &BTreeSet<IpAddr>) -> Option<SocketAddr> {
        let Some(listen) = text.parse::<SocketAddr>().ok().filter(|it| it.port() != 0) else {
            let shown = quoted(text);
            self.wrong(
                spot,
                format_args!(
                    "{shown} is no address with a port; write one such as {LISTEN} or [::1]:9464"
                ),
            );
            return None;
        };
        let (address, port) = (listen.ip(), listen.port());
        if address.is_unspecified() {
            self.wrong(
                spot,
                format_args!(
                    "{address} is every address of the node, the VIPs too, which move; write one \
                     of its own, such as 127.0.0.1:{port}"
                ),
            );
            return None;
        }
        if vips.contains(&address) {
            self.wrong(
                spot,
                format_args!("{address} is a VIP, which moves; write the node's own address"),
            );
            return None;
        }
        // Loopback is for no peer, and the best there is for a listener.
        if !address.is_loopback()
            && let Err(fault) = scalar::peer(&address.to_string())
        {
            self.wrong(spot, fault);
            return None;
        }
        Some(listen)
    }

    fn server_tls(&mut self, scope: &Spot, file: &TlsFile) -> Option<ServerTls> {
        let TlsFile { cert_file, key_file } = file;
        let (cert, key) = ("/etc/fairlead/tls.crt", "/etc/fairlead/tls.key");
        for (name, field, example) in [("cert_file", cert_file, cert), ("key_file", key_file, key)]
        {
            if field.is_none() {
                self.missing(scope, name, &format!("a PEM file such as {example}"));
            }
        }
        let (cert_text, key_text) = (cert_file.as_ref()?, key_file.as_ref()?);
        let spot = scope.of("cert_file", cert_text);
        let cert_file = self.admin_file(spot, &cert_text.value, Content::ClientCertificate, cert);
        let spot = scope.of("key_file", key_text);
        let content = Content::ClientKey(cert_file.clone());
        let key_file = self.admin_file(spot, &key_text.value, content, key);
        Some(ServerTls { cert_file, key_file })
    }

    fn allowed_hosts(
        &mut self,
        scope: &Spot,
        list: Option<&Spanned<Vec<Spanned<String>>>>,
    ) -> Vec<String> {
        let Some(list) = list else { return Vec::new() };
        let scope = scope.of("allowed_hosts", list);
        if list.value.len() > MAX_ALLOWED_HOSTS {
            self.wrong(&scope, format_args!("has too many; write at most {MAX_ALLOWED_HOSTS}"));
        }
        let mut hosts: Vec<String> = Vec::new();
        for (index, text) in list.value.iter().enumerate() {
            let spot = scope.element(index, text);
            let address = text.value.parse().map(|address: IpAddr| address.to_string());
            let host = address.or_else(|_| scalar::host(&text.value));
            let Some(host) = self.accept(&spot, host) else { continue };
            let host = host.trim_end_matches('.').to_owned();
            if hosts.contains(&host) {
                self.wrong(
                    &spot,
                    format_args!("{host} is in the list already; remove one of the two"),
                );
            } else {
                hosts.push(host);
            }
        }
        hosts
    }

    fn admin_file(&mut self, spot: Spot, text: &str, content: Content, example: &str) -> PathBuf {
        let path = PathBuf::from(text);
        self.file_path(&spot, text, example);
        self.references.push(Reference { path: path.clone(), spot, content });
        path
    }

    pub(super) fn file_path(&mut self, spot: &Spot, path: &str, example: &str) {
        if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
            self.wrong(
                spot,
                format_args!(
                    "{} is not the absolute path of a file; write one such as {example}",
                    quoted(path)
                ),
            );
        }
    }
}
