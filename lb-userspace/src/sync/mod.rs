//! Flows known to both nodes of a pair: established connections survive the death of a load balancer. Pure.
//!
//! ```text
//!  datapath ──ring──► flow events ──┐                          ┌──► replica ──► tables
//!  sweep ─────slices──► snapshot ───┼──► session ═══ peer ═══ session
//!                                   └── digests ◄───────► digests
//! ```
//!
//! What travels names addresses and ports only: identifiers, epochs, interfaces and MACs are each node's own.

pub mod buckets;
pub mod connection;
pub mod driver;
pub mod fsm;
pub mod key;
pub mod noise;
pub mod packet;
pub mod placement;
pub mod record;
pub mod refusal;
pub mod store;
pub mod view;
pub mod warmth;

#[cfg(test)]
pub(crate) mod testing;
