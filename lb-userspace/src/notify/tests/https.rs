//! Webhooks over real TLS: whose certificates are accepted.

use std::sync::Arc;

use rustls::ServerConfig;

use super::*;
use crate::health::testing::{Authority, self_signed};

const HOST: &str = "127.0.0.1";

#[tokio::test]
async fn a_webhook_over_https_is_told_if_its_ca_signed_the_certificate() {
    let ca = Authority::new("alerts-ca");
    let (address, mut posts) = tls_server(ca.certify(HOST, 4000), &[200, 200]).await;
    let mut scene = Scene::new();
    scene.notifier.apply(&[secure(address, Some(ca.file()))]);
    scene.vip(1);
    scene.wait(|fare| fare.delivered == 1).await;
    let (head, body) = posts.recv().await.unwrap();
    assert!(head.starts_with("POST /hook?secret=x HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {address}\r\n")), "{head}");
    assert_eq!(body["address"], "1");
}

#[tokio::test]
async fn what_does_not_verify_is_not_told_and_the_reason_is_said() {
    let (ca, other) = (Authority::new("alerts-ca"), Authority::new("others-ca"));
    let cases = [
        (other.certify(HOST, 4000), "UnknownIssuer"),
        (self_signed(HOST), "UnknownIssuer"),
        (ca.certify(HOST, 2020), "expired"),
        (ca.certify("alerts.example", 4000), "not valid for name"),
    ];
    for (certificate, expected) in cases {
        let (address, mut posts) = tls_server(certificate, &[200]).await;
        let mut scene = Scene::new();
        scene.notifier.apply(&[secure(address, Some(ca.file()))]);
        scene.vip(1);
        scene.wait(|fare| fare.failed == 1).await;
        let error = scene.notifier.status()[0].error.clone().unwrap();
        assert!(error.contains("certificate") && error.contains(expected), "{error}");
        assert!(posts.try_recv().is_err());
    }
}

#[tokio::test]
async fn any_certificate_will_do_where_none_is_verified() {
    let (address, _posts) = tls_server(self_signed("whoever"), &[200]).await;
    let mut scene = Scene::new();
    scene.notifier.apply(&[secure(address, None)]);
    scene.vip(1);
    scene.wait(|fare| fare.delivered == 1).await;
}

#[tokio::test]
async fn a_new_ca_file_is_used_without_a_reload() {
    let (old, new) = (Authority::new("old-ca"), Authority::new("new-ca"));
    let (address, _posts) = tls_server(new.certify(HOST, 4000), &[200]).await;
    let mut scene = Scene::new();
    scene.notifier.apply(&[secure(address, Some(old.file()))]);
    scene.vip(1);
    scene.wait(|fare| fare.failed == 1).await;
    old.write(&new.pem);
    scene.vip(2);
    scene.wait(|fare| fare.delivered == 1).await;
}

fn secure(address: SocketAddr, ca_file: Option<PathBuf>) -> Target {
    let webhook = Url::parse(&format!("https://{address}/hook?secret=x")).unwrap();
    let action = Action::Webhook { webhook, token_file: None, ca_file, retries: 0 };
    Target { action, timeout: Duration::from_secs(10), ..super::webhook(address, None, 0) }
}

async fn tls_server(
    certificate: Arc<ServerConfig>,
    answers: &'static [u16],
) -> (SocketAddr, Posts) {
    serve(Some(certificate.into()), answers).await
}
