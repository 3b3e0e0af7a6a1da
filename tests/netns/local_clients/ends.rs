//! No connection outlives its backend.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

use lb_tests::command::Signal;

use super::*;

/// Until a backend that refuses is given up: `reset_delay`, two probes, and a busy machine.
const NOTICED: Duration = Duration::from_secs(10);

/// Open connections to each of the backends.
fn connections(nodes: &Nodes, index: usize, family: Family) -> Result<Vec<Client>> {
    nodes.on(index, || (0..MANY / 4).map(|_| Client::connect(nodes.vip(family))).collect())
}

/// A backend vanishes without a word: its frames go nowhere.
fn vanish(nodes: &Nodes, name: &str) -> Result<()> {
    nodes.lab.backend(name)?.netns.ip("link set eth0 down").map(drop)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
#[expect(clippy::disallowed_methods, reason = "a test of how long something lasts")]
fn connections_to_a_backend_that_vanished_are_ended_on_active_and_backup() -> Result<()> {
    let nodes = Nodes::build(2)?;
    let (active, backup) = (nodes.start(0)?, nodes.start(1)?);
    let mut clients = Vec::new();
    for index in [0, 1] {
        for family in Family::ALL {
            clients.extend(connections(&nodes, index, family)?);
        }
    }
    vanish(&nodes, "cp1")?;
    let since = Instant::now();
    let (lost, others): (Vec<_>, Vec<_>) =
        clients.into_iter().partition(|client| client.server == "cp1");
    ensure!(lost.len() > 4 && others.len() > 4, "{} {}", lost.len(), others.len());
    let count = lost.len() as u64;
    for client in lost {
        let end = client.wait_end(NOTICED)?;
        ensure!(end == ErrorKind::ConnectionAborted, "{end:?}");
    }
    crate::measured(&format!(
        "{count} connections ended {:?} after their backend",
        since.elapsed()
    ));
    for mut client in others {
        ensure!(client.ask("still there\n")? == "still there");
    }
    let both = || Ok([ended(&active)?, ended(&backup)?]);
    let all = |[active, backup]: &[u64; 2]| *active > 0 && *backup > 0 && active + backup == count;
    eventually_is("the count on both", PATIENCE, both, all).map(drop)
}

fn ended(controller: &Controller<'_>) -> Result<u64> {
    Ok(local_clients(controller)?["ended"].as_u64().unwrap_or(0))
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_connection_that_is_under_way_to_a_dead_backend_is_ended_too() -> Result<()> {
    let nodes = Nodes::build(2)?;
    let mut controller = nodes.start(1)?;
    // Nobody notices while the controller is stopped, so that clients are led to whom nobody answers for.
    controller.signal(Signal::SIGSTOP)?;
    vanish(&nodes, "cp1")?;
    let vip = nodes.vip(Family::V4);
    let outcomes = std::thread::scope(|scope| {
        let connect = || nodes.on(1, || Ok(TcpStream::connect_timeout(&vip, NOTICED)));
        let connecting: Vec<_> = (0..20).map(|_| scope.spawn(connect)).collect();
        std::thread::sleep(Duration::from_millis(300));
        controller.signal(Signal::SIGCONT)?;
        let ended = connecting.into_iter().map(|it| it.join().expect("a client panicked"));
        ended.collect::<Result<Vec<_>>>()
    })?;
    let kinds = outcomes.iter().filter_map(|outcome| outcome.as_ref().err().map(|it| it.kind()));
    let kinds: Vec<_> = kinds.collect();
    ensure!(!kinds.is_empty() && kinds.len() < 20, "{kinds:?}");
    let aborted = |kind: &ErrorKind| *kind == ErrorKind::ConnectionAborted;
    ensure!(kinds.iter().all(aborted), "{kinds:?}");
    Ok(())
}

/// A socket can be taken from its backend and connected to another: what is kept with it is of before.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_socket_that_went_elsewhere_is_not_ended_for_where_it_was() -> Result<()> {
    let nodes = Nodes::build(2)?;
    let controller = nodes.start(1)?;
    let elsewhere = SocketAddr::from((nodes.lab.backend("cp2")?.address, API_PORT));
    let mut clients = connections(&nodes, 1, Family::V4)?;
    clients.extend(connections(&nodes, 1, Family::V4)?);
    let mut lost: Vec<_> = clients.into_iter().filter(|it| it.server == "cp1").collect();
    let moved = lost.pop().context("a connection to cp1")?;
    let count = lost.len() as u64;
    ensure!(count > 0, "only one connection to cp1");
    let mut moved = nodes.on(1, || {
        let socket = Socket::from(OwnedFd::from(moved.stream.into_inner()));
        disconnect(&socket)?;
        socket.connect_timeout(&elsewhere.into(), SOON)?;
        Client::greeted(TcpStream::from(socket))
    })?;
    ensure!(moved.server == "cp2", "{}", moved.server);
    vanish(&nodes, "cp1")?;
    for client in lost {
        let end = client.wait_end(NOTICED)?;
        ensure!(end == ErrorKind::ConnectionAborted, "{end:?}");
    }
    // Past the second look, too.
    std::thread::sleep(SOON);
    ensure!(moved.ask("still there\n")? == "still there");
    ensure!(ended(&controller)? == count, "{}", local_clients(&controller)?);
    Ok(())
}

/// As connect(2) has it for an address of no family.
fn disconnect(socket: &Socket) -> Result<()> {
    let none = libc::sockaddr { sa_family: libc::AF_UNSPEC.try_into()?, sa_data: [0; 14] };
    let length = size_of::<libc::sockaddr>().try_into()?;
    // SAFETY: the address is a sockaddr of this length, which outlives the call.
    let done = unsafe { libc::connect(socket.as_raw_fd(), &raw const none, length) };
    ensure!(done == 0, "{}", std::io::Error::last_os_error());
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn the_backend_on_the_node_is_preferred_while_it_is_up() -> Result<()> {
    let nodes = Nodes::build(2)?;
    let host = &nodes.node(1).host;
    let own = || echo::start(&host.netns, "own", (host.address, API_PORT));
    let server = own()?;
    let mut controller = nodes.controller(1, &nodes.own_processes(1))?;
    let yaml = nodes.yaml(1, &controller, &nodes.own_processes(1)).replace(
        "    backends: [",
        &format!("    backends: [{{ name: own, address: {} }}, ", host.address),
    );
    let preferring = yaml.replace("    reset_delay:", "    prefer_local: true\n    reset_delay:");
    controller.write_config(&preferring)?;
    controller.start()?;
    controller.wait_backend("own", "up", PATIENCE)?;
    nodes.wait_all_up(&controller)?;
    let only = BTreeSet::from(["own".to_owned()]);
    let answered = || nodes.who_answers(1, Family::V4, MANY);
    ensure!(answered()? == only);

    drop(server);
    controller.wait_backend("own", "down", PATIENCE)?;
    let others: BTreeSet<String> = nodes.names().into_iter().collect();
    ensure!(answered()? == others);

    let _server = own()?;
    controller.wait_backend("own", "up", PATIENCE)?;
    ensure!(answered()? == only);
    controller.write_config(&yaml)?;
    controller.reload()?;
    ensure!(answered()?.is_superset(&only) && answered()?.is_superset(&others));
    Ok(())
}
