//! What a probe does. Pure.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Probe {
    /// Connects and closes.
    Tcp,
    Http {
        #[serde(flatten)]
        request: Request,
    },
    Https {
        #[serde(flatten)]
        request: Request,
        #[serde(flatten)]
        tls: Tls,
    },
}

/// What an HTTP probe asks for, and which answers will do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Request {
    pub path: String,
    /// Asked for when `path` is not well: if this is, only etcd is not.
    pub degraded_path: Option<String>,
    /// Asked for when `path` answered that it is not well: if this is, the server wants no new
    /// connections, but keeps its old ones.
    pub live_path: Option<String>,
    /// The `Host` header; `None`: the endpoint, or in HTTPS the server name.
    pub host: Option<String>,
    pub expect_status: Statuses,
}

impl Request {
    /// A request for `path` alone, which is to be answered with 200.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            degraded_path: None,
            live_path: None,
            host: None,
            expect_status: Statuses::default(),
        }
    }
}

/// The statuses that are as expected; never none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Statuses(Vec<(u16, u16)>);

impl Default for Statuses {
    fn default() -> Self {
        Self(vec![(200, 200)])
    }
}

impl Statuses {
    /// Those of `ranges`; 200 if there are none.
    pub fn new(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Self {
        let ranges: Vec<_> = ranges.into_iter().map(RangeInclusive::into_inner).collect();
        if ranges.is_empty() { Self::default() } else { Self(ranges) }
    }

    pub fn contain(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

/// As the file has them: 200, or 200-299.
impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(first, last)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        }))
    }
}

/// Whom an HTTPS probe trusts, and what it shows of itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Tls {
    /// Name for SNI and for the certificate.
    pub server_name: String,
    pub verify: Verify,
    /// Shown to servers that ask for a certificate.
    #[serde(flatten)]
    pub identity: Option<Identity>,
    /// File with a bearer token, which is sent with every request.
    pub token_file: Option<PathBuf>,
}

impl Tls {
    /// No more than a name and whom to trust.
    pub fn new(server_name: impl Into<String>, verify: Verify) -> Self {
        Self { server_name: server_name.into(), verify, identity: None, token_file: None }
    }
}

/// Whose certificates a probe accepts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// Those signed by a CA of this PEM file.
    Ca(PathBuf),
    /// Any: `insecure_skip_verify: true`.
    Skip,
}

/// PEM files of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Identity {
    /// The certificate, then those between it and the CA.
    #[serde(rename = "client_cert_file")]
    pub cert_file: PathBuf,
    #[serde(rename = "client_key_file")]
    pub key_file: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_the_ranges() {
        let statuses = Statuses::new([200..=200, 300..=302]);
        for (status, expected) in
            [(199, false), (200, true), (201, false), (300, true), (303, false)]
        {
            assert_eq!(statuses.contain(status), expected, "{status}");
        }
        assert_eq!(Statuses::new([]), Statuses::default());
        assert!(Statuses::default().contain(200));
    }
}
