//! A frame on the terminal. Pure.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table, TableState};

use super::app::{App, Mode, Sort};
use super::text::{age, bits, plain, probe, short};
use super::view::{Row, View};
use crate::admin::model::State;

/// Of the events, and of what is beside them.
pub(super) const LOWER: u16 = 9;
/// Above and below the backends, and their head.
pub(super) const AROUND: u16 = 6;
const KEYS: &str = "q quit  ↑↓ select  s sort  r reverse  / filter  d drain  e enable";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, app: &App) {
    let rows = app.rows(view);
    let needed = u16::try_from(rows.len()).unwrap_or(u16::MAX).saturating_add(2);
    let [head, figures, backends, lower, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Max(needed),
        Constraint::Min(LOWER.min(frame.area().height / 2)),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    draw_head(frame, head, view);
    draw_figures(frame, figures, view);
    draw_backends(frame, backends, view, app, &rows);
    let [node, events] =
        Layout::horizontal([Constraint::Length(38), Constraint::Fill(1)]).areas(lower);
    draw_node(frame, node, view);
    draw_events(frame, events, view);
    draw_foot(frame, foot, view, app);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let all = view.backends.len();
    let up = view.backends.iter().filter(|row| row.state.is_up()).count();
    let verdict = match (up, all) {
        (_, 0) => "there are no backends".to_owned(),
        (up, all) if up == all => format!("all {all} backends up"),
        (up, all) => format!("{up} of {all} backends up"),
    };
    let colour = if up == all { Color::Green } else { Color::Red };
    let started = age(&view.started, &view.time);
    let line = Line::from(vec![
        Span::from("fairlead ").bold(),
        Span::from(format!("{}, up {started}   ", plain(&view.version))).dim(),
        Span::from(verdict).fg(colour).bold(),
        Span::from(format!("   {}", holders(view))),
    ]);
    frame.render_widget(line, area);
}

/// Who has the VIPs, in a word.
fn holders(view: &View) -> String {
    let own = view.vips.iter().filter(|vip| vip.owner).count();
    match (own, view.vips.len()) {
        (_, 0) => String::new(),
        (own, all) if own == all => "every VIP is here".to_owned(),
        (0, _) => "no VIP is here".to_owned(),
        (own, all) => format!("{own} of {all} VIPs are here"),
    }
}

fn draw_figures(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let mut spans = vec![
        Span::from(view.connections.to_string()).bold(),
        Span::from(format!(" connections of {}", view.capacity)),
    ];
    if let Some(rate) = view.rate {
        // A sum of nothing is -0.
        let dropped = view.drops.iter().filter_map(|it| it.rate).sum::<f64>() + 0.0;
        for (figure, what) in [
            (short(rate.opened, ""), "new/s"),
            (bits(rate.replies), "to clients"),
            (bits(rate.requests), "to backends"),
            (short(rate.packets, ""), "packets/s"),
            (short(dropped, ""), "drops/s"),
        ] {
            spans.extend(["   ".into(), Span::from(figure).bold(), format!(" {what}").into()]);
        }
    }
    frame.render_widget(Line::from(spans), area);
}

fn draw_backends(frame: &mut Frame<'_>, area: Rect, view: &View, app: &App, rows: &[&Row]) {
    let heads = [
        ("BACKEND", None),
        ("STATE", Some(Sort::State)),
        ("SINCE", None),
        ("CONNS", Some(Sort::Connections)),
        ("SHARE", None),
        ("NEW/S", Some(Sort::New)),
        ("TRAFFIC", Some(Sort::Traffic)),
        ("PROBE", Some(Sort::Probe)),
        ("RETRIED", None),
        ("WEIGHT", None),
        ("REASON", None),
    ];
    let head = heads.map(|(name, sort)| {
        let is_sorted = sort == Some(app.sort);
        let arrow = if app.is_reversed { "↑" } else { "↓" };
        Cell::from(if is_sorted { format!("{name}{arrow}") } else { name.to_owned() })
    });
    let widest = rows.iter().map(|row| name(row).chars().count()).max().unwrap_or(7).clamp(7, 34);
    let widths = [
        Constraint::Length(u16::try_from(widest).unwrap_or(34)),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(12),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Fill(1),
    ];
    let table = Table::new(rows.iter().map(|row| table_row(row, &view.time)), widths)
        .header(TableRow::new(head).dim())
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(app.position(rows));
    frame.render_stateful_widget(table, area, &mut state);
}

fn name(row: &Row) -> String {
    format!("{}/{}", row.service, row.backend)
}

fn table_row(row: &Row, now: &str) -> TableRow<'static> {
    let right = |text: String| Cell::from(Line::from(text).alignment(Alignment::Right));
    let rate =
        |of: fn(&super::rates::Rate) -> String| row.rate.as_ref().map(of).unwrap_or_default();
    let retried = match row.refused {
        0 => row.unanswered.to_string(),
        refused => format!("{}+{refused}", row.unanswered),
    };
    let weight = if row.weight == row.effective_weight {
        row.weight.to_string()
    } else {
        format!("{}/{}", row.effective_weight, row.weight)
    };
    TableRow::new([
        Cell::from(plain(&name(row))),
        Cell::from(Span::from(row.state.as_str()).fg(colour(row.state))),
        right(age(&row.since, now)),
        right(row.connections.to_string()),
        right(format!("{:.0} %", row.share * 100.0)),
        right(rate(|rate| short(rate.opened, ""))),
        right(rate(|rate| bits(rate.requests + rate.replies))),
        right(row.probe_us.map(probe).unwrap_or_default()),
        right(retried),
        right(weight),
        Cell::from(Span::from(plain(&row.reason)).dim()),
    ])
}

const fn colour(state: State) -> Color {
    match state {
        State::Up => Color::Green,
        State::Degraded => Color::Yellow,
        State::Draining => Color::Blue,
        State::Down => Color::Red,
        State::Unknown | State::Disabled => Color::DarkGray,
    }
}

/// VIPs, elections, shared flows, drops.
fn draw_node(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let mut lines = Vec::new();
    for vip in &view.vips {
        let holder = match (vip.owner, vip.holder) {
            (true, _) => Span::from("here").fg(Color::Green),
            (false, Some(holder)) => format!("at {holder}").into(),
            (false, None) => "not here".into(),
        };
        lines.push(Line::from(vec![format!("{}  ", vip.address).into(), holder]));
    }
    for instance in &view.vrrp {
        let since = age(&instance.since, &view.time);
        let (name, state) = (plain(&instance.name), plain(&instance.state));
        lines.push(format!("vrrp {name}  {state}, {}, {since}", instance.priority).into());
    }
    for peer in &view.sync {
        let (address, state) = (plain(&peer.address), plain(&peer.state));
        lines.push(format!("sync {address}  {state}, {} ms", peer.lag_ms).into());
    }
    for counter in &view.drops {
        let rate = counter.rate.filter(|rate| *rate > 0.0);
        let rate = rate.map(|rate| format!(", {}/s", short(rate, ""))).unwrap_or_default();
        lines.push(Line::from(format!("{}  {}{rate}", plain(&counter.name), counter.count)).dim());
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// The newest first.
fn draw_events(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let lines: Vec<Line<'_>> = view
        .events
        .iter()
        .rev()
        .take(area.height.into())
        .map(|event| {
            // To the second, in UTC.
            let time = event.time.get(11..19).unwrap_or_default().to_owned();
            let kind = format!(" {:9}", event.what.kind().as_str());
            Line::from(vec![
                Span::from(time).dim(),
                Span::from(kind).dim(),
                plain(&event.message).into(),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, view: &View, app: &App) {
    let line = match &app.mode {
        Mode::Confirm(change) => {
            let (verb, name) = (change.verb(), format!("{}/{}", change.service, change.backend));
            Line::from(format!(" {verb} {}?  y yes  any other key no ", plain(&name)))
                .fg(Color::Black)
                .bg(Color::Yellow)
        }
        Mode::Filter => {
            Line::from(format!("filter: {}▏  enter keep  esc clear", plain(&app.filter)))
        }
        Mode::Normal => match &app.message {
            Some(message) => Line::from(plain(message)).fg(Color::Yellow),
            None => Line::from(keys(view, app)).dim(),
        },
    };
    frame.render_widget(line, area);
}

fn keys(view: &View, app: &App) -> String {
    let by = app.sort.as_str();
    if app.filter.is_empty() {
        return format!("{KEYS}   by {by}");
    }
    let (shown, all) = (app.rows(view).len(), view.backends.len());
    format!("{KEYS}   by {by}, {shown} of {all} match \"{}\"", plain(&app.filter))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::rates::{Rate, Rates};
    use super::super::testing::{events, fixture};
    use super::*;

    fn drawn(width: u16, height: u16, view: &View, app: &App) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, app)).unwrap();
        super::super::lines(terminal.backend().buffer())
    }

    fn view() -> View {
        let rate = Rate { requests: 1e6, replies: 4e6, packets: 900.0, opened: 12.0 };
        let name = ("kube-apiserver".to_owned(), "cp1".to_owned());
        let rates = Rates { backends: [(name, rate)].into(), total: rate, ..Rates::default() };
        View::new(&fixture(), Some(&rates), &events())
    }

    #[test]
    fn a_frame_shows_what_status_says() {
        let screen = drawn(140, 24, &view(), &App::default());
        for expected in [
            "fairlead 0.1.0, up 2m00s   1 of 2 backends up   every VIP is here",
            "12 connections of 131072   12 new/s   32.0 Mbit/s to clients   8.00 Mbit/s to backends",
            "kube-apiserver/cp1 up          1m55s      12  100 %      12  40.0 Mbit/s   3.2 ms        0      100 200",
            "kube-apiserver/cp2 draining    1m55s       0    0 %                                    1+2    0/100 connection refused",
            "10.0.0.100  here",
            "drop_malformed  3",
            "03:04:05 vip      VIP 10.0.0.100 is here",
            "q quit",
            "by configuration",
        ] {
            assert!(screen.contains(expected), "{expected}\n{screen}");
        }
    }

    #[test]
    fn names_and_reasons_cannot_reach_the_terminal() {
        let mut view = view();
        view.backends[0].reason = "\u{1b}]0;owned\u{7}\u{1b}[2J".to_owned();
        view.events[0].message = "a\nb\u{1b}[31m".to_owned();
        let screen = drawn(140, 24, &view, &App::default());
        assert!(!screen.contains('\u{1b}') && !screen.contains('\u{7}'), "{screen:?}");
        assert!(screen.contains("a b [31m"), "{screen}");
    }

    #[test]
    fn what_is_asked_and_filtered_is_shown_in_any_size() {
        let view = view();
        let mut app = App { filter: "cp2".to_owned(), sort: Sort::Traffic, ..App::default() };
        let screen = drawn(140, 24, &view, &app);
        assert!(screen.contains("TRAFFIC↓") && screen.contains("1 of 2 match \"cp2\""), "{screen}");
        assert!(!screen.contains("kube-apiserver/cp1"), "{screen}");
        app.handle(ratatui::crossterm::event::KeyCode::Char('d').into(), &view);
        assert!(drawn(100, 24, &view, &app).contains(" drain kube-apiserver/cp2?  y yes"));
        for (width, height) in [(1, 1), (10, 3), (20, 5), (80, 6), (300, 100)] {
            drawn(width, height, &view, &app);
        }
    }
}
