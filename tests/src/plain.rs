//! A service without TLS: echo servers behind the VIP, checked by connecting.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write;
use std::io::{BufRead, BufReader, ErrorKind, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::controller::Controller;
use crate::echo;
use crate::eventually::eventually_is;
use crate::family::Family;
use crate::server_thread::ServerThread;
use crate::topology::{API_PORT, Host, Topology};

/// Each step of a connection gets so long.
const TIMEOUT: Duration = Duration::from_secs(10);
/// From the controller's answer to the last backend that is up.
const UP_TIMEOUT: Duration = Duration::from_secs(10);

/// The controller to test: `cargo xtask test netns` builds it and names it here.
pub fn binary() -> Result<PathBuf> {
    let path = env::var_os("FAIRLEAD_BIN");
    path.map(PathBuf::from).context("FAIRLEAD_BIN is not set: run `cargo xtask test netns`")
}

/// A configuration with one service of these backends, checked by TCP, in the mode that the lab is made
/// for. It has the VIPs of their families.
pub fn config<A: Copy + Into<IpAddr>>(
    lab: &Topology,
    backends: &[(&str, A)],
    socket: &Path,
) -> String {
    let families: BTreeSet<Family> =
        backends.iter().map(|(_, address)| Family::of((*address).into())).collect();
    let list = |address: &dyn Fn(Family) -> Option<IpAddr>| {
        let addresses = families.iter().filter_map(|family| address(*family));
        addresses.map(|address| address.to_string()).collect::<Vec<_>>().join(", ")
    };
    let mut yaml = format!(
        "version: 1\ninterfaces: [{}]\nadmin: {{ socket: {} }}\nservices:\n  - name: plain\n",
        lab.interfaces().join(", "),
        socket.display(),
    );
    // Writing to a string cannot fail.
    let vips = list(&|family| Some(lab.vip_of(family)));
    let _ = write!(yaml, "    vips: [{vips}]\n    port: {API_PORT}\n");
    if lab.mode != "nat" {
        let _ = writeln!(yaml, "    mode: {}", lab.mode);
    }
    if lab.mode == "nat"
        && let Some(vip) = lab.backend_vip()
    {
        let snat = list(&|family| Some(vip.of(family)));
        let snat = if families.len() == 1 { snat } else { format!("[{snat}]") };
        let _ = writeln!(yaml, "    snat_address: {snat}");
    }
    yaml.push_str("    health: { type: tcp, interval: 1s, timeout: 1s, rise: 2, fall: 3 }\n");
    yaml.push_str("    backends:\n");
    for (name, address) in backends {
        let address: IpAddr = (*address).into();
        let _ = writeln!(yaml, "      - {{ name: {name}, address: {address} }}");
    }
    yaml
}

/// What [`config`] wants of every backend of the lab: its IPv4 address.
pub fn backends(lab: &Topology) -> Vec<(&str, IpAddr)> {
    backends_of(lab, Family::V4)
}

/// The same of either family.
pub fn backends_of(lab: &Topology, family: Family) -> Vec<(&str, IpAddr)> {
    lab.backends.iter().map(|host| (host.name.as_str(), host.address_of(family))).collect()
}

/// Starts a controller for all backends of the lab on its first LB node.
pub fn start(lab: &Topology) -> Result<Controller<'_>> {
    start_of(lab, Family::V4)
}

/// The same of either family.
pub fn start_of(lab: &Topology, family: Family) -> Result<Controller<'_>> {
    let mut controller = Controller::new(&lab.lbs[0], &binary()?, lab.directory());
    controller.write_config(&config(lab, &backends_of(lab, family), controller.socket()))?;
    controller.start()?;
    Ok(controller)
}

/// Starts an echo server on every backend, by its name.
pub fn echo_servers(lab: &Topology) -> Result<BTreeMap<&str, ServerThread>> {
    lab.backends.iter().map(|host| Ok((host.name.as_str(), echo_server(host)?))).collect()
}

/// Dropping it closes listener and connections at once, as the kernel does for a killed process.
pub fn echo_server(host: &Host) -> Result<ServerThread> {
    echo::start(&host.netns, &host.name, &host.listens(API_PORT)[..])
}

/// Starts a controller as [`start`] does, and waits until it uses every backend.
pub fn start_up(lab: &Topology) -> Result<Controller<'_>> {
    start_up_of(lab, Family::V4)
}

/// The same of either family.
pub fn start_up_of(lab: &Topology, family: Family) -> Result<Controller<'_>> {
    start_up_with(lab, family, "")
}

/// The same with more keys for the service, each line of them indented by four.
pub fn start_up_with<'lab>(
    lab: &'lab Topology,
    family: Family,
    keys: &str,
) -> Result<Controller<'lab>> {
    let mut controller = Controller::new(&lab.lbs[0], &binary()?, lab.directory());
    let config = config(lab, &backends_of(lab, family), controller.socket());
    controller.write_config(&(config + keys))?;
    controller.start()?;
    wait_all_up(lab, &controller)?;
    Ok(controller)
}

/// Waits until the controller uses every backend of the lab.
pub fn wait_all_up(lab: &Topology, controller: &Controller<'_>) -> Result<()> {
    lab.backends.iter().try_for_each(|host| controller.wait_backend(&host.name, "up", UP_TIMEOUT))
}

/// The VIP's service.
pub fn target(lab: &Topology) -> SocketAddr {
    target_of(lab, Family::V4)
}

/// The same of either family.
pub fn target_of(lab: &Topology, family: Family) -> SocketAddr {
    (lab.vip_of(family), API_PORT).into()
}

/// Waits for a packet counter to be accepted; its value.
pub fn wait_counter(
    controller: &Controller<'_>,
    name: &str,
    accept: impl Fn(&u64) -> bool,
) -> Result<u64> {
    let look = || controller.status()?["counters"][name].as_u64().context("no such counter");
    eventually_is(name, Duration::from_secs(5), look, accept)
}

/// How many hops packets of a socket may take.
pub fn set_hops(socket: &Socket, family: Family, hops: u32) -> Result<()> {
    match family {
        Family::V4 => socket.set_ttl_v4(hops)?,
        Family::V6 => socket.set_unicast_hops_v6(hops)?,
    }
    Ok(())
}

/// A connection to an echo server, and the name that the server gave.
#[derive(Debug)]
pub struct EchoClient {
    stream: BufReader<TcpStream>,
    pub server: String,
}

impl EchoClient {
    /// Connects in the namespace of the calling thread, from a port if it matters.
    pub fn connect(target: SocketAddr, port: Option<u16>) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(port) = port {
            socket.set_reuse_address(true)?;
            let any = Family::of(target.ip()).unspecified();
            socket.bind(&SocketAddr::from((any, port)).into())?;
        }
        socket.connect_timeout(&target.into(), TIMEOUT)?;
        Self::over(socket.into())
    }

    /// Over a connection that is there.
    pub fn over(stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream: BufReader::new(stream), server: String::new() };
        client.server = client.read_line().context("reading the server's name")?;
        Ok(client)
    }

    /// Sends a line, whether anybody answers or not.
    pub fn send(&mut self, line: &str) -> std::io::Result<()> {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes())
    }

    /// Sends a line and gets it back.
    pub fn exchange(&mut self, line: &str) -> Result<()> {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes())?;
        let echoed = self.read_line()?;
        ensure!(echoed == line, "sent {line:?}, got {echoed:?}");
        Ok(())
    }

    /// The address that the server sees this client at.
    pub fn seen_as(&mut self) -> Result<SocketAddr> {
        self.stream.get_mut().write_all(echo::WHO.as_bytes())?;
        let address = self.read_line()?;
        address.parse().with_context(|| format!("{address:?} is no address"))
    }

    /// Whether a RST has come; says nothing itself.
    pub fn is_over(&self) -> Result<bool> {
        let error = self.stream.get_ref().take_error()?;
        Ok(error.is_some_and(|error| error.kind() == ErrorKind::ConnectionReset))
    }

    /// How many hops its packets may take.
    pub fn set_hops(&self, hops: u32) -> Result<()> {
        set_hops(&SockRef::from(self.stream.get_ref()), Family::of(self.local_addr()?.ip()), hops)
    }

    /// The end of the connection here.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.stream.get_ref().local_addr()?)
    }

    /// Lets the server end it first, in order.
    pub fn bye(mut self) -> Result<()> {
        self.exchange(echo::BYE.trim_end())?;
        self.read_end()
    }

    /// Ends the connection by a RST: nothing of it stays, so that its ports can be used again.
    pub fn abort(self) -> Result<()> {
        let stream = self.stream.into_inner();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    /// Ends it in order, and waits for the server's end.
    pub fn close(mut self) -> Result<()> {
        self.stream.get_mut().shutdown(Shutdown::Write)?;
        self.read_end()
    }

    fn read_end(&mut self) -> Result<()> {
        let mut rest = String::new();
        ensure!(self.stream.read_line(&mut rest)? == 0, "after the end: {rest:?}");
        Ok(())
    }

    /// Waits for a line, and takes it.
    pub fn read_line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "the server ended the connection");
        line.pop();
        Ok(line)
    }
}
