use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;

mod corpus;
mod hostile;
mod joined;

/// Imports texts as haproxy.cfg and keepalived.conf; an empty one is not there.
fn texts(haproxy: &str, keepalived: &str) -> Result<Imported, ImportError> {
    fn source<'a>(name: &'a str, text: &'a str) -> Option<Source<'a>> {
        (!text.is_empty()).then_some(Source { name, bytes: text.as_bytes() })
    }
    import(&Inputs {
        haproxy: source("haproxy.cfg", haproxy),
        keepalived: source("keepalived.conf", keepalived),
        ..Inputs::default()
    })
}

/// Whether there is a finding of this kind with this text in it.
fn has(imported: &Imported, kind: Kind, text: &str) -> bool {
    imported.findings.iter().any(|it| it.kind == kind && it.to_string().contains(text))
}
