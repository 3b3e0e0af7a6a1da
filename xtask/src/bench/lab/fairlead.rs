//! Our own controller's configuration. Pure.

use std::fmt::Write as _;
use std::path::Path;

use super::Service;

/// What a controller is configured as.
pub(crate) struct Settings<'a> {
    pub(crate) mode: &'a str,
    pub(crate) services: &'a [Service],
    pub(crate) socket: &'a Path,
    /// `limits` and whole sections besides.
    pub(crate) more: &'a str,
}

/// Defaults, wherever there is one, but for TCP as the health check, which is what HAProxy does too.
pub(crate) fn text(settings: &Settings<'_>) -> Result<String, std::fmt::Error> {
    let mut text = format!(
        "version: 1\ninterfaces: [eth0]\nadmin: {{ socket: {} }}\n{}services:\n",
        settings.socket.display(),
        settings.more,
    );
    for Service { name, vip, port, backends } in settings.services {
        write!(
            text,
            "  - name: {name}\n    vips: [{vip}]\n    port: {port}\n    mode: {}\n    \
             health: {{ type: tcp }}\n    backends:\n",
            settings.mode
        )?;
        for (name, address) in backends {
            let (ip, port) = (address.ip(), address.port());
            writeln!(text, "      - {{ name: {name}, address: {ip}, port: {port} }}")?;
        }
    }
    Ok(text)
}
