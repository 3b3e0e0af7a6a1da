//! What is wrong at the start is named, with a remedy, and nothing is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use lb_tests::command::output;
use lb_tests::controller::Controller;
use lb_tests::netns::Netns;
use lb_tests::plain;
use lb_tests::topology::{Plan, Topology};
use lb_tests::xdp_pass::XdpPass;

use super::scene::{Scene, Settings, Traces, binary, run_on, xdp};

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_missing_capability_is_named_and_nothing_is_changed() -> Result<()> {
    let scene = Scene::build()?;
    let controller = scene.controller(&Settings::default())?;
    let before = Traces::of(scene.node())?;
    let bpf = "CAP_BPF (to load the XDP program";
    let perfmon = "CAP_PERFMON (for the verifier";
    let admin = "CAP_NET_ADMIN (to attach XDP";
    let raw = "CAP_NET_RAW (to announce VIPs";
    for (dropped, named) in [
        // CAP_SYS_ADMIN implies these two.
        ("-bpf,-sys_admin", &[bpf][..]),
        ("-perfmon,-sys_admin", &[perfmon]),
        ("-net_admin", &[admin]),
        ("-net_raw", &[raw]),
        ("-all", &[bpf, perfmon, admin, raw]),
    ] {
        let (bounding, inheritable) =
            (format!("--bounding-set={dropped}"), format!("--inh-caps={dropped}"));
        let refused = start(&scene, &controller, &["setpriv", &bounding, &inheritable])?;
        let words = refused_with(&refused)?;
        for name in [bpf, perfmon, admin, raw] {
            ensure!(words.contains(name) == named.contains(&name), "without {dropped}: {words}");
        }
        ensure!(words.contains("run as root, or grant"), "{words}");
    }
    assert_eq!(Traces::of(scene.node())?, before);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn without_bpffs_the_refusal_says_how_to_mount_it() -> Result<()> {
    let scene = Scene::build()?;
    let controller = scene.controller(&Settings::default())?;
    let before = Traces::of(scene.node())?;
    let unmount = "umount /sys/fs/bpf && exec \"$@\"";
    let words =
        refused_with(&start(&scene, &controller, &["unshare", "-m", "sh", "-c", unmount, "sh"])?)?;
    ensure!(words.contains("mount -t bpf bpf /sys/fs/bpf"), "{words}");
    assert_eq!(Traces::of(scene.node())?, before);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_read_only_bpffs_is_named_and_nothing_is_changed() -> Result<()> {
    let scene = Scene::build()?;
    let controller = scene.controller(&Settings::default())?;
    let before = Traces::of(scene.node())?;
    // Of this mount alone, as a container's volume may be.
    let remount = "mount -o remount,bind,ro /sys/fs/bpf && exec \"$@\"";
    let words =
        refused_with(&start(&scene, &controller, &["unshare", "-m", "sh", "-c", remount, "sh"])?)?;
    ensure!(words.contains("/sys/fs/bpf is mounted read-only"), "{words}");
    ensure!(words.contains("mount -o remount,rw /sys/fs/bpf"), "{words}");
    assert_eq!(Traces::of(scene.node())?, before);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn an_old_kernel_is_named_and_used_as_far_as_it_goes() -> Result<()> {
    let scene = Scene::build()?;
    let mut controller = scene.controller(&Settings::default())?;
    // The kernel then calls itself 2.6, and does everything all the same.
    controller.set_wrapper(&["setarch", "--uname-2.6"]);
    controller.start()?;
    scene.wait_all_up(&controller)?;
    let log = controller.log();
    ensure!(log.contains("this is Linux 2.6") && log.contains("5.15 is the oldest"), "{log}");
    ensure!(controller.stop(false)?.success());
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn an_interface_that_does_not_exist_is_named_with_those_that_do() -> Result<()> {
    let scene = Scene::build()?;
    let settings = Settings { interface: "eth7", ..Settings::default() };
    let controller = scene.controller(&settings)?;
    let before = Traces::of(scene.node())?;
    let words = refused_with(&start(&scene, &controller, &[])?)?;
    let known = words.split_once("no interface eth7").context(words.clone())?.1;
    ensure!(known.contains("eth0") && known.contains("lo"), "{words}");
    ensure!(!controller.socket().exists(), "the admin socket is left");
    assert_eq!(Traces::of(scene.node())?, before);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_program_of_another_owner_is_named_and_not_replaced() -> Result<()> {
    let scene = Scene::build()?;
    let node = scene.node();
    let _theirs = {
        let _inside = node.host.netns.enter()?;
        XdpPass::load()?.attach("eth0")?
    };
    let before = Traces::of(node)?;
    let (id, _) = xdp(node)?.context("the fixture's program is not there")?;
    for xdp_mode in ["auto", "native", "generic"] {
        let controller = scene.controller(&Settings { xdp_mode, ..Settings::default() })?;
        let words = refused_with(&start(&scene, &controller, &[])?)?;
        let named = format!("eth0 already carries XDP program {id} (fixture) of another owner");
        ensure!(words.contains(&named), "{words}");
        ensure!(words.contains("ip link set dev eth0 xdp off"), "{words}");
        ensure!(words.contains("replace_xdp: true"), "{words}");
        assert_eq!(Traces::of(node)?, before);
        ensure!(!controller.socket().exists(), "the admin socket is left");
    }
    Ok(())
}

/// Nobody but who holds the link can take it off.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_program_that_is_held_by_a_link_is_not_replaced_even_if_that_is_asked_for() -> Result<()> {
    let scene = Scene::build()?;
    scene.meet_neighbours()?;
    let node = scene.node();
    let _theirs = {
        let _inside = node.host.netns.enter()?;
        XdpPass::load()?.attach("eth0")?
    };
    let before = Traces::of(node)?;
    let controller = scene.controller(&Settings::default())?;
    let yaml = scene.yaml(&controller, &Settings::default());
    controller.write_config(&format!("{yaml}\nreplace_xdp: true\n"))?;
    let words = refused_with(&start(&scene, &controller, &[])?)?;
    for word in ["(fixture) of another owner", "by a link", "bpftool link show"] {
        ensure!(words.contains(word), "no {word:?} in {words}");
    }
    assert_eq!(Traces::of(node)?, before);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_second_controller_is_refused_and_the_first_goes_on() -> Result<()> {
    let scene = Scene::build()?;
    let first = scene.balanced()?;
    let traffic = scene.traffic()?;
    // The same files, and others: what they may not share is the network namespace.
    let elsewhere = scene.lab.directory().join("second");
    fs::create_dir(&elsewhere)?;
    let second = Controller::new(scene.node(), &binary(), &elsewhere);
    second.write_config(&scene.yaml(&second, &Settings::default()))?;
    for controller in [&first, &second] {
        let words = refused_with(&start(&scene, controller, &[])?)?;
        ensure!(words.contains("another controller runs in this network namespace"), "{words}");
        ensure!(words.contains("fairlead stop"), "{words}");
        traffic.goes_on()?;
    }
    first.status()?;
    ensure!(!second.socket().exists(), "the second controller's socket is left");
    traffic.ensure_nothing_lost("a second controller")
}

/// In another network namespace, as two containers with one volume are.
#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_second_controller_with_the_same_state_file_is_refused() -> Result<()> {
    let lab = Topology::build(&Plan { lb_nodes: 2, ..Plan::default() })?;
    let file = lab.directory().join("overrides.json");
    let mut controllers = lab.lbs.iter().map(|node| {
        let controller = Controller::new(node, &binary(), lab.directory());
        let yaml = plain::config(&lab, &plain::backends(&lab), controller.socket());
        let admin = format!("admin: {{ state_file: {}, ", file.display());
        controller.write_config(&yaml.replace("admin: { ", &admin))?;
        Ok(controller)
    });
    let (mut first, mut second) = (next(&mut controllers)?, next(&mut controllers)?);
    first.start()?;
    let error = format!("{:#}", second.start().err().context("it starts")?);
    let expected = format!("keeps its overrides in {}", file.display());
    ensure!(error.contains(&expected) && error.contains("admin.state_file"), "{error}");
    ensure!(second.leftovers(&lab)?.is_empty());
    first.kill9()?;
    second.start()?;
    ensure!(second.stop(false)?.success());
    let left = fs::read_dir(lab.directory())?.filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|it| it == "lock"))
    });
    ensure!(left.count() == 0, "a lock is left");
    Ok(())
}

fn next<T>(of: &mut impl Iterator<Item = Result<T>>) -> Result<T> {
    of.next().context("too few")?
}

/// A file that is right; in the table below, each wrong one is this with one thing replaced.
const RIGHT: &str = "version: 1
interfaces: [eth0]
services:
  - name: api
    vips: [10.0.0.100]
    port: 6443
    drain_timeout: 5s
    backends:
      - { name: cp1, address: 10.0.0.11, weight: 100 }
      - { name: cp2, address: 10.0.0.12 }
    health:
      type: tcp
      interval: 1s
admin:
  socket: /run/fairlead-refusal/admin.sock
";

/// What is replaced, by what; then `LINE:COLUMN: key` and a part of the remedy.
const WRONG: [(&str, &str, &str, &str); 33] = [
    ("version: 1", "version: 9", "1:10: version", "write 1"),
    ("version: 1", "verison: 1", "1:1: verison", "did you mean `version`?"),
    ("version: 1\n", "version: 1\nversion: 1\n", "2:1: version", "remove one of the two"),
    ("version: 1\n", "version: 1\nxdp_mode: quick\n", "2:11: xdp_mode", "auto or native"),
    ("version: 1\n", "version: 1\nlimits: { flows: 5 }\n", "2:18: limits.flows", "from 1024"),
    ("version: 1\n", "version: 1\nvrrp: [{ vrid: 0 }]\n", "2:16: vrrp[0].vrid", "1 to 255"),
    ("[eth0]", "eth0", "2:13: interfaces", "[a, b]"),
    ("[eth0]", "[eth0, eth0]", "2:20: interfaces[1]", "remove one of the two"),
    ("[eth0]", "[a/b]", "2:14: interfaces[0]", "ip link"),
    ("name: api", "name: a/b", "4:11: services[0].name", "letters"),
    ("[10.0.0.100]", "[]", "5:11: services[0].vips", "write the address that clients use"),
    ("10.0.0.100", "10.0.0.100/24", "5:12: services[0].vips[0]", "write 10.0.0.100"),
    ("10.0.0.100", "10.0.0.300", "5:12: services[0].vips[0]", "names are not looked up"),
    ("10.0.0.100", "127.0.0.1", "5:12: services[0].vips[0]", "that other hosts can reach"),
    ("10.0.0.100", "10.0.0.11", "9:31: services[0].backends[0].address", "vips[0]"),
    ("port: 6443", "port: 0", "6:11: services[0].port", "65535"),
    ("port: 6443", "port: 65536", "6:11: services[0].port", "65535"),
    ("port: 6443", "port: https", "6:11: services[0].port", "from 1 to 65535"),
    ("port: 6443", "prot: 6443", "6:5: services[0].prot", "did you mean `port`?"),
    ("5s", "soon", "7:20: services[0].drain_timeout", "write a number and a unit"),
    ("10.0.0.11", "cp1.example", "9:31: services[0].backends[0].address", "or a name under `host`"),
    ("weight: 100", "weight: -1", "9:50: services[0].backends[0].weight", "from 0 to 1000"),
    ("weight: 100", "waight: 100", "9:42: services[0].backends[0].waight", "`weight`"),
    ("name: cp2", "name: cp1", "10:17: services[0].backends[1].name", "give each its own name"),
    ("10.0.0.12", "10.0.0.11", "10:31: services[0].backends[1].address", "remove one of the two"),
    ("type: tcp", "type: icmp", "12:13: services[0].health.type", "https"),
    ("type: tcp", "type: https", "12:7: services[0].health", "ca_file"),
    ("interval: 1s", "interval: 0s", "13:17: services[0].health.interval", "from 10ms to 1h"),
    ("interval: 1s", "interval: 1", "13:17: services[0].health.interval", "write 1s or 1ms"),
    ("interval: 1s", "\tinterval: 1s", "13:", "spaces only"),
    ("/run/fairlead-refusal/", "", "15:11: admin.socket", "/run/fairlead/admin.sock"),
    ("    backends:", "    backends: {", "8:15: services[0].backends", "a line for each element"),
    (
        "type: tcp",
        "type: https\n      ca_file: /no/ca.crt",
        "13:16: services[0].health.ca_file",
        "cannot read /no/ca.crt",
    ),
];

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn wrong_configurations_are_refused_with_place_key_and_remedy() -> Result<()> {
    let files = Files::new()?;
    let accepted = files.refusal("check", RIGHT.as_bytes());
    ensure!(accepted.is_err(), "the right file is refused: {accepted:?}");
    let mut failures = Vec::new();
    for (right, wrong, place, remedy) in WRONG {
        ensure!(RIGHT.contains(right), "the table's {right:?} is not in the file");
        let text = RIGHT.replacen(right, wrong, 1);
        let place = format!("{}:{place}", files.file().display());
        for command in ["check", "run"] {
            match files.refusal(command, text.as_bytes()) {
                Ok(words) if words.contains(&place) && words.contains(remedy) => {}
                Ok(words) => failures.push(format!("{wrong:?}: no {place}, {remedy:?} in {words}")),
                Err(error) => failures.push(format!("{wrong:?}: {error:#}")),
            }
        }
    }
    ensure!(failures.is_empty(), "{} of them:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn files_that_are_no_configuration_are_refused() -> Result<()> {
    let files = Files::new()?;
    let backends = ["{ name: a, address: 10.0.0.1 }"; 500].join(", ");
    let mut bomb = format!("services:\n  - backends: &b [{backends}]\n");
    bomb += &"  - backends: *b\n".repeat(50);
    let large = "# nothing\n".repeat(4_000_000);
    for (content, said) in [
        (&b""[..], ":1:1: the file is empty; write at least `services:`"),
        (b"# nothing\n", ":1:1: "),
        (b"hello\n", ":1:1: "),
        (b"version: 1\n---\nversion: 1\n", ":3:1: "),
        (b"version: 1 # \xff\n", ":1:14: this byte is not UTF-8"),
        (b"\0\0\0", ":1:1: "),
        (bomb.as_bytes(), "write the values out"),
        (b"services: &a [*a]\n", ":1:15: services: "),
        ("[".repeat(100_000).as_bytes(), ":1:"),
        (large.as_bytes(), "so it is no configuration"),
    ] {
        for command in ["check", "run"] {
            let words = files.refusal(command, content)?;
            ensure!(words.contains(said), "no {said:?} in {words}");
        }
    }
    for command in ["check", "run"] {
        let none = files.refuse(command, Path::new("/no/such/file.yaml"))?;
        ensure!(none.contains("/no/such/file.yaml: cannot read") && none.contains("create it"));
        let directory = files.refuse(command, files.directory.path())?;
        ensure!(directory.contains("name a regular file"), "{directory}");
        let secret = files.refuse_unreadable(command)?;
        ensure!(secret.contains("let this user read it, or run as root"), "{secret}");
    }
    Ok(())
}

/// A namespace without interfaces: what should be refused and is not does no harm there.
struct Files {
    netns: Netns,
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Result<Self> {
        Ok(Self { netns: Netns::unique("refusal")?, directory: tempfile::tempdir()? })
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("fairlead.yaml")
    }

    /// What `fairlead COMMAND` says about a file with this content, which it must refuse.
    fn refusal(&self, command: &str, content: &[u8]) -> Result<String> {
        fs::write(self.file(), content)?;
        self.refuse(command, &self.file())
    }

    /// The same about a file that only root's power to read everything could open.
    fn refuse_unreadable(&self, command: &str) -> Result<String> {
        let file = self.file();
        fs::write(&file, RIGHT)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o000))?;
        let mut powerless = self.netns.command("setpriv");
        powerless.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(binary());
        let refused = output(powerless.args([command, "--config"]).arg(&file))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        refused_with(&refused)
    }

    fn refuse(&self, command: &str, file: &Path) -> Result<String> {
        let words = [command, "--config"];
        refused_with(&output(self.netns.command(binary()).args(words).arg(file))?)
    }
}

/// Runs the controller on the node, by way of `wrapper`, to its end.
fn start(scene: &Scene, controller: &Controller<'_>, wrapper: &[&str]) -> Result<Output> {
    let binary = binary();
    let words = [wrapper, &[binary.to_str().context("a path in UTF-8")?]].concat();
    // A controller that starts all the same is ended.
    let words = [&["timeout", "--signal=TERM", "10"], &words[..]].concat();
    let mut command = run_on(scene.node(), &words);
    output(command.args(["run", "--config"]).arg(controller.config_file()))
}

/// What was said on stderr, by a program that ended with status 1.
fn refused_with(output: &Output) -> Result<String> {
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{}: {words}", output.status);
    Ok(words)
}
