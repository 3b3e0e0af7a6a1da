//! The steps of the demo, in their order.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::stage::Stage;

/// The server that is killed.
const VICTIM: &str = "cp1";
/// How long new connections may still reach a server that is seen draining: those under way.
const SETTLE: Duration = Duration::from_millis(500);
/// What a controller gets to end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(15);

/// Makes every step; stops at the first that cannot be made.
pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    all_up(stage)?;
    if stage.controller.is_some() {
        kill_server(stage)?;
        bring_back(stage)?;
        drain_server(stage)?;
        hand_over(stage)?;
        kill_controller(stage)?;
    }
    stop(stage)
}

fn all_up(stage: &mut Stage<'_>) -> Result<()> {
    stage.step("all up", |stage, step| {
        let until = stage.now()? + stage.at_least;
        stage.watch("all up", until)?;
        let spread = stage.load()?.recorder.report(&(step.span.start..until)).by_server;
        let shares: Vec<String> =
            spread.iter().map(|(server, answers)| format!("{server} {answers}")).collect();
        step.note(format!("answers: {}", shares.join(", ")));
        ensure!(!spread.is_empty(), "no connection was answered");
        Ok(())
    })
}

fn kill_server(stage: &mut Stage<'_>) -> Result<()> {
    let name = format!("kill {VICTIM}");
    stage.step(&name.clone(), |stage, step| {
        let killed = stage.now()?;
        step.kill = Some((VICTIM.to_owned(), killed));
        stage.servers.kill(VICTIM)?;
        stage.display.say(&format!("       {VICTIM} was killed (SIGKILL)"));
        let down = stage.until(&name, "the killed server to be down", |stage| {
            stage.has_state(VICTIM, "down")
        })?;
        step.note(format!("down after {:.1} s", down.as_secs_f64()));
        stage.watch(&name, killed + stage.at_least)?;
        let failures = stage.load()?.recorder.report(&(killed..Duration::MAX)).failures;
        let last = failures.iter().map(|(started, ..)| *started).max();
        step.note(match last {
            Some(last) => {
                format!("last loss {:.1} s after the kill", (last - killed).as_secs_f64())
            }
            None => "no new connection lost".to_owned(),
        });
        Ok(())
    })
}

fn bring_back(stage: &mut Stage<'_>) -> Result<()> {
    let name = format!("bring {VICTIM} back");
    stage.step(&name.clone(), |stage, step| {
        stage.servers.start(VICTIM)?;
        stage.display.say(&format!("       {VICTIM} was started again"));
        let back = until_served(stage, &name, VICTIM)?;
        step.note(format!("serves after {:.1} s", back.as_secs_f64()));
        Ok(())
    })
}

fn drain_server(stage: &mut Stage<'_>) -> Result<()> {
    // One that has watch streams to lose, if any has.
    let by_server = stage.load()?.watches.by_server();
    let survivors = stage.lab.backends.iter().map(|host| &host.name).filter(|name| *name != VICTIM);
    let server = survivors.max_by_key(|name| by_server.get(*name).copied().unwrap_or(0)).cloned();
    let server = server.context("a lab with one backend has none to drain")?;
    let name = format!("drain {server}");
    stage.step(&name.clone(), |stage, step| {
        let streams = stage.load()?.watches.of_server(&server);
        let drained = stage.now()?;
        let backend = format!("kube-apiserver/{server}");
        stage.controller()?.cli(&["backend", "drain", &backend])?;
        stage.display.say(&format!("       fairlead backend drain {backend}"));
        let seen = stage.until(&name, "the server to be seen draining", |stage| {
            stage.has_state(&server, "draining")
        })?;
        step.note(format!("draining after {:.1} s", seen.as_secs_f64()));
        let settled = stage.now()? + SETTLE;
        stage.watch(&name, settled + stage.at_least)?;
        if let Some((first, _)) = stage.load()?.recorder.served(&server, settled) {
            let late = (first - drained).as_secs_f64();
            step.problems.push(format!("{server} got a new connection {late:.1} s into its drain"));
        }
        let still = stage.load()?.watches.of_server(&server);
        let kept = streams.iter().filter(|stream| still.contains(stream)).count();
        step.note(format!("{kept} of {} watch streams went on", streams.len()));
        stage.controller()?.cli(&["backend", "enable", &backend])?;
        let back = until_served(stage, &name, &server)?;
        step.note(format!("serves {:.1} s after its end", back.as_secs_f64()));
        Ok(())
    })
}

fn hand_over(stage: &mut Stage<'_>) -> Result<()> {
    stage.step("restart, handover", |stage, step| {
        let stopped = stage.now()?;
        let status = stage.controller()?.stop(true)?;
        if !status.success() {
            step.problems.push(format!("fairlead stop --handover: it ended with {status}"));
        }
        stage.display.say("       the controller handed over and ended");
        stage.controller()?.start()?;
        let away = stage.now()? - stopped;
        step.note(format!("the controller was back after {:.1} s", away.as_secs_f64()));
        Ok(())
    })
}

fn kill_controller(stage: &mut Stage<'_>) -> Result<()> {
    stage.step("restart, SIGKILL", |stage, step| {
        let killed = stage.now()?;
        stage.controller()?.kill9()?;
        stage.display.say("       the controller was killed (SIGKILL)");
        stage.controller()?.start()?;
        let away = stage.now()? - killed;
        step.note(format!("the controller was back after {:.1} s", away.as_secs_f64()));
        Ok(())
    })
}

/// The load first: without a controller there is no VIP.
fn stop(stage: &mut Stage<'_>) -> Result<()> {
    let lab = stage.lab;
    stage.step("SIGTERM", |stage, step| {
        let recorder = stage.load()?.recorder.clone();
        stage.load()?.finish_connections();
        stage.until("SIGTERM", "the load to end", |stage| Ok(stage.load()?.is_finished()))?;
        let asked = recorder.now();
        let Some(controller) = &mut stage.controller else {
            return Ok(());
        };
        controller.sigterm()?;
        let status = controller.wait_exit(EXIT_TIMEOUT)?;
        let took = recorder.now() - asked;
        step.note(format!("the controller ended after {:.1} s", took.as_secs_f64()));
        if !status.success() {
            step.problems.push(format!("the controller ended with {status}"));
        }
        let left = controller.leftovers(lab)?;
        if left.is_empty() {
            step.note("nothing is left".to_owned());
        }
        step.problems.extend(left.into_iter().map(|what| format!("left behind: {what}")));
        Ok(())
    })
}

/// Waits until a server answers a connection that was started from here on.
fn until_served(stage: &mut Stage<'_>, label: &str, server: &str) -> Result<Duration> {
    let since = stage.now()?;
    stage.until(label, &format!("{server} to serve"), |stage| {
        Ok(stage.load()?.recorder.served(server, since).is_some())
    })
}
