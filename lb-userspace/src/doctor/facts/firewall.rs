//! What the host's firewall says, as its own programs print it. I/O.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::Looked;

/// A node of a large cluster has a hundred thousand rules.
const MOST_OUTPUT: u64 = 32 << 20;
const PATIENCE: Duration = Duration::from_secs(3);
/// Where administrators' programs are, whatever PATH a service has.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Firewall {
    /// What `nft -j list ruleset` prints; `None`: there is no such program.
    pub nftables: Option<Looked<Value>>,
    /// What `iptables-legacy-save` and its counterpart of IPv6 print.
    pub iptables: Vec<Looked<String>>,
}

impl Firewall {
    pub(super) async fn read() -> Self {
        let (nft, v4, v6) = tokio::join!(
            output("nft", &["-j", "list", "ruleset"]),
            output("iptables-legacy-save", &[]),
            output("ip6tables-legacy-save", &[]),
        );
        let json = |text: Looked<String>| {
            let value = serde_json::from_str(&text?);
            value.map_err(|error| format!("what nft prints makes no sense: {error}"))
        };
        Self { nftables: nft.map(json), iptables: [v4, v6].into_iter().flatten().collect() }
    }
}

/// What a program prints; `None`: it is not installed.
async fn output(program: &str, words: &[&str]) -> Option<Looked<String>> {
    let mut command = Command::new(program);
    command.args(words).env("PATH", PATH).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(Err(format!("{program}: {error}"))),
    };
    let reading = async {
        let mut text = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MOST_OUTPUT).read_to_end(&mut text).await?;
        }
        let status = child.wait().await?;
        std::io::Result::Ok((status, text))
    };
    Some(match timeout(PATIENCE, reading).await {
        Err(_) => Err(format!("{program} takes longer than {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => Err(format!("{program}: {error}")),
        Ok(Ok((status, _))) if !status.success() => Err(format!("{program}: {status}")),
        Ok(Ok((_, text))) => {
            String::from_utf8(text).map_err(|_| format!("{program} prints no text"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn programs_that_are_not_there_or_fail_are_told_apart() {
        assert_eq!(output("no-such-program", &[]).await, None);
        assert!(output("false", &[]).await.unwrap().is_err());
        assert_eq!(output("echo", &["hello"]).await, Some(Ok("hello\n".to_owned())));
    }
}
