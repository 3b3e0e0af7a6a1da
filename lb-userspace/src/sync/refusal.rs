//! Why a connection, or somebody's wish for one, is refused or lost. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::fsm::Reason;
use super::noise::NoiseError;
use super::packet::{Bye, PacketError};

/// Between two lines of the log about one cause.
const QUIET: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("its address is not among `peers`")]
    Stranger,
    #[error("{0}")]
    Noise(#[from] NoiseError),
    #[error("it sent something that is no message: {0}")]
    Packet(#[from] PacketError),
    #[error("it speaks versions {oldest} to {newest} of the protocol")]
    Version { oldest: u8, newest: u8 },
    #[error("it is this node itself")]
    Itself,
    #[error("it said something else than who it is")]
    NoHello,
    #[error("too many want one at once")]
    TooMany,
    #[error("it does not go on with the handshake")]
    Slow,
    #[error("nobody listens there")]
    NoListener,
    #[error("{}", reason_of(.0))]
    Session(Reason),
    #[error("{0}")]
    Lost(String),
}

impl Refusal {
    /// As counters are labelled; `None`: nobody is to blame.
    pub const fn label(&self) -> Option<&'static str> {
        Some(match self {
            Self::Stranger => "stranger",
            Self::Noise(NoiseError::Preface) => "preface",
            Self::Noise(NoiseError::Length) => "length",
            Self::Noise(NoiseError::Key) => "key",
            Self::Noise(NoiseError::Forged) => "forged",
            Self::Packet(_) => "message",
            Self::Version { .. } => "version",
            Self::Itself => "itself",
            Self::NoHello => "no_hello",
            Self::TooMany => "too_many",
            Self::Slow => "slow",
            Self::Session(Reason::Unexpected | Reason::TooMany) => "message",
            Self::Session(Reason::Silent | Reason::Stuck | Reason::Bye(_))
            | Self::Noise(NoiseError::Unavailable)
            | Self::NoListener
            | Self::Lost(_) => return None,
        })
    }
}

fn reason_of(reason: &Reason) -> String {
    match reason {
        Reason::Silent => "it has been silent for 3 s".to_owned(),
        Reason::Stuck => "it takes nothing".to_owned(),
        Reason::Unexpected => "it said something out of place".to_owned(),
        Reason::TooMany => "it has more flows than there is room for".to_owned(),
        Reason::Bye(Bye::Ending) => "it ends".to_owned(),
        Reason::Bye(Bye::Version) => "it speaks other versions of the protocol".to_owned(),
        Reason::Bye(Bye::Stranger) => "it does not have this node among its `peers`".to_owned(),
        Reason::Bye(Bye::Replaced) => "it has a newer connection or key".to_owned(),
        Reason::Bye(Bye::Other(code)) => format!("it says goodbye ({code})"),
    }
}

/// How often what was refused.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: BTreeMap<&'static str, u64>,
    said: BTreeMap<&'static str, Instant>,
}

impl Refusals {
    /// Counts. `true`: it is to be said.
    pub fn note(&mut self, refusal: &Refusal, now: Instant) -> bool {
        let Some(label) = refusal.label() else { return true };
        *self.counts.entry(label).or_default() += 1;
        let is_due = self.said.get(label).is_none_or(|said| now >= *said + QUIET);
        if is_due {
            self.said.insert(label, now);
        }
        is_due
    }

    pub const fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test: any moment to start from")]
    fn every_cause_is_said_once_a_second_and_always_counted() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let (key, stranger) = (Refusal::Noise(NoiseError::Key), Refusal::Stranger);
        assert!(refusals.note(&key, now) && refusals.note(&stranger, now));
        assert!((0..50).all(|_| !refusals.note(&key, now + QUIET / 2)));
        assert!(refusals.note(&key, now + QUIET));
        let counts: Vec<_> =
            refusals.counts().iter().map(|(label, count)| (*label, *count)).collect();
        assert_eq!(counts, [("key", 52), ("stranger", 1)]);
    }
}
