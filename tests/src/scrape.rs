//! What a controller says at `/metrics`, as Prometheus would read it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::controller::Controller;
use crate::eventually::{Seen, eventually};

/// A rendering serves for 250 ms, and what it is made of for a second.
const PATIENCE: Duration = Duration::from_secs(15);

/// Samples by series, with its labels as they are written.
#[derive(Clone, Debug)]
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    pub fn of(controller: &Controller<'_>) -> Result<Self> {
        Self::parse(&text(controller.socket(), "application/openmetrics-text")?)
    }

    fn parse(text: &str) -> Result<Self> {
        ensure!(text.ends_with("# EOF\n"), "the text has no end: {text}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            Ok((series.to_owned(), value.parse().with_context(|| line.to_owned())?))
        });
        samples.collect::<Result<_>>().map(Self)
    }

    /// Sum of the series with this name and, among others, these labels, such as `state="up"`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let series = self.0.iter().filter(|(series, _)| is_one(series, name, labels));
        series.map(|(_, value)| value).sum()
    }

    /// Whether there is any of them.
    pub fn has(&self, name: &str, labels: &[&str]) -> bool {
        self.0.keys().any(|series| is_one(series, name, labels))
    }
}

fn is_one(series: &str, name: &str, labels: &[&str]) -> bool {
    let (own, written) = series.split_once('{').unwrap_or((series, ""));
    own == name && labels.iter().all(|label| written.contains(label))
}

/// Waits until such a sum is as it should be.
pub fn wait_sum(
    controller: &Controller<'_>,
    name: &str,
    labels: &[&str],
    accept: impl Fn(f64) -> bool,
) -> Result<f64> {
    eventually(&format!("{name} {labels:?}"), PATIENCE, || {
        let sum = Scrape::of(controller)?.sum(name, labels);
        Ok(if accept(sum) { Seen::Done(sum) } else { Seen::Pending(sum.to_string()) })
    })
}

/// The body of the answer to one scrape.
pub fn text(socket: &Path, accept: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("connecting to {}", socket.display()))?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes()).context("asking for metrics")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("reading metrics")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_labels() {
        let scrape =
            Scrape::parse("# HELP a x\na{b=\"1\",c=\"2\"} 3\na{b=\"2\"} 4.5\nab 7\n# EOF\n");
        let scrape = scrape.unwrap();
        assert_eq!(scrape.sum("a", &[]).to_string(), "7.5");
        assert_eq!(scrape.sum("a", &["c=\"2\""]).to_string(), "3");
        assert_eq!(scrape.sum("ab", &[]).to_string(), "7");
        assert!(scrape.has("a", &["b=\"2\""]) && !scrape.has("a", &["b=\"3\""]));
        assert!(Scrape::parse("a 1\n").is_err());
    }
}
