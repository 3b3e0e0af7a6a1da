//! Real programs and real servers, on this machine.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::admin::Command;
use crate::admin::model::{Kind, What};
use crate::config::notify::{Action, Url};

mod https;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_program_is_told_every_event_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let program = script(directory.path(), "cat >> \"$1\"; echo \"$FAIRLEAD_EVENT\" >> \"$1\"");
    let mut scene = Scene::new();
    scene.notifier.apply(&[exec(&program, &[out.to_str().unwrap()])]);
    for number in 0..5 {
        scene.vip(number);
        scene.events.push(What::Stop { handover: true });
    }
    scene.wait(|fare| fare.delivered == 5).await;
    let text = fs::read_to_string(&out).unwrap();
    let told: Vec<Value> = text
        .lines()
        .filter(|line| *line != "vip")
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let addresses: Vec<_> = told.iter().map(|event| event["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["0", "1", "2", "3", "4"]);
    assert_eq!(text.lines().count(), 10);
}

#[tokio::test]
async fn a_program_knows_what_happened_and_nothing_of_the_controller() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let program = script(directory.path(), "env > \"$1\"");
    let mut scene = Scene::new();
    scene.notifier.apply(&[exec(&program, &[out.to_str().unwrap()])]);
    scene.vip(7);
    scene.wait(|fare| fare.delivered == 1).await;
    let text = fs::read_to_string(&out).unwrap();
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
    names.retain(|name| !matches!(*name, "PWD" | "SHLVL" | "_" | "OLDPWD"));
    names.sort_unstable();
    let expected =
        ["FAIRLEAD_EVENT", "FAIRLEAD_MESSAGE", "FAIRLEAD_SEQUENCE", "FAIRLEAD_TIME", "PATH"];
    assert_eq!(names, expected);
    assert!(text.contains("FAIRLEAD_MESSAGE=VIP 7 is here\n"), "{text}");
}

/// Its children too: nothing of it is left.
#[tokio::test]
async fn a_program_that_hangs_is_killed_and_the_next_event_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (pids, out) = (directory.path().join("pids"), directory.path().join("out"));
    let hang = "[ -e \"$1\" ] && exec touch \"$2\"; sleep 1000 & echo $! > \"$1\"; wait";
    let program = script(directory.path(), hang);
    let words = [pids.to_str().unwrap(), out.to_str().unwrap()];
    let target = Target { timeout: Duration::from_millis(500), ..exec(&program, &words) };
    let mut scene = Scene::new();
    scene.notifier.apply(&[target]);
    scene.vip(1);
    scene.vip(2);
    scene.wait(|fare| fare.failed == 1 && fare.delivered == 1).await;
    assert!(out.exists());
    let child = fs::read_to_string(&pids).unwrap();
    let gone = async {
        // A zombie is not running; whose child it was has been killed.
        let stat = || fs::read_to_string(format!("/proc/{}/stat", child.trim()));
        while stat().is_ok_and(|stat| !stat.contains(") Z ")) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, gone).await.unwrap();
}

#[tokio::test]
async fn a_target_that_fails_or_floods_holds_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let slow = script(directory.path(), "sleep 1000");
    let slow = Target { queue: 3, ..exec(&slow, &[]) };
    let absent = exec(&directory.path().join("absent"), &[]);
    let mut scene = Scene::new();
    scene.notifier.apply(&[slow, absent.clone()]);
    scene.vip(0);
    scene.wait_of(1, |fare| fare.failed == 1).await;
    let pushed = Instant::now();
    for number in 0..1000 {
        scene.vip(number);
    }
    assert!(pushed.elapsed() < Duration::from_secs(2));
    let status = scene.notifier.status();
    // The first is being told, or waits as well.
    assert!(status[0].dropped >= 997 && status[0].waiting == 3, "{status:?}");
    assert!(status[1].error.as_ref().unwrap().contains("starting it"), "{status:?}");
    assert_eq!(status[1].target, absent.name());
}

#[tokio::test]
async fn a_webhook_gets_events_in_order_with_its_token_and_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    fs::write(&token, "hunter2\n").unwrap();
    let (address, mut posts) = server(&[200, 503, 200, 404, 200]).await;
    let mut scene = Scene::new();
    scene.notifier.apply(&[webhook(address, Some(token), 2)]);
    for number in 1..=4 {
        scene.vip(number);
    }
    scene.wait(|fare| fare.delivered == 3 && fare.failed == 1).await;
    let mut told = Vec::new();
    while let Ok((head, body)) = posts.try_recv() {
        assert!(head.starts_with("POST /hook?secret=x HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: Bearer hunter2\r\n"), "{head}");
        assert!(head.contains("x-fairlead-event: vip\r\n"), "{head}");
        told.push(body["address"].as_str().unwrap().to_owned());
    }
    // The second again after 503; the third not again after 404.
    assert_eq!(told, ["1", "2", "2", "3", "4"]);
    let status = scene.notifier.status();
    assert!(!format!("{status:?}").contains("secret"), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_is_never_answered_is_given_up_after_its_retries() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut scene = Scene::new();
    scene.notifier.apply(&[webhook(listener.local_addr().unwrap(), None, 2)]);
    let start = Instant::now();
    scene.vip(1);
    scene.wait(|fare| fare.failed == 1).await;
    // Three attempts of 1 s, and pauses of 1 s and 2 s.
    let took = start.elapsed();
    assert!((6..9).contains(&took.as_secs()), "{took:?}");
    let error = scene.notifier.status()[0].error.clone().unwrap();
    assert!(error.contains("no answer within 1s"), "{error}");
}

#[tokio::test]
async fn targets_that_stay_keep_what_waits_and_what_waits_at_the_end_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let program = script(directory.path(), "cat >> \"$1\"");
    let stays = exec(&program, &[out.to_str().unwrap()]);
    let goes = exec(&program, &["/dev/null"]);
    let mut scene = Scene::new();
    scene.notifier.apply(&[goes, stays.clone()]);
    for number in 0..5 {
        scene.vip(number);
    }
    scene.notifier.apply(std::slice::from_ref(&stays));
    assert_eq!(scene.notifier.status().len(), 1);
    scene.vip(5);
    let Scene { notifier, .. } = scene;
    notifier.finish().await;
    assert_eq!(fs::read_to_string(&out).unwrap().lines().count(), 6);
}

struct Scene {
    events: Events,
    notifier: Notifier,
}

impl Scene {
    fn new() -> Self {
        let events = Events::default();
        let (commands, mut receiver) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some(command) = receiver.recv().await {
                if let Command::SourceFor { address, reply } = command {
                    let _ = reply.send(Some(address));
                }
            }
        });
        Self { notifier: Notifier::new(events.clone(), commands), events }
    }

    fn vip(&self, number: u32) {
        self.events.push(What::Vip { address: number.to_string(), gained: true });
    }

    async fn wait(&self, accept: impl Fn(&model::Notification) -> bool) {
        self.wait_of(0, accept).await;
    }

    async fn wait_of(&self, index: usize, accept: impl Fn(&model::Notification) -> bool) {
        let accepted = async {
            while !accept(&self.notifier.status()[index]) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let accepted = timeout(SOON, accepted).await;
        assert!(accepted.is_ok(), "{:?}", self.notifier.status());
    }
}

fn script(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("hook");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn exec(program: &Path, words: &[&str]) -> Target {
    let mut exec = vec![program.to_str().unwrap().to_owned()];
    exec.extend(words.iter().map(|word| (*word).to_owned()));
    Target {
        events: BTreeSet::from([Kind::Vip]),
        action: Action::Exec { exec },
        timeout: Duration::from_secs(10),
        queue: 64,
    }
}

fn webhook(address: SocketAddr, token_file: Option<PathBuf>, retries: u32) -> Target {
    let webhook = Url::parse(&format!("http://{address}/hook?secret=x")).unwrap();
    Target {
        events: BTreeSet::from([Kind::Vip]),
        action: Action::Webhook { webhook, token_file, ca_file: None, retries },
        timeout: Duration::from_secs(1),
        queue: 64,
    }
}

/// What a server was sent: head and body of each request.
type Posts = mpsc::UnboundedReceiver<(String, Value)>;

/// Answers with these, one after the other.
async fn server(answers: &'static [u16]) -> (SocketAddr, Posts) {
    serve(None, answers).await
}

/// The same in TLS, if it is given; who fails to shake hands has had no answer.
async fn serve(tls: Option<TlsAcceptor>, answers: &'static [u16]) -> (SocketAddr, Posts) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, posts) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut answers = answers.iter();
        while let Ok((stream, _)) = listener.accept().await {
            let told = match &tls {
                None => answer(stream, &mut answers).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => answer(stream, &mut answers).await,
                    Err(_) => continue,
                },
            };
            sender.send(told).unwrap();
        }
    });
    (address, posts)
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: &mut impl Iterator<Item = &u16>,
) -> (String, Value) {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let start = head.len();
        stream.read_line(&mut head).await.unwrap();
        if let Some(value) = head[start..].strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let answer = answers.next().unwrap();
    let answer = format!("HTTP/1.1 {answer} X\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    (head, serde_json::from_slice(&body).unwrap())
}
