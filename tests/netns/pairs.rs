//! A thousand random configurations, one after the other, under traffic of a service that all of them have.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fairlead::admin::client::Client;
use fairlead::config;
use lb_tests::controller::Controller;
use lb_tests::topology::API_PORT;

use super::measured;
use super::scene::{Scene, Settings};

const PAIRS: usize = 1000;
/// All of them, on a machine with other work to do.
const LIMIT: Duration = Duration::from_secs(90);
/// Any other shows other pairs.
const SEED: u64 = 20_260_102;

#[test]
#[ignore = "needs root: cargo xtask test netns"]
#[expect(clippy::disallowed_methods, reason = "measures how long reloads take")]
fn no_connection_of_an_unchanged_service_is_lost_over_a_thousand_pairs() -> Result<()> {
    let scene = Scene::build()?;
    let mut controller = scene.controller(&Settings::default())?;
    // The maps have room for rates only if somebody has a limit at the start.
    let yaml = scene.yaml(&controller, &Settings::default());
    let limit = "    port: 7443\n    rate_limit: { connections_per_second: 50 }\n";
    controller.write_config(&yaml.replace("    port: 7443\n", limit))?;
    controller.start()?;
    scene.wait_all_up(&controller)?;
    let client = Client::new(controller.socket());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut random, traffic) = (Random(SEED), scene.traffic()?);
    let (mut longest, mut changes) = (Duration::ZERO, 0);
    let start = Instant::now();
    for pair in 0..PAIRS {
        let yaml = configuration(&scene, &controller, &mut random);
        controller.write_config(&yaml)?;
        let began = Instant::now();
        let reloaded = runtime.block_on(client.reload(false));
        let reloaded = reloaded.with_context(|| format!("pair {pair}:\n{yaml}"))?;
        longest = longest.max(began.elapsed());
        changes += reloaded.changes.len();
        let concerned = reloaded.changes.iter().find(|change| change.starts_with("services[api]"));
        ensure!(concerned.is_none(), "pair {pair} changes the service: {concerned:?}");
        if pair % 100 == 99 {
            traffic.goes_on()?;
        }
    }
    let took = start.elapsed();
    measured(&format!(
        "{PAIRS} reloads with {changes} changes in {took:?}, the longest {longest:?}"
    ));
    ensure!(took < LIMIT, "{took:?}");
    traffic.ensure_nothing_lost("a thousand pairs")
}

/// One that the controller takes: the service that all have, and up to five others.
fn configuration(scene: &Scene, controller: &Controller<'_>, random: &mut Random) -> String {
    let all = scene.yaml(controller, &Settings::default());
    let (head, rest) = all.split_once("  - name: other\n").unwrap();
    let (_, admin) = rest.split_once("admin:\n").unwrap();
    loop {
        let services: String = (0..random.below(6)).map(|_| service(scene, random)).collect();
        let yaml = format!("{head}{services}admin:\n{admin}");
        // Names, endpoints and VIPs may clash: then there is another try.
        if config::parse(&yaml, Path::new("pair")).is_ok() {
            return yaml;
        }
    }
}

fn service(scene: &Scene, random: &mut Random) -> String {
    let [a, b, c, _] = scene.lab.vip().octets();
    let mut vips: Vec<u64> = (100..104).filter(|_| random.below(2) == 0).collect();
    if vips.is_empty() {
        vips.push(101);
    }
    let vips: Vec<String> = vips.iter().map(|last| format!("{a}.{b}.{c}.{last}")).collect();
    let mode = *random.of(&["nat", "nat", "dnat", "dsr"]);
    let port =
        if mode == "dsr" { API_PORT } else { 7000 + u16::try_from(random.below(4)).unwrap() };
    let mut yaml = format!(
        "  - name: s{}\n    vips: [{}]\n    port: {port}\n    mode: {mode}\n    backends:\n",
        random.below(6),
        vips.join(", "),
    );
    let count = 1 + random.below(scene.lab.backends.len() as u64);
    for host in scene.lab.backends.iter().take(usize::try_from(count).unwrap()) {
        let weight = 1 + random.below(200);
        let own = if mode == "dsr" { API_PORT } else { *random.of(&[API_PORT, 6444]) };
        let (name, address) = (&host.name, host.address);
        // Writing to a string cannot fail.
        let _ = writeln!(
            yaml,
            "      - {{ name: {name}, address: {address}, port: {own}, weight: {weight} }}"
        );
    }
    let interval = random.of(&["200ms", "500ms", "1s"]);
    let _ = match random.below(3) {
        0 => writeln!(
            yaml,
            "    health: {{ type: http, path: /x, interval: {interval}, fast_interval: 100ms }}"
        ),
        _ => writeln!(
            yaml,
            "    health: {{ type: tcp, interval: {interval}, fast_interval: 100ms }}"
        ),
    };
    for (key, value) in [
        ("on_all_down", "reject"),
        ("allow", "[10.0.0.0/8]"),
        ("rate_limit", "{ connections_per_second: 50 }"),
        ("timeouts", "{ established: 1h }"),
        ("reset_delay", "0s"),
        ("drain_timeout", "1s"),
    ] {
        if random.below(3) == 0 {
            let _ = writeln!(yaml, "    {key}: {value}");
        }
    }
    if mode == "nat" && random.below(3) == 0 {
        let _ = writeln!(yaml, "    snat_address: {a}.{b}.{c}.{}", 104 + random.below(3));
    }
    yaml
}

/// splitmix64: the same pairs each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[usize::try_from(self.below(choices.len() as u64)).unwrap_or_default()]
    }
}
