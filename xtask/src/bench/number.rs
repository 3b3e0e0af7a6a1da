//! Numbers for readers: as many digits as mean something. Pure.

/// Three significant digits at least, thousands apart.
pub(crate) fn show(value: f64) -> String {
    let size = value.abs();
    let decimals = if size >= 100.0 {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 0.1 || size == 0.0 {
        2
    } else {
        4
    };
    group(&format!("{value:.decimals$}"))
}

/// Without decimals, thousands apart.
pub(crate) fn whole(value: f64) -> String {
    group(&format!("{value:.0}"))
}

fn group(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let (whole, rest) = digits.split_once('.').map_or((digits, None), |(a, b)| (a, Some(b)));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let rest = rest.map(|rest| format!(".{rest}")).unwrap_or_default();
    format!("{sign}{grouped}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_follow_the_size() {
        let shown = [1_234_567.8, 999.6, 64.21, 4.567, 0.0123, 0.0, -1234.0].map(show);
        assert_eq!(shown, ["1,234,568", "1,000", "64.2", "4.57", "0.0123", "0.00", "-1,234"]);
    }
}
