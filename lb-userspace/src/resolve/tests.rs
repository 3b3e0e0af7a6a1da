use std::path::Path;

use super::*;
use crate::config;

/// A name and its addresses.
type Known<'a> = (&'a str, &'a [&'a str]);

const TEXT: &str = "services:
  - name: api
    vips: [10.0.0.100, \"fd00::100\"]
    port: 6443
    backends:
      - { name: cp1, address: 10.0.0.11 }
      - { name: cp, host: apiservers.example.com, port: 6444, weight: 50 }
      - { name: same, host: others.example.com }
  - { name: v4, vips: [10.0.0.101], port: 1, backends: [{ name: cp, host: apiservers.example.com }] }
";

/// Answers → the backends of the first service.
#[test]
fn names_become_their_addresses() {
    let file = config::parse(TEXT, Path::new("f")).unwrap();
    let cases: [(&[Known<'_>], &str); 6] = [
        (&[], "cp1=10.0.0.11:6443/100"),
        (
            &[("apiservers.example.com", &["10.0.0.12", "10.0.0.13"])],
            "cp1=10.0.0.11:6443/100 cp@10.0.0.12=10.0.0.12:6444/50 cp@10.0.0.13=10.0.0.13:6444/50",
        ),
        (
            &[("apiservers.example.com", &["fd00::12"])],
            "cp1=10.0.0.11:6443/100 cp@fd00::12=[fd00::12]:6444/50",
        ),
        // One of its own VIPs, and one of another service.
        (
            &[("apiservers.example.com", &["10.0.0.100", "10.0.0.101", "10.0.0.12"])],
            "cp1=10.0.0.11:6443/100 cp@10.0.0.12=10.0.0.12:6444/50",
        ),
        // An endpoint that is there already; at another port it is another.
        (
            &[("others.example.com", &["10.0.0.11"]), ("apiservers.example.com", &["10.0.0.11"])],
            "cp1=10.0.0.11:6443/100 cp@10.0.0.11=10.0.0.11:6444/50",
        ),
        (&[("unrelated.example.com", &["10.0.0.12"])], "cp1=10.0.0.11:6443/100"),
    ];
    for (answers, expected) in cases {
        let effective = effective(&file, &known(answers));
        assert_eq!(shown(&effective.services[0]), expected);
        // What was resolved before counts for nothing.
        assert_eq!(super::effective(&effective, &Answers::new()).services, file.services);
        assert_eq!(super::effective(&effective, &known(answers)), effective);
    }
}

#[test]
fn a_name_is_asked_for_in_the_families_of_its_vips() {
    let file = config::parse(TEXT, Path::new("f")).unwrap();
    let questions: Vec<_> = questions(&file).iter().map(ToString::to_string).collect();
    let expected = [
        "apiservers.example.com (IPv4)",
        "apiservers.example.com (IPv6)",
        "others.example.com (IPv4)",
        "others.example.com (IPv6)",
    ];
    assert_eq!(questions, expected);
    let one = effective(&file, &known(&[("apiservers.example.com", &["10.0.0.12", "fd00::12"])]));
    assert_eq!(shown(&one.services[1]), "cp@10.0.0.12=10.0.0.12:1/100");
}

#[test]
fn what_names_resolve_to_does_not_change_how_many_backends_there_can_be() {
    let file = config::parse(TEXT, Path::new("f")).unwrap();
    let effective = effective(&file, &known(&[("apiservers.example.com", &["10.0.0.12"])]));
    for (before, after) in file.services.iter().zip(&effective.services) {
        assert_eq!(before.capacity(), after.capacity());
    }
    assert_eq!(file.services[0].capacity(), 1 + 2 * 2 * MAX_ADDRESSES);
}

/// What was known of names, what is → the sentences that are told.
#[test]
fn each_change_of_a_name_is_told_once() {
    let name = "cp.example.com";
    let failing = |mut answers: Answers, failure: Failure| {
        for answer in answers.values_mut() {
            answer.failure = Some(failure.clone());
        }
        answers
    };
    let (none, one) = (Answers::new(), known(&[(name, &["10.0.0.1"])]));
    let two = known(&[(name, &["10.0.0.1", "10.0.0.2", "fd00::1"])]);
    let timeout = failing(one.clone(), Failure::Timeout);
    let cases = [
        (&none, &one, "cp.example.com (IPv4): added 10.0.0.1"),
        (&one, &two, "cp.example.com (IPv4): added 10.0.0.2|cp.example.com (IPv6): added fd00::1"),
        (&two, &one, "cp.example.com (IPv4): removed 10.0.0.2"),
        (
            &one,
            &timeout,
            "cp.example.com (IPv4): no DNS server answers; its backends stay as they are",
        ),
        (&timeout, &one, "cp.example.com (IPv4): DNS answers again"),
        (&one, &one, ""),
        (&timeout, &timeout, ""),
        (&one, &none, ""),
    ];
    for (before, after, expected) in cases {
        let told: Vec<_> = changes(before, after).iter().map(ToString::to_string).collect();
        assert_eq!(told.join("|"), expected);
    }
}

#[test]
fn addresses_that_no_backend_can_have_are_not_used() {
    let refused = [
        "0.0.0.1",
        "127.0.0.1",
        "169.254.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "fe80::1",
        "ff02::1",
    ];
    let all = refused.iter().chain(&["10.0.0.2", "fd00::1", "10.0.0.1", "10.0.0.2"]);
    let (usable, rest) = usable(all.map(|it| ip(it)));
    assert_eq!(usable, ["10.0.0.1", "10.0.0.2", "fd00::1"].map(ip));
    assert_eq!(rest.len(), refused.len());
}

#[test]
fn of_too_many_addresses_the_lowest_are_used() {
    let all: Vec<IpAddr> = (1..=40).rev().map(|it| ip(&format!("10.0.0.{it}"))).collect();
    let (usable, refused) = usable(all);
    assert_eq!(usable.len(), MAX_ADDRESSES);
    assert_eq!((usable[0], usable[31]), (ip("10.0.0.1"), ip("10.0.0.32")));
    assert_eq!(refused.len(), 8);
}

fn known(answers: &[Known<'_>]) -> Answers {
    let mut known = Answers::new();
    for (host, addresses) in answers {
        for address in addresses.iter().map(|it| ip(it)) {
            let question = Question { host: (*host).to_owned(), family: Family::of(&address) };
            let since = SystemTime::UNIX_EPOCH;
            let answer = Answer { addresses: Vec::new(), failure: None, since };
            known.entry(question).or_insert(answer).addresses.push(address);
        }
    }
    known
}

fn shown(service: &Service) -> String {
    let backends = service.backends.iter();
    let backends = backends.map(|it| format!("{}={}/{}", it.name, it.endpoint(), it.weight));
    backends.collect::<Vec<_>>().join(" ")
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
