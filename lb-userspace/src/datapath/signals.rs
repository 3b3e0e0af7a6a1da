//! What the datapath tells the controller at once: backends that leave SYNs unanswered, or refuse them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use lb_common::backend::{BackendId, Signal, SignalKind};
use lb_common::map;
use tokio::io::unix::AsyncFd;

use super::sys;

/// The controller's end of the ring. One reader at a time; a successor goes on where this one ends.
pub struct SignalRing(AsyncFd<RingBuf<MapData>>);

impl SignalRing {
    /// Must be called within a tokio runtime.
    pub(super) fn take(ebpf: &mut Ebpf) -> anyhow::Result<Self> {
        let ring = ebpf.take_map(map::SIGNALS).context("the object has no ring of signals")?;
        let ring = sys::watch_ring(RingBuf::try_from(ring)?).context("watching the signals")?;
        Ok(Self(ring))
    }

    /// Waits for signals; then by backend the last one of each. May be cancelled.
    pub async fn next(&mut self) -> anyhow::Result<BTreeMap<BackendId, SignalKind>> {
        let mut ready = self.0.readable_mut().await.context("watching the signals")?;
        let mut signals = BTreeMap::new();
        while let Some(record) = ready.get_inner_mut().next() {
            if let Some(signal) = sys::from_bytes::<Signal>(&record)
                && let Some(kind) = SignalKind::from_u32(signal.kind)
            {
                signals.insert(signal.backend, kind);
            }
        }
        ready.clear_ready();
        Ok(signals)
    }
}
