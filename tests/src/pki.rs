//! Certificates as kubeadm makes them: a CA, and one for each apiserver.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The names besides its address that an apiserver's certificate is for.
const NAMES: [&str; 2] = ["kubernetes", "kubernetes.default.svc"];

/// A directory with `ca.crt`, and `NAME.crt` and `NAME.key` of each server.
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
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        let key = KeyPair::generate()?;
        fs::write(directory.join("ca.crt"), params.self_signed(&key)?.pem())?;
        let ca = Issuer::new(params, key);
        let mut addresses: BTreeMap<&str, Vec<A>> = BTreeMap::new();
        for (name, address) in servers {
            addresses.entry(name).or_insert_with(|| also.to_vec()).push(*address);
        }
        for (name, addresses) in addresses {
            let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
            let addresses = addresses.into_iter().map(|address| SanType::IpAddress(address.into()));
            params.subject_alt_names.extend(addresses);
            params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &ca)?;
            fs::write(directory.join(format!("{name}.crt")), certificate.pem())?;
            fs::write(directory.join(format!("{name}.key")), key.serialize_pem())?;
        }
        Ok(Self::open(directory))
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
