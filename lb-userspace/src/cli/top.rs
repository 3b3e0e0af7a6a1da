//! `fairlead top`. I/O, but for what it shows and what keys do.
//!
//! ```text
//! status, events (admin socket) ─► rates ─► view ─► draw ─► terminal
//!                 keys ─► app ──────────────────────┘
//! ```

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use tokio::time::error::Elapsed;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::{SocketOption, ask, print, print_json};
use crate::admin::client::Client;
use crate::admin::model::{BackendChange, Event, Status};

mod app;
mod draw;
mod rates;
mod terminal;
#[cfg(test)]
mod testing;
mod text;
mod view;

use app::{Action, App, Change};
use rates::Rates;
use terminal::{Input, Screen, Signals};
use view::View;

const PERIOD: Duration = Duration::from_secs(1);
/// Longer than that, and the screen says that it is old.
const PATIENCE: Duration = Duration::from_millis(900);
/// Events that are shown at most.
const EVENTS: usize = 50;
/// Of what is printed where nobody says how wide it may be.
const WIDTH: u16 = 140;

/// Show services, backends and what they do, once a second.
///
/// Rates, connections, states, probes; VIPs and who has them, drops, what happened last. Sorted by s, filtered by /; d and e drain and
/// enable the selected backend, after a question.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  fairlead top
  fairlead top --once | grep kube-apiserver
  fairlead top --json | jq '.backends[] | select(.state != \"up\")'")]
pub(super) struct Arguments {
    /// Print one frame, of the second that it takes, and end.
    #[arg(long)]
    once: bool,
    /// The same as JSON; its keys stay as they are, and others may come.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketOption,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { once, json, socket } = arguments;
    ask(&socket.socket, async |client| {
        let mut source = Source::new(client);
        source.look().await?;
        if *json || *once {
            sleep(PERIOD).await;
            source.look().await?;
            let view = source.view();
            return if *json {
                print_json(&serde_json::to_value(view)?)
            } else {
                print(&text(&view)?)
            };
        }
        watch(source).await
    })
}

/// Asks the controller, and keeps what the next answer is compared with.
struct Source {
    client: Client,
    status: Status,
    rates: Option<Rates>,
    events: Vec<Event>,
}

impl Source {
    fn new(client: Client) -> Self {
        Self { client, status: Status::default(), rates: None, events: Vec::new() }
    }

    /// Asks once more.
    async fn look(&mut self) -> Result<()> {
        let status = serde_json::from_value(self.client.status().await?).context(
            "the controller's status is another version's; use `fairlead status --json`",
        )?;
        let mut events = Vec::new();
        let see = |_: &str, event| {
            events.push(event);
            Ok(())
        };
        self.client.events(&format!("last={EVENTS}"), see).await?;
        // A status that is not newer leaves the rates as they were.
        self.rates = Rates::between(&self.status, &status)
            .or_else(|| self.rates.take().filter(|_| self.status.time == status.time));
        (self.status, self.events) = (status, events);
        Ok(())
    }

    fn view(&self) -> View {
        View::new(&self.status, self.rates.as_ref(), &self.events)
    }

    async fn change(&self, change: &Change) -> String {
        let Change { service, backend, admin } = change;
        let wish = BackendChange { admin: Some(*admin), ..BackendChange::default() };
        match self.client.set_backend(service, backend, &wish).await {
            Ok(_) => format!("{service}/{backend}: {}", admin.as_str()),
            Err(error) => format!("{error:#}"),
        }
    }
}

/// Shows frames until a key or a signal ends it.
async fn watch(mut source: Source) -> Result<()> {
    let mut signals = Signals::new()?;
    let mut screen = Screen::open()?;
    let mut inputs = terminal::inputs();
    let (mut app, mut view, mut is_stale) = (App::default(), source.view(), false);
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        screen.terminal.draw(|frame| draw::draw(frame, &view, &app)).context("drawing")?;
        tokio::select! {
            () = signals.next() => return Ok(()),
            input = inputs.recv() => match input {
                // The terminal has gone.
                None => bail!("the terminal cannot be read any more"),
                Some(Input::Resize) => {}
                Some(Input::Key(key)) => match app.handle(key, &view) {
                    Action::Nothing => {}
                    Action::Quit => return Ok(()),
                    Action::Change(change) => {
                        app.message = Some(source.change(&change).await);
                        ticks.reset_immediately();
                    }
                },
            },
            _ = ticks.tick() => match timeout(PATIENCE, source.look()).await {
                Ok(Ok(())) => {
                    view = source.view();
                    if std::mem::take(&mut is_stale) {
                        app.message = None;
                    }
                }
                outcome => {
                    is_stale = true;
                    app.message = Some(trouble(outcome));
                }
            },
        }
    }
}

/// Why nothing is new.
fn trouble(outcome: Result<Result<()>, Elapsed>) -> String {
    match outcome {
        Ok(Ok(())) => String::new(),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "the controller does not answer; this is what it said last".to_owned(),
    }
}

/// A frame as lines, as high as it needs to be.
fn text(view: &View) -> Result<String> {
    let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let node = view.vips.len() + view.vrrp.len() + view.sync.len() + view.drops.len();
    let lower = node.max(view.events.len()).max(draw::LOWER.into());
    let height = view.backends.len() + lower + usize::from(draw::AROUND);
    let size =
        (width.unwrap_or(WIDTH).clamp(40, 500), u16::try_from(height).unwrap_or(2000).min(2000));
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1))?;
    terminal.draw(|frame| draw::draw(frame, view, &App::default()))?;
    Ok(lines(terminal.backend().buffer()))
}

/// What stands in a buffer, without the white space at the ends of lines.
fn lines(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width).max(1);
    let line = |cells: &[ratatui::buffer::Cell]| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned() + "\n"
    };
    let text: String = buffer.content.chunks(width).map(line).collect();
    text.trim_end().to_owned() + "\n"
}
