//! How figures and times are written. Pure.

use jiff::Timestamp;

/// Three digits and a unit.
pub(super) fn short(value: f64, unit: &str) -> String {
    let mut rest = value;
    let mut prefix = "";
    for next in ["k", "M", "G", "T"] {
        if rest < 999.5 {
            break;
        }
        rest /= 1000.0;
        prefix = next;
    }
    let digits = match rest {
        _ if prefix.is_empty() && rest >= 9.95 => 0,
        _ if prefix.is_empty() => usize::from(rest.fract() > 0.0),
        rest if rest < 9.995 => 2,
        rest if rest < 99.95 => 1,
        _ => 0,
    };
    let space = if prefix.is_empty() && unit.is_empty() { "" } else { " " };
    format!("{rest:.digits$}{space}{prefix}{unit}")
}

/// Bytes by the second, as bits.
pub(super) fn bits(bytes: f64) -> String {
    short(bytes * 8.0, "bit/s")
}

/// As precise as it is small.
#[expect(clippy::cast_precision_loss, reason = "it is shown with three digits")]
pub(super) fn probe(microseconds: u64) -> String {
    let milliseconds = microseconds as f64 / 1000.0;
    match microseconds {
        0..10_000 => format!("{milliseconds:.1} ms"),
        10_000..1_000_000 => format!("{milliseconds:.0} ms"),
        _ => format!("{:.1} s", milliseconds / 1000.0),
    }
}

/// How long ago, in its largest unit.
pub(super) fn age(since: &str, now: &str) -> String {
    let (Ok(since), Ok(now)) = (since.parse::<Timestamp>(), now.parse::<Timestamp>()) else {
        return "?".to_owned();
    };
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// What others have named, on one line, with nothing that a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        for (value, expected) in [
            (0.0, "0"),
            (0.5, "0.5"),
            (12.0, "12"),
            (999.4, "999"),
            (999.6, "1.00 k"),
            (12_345.0, "12.3 k"),
            (123_456.0, "123 k"),
            (2.5e9, "2.50 G"),
        ] {
            assert_eq!(short(value, ""), expected);
        }
        assert_eq!(bits(125_000.0), "1.00 Mbit/s");
        assert_eq!(bits(1.0), "8 bit/s");
        assert_eq!([probe(900), probe(42_000), probe(2_500_000)], ["0.9 ms", "42 ms", "2.5 s"]);
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(plain("a\u{1b}[31mb\r\nc\u{9b}d"), "a [31mb  c d");
        assert_eq!(age("2026-01-02T00:00:00Z", "2026-01-02T01:05:00Z"), "1h05m");
        assert_eq!(age("x", "2026-01-02T01:05:00Z"), "?");
    }
}
