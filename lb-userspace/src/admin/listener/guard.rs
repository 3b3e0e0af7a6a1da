//! Which requests are heard at all: those that ask for this host, and come from no page of another. Pure.
//!
//! A browser is in the operator's network, and does what any page says. A page whose name leads here (DNS rebinding) has
//! its own name in `Host`; one that sends something elsewhere (CSRF) is named by `Origin` or `Sec-Fetch-Site`, which
//! no script can change.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method};

use super::counts::Refused;

const HOST: &str = "host";
const ORIGIN: &str = "origin";
const SEC_FETCH_SITE: &str = "sec-fetch-site";
const SEC_FETCH_MODE: &str = "sec-fetch-mode";
const SEC_FETCH_DEST: &str = "sec-fetch-dest";

/// By what the listener may be called.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    hosts: BTreeSet<String>,
}

impl Guard {
    pub(super) fn new(listen: SocketAddr, allowed: &[String]) -> Self {
        let mut hosts: BTreeSet<String> = allowed.iter().cloned().collect();
        hosts.insert(listen.ip().to_string());
        if listen.ip().is_loopback() {
            // Of which a browser knows itself where it is.
            hosts.insert("localhost".to_owned());
        }
        Self { hosts }
    }

    pub(super) fn judge(&self, head: &Parts) -> Result<(), Refused> {
        let asked = authority(head).ok_or(Refused::Host)?;
        if !self.hosts.contains(&host(&asked)) {
            return Err(Refused::Host);
        }
        if is_of_another_site(&head.headers, &head.method, &asked) {
            return Err(Refused::Origin);
        }
        Ok(())
    }
}

/// Whom the request is for: of an absolute URI it is there, and then `Host` says the same (RFC 9112 section 3.2).
fn authority(head: &Parts) -> Option<Authority> {
    let host: Authority = single(&head.headers, HOST)?.parse().ok()?;
    let is_same = head.uri.authority().is_none_or(|it| it.as_str() == host.as_str());
    Some(host).filter(|host| is_same && !host.as_str().contains('@'))
}

/// As `Guard` has it. Ports do not matter: a forwarded one is another, and no name gets an address's by it.
fn host(authority: &Authority) -> String {
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => bare.trim_end_matches('.').to_ascii_lowercase(),
    }
}

fn is_of_another_site(headers: &HeaderMap, method: &Method, asked: &Authority) -> bool {
    if headers.contains_key(ORIGIN) {
        let origin = single(headers, ORIGIN).and_then(|origin| origin.split_once("://"));
        return !origin.is_some_and(|(scheme, origin)| {
            matches!(scheme, "http" | "https") && origin.eq_ignore_ascii_case(asked.as_str())
        });
    }
    if !headers.contains_key(SEC_FETCH_SITE) {
        // No browser, or one that would have sent an Origin with anything but a GET.
        return false;
    }
    match single(headers, SEC_FETCH_SITE) {
        Some("same-origin" | "none") => false,
        // Following a link, which shows the page and tells nobody of it.
        Some(_) | None => {
            let is = |name, value| single(headers, name) == Some(value);
            let is_link = is(SEC_FETCH_MODE, "navigate") && is(SEC_FETCH_DEST, "document");
            !(method == Method::GET && is_link)
        }
    }
}

/// The value of a header that is there once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use rstest::rstest;

    use super::*;

    fn head(lines: &[(&str, &str)], method: &str, uri: &str) -> Parts {
        let request = lines
            .iter()
            .fold(Request::builder().method(method).uri(uri), |request, (name, value)| {
                request.header(*name, *value)
            });
        request.body(()).unwrap().into_parts().0
    }

    fn guard() -> Guard {
        let allowed = ["lb1.example".to_owned(), "fd00::2".to_owned()];
        Guard::new("127.0.0.1:9464".parse().unwrap(), &allowed)
    }

    fn judge(lines: &[(&str, &str)], method: &str, uri: &str) -> Result<(), Refused> {
        guard().judge(&head(lines, method, uri))
    }

    #[rstest]
    #[case("127.0.0.1:9464", true)]
    #[case("127.0.0.1", true)]
    #[case("localhost:8080", true)]
    #[case("LocalHost.", true)]
    #[case("lb1.example:443", true)]
    #[case("[fd00:0::2]:9464", true)]
    #[case("", false)]
    #[case("127.0.0.2", false)]
    #[case("evil.example:9464", false)]
    #[case("lb1.example.evil.example", false)]
    #[case("evil@127.0.0.1", false)]
    #[case("127.0.0.1:9464/", false)]
    #[case("127.0.0.1, evil.example", false)]
    #[case("0x7f.1", false)]
    #[case("[::1]", false)]
    #[case("caf\u{e9}", false)]
    fn only_its_own_names_are_answered(#[case] host: &str, #[case] is_heard: bool) {
        let expected = if is_heard { Ok(()) } else { Err(Refused::Host) };
        assert_eq!(judge(&[("host", host)], "GET", "/v1/status"), expected);
    }

    #[test]
    fn who_names_no_host_or_two_is_refused() {
        assert_eq!(judge(&[], "GET", "/"), Err(Refused::Host));
        let own = ("host", "127.0.0.1");
        assert_eq!(judge(&[own, own], "GET", "/"), Err(Refused::Host));
        assert_eq!(judge(&[own], "GET", "http://127.0.0.1/"), Ok(()));
        assert_eq!(judge(&[own], "GET", "http://evil.example/"), Err(Refused::Host));
        let evil = ("host", "evil.example");
        assert_eq!(judge(&[evil], "GET", "http://127.0.0.1/"), Err(Refused::Host));
    }

    #[rstest]
    #[case(&[("origin", "http://127.0.0.1:9464")], true)]
    #[case(&[("origin", "https://127.0.0.1:9464")], true)]
    #[case(&[("origin", "http://127.0.0.1:9465")], false)]
    #[case(&[("origin", "http://localhost:9464")], false)]
    #[case(&[("origin", "http://evil.example")], false)]
    #[case(&[("origin", "null")], false)]
    #[case(&[("origin", "")], false)]
    #[case(&[("origin", "file://127.0.0.1:9464")], false)]
    #[case(&[("origin", "http://127.0.0.1:9464"), ("origin", "http://evil.example")], false)]
    #[case(&[("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")], false)]
    #[case(&[("sec-fetch-site", "same-origin")], true)]
    #[case(&[("sec-fetch-site", "none")], true)]
    #[case(&[("sec-fetch-site", "same-site")], false)]
    #[case(&[("sec-fetch-site", "cross-site")], false)]
    #[case(&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], false)]
    fn pages_of_other_sites_are_refused(#[case] headers: &[(&str, &str)], #[case] is_heard: bool) {
        let lines = [&[("host", "127.0.0.1:9464")], headers].concat();
        let expected = if is_heard { Ok(()) } else { Err(Refused::Origin) };
        for method in ["GET", "POST", "OPTIONS"] {
            assert_eq!(judge(&lines, method, "/v1/status"), expected, "{method}");
        }
    }

    #[test]
    fn a_link_may_lead_here_and_a_frame_or_a_form_may_not() {
        let from_elsewhere = |method, dest| {
            let lines = [
                ("host", "lb1.example"),
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", dest),
            ];
            judge(&lines, method, "/")
        };
        assert_eq!(from_elsewhere("GET", "document"), Ok(()));
        assert_eq!(from_elsewhere("GET", "iframe"), Err(Refused::Origin));
        assert_eq!(from_elsewhere("POST", "document"), Err(Refused::Origin));
    }
}
