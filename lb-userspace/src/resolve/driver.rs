//! The tasks that feed the machines: one per name and family. The daemon owns them and acts on what
//! they find. I/O.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::fsm::{Actions, Event, Fsm};
use super::system::{Found, Sources, System};
use super::{Answer, Answers, Question, effective, questions};
use crate::admin::model::What;
use crate::config::{Config, Family};

/// Lookups at once; the others wait.
const AT_ONCE: usize = 32;

/// Looks one name up. Tests replace it.
type Lookup = Arc<dyn Fn(&Question) -> BoxFuture<'static, Found> + Send + Sync>;

/// Addresses by host name, as an earlier run of the controller left them.
pub type Recorded = BTreeMap<String, Vec<IpAddr>>;

/// Owns the tasks. Dropping it stops them.
pub struct Names {
    /// The configuration as it is in the file.
    file: Config,
    answers: Arc<watch::Sender<Answers>>,
    changes: watch::Receiver<Answers>,
    /// What has been told of them.
    told: Answers,
    /// A task ends when this is dropped.
    tasks: BTreeMap<Question, oneshot::Sender<()>>,
    system: System,
    lookup: Lookup,
}

impl Names {
    /// Looks up what `file` names, from the addresses that `source` gives for DNS servers. Until there
    /// are answers, those in `recorded` count. Must be called within a tokio runtime.
    pub fn new(
        file: Config,
        recorded: &Recorded,
        source: impl Fn(IpAddr) -> Option<IpAddr>,
    ) -> Self {
        let system = System::default();
        bind(&system, source);
        let shared = system.clone();
        let lookup: Lookup = Arc::new(move |question| {
            let (system, question) = (shared.clone(), question.clone());
            Box::pin(async move { system.lookup(&question).await })
        });
        Self::with(file, recorded, system, lookup)
    }

    fn with(file: Config, recorded: &Recorded, system: System, lookup: Lookup) -> Self {
        let lookup = limited(lookup);
        let (answers, changes) = watch::channel(Answers::new());
        let mut names = Self {
            file,
            answers: Arc::new(answers),
            changes,
            told: Answers::new(),
            tasks: BTreeMap::new(),
            system,
            lookup,
        };
        names.start_and_stop(recorded);
        names
    }

    /// Looks up what `file` names, and nothing else. Must be called within a tokio runtime.
    pub fn reconcile(&mut self, file: Config) {
        self.file = file;
        self.start_and_stop(&Recorded::new());
    }

    /// Ends when an answer has changed. May be cancelled.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The sender is ours.
            std::future::pending::<()>().await;
        }
    }

    /// The configuration in the file, with names replaced by what is known of them now.
    pub fn current(&self) -> Config {
        self.effective(&self.file)
    }

    /// The same of another configuration.
    pub fn effective(&self, config: &Config) -> Config {
        effective(config, &self.answers.borrow())
    }

    pub fn answers(&self) -> Answers {
        self.answers.borrow().clone()
    }

    /// What has changed since this was last asked for.
    pub fn news(&mut self) -> Vec<What> {
        let answers = self.answers();
        let changes = super::changes(&self.told, &answers);
        self.told = answers;
        changes
    }

    /// What a successor starts with.
    pub fn to_record(&self) -> Recorded {
        let mut recorded = Recorded::new();
        for (question, answer) in &*self.answers.borrow() {
            if !answer.addresses.is_empty() {
                recorded.entry(question.host.clone()).or_default().extend(&answer.addresses);
            }
        }
        recorded
    }

    /// Has DNS servers asked from the addresses that `source` gives for them.
    pub fn set_sources(&self, source: impl Fn(IpAddr) -> Option<IpAddr>) {
        bind(&self.system, source);
    }

    fn start_and_stop(&mut self, recorded: &Recorded) {
        let wanted = questions(&self.file);
        // Before the table: a task that is told to end no longer publishes.
        self.tasks.retain(|question, _| wanted.contains(question));
        self.answers.send_if_modified(|answers| {
            let before = answers.len();
            answers.retain(|question, _| wanted.contains(question));
            answers.len() != before
        });
        for question in wanted {
            if !self.tasks.contains_key(&question) {
                let task = self.spawn(&question, recorded);
                self.tasks.insert(question, task);
            }
        }
    }

    fn spawn(&mut self, question: &Question, recorded: &Recorded) -> oneshot::Sender<()> {
        let known = recorded.get(&question.host).into_iter().flatten().copied();
        let known = known.filter(|it| Family::of(it) == question.family).collect();
        let seed = RandomState::new().build_hasher().finish();
        let fsm = Fsm::new(known, seed, Instant::now().into_std());
        let addresses = fsm.addresses().to_vec();
        let answer = Answer { addresses, failure: None, since: wall_clock() };
        self.told.insert(question.clone(), answer.clone());
        self.answers.send_modify(|answers| drop(answers.insert(question.clone(), answer)));
        let (handle, end) = oneshot::channel();
        let task = Task {
            question: question.clone(),
            fsm,
            answers: Arc::clone(&self.answers),
            lookup: Arc::clone(&self.lookup),
        };
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = end => {}
                () = task.run() => {}
            }
        });
        handle
    }
}

fn bind(system: &System, source: impl Fn(IpAddr) -> Option<IpAddr>) {
    let servers = system.servers().into_iter();
    let sources: Sources = servers.filter_map(|it| Some((it, source(it)?))).collect();
    system.set_sources(sources);
}

fn limited(lookup: Lookup) -> Lookup {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    Arc::new(move |question| {
        let (slots, lookup) = (Arc::clone(&slots), lookup(question));
        Box::pin(async move {
            // Never closed.
            let _slot = slots.acquire_owned().await;
            lookup.await
        })
    })
}

/// The task of one name.
struct Task {
    question: Question,
    fsm: Fsm,
    answers: Arc<watch::Sender<Answers>>,
    lookup: Lookup,
}

impl Task {
    async fn run(mut self) {
        loop {
            if let Some(deadline) = self.fsm.deadline() {
                sleep_until(Instant::from_std(deadline)).await;
            }
            let mut actions = self.feed(Event::Deadline);
            while actions.lookup {
                let event = match (self.lookup)(&self.question).await {
                    Ok((addresses, ttl)) => Event::Answered(addresses, ttl),
                    Err(failure) => Event::Failed(failure),
                };
                actions = self.feed(event);
            }
        }
    }

    fn feed(&mut self, event: Event) -> Actions {
        let actions = self.fsm.handle(event, Instant::now().into_std());
        if actions.addresses || actions.failure {
            self.say(&actions);
            self.publish();
        }
        actions
    }

    fn say(&self, actions: &Actions) {
        let question = &self.question;
        let addresses = list(self.fsm.addresses());
        if actions.addresses {
            log::info!("{question}: is {addresses}");
            if !actions.refused.is_empty() {
                log::warn!("{question}: cannot use {}", list(&actions.refused));
            }
        }
        match self.fsm.failure() {
            Some(failure) if self.fsm.addresses().is_empty() => {
                log::warn!("{question}: {failure}; it has no backends until DNS knows it");
            }
            Some(failure) => log::warn!("{question}: {failure}; going on with {addresses}"),
            None if actions.failure => log::info!("{question}: found again"),
            None => {}
        }
    }

    fn publish(&self) {
        let answer = Answer {
            addresses: self.fsm.addresses().to_vec(),
            failure: self.fsm.failure().cloned(),
            since: wall_clock(),
        };
        self.answers.send_modify(|answers| {
            if let Some(known) = answers.get_mut(&self.question) {
                *known = answer;
            }
        });
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[expect(clippy::disallowed_methods, reason = "a driver; people read this time in `since`")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
