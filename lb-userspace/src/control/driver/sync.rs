//! The controller's dealings with its peers: starts the thread that speaks with them, tells it which VIPs this node
//! serves, and keeps the instances of VRRP from taking what this node does not know.

use std::net::IpAddr;
use std::time::{Instant, SystemTime};

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::Controller;
use crate::admin::model::{self, SyncState, What};
use crate::datapath::FlowEvents;
use crate::datapath::store::FlowStore;
use crate::flow_log::FlowLog;
use crate::sync::driver::{self, Command, Notice};
use crate::sync::fsm::Vips;
use crate::vrrp::event::Reason;
use crate::vrrp::thread;

/// A peer sends flows while others end: more than its limit, for a moment.
const CAPACITY_PART: usize = 4;

impl Controller {
    /// Starts to speak with peers, if the configuration has any, and to log connections if it says so.
    pub fn share_flows(&mut self) -> anyhow::Result<Option<mpsc::Receiver<Notice>>> {
        if self.config.sync.is_none() && self.config.flow_log.is_none() {
            return Ok(None);
        }
        let mut events = self.datapath.take_flow_events()?;
        let log = self.log_flows(&mut events);
        let Some(config) = self.config.sync.clone() else {
            if let Some(mut log) = log {
                log.read(events)?;
                self.flow_log = Some(log);
            }
            return Ok(None);
        };
        self.flow_log = log;
        let store = FlowStore::new(&self.datapath.maps, events, self.places.clone())
            .context("duplicating the maps of flows")?;
        let (handle, notices) = driver::spawn(config, self.flow_capacity(), Box::new(store))?;
        self.sync = Some(handle);
        self.elections.hold_back(true);
        self.tell_serving();
        Ok(Some(notices))
    }

    /// The log that the configuration wants. Without it everything else goes on.
    fn log_flows(&self, events: &mut FlowEvents) -> Option<FlowLog> {
        let settings = self.config.flow_log.as_ref()?;
        match FlowLog::start(settings, self.flow_capacity()) {
            Ok((log, tap)) => {
                events.tell(tap);
                Some(log)
            }
            Err(error) => {
                log::error!("{error:#}; connections are not logged");
                None
            }
        }
    }

    /// Flows that there may be for a moment, of either family.
    fn flow_capacity(&self) -> usize {
        let flows = usize::try_from(self.config.limits.flows).unwrap_or(usize::MAX);
        flows.saturating_mul(2).saturating_add(flows / CAPACITY_PART)
    }

    /// Other peers, perhaps.
    pub fn share_with(&mut self) {
        if let (Some(sync), Some(config)) = (&self.sync, &self.config.sync) {
            sync.command(Command::Configure(Box::new(config.clone())));
        }
        self.tell_serving();
    }

    /// Says which VIPs are served here, if they are others than before.
    pub fn tell_serving(&mut self) {
        let Some(sync) = &self.sync else { return };
        let serving = self.served_vips();
        if self.serving.as_ref() != Some(&serving) {
            sync.command(Command::Serving(serving.clone()));
            self.serving = Some(serving);
        }
    }

    /// The VIPs that are this node's: without VRRP, or since it is Active.
    pub(super) fn served_vips(&self) -> Vips {
        let held = self.elections.held();
        self.config.standalone_vips().into_iter().chain(held.into_keys()).collect()
    }

    /// An instance of VRRP has something to tell: who could not hear its peers does not know their flows.
    pub fn note_election(&mut self, notice: &thread::Notice) {
        self.tell_serving();
        let thread::Notice::Transition { transition, .. } = notice else { return };
        let Some(sync) = &self.sync else { return };
        if matches!(transition.reason, Reason::Recovered | Reason::Stalled { .. }) {
            sync.command(Command::Cool);
            self.elections.hold_back(true);
        }
        // Who is Active is not held back, whatever it knows.
        self.track();
    }

    /// The thread has something to tell. `true`: this node knows its peers' flows from here on.
    pub fn note_sync(&mut self, notice: Notice, now: Instant) -> bool {
        match notice {
            Notice::Joined { peer, name } => {
                log::info!("sync: connected to {peer} ({name})");
                self.push_sync(peer.ip(), SyncState::Joined, name);
            }
            Notice::Synced { peer, flows } => {
                log::info!("sync: everything of {peer} is here: {flows} flows");
                self.push_sync(peer.ip(), SyncState::Synced, format!("{flows} flows"));
            }
            Notice::Lost { peer, reason } => {
                log::warn!("sync: lost {peer}: {reason}");
                self.push_sync(peer.ip(), SyncState::Lost, reason);
            }
            Notice::Refused { from, reason } => {
                log::warn!("sync: refused {from}: {reason}");
                self.push_sync(from.ip(), SyncState::Refused, reason);
            }
            Notice::Told(vips) => self.told_of(vips),
            Notice::Discarded(flows) => self.disown(flows, now),
            Notice::Clients(clients) => self.clients.add(clients),
            Notice::Trouble(text) => log::warn!("sync: {text}"),
            Notice::Warm(is_warm) => {
                self.elections.hold_back(!is_warm);
                self.track();
                return is_warm;
            }
        }
        false
    }

    fn push_sync(&self, peer: IpAddr, state: SyncState, reason: String) {
        self.events.push(What::Sync { peer: peer.to_string(), state, reason });
    }

    /// Ends to speak with peers: what they were to be told is sent.
    pub async fn stop_sharing(&mut self) {
        if let Some(sync) = self.sync.take() {
            sync.stop().await;
        }
    }

    /// For `status`.
    pub(super) fn sync_status(&self, now: Instant, wall: SystemTime) -> Option<model::Sync> {
        let view = self.sync.as_ref()?.view();
        Some(model::Sync::new(&view, now, wall))
    }
}
