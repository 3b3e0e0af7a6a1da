//! Certificates that do not verify: one backend's trouble, or everybody's (E36).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use lb_tests::eventually::eventually_is;
use lb_tests::load::Talk;
use lb_tests::pki::Pki;
use lb_tests::scrape::wait_sum;
use lb_tests::topology::{API_PORT, Topology};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::apiservers::{
    Apiservers, EVER, PATIENCE, SLACK, alarms, assert_nothing_lost, more_answers, of_each, panics,
    wait_each,
};

const WATCHES: usize = 30;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_certificate_that_does_not_verify_takes_one_out_and_never_all() {
    let scene = Apiservers::build().unwrap();
    let controller = scene.balanced(&["damping: 0s"]).unwrap();
    let load = scene.load(30, WATCHES).unwrap();
    more_answers(&load, 30).unwrap();

    let (service, backend) = ("service=\"kube-apiserver\"", "backend=\"cp2\"");
    let changed = "fairlead_backend_state_change_timestamp_seconds";
    let before = wait_sum(&controller, changed, &[service, backend], |at| at > 0.0).unwrap();
    wait_sum(&controller, "fairlead_service_alarms", &[service], |count| count == 0.0).unwrap();
    expire(&scene, "cp2").unwrap();
    wait_each(&controller, "state", ["up", "down", "up"], PATIENCE).unwrap();
    wait_sum(&controller, "fairlead_service_alarms", &[service], |count| count == 1.0).unwrap();
    wait_sum(&controller, changed, &[service, backend], |at| at > before).unwrap();
    assert_eq!(of_each(&controller, "reason").unwrap()["cp2"], "certificate: expired");
    let said = alarms(&controller).unwrap();
    assert!(said.contains("cp2: certificate: expired; taken out"), "{said}");
    // Those that it has are none of the certificate's business.
    assert_eq!(load.watches.open(), WATCHES);
    assert!(load.watches.breaks(&EVER).is_empty());
    // What is asked for on new connections fails at the client, as it should.
    load.finish_connections();

    expire(&scene, "cp1").unwrap();
    expire(&scene, "cp3").unwrap();
    wait_each(&controller, "health", ["unverified"; 3], PATIENCE).unwrap();
    wait_each(&controller, "state", ["up"; 3], SLACK).unwrap();
    wait_each(&controller, "effective_weight", ["100"; 3], SLACK).unwrap();
    assert!(!panics(&controller).unwrap());
    let said = alarms(&controller).unwrap();
    assert!(said.contains("same fault (expired); used unverified: cp1, cp2, cp3"), "{said}");
    assert!(controller.log().contains("the same fault (expired)"), "{}", controller.log());
    let refusal = handshake(&scene.lab, &scene.pki.client_config().unwrap()).unwrap();
    assert!(refusal.contains("expired"), "{refusal}");

    // A new CA, which the file names together with the old one in the middle of a rotation.
    let hosts: Vec<_> =
        scene.lab.backends.iter().map(|host| (host.name.as_str(), host.address)).collect();
    let directory = scene.lab.directory().join("new-pki");
    let new = Pki::create(&directory, &hosts, &[scene.lab.vip()]).unwrap();
    scene.pki.also_trust(&new).unwrap();
    for (name, _) in &hosts {
        scene.control(name).set_tls(new.server_config(name).unwrap());
    }
    wait_each(&controller, "health", ["up"; 3], PATIENCE).unwrap();
    let none = |said: &String| said == "[]";
    eventually_is("no alarm", PATIENCE, || alarms(&controller), none).unwrap();
    let told = controller.cli(&["events"]).unwrap();
    for alarm in ["cp2: certificate: expired", "certificates: every backend that answers"] {
        for expected in [format!("kube-apiserver: {alarm}"), format!("resolved: {alarm}")] {
            assert_eq!(told.matches(&expected).count(), 1, "{expected}: {told}");
        }
    }
    assert_eq!(load.watches.open(), WATCHES);
    assert_eq!(controller.log().matches("ready").count(), 1, "it was not restarted");
    drop(load);
    let load = scene.load_of(Talk::tls(&new).unwrap(), 30, 0).unwrap();
    more_answers(&load, 30).unwrap();
    assert_nothing_lost(load);
}

/// The server gets a certificate that has expired, from the same CA.
fn expire(scene: &Apiservers, name: &str) -> Result<()> {
    let host = scene.lab.backend(name)?;
    let addresses = [host.address.into(), scene.lab.vip().into()];
    scene.pki.issue(name, &addresses, Some(2020))?;
    scene.control(name).set_tls(scene.pki.server_config(name)?);
    Ok(())
}

/// What a client says that cares for certificates.
fn handshake(lab: &Topology, tls: &Arc<ClientConfig>) -> Result<String> {
    let target = SocketAddr::from((lab.vip(), API_PORT));
    lab.client.netns.on_thread(|| {
        let stream = std::net::TcpStream::connect_timeout(&target, Duration::from_secs(3))?;
        let name = ServerName::IpAddress(target.ip().into());
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(tls), name)?, stream);
        let ended = std::io::Write::write_all(&mut stream, b"hello");
        Ok(ended.err().map_or_else(|| "no error".to_owned(), |error| error.to_string()))
    })
}
