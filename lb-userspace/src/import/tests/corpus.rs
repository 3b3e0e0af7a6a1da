//! Pairs of files in the shapes that guides, installers and operators give them, each with what
//! becomes of it. `UPDATE_CORPUS=1 cargo test -p lb-userspace --lib -- import::tests::corpus` writes the
//! expected files anew: read the difference before keeping it.

use std::fs;

use rcgen::{CertificateParams, KeyPair};

use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/import/corpus")
}

/// The pairs by name.
fn pairs() -> Vec<PathBuf> {
    let mut pairs: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    pairs.sort();
    assert!(pairs.len() >= 20, "{}", pairs.len());
    pairs
}

fn import_pair(pair: &Path) -> Imported {
    let haproxy = fs::read(pair.join("haproxy.cfg")).unwrap();
    let keepalived = fs::read(pair.join("keepalived.conf")).unwrap();
    let config_id = fs::read_to_string(pair.join("config-id")).ok();
    let imported = import(&Inputs {
        haproxy: Some(Source { name: "haproxy.cfg", bytes: &haproxy }),
        keepalived: Some(Source { name: "keepalived.conf", bytes: &keepalived }),
        config_id: config_id.as_deref().map(str::trim),
        environment: BTreeMap::new(),
    });
    imported.unwrap_or_else(|error| panic!("{}: {error}", pair.display()))
}

#[test]
fn each_pair_becomes_what_is_expected() {
    let mut wrong = Vec::new();
    for pair in pairs() {
        let imported = import_pair(&pair);
        let written = [
            ("fairlead.yaml", imported.yaml),
            ("findings.txt", findings::report(&imported.findings)),
        ];
        for (name, text) in written {
            let path = pair.join(name);
            if std::env::var_os("UPDATE_CORPUS").is_some() {
                fs::write(&path, &text).unwrap();
            }
            if fs::read_to_string(&path).unwrap_or_default() != text {
                wrong.push(format!("{} should be:\n{text}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The files that a configuration names need not be on the machine that imports it.
#[test]
fn each_result_loads() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.crt");
    let key = KeyPair::generate().unwrap();
    fs::write(&ca, CertificateParams::default().self_signed(&key).unwrap().pem()).unwrap();
    for pair in pairs() {
        let imported = import_pair(&pair);
        assert!(imported.is_complete(), "{}", pair.display());
        let yaml: String = imported
            .yaml
            .lines()
            .map(|line| match line.split_once("ca_file: /") {
                Some((start, _)) if !start.contains('#') => {
                    format!("{start}ca_file: {}\n", ca.display())
                }
                _ => format!("{line}\n"),
            })
            .collect();
        let path = directory.path().join("fairlead.yaml");
        fs::write(&path, yaml).unwrap();
        if let Err(error) = config::load(&path) {
            panic!("{}: {error}", pair.display());
        }
    }
}

/// A password of VRRP has to be in the configuration; nothing repeats it, or any other.
#[test]
fn no_password_is_repeated() {
    for pair in pairs() {
        let imported = import_pair(&pair);
        let yaml = imported.yaml.lines().filter(|line| !line.starts_with("    authentication: "));
        let text = yaml.collect::<String>() + &findings::report(&imported.findings);
        for secret in
            ["42secret", "35f18af7", "awesome", "Username:Pass", "insecure-pass", "se#c!ret"]
        {
            assert!(!text.contains(secret), "{}: {secret}", pair.display());
        }
    }
}
