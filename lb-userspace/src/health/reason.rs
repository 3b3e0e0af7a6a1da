//! What a probe found, in words: the `reason` of `status`. Pure.

use std::fmt;
use std::io;
use std::time::Duration;

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No probe has ended yet.
    NotProbed,
    /// The state is that of an earlier run of the controller; no probe has confirmed it yet.
    Adopted,
    /// A TCP connection was made.
    Connected,
    /// A complete HTTP answer with this status.
    Status(u16),
    /// This, but well when etcd does not count.
    WithoutEtcd(Box<Self>),
    /// This, but live.
    NotReady(Box<Self>),
    /// RST in answer to the SYN.
    Refused,
    /// Connecting failed otherwise: no route, ICMP error.
    Unreachable(io::ErrorKind),
    /// The probe's time was up.
    Timeout(Stage),
    /// The server's certificate does not do: the fault, then perhaps a comma and what only this server's
    /// says.
    Certificate(String),
    /// Another failure of the TLS handshake.
    Tls(String),
    /// The server closed or reset the connection before its answer was complete.
    Closed,
    /// The answer was not HTTP, or its head too large.
    BadResponse,
    /// The probe could not be made; the backend is not to blame.
    Local(String),
    /// It answered as expected, and is held for so long because it was lost soon after its last return.
    Held(Duration),
}

/// What a probe was doing when its time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the CA file, the client certificate or the token.
    Prepare,
    Connect,
    Handshake,
    Response,
}

impl Reason {
    const MAX_TEXT: usize = 120;

    /// Whether the server lives but does not let us see its health: anonymous requests are off.
    pub const fn is_unverified(&self) -> bool {
        matches!(self, Self::Status(401 | 403))
    }

    /// Whether established connections are lost as well: nothing listens, or nothing gets there.
    pub const fn is_hard(&self) -> bool {
        matches!(self, Self::Refused | Self::Unreachable(_) | Self::Timeout(Stage::Connect))
    }

    pub const fn is_certificate(&self) -> bool {
        matches!(self, Self::Certificate(_))
    }

    /// What is wrong between the server's TLS and ours, without what differs from server to server.
    pub fn trust_fault(&self) -> Option<&str> {
        match self {
            Self::Certificate(what) => what.split(',').next(),
            Self::Tls(what) => Some(what),
            Self::NotProbed
            | Self::Adopted
            | Self::Connected
            | Self::Status(_)
            | Self::Refused
            | Self::Unreachable(_)
            | Self::Timeout(_)
            | Self::WithoutEtcd(_)
            | Self::NotReady(_)
            | Self::Closed
            | Self::BadResponse
            | Self::Local(_)
            | Self::Held(_) => None,
        }
    }

    /// A server chooses what some texts say; this bounds how much.
    pub(crate) fn bounded(text: impl fmt::Display) -> String {
        text.to_string().chars().filter(|c| !c.is_control()).take(Self::MAX_TEXT).collect()
    }
}

/// The `reason` of `status`.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProbed => f.write_str("not probed yet"),
            Self::Adopted => f.write_str("adopted, not probed yet"),
            Self::Connected => f.write_str("connected"),
            Self::Status(status) if self.is_unverified() => {
                write!(f, "{status} (alive, unverified)")
            }
            Self::Status(status) => write!(f, "{status}"),
            Self::WithoutEtcd(reason) => write!(f, "{reason} (ready but for etcd)"),
            Self::NotReady(reason) => write!(f, "{reason} (not ready, but live)"),
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable(kind) => write!(f, "{kind}"),
            Self::Timeout(Stage::Prepare) => {
                f.write_str("timeout while reading the files of the check")
            }
            Self::Timeout(Stage::Connect) => f.write_str("timeout while connecting"),
            Self::Timeout(Stage::Handshake) => f.write_str("timeout in the TLS handshake"),
            Self::Timeout(Stage::Response) => f.write_str("timeout while waiting for the answer"),
            Self::Certificate(what) => write!(f, "certificate: {what}"),
            Self::Tls(what) => write!(f, "TLS: {what}"),
            Self::Closed => f.write_str("connection closed early"),
            Self::BadResponse => f.write_str("not a valid HTTP answer"),
            Self::Local(what) => write!(f, "cannot probe: {what}"),
            Self::Held(hold) => write!(
                f,
                "answers, but was lost soon after its last return: held until it was well for {} s",
                hold.as_secs_f64()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_well_in_status() {
        let cases = [
            (Reason::Status(200), "200"),
            (Reason::Status(401), "401 (alive, unverified)"),
            (Reason::Status(500), "500"),
            (Reason::WithoutEtcd(Box::new(Reason::Status(500))), "500 (ready but for etcd)"),
            (Reason::NotReady(Box::new(Reason::Status(500))), "500 (not ready, but live)"),
            (Reason::Refused, "connection refused"),
            (Reason::Unreachable(io::ErrorKind::HostUnreachable), "host unreachable"),
            (Reason::Timeout(Stage::Connect), "timeout while connecting"),
            (Reason::Certificate("expired".to_owned()), "certificate: expired"),
        ];
        for (reason, text) in cases {
            assert_eq!(reason.to_string(), text);
        }
    }

    #[test]
    fn faults_of_trust_are_the_same_whatever_name_the_server_has() {
        let fault = |name: &str| {
            let text = format!("not valid for kubernetes, but for {name}");
            Reason::Certificate(text).trust_fault().map(str::to_owned)
        };
        assert_eq!(fault("cp1, cp1.example"), fault("cp2"));
        assert_eq!(fault("cp1").as_deref(), Some("not valid for kubernetes"));
        assert_eq!(Reason::Closed.trust_fault(), None);
    }

    #[test]
    fn texts_of_servers_are_bounded() {
        let text = Reason::bounded("é\n".repeat(1000));
        assert_eq!(text.chars().count(), Reason::MAX_TEXT);
        assert!(!text.contains('\n'));
    }
}
