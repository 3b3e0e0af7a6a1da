//! Who may be a peer: whoever has the key, and comes from where it is configured.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::eventually::eventually_is;

use super::PATIENCE;
use super::pair::{Pair, SYNC_PORT, wait_active, wait_synced, write_secret};
use crate::modes::NAT;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn another_key_is_refused_and_a_key_is_replaced_while_both_run() -> Result<()> {
    let pair = Pair::build(NAT)?;
    let (old, new) = ("11".repeat(16) + &"22".repeat(16), "33".repeat(16) + &"44".repeat(16));
    let other = pair.lab.directory().join("other-key");
    write_secret(&other, &new)?;
    let mut nodes = [pair.controller(0)?, pair.controller(1)?];
    nodes[1].write_config(&pair.yaml(1, &other, nodes[1].socket()))?;
    for node in &mut nodes {
        node.start()?;
    }
    // VRRP does not wait for what cannot be had.
    wait_active(&nodes[0])?;
    let refused = || Ok(nodes[1].status()?["sync"]["refused"]["key"].as_u64().unwrap_or_default());
    eventually_is("the key to be refused", PATIENCE, refused, |count| *count > 0)?;
    let said = nodes[1].log();
    ensure!(said.contains("it has none of our keys"), "{said}");
    ensure!(!said.contains(&old) && !said.contains(&new), "a key is in the log");
    // The new one in front, the old one behind it; then the old one goes.
    write_secret(&pair.key, &format!("{new}\n{old}\n"))?;
    nodes.iter().try_for_each(wait_synced)?;
    write_secret(&pair.key, &format!("{new}\n"))?;
    std::thread::sleep(Duration::from_millis(500));
    nodes.iter().try_for_each(wait_synced)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn strangers_and_nonsense_are_refused_and_counted() -> Result<()> {
    let pair = Pair::build(NAT)?;
    let mut node = pair.controller(1)?;
    node.start()?;
    let target = SocketAddr::new(pair.address(1), SYNC_PORT);
    let listening = || Ok(node.status()?["sync"]["listen"].clone());
    eventually_is("it to listen", PATIENCE, listening, |seen| !seen.is_null())?;
    let say = |netns: &lb_tests::netns::Netns, bytes: &[u8]| {
        netns.on_thread(|| {
            let mut stream = TcpStream::connect_timeout(&target, PATIENCE).context("connecting")?;
            // It may have been closed already.
            let _ = stream.write_all(bytes);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            Ok(answer)
        })
    };
    let answer = say(&pair.lab.client.netns, b"FLS\x01")?;
    ensure!(answer.is_empty(), "a stranger was answered: {answer:?}");
    let peer = &pair.lab.lbs[0].host.netns;
    let forged = [&b"FLS\x01\x00\x30"[..], &[7; 48]].concat();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"FLS\x09\x00\x30", b"FLS\x01\xff\xff", &forged] {
        let answer = say(peer, bytes)?;
        ensure!(answer.is_empty(), "{bytes:?} was answered: {answer:?}");
    }
    let refused = || Ok(node.status()?["sync"]["refused"].clone());
    eventually_is("everything to be counted", PATIENCE, refused, |refused| {
        let count = |reason: &str| refused[reason].as_u64().unwrap_or_default();
        count("stranger") == 1 && count("preface") == 2 && count("length") == 1 && count("key") == 1
    })
    .map(drop)
}
