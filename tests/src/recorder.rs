//! What became of each connection of a load, and the sums over a span of time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::standstill;

/// Why a connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    Refused,
    ConnectTimeout,
    /// Connected, and then no whole answer in time.
    AnswerTimeout,
    Reset,
    /// The connection ended in order, without a whole answer.
    CutShort,
    /// A whole answer that was not the right one.
    WrongAnswer,
    /// No port, no route, a failed handshake …
    Other,
}

impl Failure {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::ConnectTimeout => "connect timeout",
            Self::AnswerTimeout => "answer timeout",
            Self::Reset => "reset",
            Self::CutShort => "cut short",
            Self::WrongAnswer => "wrong answer",
            Self::Other => "other",
        }
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By whom.
    Answered(Arc<str>),
    /// Why, and the system's words for it.
    Failed(Failure, String),
}

/// One connection. Times count from the recorder's start.
#[derive(Clone, Debug)]
pub struct Sample {
    pub started: Duration,
    pub connected_after: Option<Duration>,
    /// None while it is under way.
    pub finished: Option<(Duration, Outcome)>,
}

/// A span of a recording: from, up to and without.
pub type Span = std::ops::Range<Duration>;

/// Collects samples from any thread.
#[derive(Clone, Debug)]
pub struct Recorder {
    start: Instant,
    /// Likewise, since 1970.
    date: Duration,
    samples: Arc<Mutex<Vec<Sample>>>,
}

/// A connection that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Ticket(usize);

/// The connections that were started in a span.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub sent: usize,
    pub answered: usize,
    pub pending: usize,
    pub by_server: BTreeMap<Arc<str>, usize>,
    pub failed: BTreeMap<Failure, usize>,
    /// Each failure: when it was started, when it failed, why.
    pub failures: Vec<(Duration, Duration, Failure, String)>,
    pub connect_p50: Duration,
    pub connect_p99: Duration,
    pub connect_max: Duration,
    /// The longest time without any answer.
    pub longest_gap: Duration,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    pub fn new() -> Self {
        let date = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), date, samples: Arc::default() }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn begin(&self) -> Ticket {
        let started = self.now();
        let mut samples = self.lock();
        samples.push(Sample { started, connected_after: None, finished: None });
        Ticket(samples.len() - 1)
    }

    pub fn connected(&self, ticket: Ticket) {
        let now = self.now();
        let sample = &mut self.lock()[ticket.0];
        sample.connected_after = Some(now.saturating_sub(sample.started));
    }

    pub fn finish(&self, ticket: Ticket, outcome: Outcome) {
        let now = self.now();
        self.lock()[ticket.0].finished = Some((now, outcome));
    }

    /// A copy of everything so far.
    pub fn samples(&self) -> Vec<Sample> {
        self.lock().clone()
    }

    /// What a connection took to be opened, without what the machine stood still meanwhile; `None`: it is not yet.
    pub fn to_connect(&self, sample: &Sample) -> Option<Duration> {
        let (began, took) = (self.date + sample.started, sample.connected_after?);
        Some(took.saturating_sub(standstill::during(&(began..began + took))))
    }

    /// Of all connections the longest [time to connect](Self::to_connect).
    pub fn slowest_to_connect(&self) -> Duration {
        self.lock().iter().filter_map(|it| self.to_connect(it)).max().unwrap_or_default()
    }

    /// Sums over the connections started in `span`.
    pub fn report(&self, span: &Span) -> Report {
        Report::of(&self.lock(), span)
    }

    /// How many answers each server gave in `span`.
    pub fn answers(&self, span: &Span) -> BTreeMap<Arc<str>, usize> {
        let mut answers = BTreeMap::new();
        // Backwards, and no further than a connection can last: this is called each second.
        let oldest = span.start.saturating_sub(Duration::from_secs(30));
        for sample in self.lock().iter().rev().take_while(|sample| sample.started >= oldest) {
            if let Some((at, Outcome::Answered(by))) = &sample.finished
                && span.contains(at)
            {
                *answers.entry(Arc::clone(by)).or_default() += 1;
            }
        }
        answers
    }

    /// When `server` answered a connection that was started after `since`: the first such start, and
    /// the last.
    pub fn served(&self, server: &str, since: Duration) -> Option<(Duration, Duration)> {
        let samples = self.lock();
        let mut starts = samples.iter().filter(|sample| {
            sample.started >= since
                && matches!(&sample.finished, Some((_, Outcome::Answered(by))) if &**by == server)
        });
        let first = starts.next()?.started;
        Some((first, starts.next_back().map_or(first, |sample| sample.started)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sample>> {
        // Whoever panicked while holding it left whole samples.
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    fn of(samples: &[Sample], span: &Span) -> Self {
        let mut report = Self::default();
        let mut latencies = Vec::new();
        let mut answer_times = Vec::new();
        for sample in samples {
            if let Some((at, Outcome::Answered(_))) = &sample.finished
                && span.contains(at)
            {
                answer_times.push(*at);
            }
            if !span.contains(&sample.started) {
                continue;
            }
            report.sent += 1;
            latencies.extend(sample.connected_after);
            match &sample.finished {
                None => report.pending += 1,
                Some((_, Outcome::Answered(by))) => {
                    report.answered += 1;
                    *report.by_server.entry(Arc::clone(by)).or_default() += 1;
                }
                Some((at, Outcome::Failed(why, words))) => {
                    *report.failed.entry(*why).or_default() += 1;
                    report.failures.push((sample.started, *at, *why, words.clone()));
                }
            }
        }
        latencies.sort_unstable();
        answer_times.sort_unstable();
        report.connect_p50 = quantile(&latencies, 50);
        report.connect_p99 = quantile(&latencies, 99);
        report.connect_max = latencies.last().copied().unwrap_or_default();
        report.longest_gap = longest_gap(&answer_times);
        report
    }

    pub fn failed_total(&self) -> usize {
        self.failed.values().sum()
    }

    /// As a line of the load generator's output.
    pub fn to_json(&self) -> Value {
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        let failed: BTreeMap<_, _> =
            self.failed.iter().map(|(why, count)| (why.as_str(), count)).collect();
        let failures: Vec<_> = self
            .failures
            .iter()
            .map(|(started, at, why, words)| {
                json!({"started_ms": millis(*started), "failed_ms": millis(*at),
                       "why": why.as_str(), "error": words})
            })
            .collect();
        let by_server: BTreeMap<&str, usize> =
            self.by_server.iter().map(|(name, count)| (&**name, *count)).collect();
        json!({
            "sent": self.sent, "answered": self.answered, "pending": self.pending,
            "by_server": by_server, "failed": failed, "failures": failures,
            "connect_ms": {"p50": millis(self.connect_p50), "p99": millis(self.connect_p99),
                           "max": millis(self.connect_max)},
            "longest_gap_ms": millis(self.longest_gap),
        })
    }
}

fn longest_gap(sorted: &[Duration]) -> Duration {
    sorted.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_what_was_started_in_its_span() {
        let ms = Duration::from_millis;
        let sample = |started, finished, outcome| Sample {
            started: ms(started),
            connected_after: Some(ms(started / 10)),
            finished: Some((ms(finished), outcome)),
        };
        let cp1 = || Outcome::Answered("cp1".into());
        let samples = [
            sample(0, 10, cp1()),
            sample(100, 110, cp1()),
            sample(200, 400, cp1()),
            sample(300, 310, Outcome::Failed(Failure::Reset, "reset by peer".into())),
            Sample { started: ms(350), connected_after: None, finished: None },
        ];
        let report = Report::of(&samples, &(ms(50)..ms(500)));
        assert_eq!((report.sent, report.answered, report.pending), (4, 2, 1));
        assert_eq!(report.failed_total(), 1);
        assert_eq!(report.failures[0].2, Failure::Reset);
        assert_eq!(report.longest_gap, ms(290));
        assert_eq!((report.connect_p50, report.connect_max), (ms(20), ms(30)));
        assert_eq!(report.to_json()["failed"]["reset"], 1);
    }
}
