//! What the program's exit codes mean. Pure.

use thiserror::Error;

use crate::admin::client::Unreachable;

/// The codes, for the end of `--help`.
pub(super) const HELP: &str = "Exit codes:
  0  done
  1  failed, or refused by the controller; stderr says why
  2  wrong usage
  3  no controller answers at the socket, or it may not be used
  4  the answer is no: what `trace` asks about would not be forwarded, `doctor` found a problem

Every command that asks the controller takes --json. Shells complete names after
`source <(fairlead completions bash)`; see `fairlead completions --help`.";

/// The command line makes no sense, which clap did not see.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

/// The answer is no; it was printed.
#[derive(Debug, Error)]
#[error("")]
pub(super) struct Negative;

/// The exit code of an error, and whether there is anything to say about it.
pub fn code(error: &anyhow::Error) -> (u8, bool) {
    if error.is::<Negative>() {
        (4, false)
    } else if error.downcast_ref::<Unreachable>().is_some() {
        (3, true)
    } else if error.is::<Usage>() {
        (2, true)
    } else {
        (1, true)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn every_error_has_its_code() {
        assert_eq!(code(&anyhow::anyhow!("refused")), (1, true));
        assert_eq!(code(&Usage("what?".to_owned()).into()), (2, true));
        assert_eq!(code(&Negative.into()), (4, false));
        let unreachable = Err::<(), _>(Unreachable("none".to_owned())).context("asking");
        assert_eq!(code(&unreachable.unwrap_err()), (3, true));
    }
}
