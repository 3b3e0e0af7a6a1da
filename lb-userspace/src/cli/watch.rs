//! What is shown once, or with `--watch` again each second. I/O.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::{ask, print};
use crate::admin::client::Client;

const PERIOD: Duration = Duration::from_secs(1);
/// Of terminals that do not say how high they are.
const USUAL_ROWS: usize = 24;

/// In which form, and how often.
#[derive(Debug, Default, Args)]
pub(super) struct Output {
    /// As JSON; its keys stay as they are, and others may come.
    #[arg(long)]
    pub(super) json: bool,
    /// Show it again each second, until interrupted; on a terminal in place of what was there before.
    #[arg(long, short)]
    pub(super) watch: bool,
}

impl Output {
    /// For eyes too; with `--watch` a line each time.
    pub(super) fn json_text(&self, value: &Value) -> Result<String> {
        let text = if self.watch {
            serde_json::to_string(value)
        } else {
            serde_json::to_string_pretty(value)
        };
        Ok(text? + "\n")
    }
}

/// Asks the controller with `look`, and shows what that makes of the answer.
pub(super) fn show(
    output: &Output,
    socket: &Path,
    mut look: impl AsyncFnMut(&Client) -> Result<String>,
) -> Result<()> {
    if !output.watch {
        return print(&ask(socket, async |client| look(&client).await)?);
    }
    ask(socket, async |client| {
        let mut stops = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(signal)
            .into_iter()
            .collect::<io::Result<Vec<_>>>()
            .context("listening to signals")?;
        let [interrupt, terminate, hangup] = stops.as_mut_slice() else { return Ok(()) };
        // Seen before the screen is changed: an error is best read where the command was typed.
        let first = look(&client).await?;
        let screen = Screen::open()?;
        screen.draw(&first)?;
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
            }
            screen.draw(&look(&client).await?)?;
        }
    })
}

/// The terminal's other screen, until this is dropped; or what is no terminal, to which all is written.
struct Screen {
    is_terminal: bool,
}

impl Screen {
    fn open() -> Result<Self> {
        let screen = Self { is_terminal: io::stdout().is_terminal() };
        if screen.is_terminal {
            print("\x1b[?1049h\x1b[?25l")?;
        }
        Ok(screen)
    }

    fn draw(&self, text: &str) -> Result<()> {
        if !self.is_terminal {
            return print(text);
        }
        print(&frame(text, rows()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_terminal {
            // Where nothing can be written nothing has to be put right.
            let _ = print("\x1b[?25h\x1b[?1049l");
        }
    }
}

/// From the top, each line to its end, and no line more than there is room for.
fn frame(text: &str, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().take(rows.saturating_sub(1)).collect();
    let lines: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
    format!("\x1b[H{lines}\x1b[J")
}

fn rows() -> usize {
    // SAFETY: winsize is four integers, of which zero is a value.
    let mut size: libc::winsize = unsafe { core::mem::zeroed() };
    // SAFETY: the request fills in a winsize, which outlives the call.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    if result == 0 && size.ws_row > 0 { size.ws_row.into() } else { USUAL_ROWS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_terminal_and_leaves_nothing_of_the_one_before() {
        assert_eq!(frame("a\nb\nc\n", 3), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        assert_eq!(frame("", 24), "\x1b[H\x1b[J");
    }

    #[test]
    fn json_that_is_repeated_is_a_line_each_time() {
        let value = serde_json::json!({ "a": [1, 2] });
        let text = |watch| Output { json: true, watch }.json_text(&value).unwrap();
        assert_eq!(text(true), "{\"a\":[1,2]}\n");
        assert!(text(false).lines().count() > 1);
    }
}
