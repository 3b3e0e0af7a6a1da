//! What an operator asks of connections, and does to them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_tests::controller::Controller;
use lb_tests::eventually::{Seen, eventually};
use lb_tests::family::Family;
use lb_tests::plain;
use lb_tests::topology::{Plan, Topology};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(10);
const CLIENTS: u16 = 40;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn connections_are_foretold_listed_counted_and_purged() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    for family in Family::ALL {
        let mut controller = plain::start_up_of(&lab, family)?;
        let clients = lab.client.netns.on_thread(|| foretold(&lab, family, &controller))?;
        let by_server = counted(&clients);
        assert_eq!(by_server.len(), 3, "{by_server:?}");
        listed(&controller, &clients)?;
        put_together(&controller, &clients)?;
        purged(&controller, clients)?;
        controller.stop(false)?;
    }
    Ok(())
}

/// A connection, and who answers.
struct Client {
    stream: TcpStream,
    local: SocketAddr,
    server: String,
}

/// Connects from ports of which the controller says whom they get.
fn foretold(lab: &Topology, family: Family, controller: &Controller<'_>) -> Result<Vec<Client>> {
    let target = plain::target_of(lab, family);
    let source = lab.client.address_of(family);
    let connect = |port| {
        let local = SocketAddr::new(source, port);
        let trace = json(controller, &["trace", &local.to_string(), &target.to_string()])?;
        let backend = trace["traces"][0]["backend"].as_str().context("no backend")?.to_owned();
        let client = Client::connect(local, target)?;
        assert_eq!(client.server, backend, "{trace:#}");
        Ok(client)
    };
    (42_000..42_000 + CLIENTS).map(connect).collect()
}

fn counted(clients: &[Client]) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    for client in clients {
        *counts.entry(client.server.as_str()).or_default() += 1;
    }
    counts
}

fn listed(controller: &Controller<'_>, clients: &[Client]) -> Result<()> {
    for (server, count) in counted(clients) {
        let backend = format!("plain/{server}");
        let list = json(controller, &["flows", "list", "--backend", &backend])?;
        let flows = list["flows"].as_array().context("no list")?;
        assert_eq!(flows.len() as u64, count, "{list:#}");
        for flow in flows {
            let client = clients.iter().find(|it| flow["client"] == it.local.to_string());
            assert_eq!(client.context("an unknown client")?.server, server);
            assert_eq!(flow["state"], "ESTABLISHED");
        }
    }
    let client = &clients[0];
    let local = client.local.to_string();
    let trace = json(controller, &["trace", &local, &controller_vip(client)?])?;
    let flow = &trace["traces"][0]["flow"];
    assert_eq!(
        (&flow["backend"], &flow["client"]),
        (&client.server.as_str().into(), &local.into())
    );
    Ok(())
}

/// By whom they are of, as JSON and as CSV.
fn put_together(controller: &Controller<'_>, clients: &[Client]) -> Result<()> {
    let top = json(controller, &["flows", "top"])?;
    let first = &top["groups"][0];
    assert_eq!(first["client"], clients[0].local.ip().to_string(), "{top:#}");
    assert_eq!((&first["established"], &top["flows"]), (&CLIENTS.into(), &CLIENTS.into()));
    let top = json(controller, &["flows", "top", "--by", "backend"])?;
    let groups = top["groups"].as_array().context("no groups")?;
    let said: BTreeMap<&str, u64> = groups
        .iter()
        .filter_map(|it| Some((it["backend"].as_str()?, it["flows"].as_u64()?)))
        .collect();
    assert_eq!(said, counted(clients), "{top:#}");
    let list = controller.cli(&["flows", "list", "--csv"])?;
    assert_eq!(list.lines().count(), usize::from(CLIENTS) + 1, "{list}");
    assert!(list.starts_with("client,vip,service,backend,"), "{list}");
    Ok(())
}

fn controller_vip(client: &Client) -> Result<String> {
    Ok(client.stream.peer_addr()?.to_string())
}

/// Those of one backend are reset; those of the others do not notice.
fn purged(controller: &Controller<'_>, clients: Vec<Client>) -> Result<()> {
    let count = counted(&clients)["cp1"];
    let said = json(controller, &["flows", "purge", "--backend", "cp1", "--reset"])?;
    assert_eq!((&said["removed"], &said["reset"]), (&count.into(), &count.into()), "{said}");
    let rest: u64 = u64::from(CLIENTS) - count;
    assert_eq!(json(controller, &["flows", "count"])?["flows"], rest);
    let said = json(controller, &["flows", "purge", "--state", "established"])?;
    assert_eq!((&said["removed"], &said["reset"]), (&rest.into(), &0.into()), "{said}");
    assert_eq!(json(controller, &["flows", "count"])?["flows"], 0);
    for mut client in clients {
        if client.server == "cp1" {
            eventually("the client to be reset", PATIENCE, || {
                let error = client.stream.take_error()?;
                Ok(error.map_or_else(|| Seen::Pending("nothing".to_owned()), |_| Seen::Done(())))
            })?;
        } else {
            client.exchange()?;
        }
    }
    // They are known again.
    assert_eq!(json(controller, &["flows", "count"])?["flows"], rest);
    Ok(())
}

fn json(controller: &Controller<'_>, words: &[&str]) -> Result<Value> {
    let said = controller.cli(&[words, &["--json"]].concat())?;
    serde_json::from_str(&said).with_context(|| format!("{words:?}: {said}"))
}

impl Client {
    fn connect(local: SocketAddr, target: SocketAddr) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(local), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&local.into())?;
        socket.connect_timeout(&target.into(), PATIENCE)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        let server = read_line(&stream)?;
        Ok(Self { stream, local, server })
    }

    fn exchange(&mut self) -> Result<()> {
        self.stream.write_all(b"still there?\n")?;
        let answer = read_line(&self.stream)?;
        assert_eq!(answer, "still there?");
        Ok(())
    }
}

fn read_line(stream: &TcpStream) -> Result<String> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}
