//! The web page in a real browser: it shows what `status --json` says, as it happens, and changes what one is allowed to.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lb_tests::browser::{Browser, Look, Page};
use lb_tests::controller::Controller;
use lb_tests::eventually::{Seen, eventually};
use lb_tests::plain::{self, EchoClient};
use lb_tests::scrape::{Scrape, wait_sum};
use lb_tests::topology::{Plan, Topology};
use serde_json::Value;

mod cost;

const PATIENCE: Duration = Duration::from_secs(20);
const LISTEN: &str = "127.0.0.1:9464";
const URL: &str = "http://127.0.0.1:9464/";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

const WIDE: Look = Look { width: 1280, height: 800, is_phone: false, is_dark: false };
const DARK: Look = Look { is_dark: true, ..WIDE };
const PHONE: Look = Look { width: 390, height: 844, is_phone: true, is_dark: false };

/// What the page says, read as people read it.
const READ: &str = "(() => {
    const text = (node, selector) => node.querySelector(selector)?.textContent ?? null;
    const backends = [...document.querySelectorAll('tbody tr')].map((row) => ({
        key: row.dataset.key,
        address: text(row, '.address'),
        state: text(row, '.state'),
        reason: text(row, '.reason'),
        connections: text(row, '[data-label=Connections] .figure'),
        weight: text(row, '[data-label=Weight] .figure'),
    }));
    const items = (id) => [...document.querySelectorAll(`#${id} .items li`)].map((item) =>
        [text(item, '.name'), text(item, '.value')]);
    return { verdict: text(document, '#verdict'), live: text(document, '#live-text'), backends,
        vips: items('vips'), drops: items('drops'), connections: text(document, '[data-figure=Connections] dd'),
        events: [...document.querySelectorAll('#events .message')].map((it) => it.textContent) };
})()";

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn the_page_shows_what_status_says_as_it_happens_and_drains_a_backend() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    let controller = start(&lab)?;
    let mut browser = Browser::start(&lab.lbs[0].host.netns)?;
    let mut page = browser.open(URL, WIDE)?;
    agrees(&mut page, &controller)?;
    follows(&mut page, &controller, &lab)?;
    drains(&mut page, &controller)?;
    let shot = |name: &str| pictures().join(name);
    page.screenshot(&shot("wide.png"))?;
    enables_by_keyboard(&mut page, &controller)?;
    ensure!(page.complaints()?.is_empty(), "{:#?}", page.complaints()?);
    for (look, name) in [(DARK, "dark.png"), (PHONE, "phone.png")] {
        let mut page = browser.open(URL, look)?;
        agrees(&mut page, &controller)?;
        fits(&mut page, look)?;
        page.screenshot(&shot(name))?;
        ensure!(page.complaints()?.is_empty(), "{name}: {:#?}", page.complaints()?);
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn a_page_says_that_its_controller_is_gone_and_goes_on_with_the_next() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    let mut controller = start(&lab)?;
    let mut browser = Browser::start(&lab.lbs[0].host.netns)?;
    let mut page = browser.open(URL, WIDE)?;
    agrees(&mut page, &controller)?;
    controller.kill9()?;
    wait(&mut page, "the end to be noticed", |said| said["live"] == "the controller is not heard")?;
    controller.start()?;
    plain::wait_all_up(&lab, &controller)?;
    agrees(&mut page, &controller)
}

#[test]
#[ignore = "needs root: cargo xtask test netns"]
fn what_the_listener_serves_and_refuses_is_told_to_prometheus() -> Result<()> {
    let lab = Topology::build(&Plan::default())?;
    let _servers = plain::echo_servers(&lab)?;
    let controller = start(&lab)?;
    let (requests, refused) =
        ("fairlead_listener_requests_total", "fairlead_listener_refused_requests_total");
    let before = Scrape::of(&controller)?;
    let ask = |host: &str| {
        lab.lbs[0].host.netns.on_thread(|| {
            let mut stream = TcpStream::connect(LISTEN)?;
            stream
                .write_all(format!("GET /v1/status HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes())?;
            stream.set_read_timeout(Some(PATIENCE))?;
            ensure!(stream.read(&mut [0; 16])? > 0, "no answer");
            Ok(stream)
        })
    };
    let open = ask(LISTEN)?;
    wait_sum(&controller, requests, &[], |sum| sum >= before.sum(requests, &[]) + 1.0)?;
    wait_sum(&controller, "fairlead_listener_connections", &[], |sum| sum == 1.0)?;
    ask("evil.example")?;
    let of_host = ["reason=\"host\""];
    let known = before.sum(refused, &of_host);
    wait_sum(&controller, refused, &of_host, |sum| sum >= known + 1.0)?;
    drop(open);
    wait_sum(&controller, "fairlead_listener_connections", &[], |sum| sum == 0.0).map(drop)
}

/// A controller with a listener that has a token.
fn start(lab: &Topology) -> Result<Controller<'_>> {
    start_with(lab, str::to_owned)
}

/// Likewise, with another configuration made of the usual one.
fn start_with(lab: &Topology, change: impl Fn(&str) -> String) -> Result<Controller<'_>> {
    let mut controller = Controller::new(&lab.lbs[0], &plain::binary()?, lab.directory());
    let token = lab.directory().join("admin-token");
    fs::write(&token, TOKEN)?;
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
    let yaml = plain::config(lab, &plain::backends(lab), controller.socket());
    let keys = format!("admin: {{ listen: \"{LISTEN}\", token_file: {}, ", token.display());
    controller.write_config(&change(&yaml.replacen("admin: { ", &keys, 1)))?;
    controller.start()?;
    plain::wait_all_up(lab, &controller)?;
    Ok(controller)
}

/// Pictures are kept, to be looked at.
fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/page")
}

fn wait(page: &mut Page<'_>, what: &str, accept: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(what, PATIENCE, || {
        let said = page.evaluate(READ)?;
        Ok(if accept(&said) { Seen::Done(said) } else { Seen::Pending(said.to_string()) })
    })
}

/// Everything that the page says of backends and VIPs is what the command says, in its words.
fn agrees(page: &mut Page<'_>, controller: &Controller<'_>) -> Result<()> {
    eventually("the page to agree with status --json", PATIENCE, || {
        let (said, status) = (page.evaluate(READ)?, controller.status()?);
        let expected = expected(&status)?;
        let is_same = said["live"] == "live"
            && ["backends", "vips", "connections"].iter().all(|key| said[key] == expected[key]);
        Ok(if is_same {
            Seen::Done(())
        } else {
            Seen::Pending(format!("{said:#}\nin place of\n{expected:#}"))
        })
    })
}

fn expected(status: &Value) -> Result<Value> {
    let mut backends = Vec::new();
    for service in status["services"].as_array().context("no services")? {
        for it in service["backends"].as_array().context("no backends")? {
            let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (said, used) = (&it["weight"], &it["effective_weight"]);
            let weight = if said == used { said.to_string() } else { format!("{used} of {said}") };
            backends.push(serde_json::json!({
                "key": format!("{}/{}", name(&service["name"]), name(&it["name"])),
                "address": it["address"],
                "state": it["state"],
                "reason": it["reason"],
                "connections": it["connections"].to_string(),
                "weight": weight,
            }));
        }
    }
    let vips = status["vips"].as_array().context("no VIPs")?;
    let vips: Vec<Value> = vips
        .iter()
        .map(|vip| {
            let holder = if vip["owner"] == true { "this node" } else { "not this node" };
            serde_json::json!([vip["address"], holder])
        })
        .collect();
    let connections = status["flows"]["established"].to_string();
    Ok(serde_json::json!({ "backends": backends, "vips": vips, "connections": connections }))
}

/// A connection appears without anybody loading the page again.
fn follows(page: &mut Page<'_>, controller: &Controller<'_>, lab: &Topology) -> Result<()> {
    page.evaluate("window.untouched = true")?;
    let verdict = format!("All 3 backends are up. This node holds {}.", lab.vip());
    wait(page, "the verdict", |said| said["verdict"] == verdict)?;
    let client = lab.client.netns.on_thread(|| EchoClient::connect(plain::target(lab), None))?;
    wait(page, "the connection to be seen", |said| said["connections"] == "1")?;
    agrees(page, controller)?;
    drop(client);
    ensure!(page.evaluate("window.untouched")? == true, "the page was loaded again");
    Ok(())
}

/// By the mouse: the token, a wrong one first, then the backend, not without a confirmation.
fn drains(page: &mut Page<'_>, controller: &Controller<'_>) -> Result<()> {
    ensure!(page.evaluate("document.querySelector('td button').checkVisibility()")? == false);
    let hidden = "!document.querySelector('#ask-token').open";
    for (token, is_right) in [("wrong", false), (TOKEN, true)] {
        if page.evaluate(hidden)? == true {
            page.click("#unlock")?;
        }
        page.evaluate("document.querySelector('#token').value = ''")?;
        page.click("#token")?;
        page.write(token)?;
        page.click("#ask-token button.strong")?;
        if !is_right {
            let error = "document.querySelector('#token-error').textContent";
            eventually("the refusal", PATIENCE, || {
                let said = page.evaluate(error)?;
                Ok(if said == "This is not the token." {
                    Seen::Done(())
                } else {
                    Seen::Pending(said.to_string())
                })
            })?;
            // The browser says of each answer that is not a success that it was none.
            let complaints = page.complaints()?;
            ensure!(complaints.iter().all(|it| it.contains("401")), "{complaints:#?}");
            page.forgive();
        }
    }
    eventually("the buttons", PATIENCE, || {
        let said = page.evaluate("document.querySelector('td button').checkVisibility()")?;
        Ok(if said == true { Seen::Done(()) } else { Seen::Pending(said.to_string()) })
    })?;
    let button = "tr[data-key=\"plain/cp1\"] button";
    page.click(button)?;
    ensure!(
        page.evaluate("document.querySelector('#confirm-title').textContent")?
            == "Drain plain/cp1?"
    );
    page.click("#confirm [data-close]")?;
    ensure!(controller.backend_state("cp1")? == "up", "it was drained without a confirmation");
    page.click(button)?;
    page.click("#confirm-do")?;
    controller.wait_backend("cp1", "draining", PATIENCE)?;
    let said = controller.status()?["overrides"][0].clone();
    ensure!(said["admin"]["by"]["address"] == "127.0.0.1", "{said}");
    agrees(page, controller)?;
    wait(page, "the verdict", |said| {
        said["verdict"].as_str().is_some_and(|it| it.starts_with("2 of 3 backends are up."))
    })?;
    wait(page, "the event", |said| said["events"].to_string().contains("127.0.0.1 with the token"))
        .map(drop)
}

/// The way there is Tab, the way back into the page Escape.
fn enables_by_keyboard(page: &mut Page<'_>, controller: &Controller<'_>) -> Result<()> {
    page.evaluate("document.querySelector('.skip').focus()")?;
    let focused = "document.activeElement.getAttribute('aria-label')";
    let mut tabs = 0;
    while page.evaluate(focused)? != "Enable plain/cp1" {
        tabs += 1;
        ensure!(tabs < 20, "no Tab leads to the button");
        page.press("Tab")?;
    }
    page.press("Enter")?;
    page.press("Escape")?;
    ensure!(
        page.evaluate("document.querySelector('#confirm').open")? == false,
        "Escape was ignored"
    );
    ensure!(page.evaluate(focused)? == "Enable plain/cp1", "the focus is lost");
    page.press("Enter")?;
    let to = "document.activeElement.id";
    while page.evaluate(to)? != "confirm-do" {
        tabs += 1;
        ensure!(tabs < 30, "no Tab leads to the confirmation");
        page.press("Tab")?;
    }
    page.press("Enter")?;
    controller.wait_backend("cp1", "up", PATIENCE)?;
    agrees(page, controller)
}

/// Nothing has to be scrolled sideways.
fn fits(page: &mut Page<'_>, look: Look) -> Result<()> {
    let width = page.evaluate("document.documentElement.scrollWidth")?;
    ensure!(width.as_u64() <= Some(look.width.into()), "{width} of {}", look.width);
    Ok(())
}
