//! Certificates as kubeadm makes them: a CA, and one for each apiserver.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The names besides its address that an apiserver's certificate is for.
const NAMES: [&str; 2] = ["kubernetes", "kubernetes.default.svc"];

/// A directory with `ca.crt`, `ca.key`, and `NAME.crt` and `NAME.key` of each server.
#[derive(Clone, Debug)]
pub struct Pki {
    directory: PathBuf,
}

impl Pki {
    /// Makes a CA and a certificate for each server, `also` (the VIP) being among their addresses. A server
    /// with several addresses is named as often.
    pub fn create<A: Copy + Into<IpAddr>>(
        directory: &Path,
        servers: &[(&str, A)],
        also: &[A],
    ) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        let key = KeyPair::generate()?;
        fs::write(directory.join("ca.crt"), ca_params()?.self_signed(&key)?.pem())?;
        fs::write(directory.join("ca.key"), key.serialize_pem())?;
        let pki = Self::open(directory);
        let mut addresses: BTreeMap<&str, Vec<IpAddr>> = BTreeMap::new();
        for (name, address) in servers {
            let also = || also.iter().map(|address| (*address).into()).collect();
            addresses.entry(name).or_insert_with(also).push((*address).into());
        }
        for (name, addresses) in addresses {
            pki.issue(name, &addresses, None)?;
        }
        Ok(pki)
    }

    /// Makes a server's certificate, in place of the one it had; expired since the first of January of
    /// that year, if one is given.
    pub fn issue(&self, name: &str, addresses: &[IpAddr], expired: Option<i32>) -> Result<()> {
        let key = KeyPair::from_pem(&fs::read_to_string(self.directory.join("ca.key"))?)?;
        let ca = Issuer::new(ca_params()?, key);
        let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
        params.subject_alt_names.extend(addresses.iter().map(|it| SanType::IpAddress(*it)));
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if let Some(year) = expired {
            params.not_after = date_time_ymd(year, 1, 1);
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &ca)?;
        fs::write(self.directory.join(format!("{name}.crt")), certificate.pem())?;
        fs::write(self.directory.join(format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }

    /// Trusts another CA besides its own, as in the middle of a rotation.
    pub fn also_trust(&self, other: &Self) -> Result<()> {
        let both = fs::read_to_string(self.ca_file())? + &fs::read_to_string(other.ca_file())?;
        fs::write(self.ca_file(), both).context("writing both CAs")
    }

    /// One that was made before.
    pub fn open(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The CA's certificate, for clients and for the health checks.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// TLS as the server `name` speaks it.
    pub fn server_config(&self, name: &str) -> Result<Arc<ServerConfig>> {
        let (crt, key) = (
            self.directory.join(format!("{name}.crt")),
            self.directory.join(format!("{name}.key")),
        );
        let chain = vec![
            CertificateDer::from_pem_file(&crt)
                .with_context(|| format!("reading {}", crt.display()))?,
        ];
        let key = PrivateKeyDer::from_pem_file(&key)
            .with_context(|| format!("reading {}", key.display()))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        // Tickets cost a handshake more than they are worth to clients that never resume.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// TLS as a client that trusts this CA speaks it, with a full handshake each time.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>> {
        let path = self.ca_file();
        let mut roots = RootCertStore::empty();
        roots.add(
            CertificateDer::from_pem_file(&path)
                .with_context(|| format!("reading {}", path.display()))?,
        )?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn ca_params() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "kubernetes");
    Ok(params)
}
