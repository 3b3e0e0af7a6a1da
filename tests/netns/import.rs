//! The corpus of the import is real input: HAProxy and keepalived themselves take its files, but for what
//! is said of each below.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lb_tests::command::output;
use lb_tests::netns::Netns;
use rcgen::{CertificateParams, KeyPair};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../lb-userspace/src/import/corpus");

/// What is of the machines that the files are for, and what there is here in its place; `<here>` has a
/// certificate under each of its names.
const ELSEWHERE: [(&str, &str); 4] = [
    ("/etc/kubernetes/pki/ca.crt", "<here>/k8s-ca.pem"),
    ("/etc/haproxy/dashboard.pem", "<here>/dashboard.pem"),
    ("/etc/ssl/certs", "<here>"),
    ("bootstrap.ocp4.example.com", "192.0.2.1"),
];

/// A pair, and what may be said against it.
type Faults = (&'static str, &'static [&'static str]);

/// Lines for other versions than 2.6, or for none at all.
const HAPROXY: [Faults; 3] = [
    ("14-includes", &["x.lua", "'monitor-net' doesn't exist", "'frobnicate'", "'frob'"]),
    ("20-haproxy-2.8", &["'tune.listener.default-shards'", "'guid'"]),
    ("21-plain-http", &["nbproc is not supported", "'contimeout' directive"]),
];

/// That there were some faults.
const SUMMARIES: [&str; 2] = ["Error(s) found in configuration", "Fatal errors found"];

/// What the interfaces of all pairs are called.
const INTERFACES: [&str; 12] = [
    "bond0.100",
    "bond0.200",
    "br-ex",
    "eno1",
    "ens192",
    "ens3",
    "eth0",
    "eth1",
    "eth3",
    "eth4",
    "p1p1",
    "vlan20",
];

/// Of any pair: scripts that are not on this machine, and what keepalived only remarks.
const REMARKS: [&str; 4] = [
    "since not found/accessible",
    "script_security not enabled",
    "Truncating auth_pass",
    "since own interface",
];

const KEEPALIVED: [Faults; 4] = [
    (
        "14-includes",
        &["Config files missing", "'net_namespace'", "'frobnicate'", "cannot track route"],
    ),
    ("16-ipvs", &["protocol specified for fwmark", "has port specified"]),
    (
        "17-unicast-v3-fast",
        &["MUST be of the same family", "does not support authentication", "in units of 10ms"],
    ),
    ("22-offsets", &["(a) Unknown interface"]),
];

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn haproxy_takes_the_files_of_the_corpus() -> Result<()> {
    let here = tempfile::tempdir()?;
    for name in ["k8s-ca.pem", "dashboard.pem"] {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::default().self_signed(&key)?;
        fs::write(here.path().join(name), certificate.pem() + &key.serialize_pem())?;
    }
    let directory = here.path().to_str().context("a path in UTF-8")?;
    for pair in pairs()? {
        let mut text = fs::read_to_string(pair.join("haproxy.cfg"))?;
        for (elsewhere, instead) in ELSEWHERE {
            text = text.replace(elsewhere, &instead.replace("<here>", directory));
        }
        let file = here.path().join("haproxy.cfg");
        fs::write(&file, text)?;
        let mut check = Command::new("haproxy");
        let (is_valid, said) = run(check.args(["-c", "-f"]).arg(&file).current_dir(&pair))?;
        let alerts = said.lines().filter(|line| line.starts_with("[ALERT]"));
        let faults = alerts.filter(|line| !SUMMARIES.iter().any(|summary| line.contains(summary)));
        judge(&pair, is_valid, faults, &HAPROXY)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn keepalived_takes_the_files_of_the_corpus() -> Result<()> {
    let netns = Netns::unique("corpus")?;
    for (number, name) in INTERFACES.iter().enumerate() {
        netns.ip(&format!("link add {name} type veth peer name peer{number}"))?;
    }
    for pair in pairs()? {
        let mut check = netns.command("keepalived");
        check.args(["-t", "-f", "keepalived.conf"]).current_dir(&pair);
        if let Ok(id) = fs::read_to_string(pair.join("config-id")) {
            check.args(["-i", id.trim()]);
        }
        let (_, said) = run(&mut check)?;
        let lines = said.lines().filter(|line| !line.trim().is_empty());
        let faults = lines.filter(|line| !REMARKS.iter().any(|remark| line.contains(remark)));
        // It counts its remarks as faults.
        judge(&pair, true, faults, &KEEPALIVED)?;
    }
    Ok(())
}

fn pairs() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(CORPUS).context(CORPUS)?;
    let pairs: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    ensure!(pairs.len() >= 20, "{} pairs", pairs.len());
    Ok(pairs)
}

/// Whether it ended well, and what it said.
fn run(command: &mut Command) -> Result<(bool, String)> {
    let output = output(command)?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.code().is_some(), "{}", output.status);
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// Every fault must be one that is known of the pair; without any it must be valid.
fn judge<'a>(
    pair: &Path,
    is_valid: bool,
    faults: impl Iterator<Item = &'a str>,
    known: &[Faults],
) -> Result<()> {
    let known = known.iter().filter(|(name, _)| pair.ends_with(name));
    let known: Vec<&str> = known.flat_map(|(_, faults)| faults.iter().copied()).collect();
    for fault in faults {
        let is_known = known.iter().any(|known| fault.contains(known));
        ensure!(is_known, "{}: {fault}", pair.display());
    }
    ensure!(is_valid || !known.is_empty(), "{} is not valid", pair.display());
    Ok(())
}
