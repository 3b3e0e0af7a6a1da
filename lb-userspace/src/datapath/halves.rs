//! The two kinds of map that halves of flows are in, as one. I/O.

use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;

use aya::Pod;
use lb_common::conntrack::FlowHalf;
use lb_common::flow::FlowKey;

use super::sweep::Family;
use super::sys::{self, Progress};
use super::table::{self, FlowTable};

/// A map of halves.
#[derive(Clone, Copy)]
pub enum HalfMap<'a> {
    /// Of established flows.
    Table(&'a FlowTable),
    /// Of half-open ones.
    Hash(BorrowedFd<'a>),
}

impl HalfMap<'_> {
    pub fn find<A: Family>(self, key: &FlowKey<A>) -> io::Result<Option<FlowHalf<A>>>
    where
        FlowKey<A>: Pod,
        FlowHalf<A>: Pod,
    {
        match self {
            Self::Table(table) => Ok(table.find(key)),
            Self::Hash(map) => find(map, key),
        }
    }

    /// Removes a half if `condition` holds for it. This thread may be stopped between looking and removing: what
    /// should have stayed is put back, unless another took its place. `false`: nothing was removed.
    pub fn remove_if<A: Family>(
        self,
        key: &FlowKey<A>,
        condition: impl Fn(&FlowHalf<A>) -> bool,
    ) -> io::Result<bool>
    where
        FlowKey<A>: Pod,
        FlowHalf<A>: Pod,
    {
        match self {
            Self::Table(table) => Ok(table.remove_if(key, condition)),
            Self::Hash(map) => remove_if(map, key, condition),
        }
    }
}

fn find<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = vec![0; size_of::<V>()];
    Ok(sys::lookup(map, sys::as_bytes(key), &mut value)?.then(|| sys::from_bytes(&value)).flatten())
}

fn remove_if<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    key: &K,
    condition: impl Fn(&V) -> bool,
) -> io::Result<bool> {
    if !find(map, key)?.is_some_and(|found| condition(&found)) {
        return Ok(false);
    }
    let mut value = vec![0; size_of::<V>()];
    if !sys::take(map, sys::as_bytes(key), &mut value)? {
        return Ok(false);
    }
    if sys::from_bytes(&value).is_some_and(|taken| condition(&taken)) {
        return Ok(true);
    }
    match sys::update(map, sys::as_bytes(key), &value, sys::NOEXIST) {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(error),
        _ => Ok(false),
    }
}

/// A walk through maps of either kind, one after the other, in slices.
pub struct Walk<A> {
    table: table::Walk,
    hash: sys::Walk,
    family: PhantomData<A>,
}

/// Halves read at a time.
const SLICE: u32 = 4096;

impl<A: Family> Walk<A>
where
    FlowKey<A>: Pod,
    FlowHalf<A>: Pod,
{
    pub fn new(table: table::Walk) -> Self {
        let hash =
            sys::Walk::new(size_of::<FlowKey<A>>(), size_of::<FlowHalf<A>>(), SLICE as usize);
        Self { table, hash, family: PhantomData }
    }

    /// The next slice starts from the beginning.
    pub fn restart(&mut self) {
        self.table.restart();
        self.hash.restart();
    }

    /// Hands the next halves to `each`. Those that come or go meanwhile may be missed.
    pub fn slice(
        &mut self,
        map: HalfMap<'_>,
        mut each: impl FnMut(&FlowKey<A>, &FlowHalf<A>) -> io::Result<()>,
    ) -> io::Result<Progress> {
        match map {
            HalfMap::Table(table) => self.table.slice(table, SLICE, each),
            HalfMap::Hash(map) => self.hash.slice(map, |key, half| {
                match (sys::from_bytes(key), sys::from_bytes(half)) {
                    (Some(key), Some(half)) => each(&key, &half),
                    _ => Ok(()),
                }
            }),
        }
    }
}
