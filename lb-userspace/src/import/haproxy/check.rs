//! How HAProxy checks servers: `option httpchk`, `http-check` and `tcp-check`. Pure.

use super::super::findings::{Findings, Kind};
use super::super::source::{Place, Read, Sited, Word};
use super::section::Line;

/// What `option` chose, and the directives that go with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Check {
    pub(crate) method: Option<Sited<Method>>,
    /// Of `option httpchk` and `http-check send`.
    pub(crate) path: Option<Word>,
    pub(crate) http_method: Option<Word>,
    /// `http-check connect ... ssl`
    pub(crate) connect_ssl: Option<Place>,
    pub(crate) connect_port: Option<Word>,
    pub(crate) connect_sni: Option<Word>,
    pub(crate) expect_status: Option<Word>,
    /// The Host header.
    pub(crate) host: Option<Word>,
    /// Whether the directives are a `defaults` section's, which the first own one replaces.
    pub(crate) is_inherited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Tcp,
    Http,
    SslHello,
    /// A protocol that no apiserver speaks.
    Other,
}

impl Check {
    /// `option NAME ...`, at its name; whether it is one of ours.
    pub(crate) fn option(&mut self, line: &Line, at: usize, findings: &mut Findings) -> Read<bool> {
        let Some(name) = line.words.get(at) else { return Ok(false) };
        let method = match name.text.as_str() {
            "httpchk" => Method::Http,
            "ssl-hello-chk" => Method::SslHello,
            "tcp-check" => Method::Tcp,
            "ldap-check" | "mysql-check" | "pgsql-check" | "redis-check" | "smtpchk"
            | "spop-check" | "external-check" => Method::Other,
            _ => return Ok(false),
        };
        line.expanded()?;
        self.method = Some(Sited::new(method, &line.keyword().at));
        match method {
            Method::Http => self.httpchk(&line.words[at + 1..], findings),
            Method::Other => {
                let remedy = "a TCP probe is written instead: see whether that will do";
                let message = "Fairlead probes by HTTPS, HTTP or TCP";
                findings.add(Kind::Changed, &name.at, &name.text, message, remedy);
            }
            Method::Tcp | Method::SslHello => {}
        }
        Ok(true)
    }

    /// `no option NAME` and `default option NAME`.
    pub(crate) fn without(&mut self, name: &str) {
        if matches!(name, "httpchk" | "ssl-hello-chk" | "tcp-check") {
            self.method = None;
        }
    }

    /// `[METHOD] URI [VERSION [Host]]`
    fn httpchk(&mut self, words: &[Word], findings: &mut Findings) {
        self.own();
        match words {
            [] => {}
            [uri] => self.path = Some(uri.clone()),
            [method, uri, rest @ ..] => {
                self.http_method = Some(method.clone());
                self.path = Some(uri.clone());
                // Headers used to be hidden in the version.
                for word in rest {
                    for line in word.text.split('\n').skip(1).filter(|line| !line.trim().is_empty())
                    {
                        let (name, value) = line.split_once(':').unwrap_or((line, ""));
                        self.header(name, Word::new(value.trim(), word.at.clone()), findings);
                    }
                }
            }
        }
    }

    fn header(&mut self, name: &str, value: Word, findings: &mut Findings) {
        if name.trim().eq_ignore_ascii_case("host") {
            self.host = Some(value);
            return;
        }
        let message = "of all headers Fairlead's probe can be told the Host alone";
        let remedy = "nothing to do for an apiserver, which looks at none of them";
        findings.add(Kind::NotCarriedOver, &value.at, name.trim(), message, remedy);
    }

    fn own(&mut self) {
        if self.is_inherited {
            *self = Self { method: self.method.clone(), ..Self::default() };
        }
    }

    /// `http-check ...`
    pub(crate) fn http_check(&mut self, line: &Line, findings: &mut Findings) -> Read<()> {
        line.expanded()?;
        let action = line.required(1, "what to do, such as send or expect")?;
        let subject = format!("http-check {}", action.text);
        match action.text.as_str() {
            "send" => {
                self.own();
                self.send(&line.words[2..], findings)?;
            }
            "expect" => {
                self.own();
                self.expect(&line.words[2..], findings);
            }
            "connect" => {
                self.own();
                self.connect(&line.words[2..], findings)?;
            }
            "disable-on-404" => {
                let message = "404 counts as a failure";
                let remedy = "drain with `fairlead backend drain`, or let /readyz say so";
                findings.add(Kind::Changed, &action.at, &subject, message, remedy);
            }
            "comment" | "send-state" | "set-var" | "set-var-fmt" | "unset-var" => {
                let message = "Fairlead's probe has no use for it";
                findings.add(Kind::Needless, &action.at, &subject, message, "nothing to do");
            }
            _ => findings.not_understood(action),
        }
        Ok(())
    }

    fn send(&mut self, words: &[Word], findings: &mut Findings) -> Read<()> {
        let mut rest = words;
        while let Some((word, values)) = rest.split_first() {
            let value = |index: usize| {
                let message = format!("`{}` ends the line; expected its value", word.text);
                values.get(index).ok_or_else(|| word.at.error(message))
            };
            let used = match word.text.as_str() {
                "meth" => {
                    self.http_method = Some(value(0)?.clone());
                    1
                }
                "uri" => {
                    self.path = Some(value(0)?.clone());
                    1
                }
                "ver" | "comment" => {
                    value(0)?;
                    1
                }
                "hdr" => {
                    let (name, text) = (value(0)?, value(1)?);
                    self.header(&name.text, text.clone(), findings);
                    2
                }
                "uri-lf" | "body" | "body-lf" => {
                    value(0)?;
                    let message = "Fairlead's probe sends GET with a fixed path and no body";
                    let remedy = "see that `health.path` is right";
                    findings.add(Kind::NotCarriedOver, &word.at, &word.text, message, remedy);
                    1
                }
                _ => {
                    findings.not_understood(word);
                    0
                }
            };
            rest = &values[used..];
        }
        Ok(())
    }

    /// What the answer must be: Fairlead takes 200, and 401 and 403 as alive.
    fn expect(&mut self, words: &[Word], findings: &mut Findings) {
        let text = |index: usize| words.get(index).map(|word| word.text.as_str());
        match (text(0), text(1), words.len()) {
            (Some("status"), Some(_), 2) => self.expect_status = words.get(1).cloned(),
            _ => {
                let Some(word) = words.first() else { return };
                let message = "Fairlead judges an answer by its status alone: 200 is up";
                let remedy = "see that the path answers 200 exactly when the server is well";
                let subject = format!("http-check expect {}", word.text);
                findings.add(Kind::NotCarriedOver, &word.at, &subject, message, remedy);
            }
        }
    }

    fn connect(&mut self, words: &[Word], findings: &mut Findings) -> Read<()> {
        let mut rest = words;
        while let Some((word, values)) = rest.split_first() {
            let value = || {
                let message = format!("`{}` ends the line; expected its value", word.text);
                values.first().ok_or_else(|| word.at.error(message))
            };
            let used = match word.text.as_str() {
                "ssl" => {
                    self.connect_ssl = Some(word.at.clone());
                    0
                }
                "default" | "linger" => 0,
                "port" => {
                    self.connect_port = Some(value()?.clone());
                    1
                }
                "sni" => {
                    self.connect_sni = Some(value()?.clone());
                    1
                }
                "alpn" | "proto" | "comment" => {
                    value()?;
                    1
                }
                "addr" => {
                    value()?;
                    let message = "Fairlead probes the address that it sends connections to";
                    findings.add(Kind::NotCarriedOver, &word.at, &word.text, message, OWN_ADDRESS);
                    1
                }
                "send-proxy" | "via-socks4" => {
                    let message = "Fairlead's probe connects directly";
                    findings.add(Kind::NotCarriedOver, &word.at, &word.text, message, OWN_ADDRESS);
                    0
                }
                _ => {
                    findings.not_understood(word);
                    0
                }
            };
            rest = &values[used..];
        }
        Ok(())
    }

    /// `tcp-check ...`: a dialogue of which nothing but the connection is left.
    pub(crate) fn tcp_check(&self, line: &Line, findings: &mut Findings) {
        let word = line.keyword();
        let subject = format!("tcp-check {}", line.text(1));
        match line.text(1) {
            "connect" if line.words.len() == 2 => {}
            "comment" => {}
            _ => {
                let message = "Fairlead's TCP probe connects and closes, without a dialogue";
                let remedy = "for an apiserver write `health: { type: https, path: /readyz }`";
                findings.add(Kind::NotCarriedOver, &word.at, &subject, message, remedy);
            }
        }
    }
}

const OWN_ADDRESS: &str = "see that the backend's own address answers";
