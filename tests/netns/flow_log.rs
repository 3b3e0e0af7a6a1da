//! The log of connections: what clients did is in it, byte for byte, and it follows its file's name.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::eventually::eventually_is;
use lb_tests::family::Family;
use lb_tests::plain::{self, EchoClient};
use lb_tests::topology::{Plan, Topology};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn every_connection_is_logged_with_its_bytes_and_its_end() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    let [file, old] = ["flows.json", "flows.json.1"].map(|name| lab.directory().join(name));
    for family in Family::ALL {
        let keys = format!("flow_log: {{ file: {} }}\n", file.display());
        let mut controller = plain::start_up_with(&lab, family, &keys)?;
        let target = plain::target_of(&lab, family);
        let connect = || lab.client.netns.on_thread(|| EchoClient::connect(target, None));

        let mut closes = connect()?;
        closes.exchange(&"x".repeat(9999))?;
        let (name, address) = (closes.server.clone(), closes.local_addr()?.to_string());
        closes.close()?;
        let end = wait_end(&file, &address)?;
        ensure!(end["reason"] == "closed_by_client", "{end:#}");
        // The line with its end; the server says its name first.
        ensure!(end["client_bytes"] == 10_000, "{end:#}");
        ensure!(end["backend_bytes"] == 10_000 + name.len() as u64 + 1, "{end:#}");
        ensure!(end["start"].is_string() && end["duration_ms"].is_u64(), "{end:#}");
        let backend = lab.backend(&name)?.address_of(family).to_string();
        ensure!(end["backend"].as_str().is_some_and(|it| it.contains(&backend)), "{end:#}");

        let aborts = connect()?;
        let address = aborts.local_addr()?.to_string();
        aborts.abort()?;
        let end = wait_end(&file, &address)?;
        ensure!(end["reason"] == "reset_by_client", "{end:#}");

        let bye = connect()?;
        let address = bye.local_addr()?.to_string();
        bye.bye()?;
        let end = wait_end(&file, &address)?;
        ensure!(end["reason"] == "closed_by_backend", "{end:#}");

        // As logrotate does it, without a signal.
        fs::rename(&file, &old)?;
        let purged = connect()?;
        let address = purged.local_addr()?.to_string();
        let start = || {
            Ok(lines(&file)?.iter().any(|it| it["client"] == *address)
                || lines(&old)?.iter().any(|it| it["client"] == *address))
        };
        eventually_is("its first line", PATIENCE, start, |found| *found)?;
        std::thread::sleep(Duration::from_millis(1500));
        controller.cli(&["flows", "purge", "--all"])?;
        let end = wait_end(&file, &address)?;
        ensure!(end["reason"] == "purged" && end["client_bytes"].is_null(), "{end:#}");
        drop(purged);
        controller.stop(false)?;
        for log in [&file, &old] {
            ensure!(lines(log)?.iter().all(|line| line["event"] != "lost"), "{}", log.display());
        }
        fs::remove_file(&file)?;
    }
    Ok(())
}

/// The line of a connection's end.
fn wait_end(file: &Path, client: &str) -> Result<Value> {
    let look = || {
        let is_it = |line: &Value| line["event"] == "end" && line["client"] == client;
        Ok(lines(file)?.into_iter().find(is_it))
    };
    let found = eventually_is(&format!("the end of {client}"), PATIENCE, look, Option::is_some)?;
    found.context("no line")
}

pub(crate) fn lines(file: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}
