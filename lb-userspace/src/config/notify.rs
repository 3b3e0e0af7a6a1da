//! Who is told of events, as the configuration says. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use serde::{Serialize, Serializer};

use crate::admin::model::Kind;

/// One of `notify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Never empty.
    pub events: BTreeSet<Kind>,
    #[serde(flatten)]
    pub action: Action,
    /// For a program, or for one attempt to post.
    pub timeout: Duration,
    /// Events that may wait.
    pub queue: u32,
}

/// How it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Action {
    Exec {
        /// The program's absolute path, and its arguments.
        exec: Vec<String>,
    },
    Webhook {
        webhook: Url,
        token_file: Option<PathBuf>,
        /// Whose certificates are accepted; `None`: any.
        ca_file: Option<PathBuf>,
        /// Attempts after the first.
        retries: u32,
    },
}

/// Where to post: `http` or `https`, with a host. What follows the host may be secret, and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(Uri);

impl Url {
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        (is_known && has_host && !has_user).then_some(Self(uri))
    }

    pub fn is_tls(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        let host = self.0.host().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    pub fn port(&self) -> u16 {
        self.0.port_u16().unwrap_or_else(|| if self.is_tls() { 443 } else { 80 })
    }

    /// As the header `Host` has it.
    pub fn authority(&self) -> &str {
        self.0.authority().map_or("", |authority| authority.as_str())
    }

    /// What the request asks for: possibly secret.
    pub fn path(&self) -> &str {
        self.0.path_and_query().map_or("/", |path| path.as_str())
    }
}

/// Scheme and host.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls() { "https" } else { "http" };
        write!(f, "{scheme}://{}/...", self.authority())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Target {
    /// As logs and `status` call it: arguments may be secret too.
    pub fn name(&self) -> String {
        match &self.action {
            Action::Exec { exec } => exec.first().cloned().unwrap_or_default(),
            Action::Webhook { webhook, .. } => webhook.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_no_more_than_its_host() {
        let url = Url::parse("https://hooks.example:8443/T0/secret?key=secret").unwrap();
        assert_eq!(url.to_string(), "https://hooks.example:8443/...");
        assert_eq!(format!("{url:?}"), url.to_string());
        assert_eq!(
            (url.host(), url.port(), url.path()),
            ("hooks.example", 8443, "/T0/secret?key=secret")
        );
        let url = Url::parse("http://[fd00::1]").unwrap();
        assert_eq!((url.host(), url.port(), url.path()), ("fd00::1", 80, "/"));
    }
}
