//! Changes of the tables of flows: functions that the verifier looks at once, and not once for each place
//! that they are called from.

use lb_common::addr::{Ipv4Be, Ipv6Be};
use lb_common::conntrack::FlowHalf;
use lb_common::flow::FlowKey;
use lb_common::table::{self, Evicted, Refusal};
use lb_common::time::Ticks;

use crate::table::{Table, Tables};

/// A family whose table is changed.
pub(crate) trait Changes: Tables {
    /// Stores a half, if `replace` in place of one that may be there. The half of a flow that nobody has confirmed may give
    /// way to it.
    ///
    /// # Errors
    /// It is not stored.
    #[inline(always)]
    fn store(key: &FlowKey<Self>, half: &FlowHalf<Self>, replace: bool) -> Result<(), Refusal> {
        let mut stored = Self::try_store(key, half, u32::from(replace));
        if stored == FULL && Self::make_room(key, half.last_seen.0) != NONE {
            stored = Self::try_store(key, half, u32::from(replace));
        }
        match stored {
            STORED => Ok(()),
            EXISTS => Err(Refusal::Exists),
            _ => Err(Refusal::Full),
        }
    }

    fn try_store(key: &FlowKey<Self>, half: &FlowHalf<Self>, replace: u32) -> u32;
    /// [`NONE`]: it cannot be made.
    fn make_room(key: &FlowKey<Self>, now: u32) -> u32;
    /// [`NONE`]: there was none.
    fn remove(key: &FlowKey<Self>) -> u32;
}

const STORED: u32 = 0;
const EXISTS: u32 = 1;
const FULL: u32 = 2;
const NONE: u32 = 0;

#[inline(always)]
fn store<A: Tables>(key: *const FlowKey<A>, half: *const FlowHalf<A>, replace: u32) -> u32 {
    // SAFETY: the verifier lets no other pointers through.
    let (Some(key), Some(half)) = (unsafe { (key.as_ref(), half.as_ref()) }) else {
        return FULL;
    };
    match table::store(Table, key, half, replace != 0) {
        Ok(()) => STORED,
        Err(Refusal::Exists) => EXISTS,
        Err(Refusal::Full) => FULL,
    }
}

#[inline(always)]
fn make_room<A: Tables>(key: *const FlowKey<A>, now: u32) -> u32 {
    // SAFETY: likewise.
    let evicted = unsafe { key.as_ref() }.and_then(|key| table::make_room(Table, key, Ticks(now)));
    if let Some(Evicted { original: true }) = evicted {
        super::count_evicted();
    }
    u32::from(evicted.is_some())
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
extern "C" fn table_make_room4(key: *const FlowKey<Ipv4Be>, now: u32) -> u32 {
    make_room(key, now)
}

#[unsafe(no_mangle)]
extern "C" fn table_remove4(key: *const FlowKey<Ipv4Be>) -> u32 {
    remove(key)
}

#[unsafe(no_mangle)]
extern "C" fn table_make_room6(key: *const FlowKey<Ipv6Be>, now: u32) -> u32 {
    make_room(key, now)
}

#[unsafe(no_mangle)]
extern "C" fn table_remove6(key: *const FlowKey<Ipv6Be>) -> u32 {
    remove(key)
}

impl Changes for Ipv4Be {
    #[inline(always)]
    fn try_store(key: &FlowKey<Self>, half: &FlowHalf<Self>, replace: u32) -> u32 {
        table_store4(key, half, replace)
    }

    #[inline(always)]
    fn make_room(key: &FlowKey<Self>, now: u32) -> u32 {
        table_make_room4(key, now)
    }

    #[inline(always)]
    fn remove(key: &FlowKey<Self>) -> u32 {
        table_remove4(key)
    }
}

impl Changes for Ipv6Be {
    #[inline(always)]
    fn try_store(key: &FlowKey<Self>, half: &FlowHalf<Self>, replace: u32) -> u32 {
        table_store6(key, half, replace)
    }

    #[inline(always)]
    fn make_room(key: &FlowKey<Self>, now: u32) -> u32 {
        table_make_room6(key, now)
    }

    #[inline(always)]
    fn remove(key: &FlowKey<Self>) -> u32 {
        table_remove6(key)
    }
}
