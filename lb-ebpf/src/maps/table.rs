//! Changes of the tables of established flows: functions that the verifier looks at once, and not once for each place
//! that they are called from.

use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::conntrack::FlowHalf;
use lb_common::flow::FlowKey;
use lb_common::table;

use crate::table::{Table, Tables};

/// A family whose table is changed.
pub(crate) trait Changes: Tables {
    /// 0: stored.
    fn store(key: &FlowKey<Self>, half: &FlowHalf<Self>, replace: u32) -> u32;
    /// 0: there was none.
    fn remove(key: &FlowKey<Self>) -> u32;
}

#[inline(always)]
fn store<A: Tables>(key: *const FlowKey<A>, half: *const FlowHalf<A>, replace: u32) -> u32 {
    // SAFETY: the verifier lets no other pointers through.
    match unsafe { (key.as_ref(), half.as_ref()) } {
        (Some(key), Some(half)) => u32::from(table::store(Table, key, half, replace != 0).is_err()),
        _ => 1,
    }
}

#[inline(always)]
fn remove<A: Tables>(key: *const FlowKey<A>) -> u32 {
    // SAFETY: likewise.
    u32::from(unsafe { key.as_ref() }.is_some_and(|key| table::remove(Table, key)))
}

#[unsafe(no_mangle)]
extern "C" fn table_store4(
    key: *const FlowKey<Ipv4Be>,
    half: *const FlowHalf<Ipv4Be>,
    replace: u32,
) -> u32 {
    store(key, half, replace)
}

#[unsafe(no_mangle)]
extern "C" fn table_store6(
    key: *const FlowKey<Ipv6Be>,
    half: *const FlowHalf<Ipv6Be>,
    replace: u32,
) -> u32 {
    store(key, half, replace)
}

#[unsafe(no_mangle)]
extern "C" fn table_remove4(key: *const FlowKey<Ipv4Be>) -> u32 {
    remove(key)
}

#[unsafe(no_mangle)]
extern "C" fn table_remove6(key: *const FlowKey<Ipv6Be>) -> u32 {
    remove(key)
}

impl Changes for Ipv4Be {
    #[inline(always)]
    fn store(key: &FlowKey<Self>, half: &FlowHalf<Self>, replace: u32) -> u32 {
        table_store4(key, half, replace)
    }

    #[inline(always)]
    fn remove(key: &FlowKey<Self>) -> u32 {
        table_remove4(key)
    }
}

impl Changes for Ipv6Be {
    #[inline(always)]
    fn store(key: &FlowKey<Self>, half: &FlowHalf<Self>, replace: u32) -> u32 {
        table_store6(key, half, replace)
    }

    #[inline(always)]
    fn remove(key: &FlowKey<Self>) -> u32 {
        table_remove6(key)
    }
}
