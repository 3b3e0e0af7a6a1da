//! When the flows of a backend are given up: their clients are reset. Pure.
//!
//! A backend that is down hard holds its clients' connections for `reset_delay`, one that an operator
//! drains for `drain_timeout`. Both only while another backend is used: a RST must lead somewhere.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lb_common::backend::State;

use super::desired::{Admin, BackendName, DesiredBackend, DesiredService};
use crate::config::Service;

/// Why the clock of a backend runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Down,
    Draining,
}

/// A clock that runs, or has run out.
#[derive(Clone, Copy, Debug)]
struct Clock {
    cause: Cause,
    since: Instant,
    /// When it runs out, if ever.
    end: Option<Instant>,
    given_up: bool,
}

/// The clocks of all backends.
#[derive(Debug, Default)]
pub struct GiveUp {
    clocks: BTreeMap<BackendName, Clock>,
}

impl GiveUp {
    /// The backends of one service whose flows are to be given up now; each is named once.
    ///
    /// `is_hard`: the last probe found the backend dead, not only unwell.
    pub fn due(
        &mut self,
        config: &Service,
        service: &DesiredService,
        is_hard: impl Fn(&DesiredBackend) -> bool,
        now: Instant,
    ) -> Vec<BackendName> {
        let takes_flows = |backend: &DesiredBackend| !service.panic && backend.effective_weight > 0;
        let used = service.backends.iter().filter(|backend| takes_flows(backend)).count();
        let mut due = Vec::new();
        for backend in &service.backends {
            let name = (service.name.clone(), backend.name.clone());
            let Some(cause) = cause(backend, &is_hard) else {
                self.clocks.remove(&name);
                continue;
            };
            let started = Clock { cause, since: now, end: None, given_up: false };
            let clock = self.clocks.entry(name.clone()).or_insert(started);
            if clock.cause != cause {
                *clock = started;
            }
            clock.end = end(clock, config);
            let others = used - usize::from(takes_flows(backend));
            if !clock.given_up && others > 0 && clock.end.is_some_and(|end| end <= now) {
                clock.given_up = true;
                due.push(name);
            }
        }
        due
    }

    /// The VIPs of a service are another node's. When they come here whoever is down then is given its delay anew; a
    /// drain goes on by the operator's clock.
    pub fn leave(&mut self, service: &str) {
        self.clocks.retain(|(of, _), clock| of != service || clock.cause == Cause::Draining);
    }

    /// When the next clock runs out. Those that have, and wait for another backend to be up, are looked
    /// at with every change.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let running = self.clocks.values().filter(|clock| !clock.given_up);
        running.filter_map(|clock| clock.end).filter(|end| *end > now).min()
    }
}

fn cause(backend: &DesiredBackend, is_hard: impl Fn(&DesiredBackend) -> bool) -> Option<Cause> {
    match backend.state {
        State::Down if is_hard(backend) => Some(Cause::Down),
        State::Draining if backend.admin == Admin::Draining => Some(Cause::Draining),
        // Who drains by itself ends its connections itself.
        State::Draining
        | State::Degraded
        | State::Down
        | State::Free
        | State::Unknown
        | State::Up
        | State::Disabled
        | State::Removed => None,
    }
}

fn end(clock: &Clock, config: &Service) -> Option<Instant> {
    let limit = match clock.cause {
        Cause::Down => Some(config.reset_delay),
        Cause::Draining => Some(config.drain_timeout).filter(|limit| *limit > Duration::ZERO),
    };
    clock.since.checked_add(limit?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{EXAMPLE, file};
    use crate::control::desired::{Override, View, desired};
    use crate::health::Health;

    const START: Duration = Duration::from_secs(1000);

    struct Case {
        config: Service,
        service: DesiredService,
        now: Instant,
        give_up: GiveUp,
    }

    impl Case {
        /// The first backend in the state given, the others up.
        fn new(health: Health, admin: Admin) -> Self {
            let mut config = file::parse(EXAMPLE, Path::new("example")).unwrap();
            config.services[0].drain_timeout = Duration::from_secs(10);
            let mut view = View::default();
            let service = &config.services[0];
            for (index, backend) in service.backends.iter().enumerate() {
                let name = (service.name.clone(), backend.name.clone());
                view.health.insert(name.clone(), if index == 0 { health } else { Health::Up });
                if index == 0 {
                    view.overrides.insert(name, Override { admin, weight: None });
                }
            }
            let service = desired(&config, &view).services.remove(0);
            #[expect(clippy::disallowed_methods, reason = "any instant will do")]
            let now = Instant::now() + START;
            Self { config: config.services.remove(0), service, now, give_up: GiveUp::default() }
        }

        fn due_after(&mut self, after: Duration, hard: bool) -> usize {
            self.give_up.due(&self.config, &self.service, |_| hard, self.now + after).len()
        }
    }

    #[test]
    fn a_dead_backend_is_given_up_once_after_the_delay() {
        let mut case = Case::new(Health::Down, Admin::Enabled);
        let delay = case.config.reset_delay;
        assert_eq!(case.due_after(Duration::ZERO, true), 0);
        assert_eq!(case.due_after(delay - Duration::from_millis(1), true), 0);
        assert_eq!(case.give_up.deadline(case.now), Some(case.now + delay));
        assert_eq!(case.due_after(delay, true), 1);
        assert_eq!(case.give_up.deadline(case.now), None);
        assert_eq!(case.due_after(delay * 2, true), 0);
    }

    #[test]
    fn the_delay_begins_anew_when_the_vips_come_here() {
        let mut case = Case::new(Health::Down, Admin::Enabled);
        let delay = case.config.reset_delay;
        case.due_after(Duration::ZERO, true);
        case.give_up.leave(&case.service.name);
        assert_eq!(case.give_up.deadline(case.now), None);
        assert_eq!(case.due_after(delay, true), 0);
        assert_eq!(case.due_after(delay * 2 - Duration::from_millis(1), true), 0);
        assert_eq!(case.due_after(delay * 2, true), 1);
    }

    #[test]
    fn a_drain_ends_by_its_own_clock_wherever_the_vips_are() {
        let mut case = Case::new(Health::Up, Admin::Draining);
        case.due_after(Duration::ZERO, false);
        case.give_up.leave(&case.service.name);
        assert_eq!(case.due_after(Duration::from_secs(10), false), 1);
    }

    #[test]
    fn an_unwell_backend_keeps_its_flows() {
        let mut case = Case::new(Health::Down, Admin::Enabled);
        case.due_after(Duration::ZERO, false);
        assert_eq!(case.due_after(Duration::from_secs(100), false), 0);
    }

    #[test]
    fn who_says_itself_that_it_is_not_ready_keeps_its_flows() {
        let mut case = Case::new(Health::Draining, Admin::Enabled);
        for after in [0, 10, 100_000] {
            assert_eq!(case.due_after(Duration::from_secs(after), true), 0);
        }
    }

    #[test]
    fn nobody_is_reset_in_panic() {
        let mut case = Case::new(Health::Down, Admin::Enabled);
        case.service.panic = true;
        case.due_after(Duration::ZERO, true);
        assert_eq!(case.due_after(Duration::from_secs(100), true), 0);
    }

    #[test]
    fn nobody_is_reset_when_nobody_else_is_up() {
        let mut case = Case::new(Health::Down, Admin::Enabled);
        case.service.backends.truncate(1);
        case.due_after(Duration::ZERO, true);
        assert_eq!(case.due_after(Duration::from_secs(100), true), 0);
    }

    #[test]
    fn a_draining_backend_is_given_up_at_its_deadline_or_never() {
        let mut case = Case::new(Health::Up, Admin::Draining);
        case.due_after(Duration::ZERO, false);
        assert_eq!(case.due_after(Duration::from_secs(9), false), 0);
        assert_eq!(case.due_after(Duration::from_secs(10), false), 1);

        let mut case = Case::new(Health::Up, Admin::Draining);
        case.config.drain_timeout = Duration::ZERO;
        case.due_after(Duration::ZERO, false);
        assert_eq!(case.due_after(Duration::from_secs(100_000), false), 0);
    }
}
