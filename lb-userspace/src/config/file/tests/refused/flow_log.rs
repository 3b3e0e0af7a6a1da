//! The log of connections.

use rstest::rstest;

use super::super::MINIMAL;
use super::assert_refused;

/// What follows the lines of `MINIMAL`, as the sixth.
#[rstest]
#[case::no_file("flow_log: { sample: 2 }", "6:11", "flow_log.file", "or stdout")]
#[case::relative("flow_log: { file: log }", "6:19", "flow_log.file", "absolute path")]
#[case::none_of_them(
    "flow_log: { file: stdout, sample: 0 }",
    "6:35",
    "flow_log.sample",
    "from 1 to 1000000"
)]
fn a_flow_log_needs_a_file(
    #[case] line: &str,
    #[case] at: &str,
    #[case] key: &str,
    #[case] message: &str,
) {
    assert_refused(&format!("{MINIMAL}{line}\n"), at, key, message);
}
