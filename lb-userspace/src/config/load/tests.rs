use rstest::rstest;
use tempfile::TempDir;

use super::*;
use crate::vrrp::settings::Password;

#[test]
fn loads_a_file_whose_ca_can_be_used() {
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    let folder = Folder::new();
    folder.write("ca.crt", ca.pem().as_bytes());
    assert_eq!(folder.load().unwrap().services.len(), 1);
}

#[rstest]
#[case::empty(b"", "has no PEM certificate; name the cluster's CA")]
#[case::text(b"not PEM\n", "has no PEM certificate; name the cluster's CA")]
#[case::key(
    b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    "has no PEM certificate"
)]
#[case::cut(b"-----BEGIN CERTIFICATE-----\nAAAA\n", "is broken PEM")]
#[case::no_x509(
    b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    "unusable certificate"
)]
fn ca_that_probes_could_not_use_is_refused(#[case] ca: &[u8], #[case] message: &str) {
    let folder = Folder::new();
    folder.write("ca.crt", ca);
    folder.assert_refused("6:24", "services[0].health.ca_file", message);
}

#[test]
fn absent_ca_is_refused() {
    let remedy = "No such file or directory (os error 2); create it, or name another one";
    Folder::new().assert_refused("6:24", "services[0].health.ca_file", remedy);
}

#[test]
fn directory_is_no_ca() {
    let folder = Folder::new();
    fs::create_dir(folder.0.path().join("ca.crt")).unwrap();
    folder.assert_refused("6:24", "services[0].health.ca_file", "name a regular file");
}

/// Content of the client's certificate, its key and the token → key and remedy; `PAIR` stands for
/// what fits.
#[rstest]
#[case::no_certificate("", "PAIR", "t", "client_cert_file", "name a certificate")]
#[case::cut("-----BEGIN CERTIFICATE-----\n", "PAIR", "t", "client_cert_file", "is broken PEM")]
#[case::no_key("PAIR", "text", "t", "client_key_file", "has no PEM private key")]
#[case::key_of_another(
    "PAIR",
    "OTHER",
    "t",
    "client_key_file",
    "is not the key of that certificate"
)]
#[case::no_token("PAIR", "PAIR", "\n", "token_file", "name a file with one token")]
#[case::two_tokens("PAIR", "PAIR", "a b", "token_file", "name a file with one token")]
fn credentials_that_probes_could_not_use_are_refused(
    #[case] cert: &str,
    #[case] key: &str,
    #[case] token: &str,
    #[case] place: &str,
    #[case] message: &str,
) {
    let keys = [rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap()];
    let client = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&keys[0]).unwrap();
    let folder = Folder::new();
    folder.write("ca.crt", client.pem().as_bytes());
    let [own, other] = keys.map(|key| key.serialize_pem());
    folder.write("client.crt", cert.replace("PAIR", &client.pem()).as_bytes());
    folder.write("client.key", key.replace("PAIR", &own).replace("OTHER", &other).as_bytes());
    folder.write("token", token.as_bytes());
    let path = |name| folder.0.path().join(name).display().to_string();
    let text = format!(
        "services:\n  - name: api\n    vips: [10.0.0.100]\n    port: 6443\n    \
         backends: [{{ name: cp1, address: 10.0.0.11 }}]\n    health:\n      ca_file: {}\n      \
         client_cert_file: {}\n      client_key_file: {}\n      token_file: {}\n",
        path("ca.crt"),
        path("client.crt"),
        path("client.key"),
        path("token"),
    );
    folder.write("fairlead.yaml", text.as_bytes());
    let error = folder.load().unwrap_err();
    let [problem] = error.problems() else { panic!("not one problem:\n{error}") };
    assert_eq!(problem.key, format!("services[0].health.{place}"), "{error}");
    assert!(problem.message.contains(message), "no {message:?} in: {error}");
    assert!(!error.to_string().contains("PRIVATE"), "{error}");
}

#[test]
fn text_that_is_not_utf8_is_refused_where_it_is() {
    let folder = Folder::new();
    folder.write("fairlead.yaml", b"version: 1\n# caf\xe9\n");
    folder.assert_refused("2:6", "", "save the file as UTF-8");
}

#[test]
fn absent_configuration_says_what_to_do() {
    let error = load(Path::new("/nonexistent/fairlead.yaml")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/nonexistent/fairlead.yaml: cannot read the configuration: No such file \
         or directory (os error 2); create it, or name another one"
    );
}

#[rstest]
#[case::just(0, true)]
#[case::above(1, false)]
fn configuration_has_a_largest_size(#[case] more: usize, #[case] is_read: bool) {
    let folder = Folder::new();
    let size = usize::try_from(MAX_BYTES).unwrap() + more;
    folder.write("fairlead.yaml", "#".repeat(size).as_bytes());
    let error = folder.load().unwrap_err();
    assert_eq!(matches!(error, ConfigError::Invalid { .. }), is_read, "{error}");
}

#[test]
fn only_a_regular_file_is_a_configuration() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [folder.path(), &pipe, Path::new("/dev/zero")] {
        let error = load(path).unwrap_err().to_string();
        let remedy = "it is not a regular file; name a regular file that this user can read";
        assert!(error.ends_with(remedy), "{error}");
    }
}

/// Holds `fairlead.yaml`, which refers to `ca.crt` beside it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(TempDir::new().unwrap());
        let ca = folder.0.path().join("ca.crt");
        let text = format!(
            "services:\n  - name: api\n    vips: [10.0.0.100]\n    port: 6443\n    \
             backends: [{{ name: cp1, address: 10.0.0.11 }}]\n    health: {{ ca_file: {} }}\n",
            ca.display()
        );
        folder.write("fairlead.yaml", text.as_bytes());
        folder
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.0.path().join(name), content).unwrap();
    }

    fn load(&self) -> Result<Config, ConfigError> {
        load(&self.0.path().join("fairlead.yaml"))
    }

    fn assert_refused(&self, place: &str, key: &str, message: &str) {
        let error = self.load().unwrap_err();
        let [problem] = error.problems() else { panic!("not one problem:\n{error}") };
        assert_eq!(format!("{}:{}", problem.line, problem.column), place, "{error}");
        assert_eq!(problem.key, key);
        assert!(problem.message.contains(message), "no {message:?} in: {error}");
    }
}

#[rstest]
#[case::right(b"secret\n", Ok(*b"secret\0\0"))]
#[case::first_line(b"12345678\nmore", Ok(*b"12345678"))]
#[case::long(b"123456789\n", Err("write 1 to 8 letters"))]
#[case::empty(b"", Err("write 1 to 8 letters"))]
fn a_password_is_the_first_line_of_its_file(
    #[case] content: &[u8],
    #[case] expected: Result<[u8; 8], &str>,
) {
    let folder = tempfile::tempdir().unwrap();
    let (password, config) = (folder.path().join("password"), folder.path().join("f.yaml"));
    fs::write(&password, content).unwrap();
    let text = format!(
        "services:\n  - {{ name: a, vips: [10.0.0.1], port: 1, health: {{ type: tcp }},\n      \
         backends: [{{ name: b, address: 10.0.0.9 }}] }}\nvrrp:\n  - {{ name: v, interface: eth0, \
         vrid: 5, vips: [10.0.0.1], version: 2,\n      authentication: {{ password_file: {} }} }}\n",
        password.display()
    );
    fs::write(&config, text).unwrap();
    match (load(&config), expected) {
        (Ok(config), Ok(data)) => assert_eq!(config.vrrp[0].password, Some(Password(data))),
        (Err(error), Err(message)) => {
            let error = error.to_string();
            assert!(error.contains(message) && error.contains("password_file"), "{error}");
        }
        (loaded, expected) => panic!("{loaded:?} instead of {expected:?}"),
    }
}
