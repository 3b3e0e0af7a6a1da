//! What keys do: which rows are shown in which order, which one is selected, and what is asked before something is
//! changed. Pure.

use std::cmp::Ordering;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::rates::Rate;
use super::view::{Row, View};
use crate::admin::model::Admin;

/// No name is longer than the two of them.
const MAX_FILTER: usize = 128;

/// By what rows are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// As in the configuration.
    #[default]
    Configured,
    State,
    Connections,
    New,
    Traffic,
    Probe,
}

impl Sort {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Configured => "configuration",
            Self::State => "state",
            Self::Connections => "connections",
            Self::New => "new connections",
            Self::Traffic => "traffic",
            Self::Probe => "probe",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Configured => Self::State,
            Self::State => Self::Connections,
            Self::Connections => Self::New,
            Self::New => Self::Traffic,
            Self::Traffic => Self::Probe,
            Self::Probe => Self::Configured,
        }
    }

    /// What matters first comes first.
    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let rate = |row: &Row, of: fn(&Rate) -> f64| row.rate.as_ref().map_or(0.0, of);
        let by_rate = |of: fn(&Rate) -> f64| rate(b, of).total_cmp(&rate(a, of));
        match self {
            Self::Configured => Ordering::Equal,
            Self::State => a.state.is_up().cmp(&b.state.is_up()).then(b.state.cmp(&a.state)),
            Self::Connections => b.connections.cmp(&a.connections),
            Self::New => by_rate(|rate| rate.opened),
            Self::Traffic => by_rate(|rate| rate.requests + rate.replies),
            Self::Probe => b.probe_us.cmp(&a.probe_us),
        }
    }
}

/// A change that is not yet agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) service: String,
    pub(super) backend: String,
    pub(super) admin: Admin,
}

impl Change {
    pub(super) const fn verb(&self) -> &'static str {
        match self.admin {
            Admin::Enabled => "enable",
            Admin::Draining => "drain",
            Admin::Disabled => "disable",
        }
    }
}

/// What keys mean just now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Normal,
    /// They are letters of the filter.
    Filter,
    /// They agree to a change, or do not.
    Confirm(Change),
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    Quit,
    Change(Change),
}

/// What is shown how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct App {
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    pub(super) mode: Mode,
    /// Service and backend; it stays selected wherever it goes.
    pub(super) selected: Option<(String, String)>,
    /// What came of the last change, or why there is nothing new.
    pub(super) message: Option<String>,
}

impl App {
    /// Those that the filter leaves, in order.
    pub(super) fn rows<'a>(&self, view: &'a View) -> Vec<&'a Row> {
        let wanted = self.filter.to_lowercase();
        let is_wanted = |row: &&Row| {
            let text =
                format!("{}/{} {} {}", row.service, row.backend, row.address, row.state.as_str());
            text.to_lowercase().contains(&wanted)
        };
        let mut rows: Vec<&Row> = view.backends.iter().filter(is_wanted).collect();
        rows.sort_by(|a, b| self.sort.compare(a, b));
        if self.is_reversed {
            rows.reverse();
        }
        rows
    }

    /// Which of those is selected; none if there are none.
    pub(super) fn position(&self, rows: &[&Row]) -> Option<usize> {
        let is_selected = |row: &&Row| {
            self.selected.as_ref().is_some_and(|it| *it.0 == row.service && *it.1 == row.backend)
        };
        rows.iter().position(is_selected).or_else(|| (!rows.is_empty()).then_some(0))
    }

    pub(super) fn handle(&mut self, key: KeyEvent, view: &View) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Action::Quit } else { Action::Nothing };
        }
        match std::mem::take(&mut self.mode) {
            Mode::Normal => self.normal(key.code, view),
            Mode::Filter => {
                self.letter(key.code);
                Action::Nothing
            }
            Mode::Confirm(change) => {
                let is_yes = matches!(key.code, KeyCode::Char('y' | 'Y'));
                if is_yes { Action::Change(change) } else { Action::Nothing }
            }
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "keyboards have more keys than are used here"
    )]
    fn normal(&mut self, code: KeyCode, view: &View) -> Action {
        self.message = None;
        match code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Up | KeyCode::Char('k') => self.step(view, -1),
            KeyCode::Down | KeyCode::Char('j') => self.step(view, 1),
            KeyCode::PageUp => self.step(view, -10),
            KeyCode::PageDown => self.step(view, 10),
            KeyCode::Char('d') => self.propose(view, Admin::Draining),
            KeyCode::Char('e') => self.propose(view, Admin::Enabled),
            _ => {}
        }
        Action::Nothing
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "keyboards have more keys than are used here"
    )]
    fn letter(&mut self, code: KeyCode) {
        self.mode = Mode::Filter;
        match code {
            KeyCode::Enter => self.mode = Mode::Normal,
            KeyCode::Esc => {
                self.mode = Mode::Normal;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) if self.filter.len() < MAX_FILTER && !letter.is_control() => {
                self.filter.push(letter);
            }
            _ => {}
        }
    }

    fn step(&mut self, view: &View, by: isize) {
        let rows = self.rows(view);
        let Some(at) = self.position(&rows) else { return };
        let row = rows[at.saturating_add_signed(by).min(rows.len() - 1)];
        self.selected = Some((row.service.clone(), row.backend.clone()));
    }

    fn propose(&mut self, view: &View, admin: Admin) {
        let rows = self.rows(view);
        let Some(at) = self.position(&rows) else { return };
        let (service, backend) = (rows[at].service.clone(), rows[at].backend.clone());
        // Whatever moves meanwhile: it is this one that was asked about.
        self.selected = Some((service.clone(), backend.clone()));
        self.mode = Mode::Confirm(Change { service, backend, admin });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::fixture;
    use super::*;

    fn view() -> View {
        let mut view = View::new(&fixture(), None, &[]);
        view.backends.push(Row {
            backend: "cp3".to_owned(),
            connections: 40,
            ..view.backends[0].clone()
        });
        view
    }

    fn press(app: &mut App, keys: &str, view: &View) -> Vec<Action> {
        let code = |letter| match letter {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            letter => KeyCode::Char(letter),
        };
        keys.chars().map(|letter| app.handle(code(letter).into(), view)).collect()
    }

    fn names(app: &App, view: &View) -> Vec<String> {
        app.rows(view).iter().map(|row| row.backend.clone()).collect()
    }

    #[test]
    fn rows_are_sorted_reversed_and_filtered() {
        let (view, mut app) = (view(), App::default());
        assert_eq!(names(&app, &view), ["cp1", "cp2", "cp3"]);
        press(&mut app, "s", &view);
        assert_eq!((app.sort, names(&app, &view)[0].as_str()), (Sort::State, "cp2"));
        press(&mut app, "s", &view);
        assert_eq!(names(&app, &view), ["cp3", "cp1", "cp2"]);
        press(&mut app, "r", &view);
        assert_eq!(names(&app, &view), ["cp2", "cp1", "cp3"]);
        press(&mut app, "/DRAIN\n", &view);
        assert_eq!(names(&app, &view), ["cp2"]);
        press(&mut app, "\u{1b}", &view);
        assert_eq!(names(&app, &view).len(), 3);
        press(&mut app, "/nobody", &view);
        assert_eq!((names(&app, &view).len(), app.position(&[])), (0, None));
        assert_eq!(press(&mut app, "q\njkd", &view).last(), Some(&Action::Nothing));
        assert_eq!(app.mode, Mode::Normal, "nothing is selected");
    }

    #[test]
    fn the_selection_stays_with_its_backend() {
        let (view, mut app) = (view(), App::default());
        press(&mut app, "jjjj", &view);
        assert_eq!(app.position(&app.rows(&view)), Some(2));
        press(&mut app, "ss", &view);
        assert_eq!(app.position(&app.rows(&view)), Some(0), "cp3 is first by connections");
        press(&mut app, "kk", &view);
        assert_eq!(app.position(&app.rows(&view)), Some(0));
    }

    #[test]
    fn nothing_is_changed_without_a_yes() {
        let (view, mut app) = (view(), App::default());
        let drain = |backend: &str| Change {
            service: "kube-apiserver".to_owned(),
            backend: backend.to_owned(),
            admin: Admin::Draining,
        };
        for no in ["dn", "dq", "d\n", "d\u{1b}", "dd"] {
            let actions = press(&mut app, no, &view);
            assert!(actions.iter().all(|action| *action == Action::Nothing), "{no:?}");
            assert_eq!(app.mode, Mode::Normal);
        }
        press(&mut app, "jd", &view);
        assert_eq!(app.mode, Mode::Confirm(drain("cp2")));
        // The rows move before the answer.
        let mut later = view.clone();
        later.backends.reverse();
        assert_eq!(press(&mut app, "y", &later), [Action::Change(drain("cp2"))]);
        let enable = Change { admin: Admin::Enabled, ..drain("cp2") };
        assert_eq!(press(&mut app, "ey", &view)[1], Action::Change(enable));
    }

    #[test]
    fn it_ends_by_q_and_by_control_c_whatever_is_asked() {
        let (view, mut app) = (view(), App::default());
        assert_eq!(press(&mut app, "q", &view), [Action::Quit]);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        press(&mut app, "/", &view);
        assert_eq!(app.handle(interrupt, &view), Action::Quit);
        press(&mut app, "d", &view);
        assert_eq!(app.handle(interrupt, &view), Action::Quit);
    }
}
