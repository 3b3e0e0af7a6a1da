//! What follows from `admin`. Pure.

use crate::config::Admin;

/// Who can do what by TCP; nothing if nobody can.
pub(super) fn describe(admin: &Admin) -> String {
    let Admin { listen, token_file, tls, .. } = admin;
    let Some(listen) = listen else { return String::new() };
    let reached = if listen.ip().is_loopback() { "on this node" } else { "in its network" };
    let mut text =
        format!("\nadmin: page, metrics and API at {listen}, read by everybody {reached}\n");
    text += match token_file {
        Some(_) => "  backends are drained, enabled and weighed by who has the token\n",
        None => "  nobody changes anything there: there is no token_file\n",
    };
    if listen.ip().is_loopback() {
        return text;
    }
    if tls.is_none() {
        let what = if token_file.is_some() { "all of it, the token too," } else { "all of it" };
        text += &format!(
            "  WARNING: whoever is on the way reads {what} for there is no TLS: set admin.tls, or listen on 127.0.0.1\n"
        );
    }
    if token_file.is_none() {
        text +=
            "  WARNING: addresses of backends and peers are shown to everybody who gets there\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn described(keys: &str) -> String {
        let text = format!(
            "services: [{{ name: a, vips: [10.0.0.1], port: 1, backends: [{{ name: b, address: \
             10.0.0.9 }}] }}]\nadmin: {{ {keys} }}\n"
        );
        describe(&crate::config::parse(&text, Path::new("f")).unwrap().admin)
    }

    #[test]
    fn what_others_may_see_or_do_is_warned_of() {
        assert_eq!(described(""), "");
        let local = described("listen: 127.0.0.1:9464");
        assert!(local.contains("everybody on this node") && local.contains("nobody changes"));
        assert!(!local.contains("WARNING"), "{local}");
        let token = "token_file: /t";
        let tls = "tls: { cert_file: /c, key_file: /k }";
        for (keys, in_clear, without_token) in [
            (String::new(), true, true),
            (token.to_owned(), true, false),
            (tls.to_owned(), false, true),
            (format!("{token}, {tls}"), false, false),
        ] {
            let text = described(&format!("listen: 10.0.0.2:9464, {keys}"));
            assert_eq!(text.contains("there is no TLS"), in_clear, "{text}");
            assert_eq!(text.contains("shown to everybody"), without_token, "{text}");
            assert!(text.contains("everybody in its network"), "{text}");
        }
        assert!(described("listen: 10.0.0.2:9464, token_file: /t").contains("the token too"));
    }
}
