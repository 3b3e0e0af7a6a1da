//! The second opinions: what a probe asks for when a server is not well, and what follows. I/O.
//!
//! ```text
//! path:  as expected ──────────────────────────────────► Ready
//!        401, 403 ─────────────────────────────────────► Unverified
//!        429, 503 ─────────────────────────────────────► Failed(Status): busy
//!        another status, and then
//!            degraded_path as expected ────────────────► Degraded: only etcd is unwell
//!            live_path as expected ────────────────────► NotReady: it is going to end
//!            neither ──────────────────────────────────► Failed(Status)
//!        no answer within half of the timeout, and
//!            degraded_path as expected by the end of it ► Degraded
//! ```
//!
//! An apiserver whose etcd hangs takes seconds to say so, which is why the degraded path does not wait
//! for the answer.

use std::future::Future;
use std::pin::pin;

use futures_util::future::{Either, join, maybe_done, select};
use tokio::time::sleep_until;

use super::super::{Class, Finding, Reason, Stage, Verdict};
use super::Budget;
use crate::config::Request;

/// Asks for the path, and for others as far as its answer calls for that.
pub(super) async fn probe<'a, A>(
    request: &'a Request,
    budget: Budget,
    ask: impl Fn(&'a str) -> A,
) -> Finding
where
    A: Future<Output = Result<Reason, Reason>>,
{
    let is_well = async |path: Option<&'a String>| match path {
        Some(path) => {
            matches!(ask(path).await, Ok(Reason::Status(status)) if request.expect_status.contain(status))
        }
        None => false,
    };
    let mut first = pin!(async { ask(&request.path).await.unwrap_or_else(|reason| reason) });
    let mut degraded = pin!(maybe_done(is_well(request.degraded_path.as_ref())));
    let half = pin!(sleep_until(budget.half()));
    let reason = match select(first.as_mut(), half).await {
        Either::Left((reason, _)) => reason,
        Either::Right(((), first)) => match select(first, degraded.as_mut()).await {
            Either::Left((reason, _)) => reason,
            Either::Right(((), first)) => first.await,
        },
    };
    let found = judge(request, reason);
    if !is_red(&found) {
        let is_slow = found.reason == Reason::Timeout(Stage::Response);
        return if is_slow && degraded.take_output() == Some(true) {
            without_etcd(found)
        } else {
            found
        };
    }
    let mut live = pin!(maybe_done(is_well(request.live_path.as_ref())));
    join(degraded.as_mut(), live.as_mut()).await;
    if degraded.take_output() == Some(true) {
        without_etcd(found)
    } else if live.take_output() == Some(true) {
        let reason = Reason::NotReady(Box::new(found.reason));
        Finding { verdict: Verdict::NotReady, reason }
    } else {
        found
    }
}

/// What the answer says by itself.
fn judge(request: &Request, reason: Reason) -> Finding {
    if let Reason::Status(status) = reason {
        let verdict = match status {
            _ if request.expect_status.contain(status) => Verdict::Ready,
            401 | 403 => Verdict::Unverified,
            _ => Verdict::Failed(Class::Status),
        };
        return Finding { verdict, reason };
    }
    reason.into()
}

/// Whether the server has said that it is not ready, and not merely that it is busy.
const fn is_red(found: &Finding) -> bool {
    matches!(found.verdict, Verdict::Failed(Class::Status))
        && !matches!(found.reason, Reason::Status(429 | 503))
}

fn without_etcd(found: Finding) -> Finding {
    let reason = Reason::WithoutEtcd(Box::new(found.reason));
    Finding { verdict: Verdict::Degraded, reason }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;
    use crate::config::{HealthCheck, Pace, Probe};
    use tokio::time::{Instant, sleep_until};

    /// What a path is answered with, and when: milliseconds from the request.
    type Answer = (u64, Result<u16, Reason>);

    const GREEN: Answer = (1, Ok(200));
    const RED: Answer = (1, Ok(500));
    const NEVER: Answer = (u64::MAX, Ok(200));

    /// Answers of the path, the degraded and the live one → verdict, text, when it is there, and what was
    /// asked for. The timeout is one second.
    #[tokio::test(start_paused = true)]
    async fn the_answers_of_the_three_paths_decide() {
        use Verdict::{Degraded, Failed, NotReady, Ready, Unverified};
        let refused = || (1, Err(Reason::Refused));
        let cases = [
            (GREEN, RED, RED, Ready, "200", 1, "/r"),
            ((1, Ok(401)), GREEN, GREEN, Unverified, "401 (alive, unverified)", 1, "/r"),
            ((1, Ok(403)), GREEN, GREEN, Unverified, "403 (alive, unverified)", 1, "/r"),
            ((1, Ok(429)), GREEN, GREEN, Failed(Class::Status), "429", 1, "/r"),
            ((1, Ok(503)), GREEN, GREEN, Failed(Class::Status), "503", 1, "/r"),
            (refused(), GREEN, GREEN, Failed(Class::Refused), "connection refused", 1, "/r"),
            (RED, GREEN, RED, Degraded, "500 (ready but for etcd)", 2, "/r /d /l"),
            (RED, GREEN, GREEN, Degraded, "500 (ready but for etcd)", 2, "/r /d /l"),
            (RED, RED, GREEN, NotReady, "500 (not ready, but live)", 2, "/r /d /l"),
            ((1, Ok(404)), RED, GREEN, NotReady, "404 (not ready, but live)", 2, "/r /d /l"),
            (RED, RED, RED, Failed(Class::Status), "500", 2, "/r /d /l"),
            (RED, refused(), refused(), Failed(Class::Status), "500", 2, "/r /d /l"),
            (RED, (1, Ok(401)), (1, Ok(403)), Failed(Class::Status), "500", 2, "/r /d /l"),
            (RED, NEVER, GREEN, NotReady, "500 (not ready, but live)", 1000, "/r /d /l"),
            (RED, NEVER, NEVER, Failed(Class::Status), "500", 1000, "/r /d /l"),
            ((600, Ok(200)), GREEN, GREEN, Ready, "200", 600, "/r /d"),
            ((600, Ok(500)), GREEN, GREEN, Degraded, "500 (ready but for etcd)", 601, "/r /d /l"),
            (
                NEVER,
                GREEN,
                GREEN,
                Degraded,
                "timeout while waiting for the answer (ready but for etcd)",
                1000,
                "/r /d",
            ),
            (
                NEVER,
                RED,
                GREEN,
                Failed(Class::Timeout),
                "timeout while waiting for the answer",
                1000,
                "/r /d",
            ),
            (
                NEVER,
                NEVER,
                GREEN,
                Failed(Class::Timeout),
                "timeout while waiting for the answer",
                1000,
                "/r /d",
            ),
        ];
        for (ready, degraded, live, verdict, text, took, asked) in cases {
            let request = Request {
                degraded_path: Some("/d".to_owned()),
                live_path: Some("/l".to_owned()),
                ..Request::new("/r")
            };
            let case = format!("{ready:?} {degraded:?} {live:?}");
            let started = Instant::now();
            let (found, paths) = run(&request, [ready, degraded, live]).await;
            assert_eq!(
                (found.verdict, found.reason.to_string().as_str()),
                (verdict, text),
                "{case}"
            );
            assert_eq!(started.elapsed().as_millis(), took, "{case}");
            assert_eq!(paths.join(" "), asked, "{case}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_second_paths_the_first_answer_is_all() {
        let request = Request::new("/r");
        for (answer, verdict) in [(RED, Class::Status), (NEVER, Class::Timeout)] {
            let (found, paths) = run(&request, [answer, GREEN, GREEN]).await;
            assert_eq!(found.verdict, Verdict::Failed(verdict));
            assert_eq!(paths, ["/r"]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_expected_decides_before_anything_else() {
        let expect_status = crate::config::Statuses::new([401..=401, 503..=503]);
        let request = Request { expect_status, ..Request::new("/r") };
        for (status, verdict) in [
            (401, Verdict::Ready),
            (503, Verdict::Ready),
            (403, Verdict::Unverified),
            (200, Verdict::Failed(Class::Status)),
        ] {
            let (found, _) = run(&request, [(1, Ok(status)), GREEN, GREEN]).await;
            assert_eq!(found.verdict, verdict, "{status}");
        }
    }

    /// Answers in the order ready, degraded, live. What was asked for comes along.
    async fn run(request: &Request, answers: [Answer; 3]) -> (Finding, Vec<&str>) {
        let second = Duration::from_secs(1);
        let check = HealthCheck {
            probe: Probe::Tcp,
            connect_timeout: second,
            timeout: second,
            pace: Pace::default(),
        };
        let budget = Budget::new(&check);
        let asked = RefCell::new(Vec::new());
        let ask = |path| {
            asked.borrow_mut().push(path);
            let index = ["/r", "/d", "/l"].iter().position(|it| *it == path).unwrap();
            let (after, answer) = answers[index].clone();
            let at = Instant::now() + Duration::from_millis(after.min(3_600_000));
            async move {
                let answer = async {
                    sleep_until(at).await;
                    answer.map(Reason::Status)
                };
                budget.spend(Stage::Response, answer).await
            }
        };
        let found = probe(request, budget, ask).await;
        (found, asked.into_inner())
    }
}
