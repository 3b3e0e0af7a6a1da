//! Packets are followed as the datapath meets them, and nothing is left when nobody looks.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lb_tests::command::{Process, run};
use lb_tests::controller::Controller;
use lb_tests::eventually::{Seen, eventually};
use lb_tests::family::Family;
use lb_tests::plain::{self, EchoClient};
use lb_tests::topology::{Plan, Topology};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_client_is_followed_through_the_datapath_and_nobody_else() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    for family in Family::ALL {
        let mut controller = plain::start_up_of(&lab, family)?;
        connection(&lab, family, &controller)?;
        refused(&lab, family, &controller)?;
        leaves_nothing(&lab, &controller)?;
        controller.stop(false)?;
    }
    Ok(())
}

/// The program that is in the XDP program's place goes on calling it, and a successor takes it away.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn what_a_killed_controller_leaves_in_the_way_goes_on_forwarding() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    let mut controller = plain::start_up_of(&lab, Family::V4)?;
    let target = plain::target_of(&lab, Family::V4);
    let mut echo = lab.client.netns.on_thread(|| EchoClient::connect(target, None))?;
    let followed = Followed::start(&controller, &lab, &["--duration", "20s"])?;
    assert_eq!(attached(&lab)?, lb_common::trace::PROGRAM);
    controller.kill9()?;
    assert_eq!(attached(&lab)?, lb_common::trace::PROGRAM);
    echo.exchange("after its death")?;
    lab.client.netns.on_thread(|| {
        let mut new = EchoClient::connect(target, None)?;
        new.exchange("a new one")?;
        new.bye()
    })?;
    drop(followed);
    controller.start()?;
    is_back(&lab)?;
    echo.exchange("with its successor")?;
    echo.bye()
}

/// `fairlead trace --follow` at work.
struct Followed {
    process: Process,
    file: PathBuf,
}

impl Followed {
    fn start(controller: &Controller<'_>, lab: &Topology, words: &[&str]) -> Result<Self> {
        let file = lab.directory().join("followed");
        let words = [&["trace", "--follow", "--json"], words].concat();
        let process = controller.cli_spawn(&words, &file)?;
        eventually("packets to be followed", PATIENCE, || {
            let said = fs::read_to_string(file.with_extension("err"))?;
            let begun = said.contains("following packets");
            Ok(if begun { Seen::Done(()) } else { Seen::Pending(said) })
        })?;
        Ok(Self { process, file })
    }

    /// What was told, when it has ended by itself.
    fn lines(mut self) -> Result<Vec<Value>> {
        let status = self.process.wait(PATIENCE)?;
        let text = fs::read_to_string(self.file.with_extension("out"))?;
        anyhow::ensure!(status.success(), "{status}: {text}");
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

/// Every segment of one of two connections, in both directions.
fn connection(lab: &Topology, family: Family, controller: &Controller<'_>) -> Result<()> {
    let target = plain::target_of(lab, family);
    let client = SocketAddr::new(lab.client.address_of(family), 45_000);
    let words = [&client.to_string(), &target.to_string(), "--duration", "5s"];
    let followed = Followed::start(controller, lab, &words)?;
    lab.client.netns.on_thread(|| {
        let mut other = EchoClient::connect(target, Some(45_001))?;
        let mut echo = EchoClient::connect(target, Some(45_000))?;
        echo.exchange("here")?;
        other.exchange("there")?;
        echo.bye()?;
        other.bye()
    })?;
    let lines = followed.lines()?;
    let (first, second) = (&lines[0], &lines[1]);
    // SYN: to the VIP, on to a backend, from the VIP.
    assert_eq!(first["verdict"], "forward", "{first:#}");
    assert_eq!((&first["from"], &first["opens_flow"]), (&"client".into(), &true.into()));
    assert_eq!(ends(&first["came"])?, (client, target));
    let (source, backend) = ends(&first["left"])?;
    assert_eq!(source.ip(), target.ip());
    assert!(lab.backends.iter().any(|host| host.address_of(family) == backend.ip()), "{first:#}");
    assert_eq!(first["flow"]["backend_address"], backend.to_string());
    assert_eq!(first["flow"]["state"], "SYN-SENT");
    // SYN-ACK: the same, turned round.
    assert_eq!(second["counter"], "forward_reply", "{second:#}");
    assert_eq!(second["came"]["tcp"]["flags"], "SYN ACK");
    assert_eq!(ends(&second["came"])?, (backend, source));
    assert_eq!(ends(&second["left"])?, (target, client));
    assert_eq!(second["opens_flow"], false);
    let flags: Vec<&str> =
        lines.iter().filter_map(|line| line["came"]["tcp"]["flags"].as_str()).collect();
    assert_eq!(flags.iter().filter(|flags| flags.contains("FIN")).count(), 2, "{flags:?}");
    for line in &lines {
        assert_eq!(line["type"], "packet", "{line:#}");
        assert_eq!(line["flow"]["client"], client.to_string(), "{line:#}");
        assert!(line["interface"].as_str().is_some_and(|name| lab.interfaces().contains(&name)));
        assert_eq!(line["came"]["tcp"]["seq"], line["left"]["tcp"]["seq"]);
        let hops = |frame: &str| line[frame]["hops"].as_u64().unwrap_or_default();
        assert_eq!(hops("came"), hops("left") + 1);
    }
    let last = lines.last().context("no line")?;
    assert_eq!(last["flow"]["state"], "TIME-WAIT", "{last:#}");
    Ok(())
}

fn ends(frame: &Value) -> Result<(SocketAddr, SocketAddr)> {
    let end = |address: &str, port: &str| {
        let address = frame[address].as_str().context("no address")?.parse()?;
        let port = frame[port].as_u64().context("no port")?;
        anyhow::Ok(SocketAddr::new(address, u16::try_from(port)?))
    };
    Ok((end("source", "source_port")?, end("destination", "destination_port")?))
}

/// Only what the node's kernel gets, of all that a client sends to a VIP's other port.
fn refused(lab: &Topology, family: Family, controller: &Controller<'_>) -> Result<()> {
    let target = SocketAddr::new(plain::target_of(lab, family).ip(), 7);
    let client = lab.client.address_of(family).to_string();
    let words = [&client, "--verdict", "pass_not_service,drop", "--count", "1"];
    let followed = Followed::start(controller, lab, &words)?;
    lab.client.netns.on_thread(|| {
        EchoClient::connect(plain::target_of(lab, family), None)?.bye()?;
        let refused = std::net::TcpStream::connect(target);
        anyhow::ensure!(refused.is_err(), "nobody listens there");
        Ok(())
    })?;
    let lines = followed.lines()?;
    let [line] = &lines[..] else { anyhow::bail!("{lines:#?}") };
    assert_eq!(line["counter"], "pass_not_service");
    assert_eq!(ends(&line["came"])?.1, target);
    assert!(line["flow"].is_null() && line["left"].is_null(), "{line:#}");
    Ok(())
}

/// What follows packets goes with the command, however that ends.
fn leaves_nothing(lab: &Topology, controller: &Controller<'_>) -> Result<()> {
    is_back(lab)?;
    let followed = Followed::start(controller, lab, &[])?;
    assert_eq!(attached(lab)?, lb_common::trace::PROGRAM);
    let another = controller.cli(&["trace", "--follow"]);
    let refused = another.err().context("two follow packets")?;
    assert!(format!("{refused:#}").contains("one at a time"), "{refused:#}");
    let Followed { mut process, .. } = followed;
    process.kill()?;
    is_back(lab)
}

fn is_back(lab: &Topology) -> Result<()> {
    eventually("the XDP program to be back", PATIENCE, || {
        let name = attached(lab)?;
        Ok(if name == lb_common::PROGRAM { Seen::Done(()) } else { Seen::Pending(name) })
    })
}

/// Name of the program on the node's first interface.
fn attached(lab: &Topology) -> Result<String> {
    let interface = lab.interfaces().first().context("no interface")?;
    let links = lab.lbs[0].host.netns.ip(&format!("-j -d link show dev {interface}"))?;
    let links: Value = serde_json::from_str(&links)?;
    let id = links[0]["xdp"]["prog"]["id"].as_u64().with_context(|| format!("{links:#}"))?;
    let said = run(Command::new("bpftool").args(["-j", "prog", "show", "id", &id.to_string()]))?;
    let program: Value = serde_json::from_str(&said)?;
    Ok(program["name"].as_str().context("no name")?.to_owned())
}
