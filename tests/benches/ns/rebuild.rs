//! How long the controller takes to compute a service's table anew.

use std::time::{Duration, Instant};

use fairlead::control::maglev;
use serde_json::{Value, json};

const BACKENDS: [u32; 4] = [3, 10, 100, 1000];
/// Of which the fastest counts: the others were disturbed.
const TIMES: usize = 5;

/// Of more and more backends.
pub(crate) fn all() -> Vec<Value> {
    BACKENDS.into_iter().map(one).collect()
}

#[expect(clippy::disallowed_methods, reason = "what measures time reads the clock")]
fn one(backends: u32) -> Value {
    let names: Vec<String> = (1..=backends).map(|id| format!("backend {id}")).collect();
    let entries: Vec<maglev::Entry<'_>> =
        (1..).zip(&names).map(|(id, name)| maglev::Entry { name, id, weight: 100 }).collect();
    let (mut fastest, mut slots) = (Duration::MAX, 0);
    for _ in 0..TIMES {
        let start = Instant::now();
        slots = maglev::build(&entries).len();
        fastest = fastest.min(start.elapsed());
    }
    json!({ "backends": backends, "slots": slots, "ms": fastest.as_secs_f64() * 1e3 })
}
