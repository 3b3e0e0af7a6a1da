//! The password of version 2. Pure.

use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::super::reader::Reader;
use super::super::scalar::quoted;
use super::super::{Content, Field, Reference, Spot};
use super::{Version, VrrpFile};
use crate::vrrp::settings::Password;

/// What the protocol has room for.
const MAX_PASSWORD: usize = 8;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthenticationFile {
    #[serde(rename = "type")]
    kind: Field,
    password: Field,
    password_file: Field,
}

impl Reader<'_> {
    pub(super) fn authentication(
        &mut self,
        index: usize,
        scope: &Spot,
        file: &VrrpFile,
        version: Version,
    ) -> (Option<Password>, Option<PathBuf>) {
        let Some(file) = &file.authentication else { return (None, None) };
        let scope = scope.of("authentication", file);
        if version == Version::V3 {
            self.wrong(
                &scope,
                "version 3 has no authentication; remove the section, or write `version: 2` on \
                 all nodes",
            );
            return (None, None);
        }
        let AuthenticationFile { kind, password, password_file } = &file.value;
        let spot = scope.field("type", kind);
        match kind.as_ref().map(|kind| kind.value.as_str()) {
            None | Some("pass") => {}
            Some("ah") => self.wrong(
                &spot,
                "AH is not available: RFC 3768 removed it, and keepalived advises against it; \
                 write pass on all nodes",
            ),
            Some(other) => {
                self.wrong(&spot, format_args!("{} is not possible; write pass", quoted(other)))
            }
        }
        match (password, password_file) {
            (Some(password), None) => {
                let read = password_of(&password.value);
                if let Err(message) = read {
                    self.wrong(&scope.of("password", password), message);
                }
                (read.ok(), None)
            }
            (None, Some(path)) => (None, self.password_file(index, &scope, path)),
            (Some(_), Some(path)) => {
                let spot = scope.of("password_file", path);
                self.wrong(&spot, "password is there too; remove one of the two");
                (None, None)
            }
            (None, None) => {
                self.missing(&scope, "password", "`password:` or `password_file:`");
                (None, None)
            }
        }
    }

    fn password_file(
        &mut self,
        index: usize,
        scope: &Spot,
        text: &Spanned<String>,
    ) -> Option<PathBuf> {
        let spot = scope.of("password_file", text);
        let path = PathBuf::from(&text.value);
        if !path.is_absolute() {
            let shown = quoted(&text.value);
            self.wrong(
                &spot,
                format_args!(
                    "{shown} is not an absolute path; write one such as /etc/fairlead/vrrp-password"
                ),
            );
            return None;
        }
        let content = Content::Password(index);
        self.references.push(Reference { path: path.clone(), spot, content });
        Some(path)
    }
}

/// What is sent for a password, or what is wrong with it: never the password itself.
pub(in crate::config) fn password_of(text: &str) -> Result<Password, &'static str> {
    let mut data = [0; MAX_PASSWORD];
    if text.is_empty() || text.len() > data.len() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("cannot be sent; write 1 to 8 letters, digits and signs without spaces \
                    (keepalived cuts longer ones after 8)");
    }
    data[..text.len()].copy_from_slice(text.as_bytes());
    Ok(Password(data))
}
