//! The table of flows: found with one cache miss where the kernel's hash maps take two or three, and
//! changed by both sides at once, none of which ever waits. Pure.
//!
//! An array of slots. A half has a home, by the hash of its key, and is in one of the [`REACH`] slots from
//! there on, most often in the first. The home's [`Control`] says in which of those there are halves whose
//! home it is: what is not there is found missing after one slot.
//!
//! Where none of these is free, the half of a flow that nobody has confirmed gives way, the one that has been silent
//! longest. A confirmed one never does: a flood of SYNs costs other handshakes their place and no connection.
//!
//! ```text
//! slot      0         1         2       …   homes - 1   …   homes + REACH - 1    homes + REACH
//!        [control | key | half] …                       only for what is displaced      [Header]
//! ```
//!
//! Storing takes a free slot, fills it, and publishes it by a compare-and-exchange of the home's control,
//! which fails if anything else was published there since it was looked at: so no key is there twice.
//! Replacing publishes the new slot and withdraws the old one in the same step.
//!
//! As with the kernel's preallocated maps, who has found a half may see it become another flow's while it
//! uses it: fields are plain integers, each written whole.

use crate::addr::{Address, Ports};
use crate::conntrack::{FlowHalf, flag};
use crate::flow::FlowKey;
use crate::time::Ticks;

mod control;
mod hash;
mod place;
mod word;

pub use control::Control;
pub use hash::{FACTORS, Secret, home};
pub use place::Place;

/// Slots from a half's home on in which it may be. With two slots a half, one in four million finds no room before the
/// table has as many of confirmed flows as it is for.
pub const REACH: u32 = 40;

/// How often a change is tried that another one came in the way of.
const ATTEMPTS: u32 = 4;

/// A place for a half.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<A> {
    /// [`Control`]
    control: u64,
    pub key: FlowKey<A>,
    pub half: FlowHalf<A>,
}

/// What the last element of the array holds in place of a slot: enough to find everything again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Of the [`Secret`].
    pub seed: [u64; 2],
    pub homes: u32,
    /// Bytes.
    pub key_size: u32,
    pub half_size: u32,
    pub _pad: u32,
}

/// Elements of the array for so many homes.
#[must_use]
pub const fn elements(homes: u32) -> u32 {
    homes.saturating_add(REACH + 1)
}

/// Where the slots are.
pub trait Slots<A>: Copy {
    /// Index of the slot where a key is at home: [`Secret::home`].
    fn home(self, key: &FlowKey<A>) -> u32;

    /// `None`: there are not so many.
    fn slot(self, index: u32) -> Option<Place<A>>;
}

/// Why a half is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Exists,
    /// No slot is free in its reach, or others were faster again and again.
    Full,
}

/// The half that gave way to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// It was a flow's original half.
    pub original: bool,
}

/// Where a half is that is in one of the first of its slots, as nearly all are.
pub enum First<A> {
    Found(Place<A>),
    /// It is in none.
    Missing,
    /// [`locate`] tells.
    Elsewhere,
}

/// Has the processor fetch the first slot of a half that is looked for a moment later.
#[inline(always)]
pub fn prefetch<A: Address, S: Slots<A>>(slots: S, key: &FlowKey<A>) {
    if let Some(place) = slots.slot(slots.home(key)) {
        place.control();
    }
}

/// Looks for a half in the first two of its slots: more would be followed through the rest of the program.
#[inline(always)]
pub fn first<A: Address, S: Slots<A>>(slots: S, key: &FlowKey<A>) -> First<A> {
    let home = slots.home(key);
    let Some(place) = slots.slot(home) else { return First::Missing };
    let control = place.control();
    if control.is_published(0) && place.holds(key) {
        return First::Found(place);
    }
    if control.is_published(1)
        && let Some(place) = slots.slot(home + 1)
        && place.holds(key)
    {
        return First::Found(place);
    }
    if control.is_published_from(2) { First::Elsewhere } else { First::Missing }
}

/// Index of a half's slot.
#[inline(always)]
pub fn locate<A: Address, S: Slots<A>>(slots: S, key: &FlowKey<A>) -> Option<u32> {
    let home = slots.home(key);
    let control = slots.slot(home)?.control();
    search(slots, key, home, control).map(|displacement| home + displacement)
}

/// Finds a half.
pub fn find<A: Address, S: Slots<A>>(slots: S, key: &FlowKey<A>) -> Option<Place<A>> {
    match first(slots, key) {
        First::Found(place) => Some(place),
        First::Missing => None,
        First::Elsewhere => slots.slot(locate(slots, key)?),
    }
}

/// Which of a home's slots holds `key`.
#[inline(always)]
fn search<A: Address, S: Slots<A>>(
    slots: S,
    key: &FlowKey<A>,
    home: u32,
    control: Control,
) -> Option<u32> {
    for displacement in 0..REACH {
        if control.is_published(displacement)
            && let Some(place) = slots.slot(home + displacement)
            && place.holds(key)
        {
            return Some(word::opaque(displacement, control.word()));
        }
    }
    None
}

/// Stores a half, if `replace` in place of one that may be there. Where there is no room [`make_room`] makes some.
///
/// # Errors
/// Nothing was changed.
#[inline(always)]
pub fn store<A: Address, S: Slots<A>>(
    slots: S,
    key: &FlowKey<A>,
    half: &FlowHalf<A>,
    replace: bool,
) -> Result<(), Refusal> {
    let home = slots.home(key);
    let first = slots.slot(home).ok_or(Refusal::Full)?;
    for _ in 0..ATTEMPTS {
        let seen = first.control();
        let old = search(slots, key, home, seen);
        if old.is_some() && !replace {
            return Err(Refusal::Exists);
        }
        let (displacement, place) = take_free(slots, home).ok_or(Refusal::Full)?;
        place.fill(key, half);
        if publish(first, seen, old, displacement) {
            if let Some(old) = old.and_then(|old| slots.slot(home + old)) {
                old.release();
            }
            return Ok(());
        }
        place.release();
    }
    Err(Refusal::Full)
}

/// Evicts the half of a flow that nobody has confirmed: of those in reach of a key's home the one that has been silent
/// longest. `None`: all are confirmed, or of the same flow.
#[inline(always)]
pub fn make_room<A: Address, S: Slots<A>>(
    slots: S,
    key: &FlowKey<A>,
    now: Ticks,
) -> Option<Evicted> {
    let home = slots.home(key);
    evict(slots, home + longest_silent(slots, home, key.ports, now)?)
}

/// Stores a half as [`store`] does, and makes room for it if there is none, of what is silent at `now`.
///
/// # Errors
/// It is not stored.
pub fn store_making_room<A: Address, S: Slots<A>>(
    slots: S,
    key: &FlowKey<A>,
    half: &FlowHalf<A>,
    replace: bool,
    now: Ticks,
) -> Result<Option<Evicted>, Refusal> {
    match store(slots, key, half, replace) {
        Ok(()) => Ok(None),
        Err(Refusal::Exists) => Err(Refusal::Exists),
        Err(Refusal::Full) => {
            let evicted = make_room(slots, key, now).ok_or(Refusal::Full)?;
            store(slots, key, half, replace).map(|()| Some(evicted))
        }
    }
}

/// Removes a half; `false`: there was none.
#[inline(always)]
pub fn remove<A: Address, S: Slots<A>>(slots: S, key: &FlowKey<A>) -> bool {
    withdraw(slots, key).map(Place::release).is_some()
}

/// Takes a half out, so that nobody finds it any more. Its slot is the caller's, to be [given back](Place::release) or
/// [put back](put_back).
#[inline(always)]
pub fn withdraw<A: Address, S: Slots<A>>(slots: S, key: &FlowKey<A>) -> Option<Place<A>> {
    let home = slots.home(key);
    let first = slots.slot(home)?;
    for _ in 0..ATTEMPTS {
        let seen = first.control();
        let displacement = search(slots, key, home, seen)?;
        let now = first.control();
        if now.is_like(seen) && first.exchange(now, now.withdrawn(displacement)) {
            return slots.slot(home + displacement);
        }
    }
    None
}

/// Puts back what was [withdrawn](withdraw), unless its key is there again.
pub fn put_back<A: Address, S: Slots<A>>(slots: S, place: Place<A>) {
    let (key, half) = (place.key(), place.copied());
    place.release();
    // Whoever stored the key meanwhile knows better, and without room it is lost, as if it had gone a moment ago.
    let _ = store_making_room(slots, &key, &half, false, half.last_seen);
}

#[inline(always)]
fn take_free<A: Address, S: Slots<A>>(slots: S, home: u32) -> Option<(u32, Place<A>)> {
    for displacement in 0..REACH {
        let place = slots.slot(home + displacement)?;
        let control = place.control();
        if !control.is_taken() && place.exchange(control, control.taken()) {
            place.hold();
            return Some((word::opaque(displacement, control.word()), place));
        }
    }
    None
}

/// Takes the half at `index` out, if nobody has confirmed it. `None`: somebody has, or is writing to the slot.
#[inline(always)]
fn evict<A: Address, S: Slots<A>>(slots: S, index: u32) -> Option<Evicted> {
    let place = slots.slot(index)?;
    let home = slots.home(place.key_in_place());
    let displacement = index.wrapping_sub(home);
    if displacement >= REACH {
        return None;
    }
    let first = slots.slot(home)?;
    let seen = first.control();
    // What is still published there when it is withdrawn is the half that these flags are of.
    if !seen.is_published(displacement)
        || is_confirmed(place)
        || !first.exchange(seen, seen.withdrawn(displacement))
    {
        return None;
    }
    let flags = place.flags();
    if flags & flag::CONFIRMED != 0 {
        // In this very moment. If something else happens there, too, it is lost: its client repeats itself.
        let now = first.control();
        if now.is_like(seen.withdrawn(displacement))
            && first.exchange(now, now.with_published(displacement))
        {
            return None;
        }
    }
    place.release();
    Some(Evicted { original: flags & flag::ORIGINAL != 0 })
}

/// Which of the halves in reach that nobody has confirmed has been silent longest. One of a flow with these ports, most
/// likely the same one, counts as confirmed.
///
/// Without a branch, each of which the verifier would follow through all that comes.
#[inline(always)]
fn longest_silent<A, S: Slots<A>>(slots: S, home: u32, ports: Ports, now: Ticks) -> Option<u32> {
    let mut longest = 0;
    for displacement in 0..REACH {
        let place = slots.slot(home + displacement)?;
        let unconfirmed = place.flags() as u64 & flag::CONFIRMED as u64 ^ flag::CONFIRMED as u64;
        let silent = now.0.wrapping_sub(place.last_seen().0) as i32 as u64;
        // Of a clock that was read later than this one nothing is left.
        let silence = ((silent & !all_if_negative(silent)) + 1) << 8 | displacement as u64;
        let others = (place.peer_ports().word() ^ ports.word()) as u64;
        let silence = silence & all_if_negative(unconfirmed.wrapping_neg());
        let silence = silence & all_if_negative(others.wrapping_neg());
        longest ^= (longest ^ silence) & all_if_negative(longest.wrapping_sub(silence));
    }
    (longest != 0).then_some((longest & 0xff) as u32)
}

/// All bits, or none. The compiler does not know of what, or it would branch.
#[inline(always)]
fn all_if_negative(number: u64) -> u64 {
    word::once((word::once(number) as i64 >> 63) as u64)
}

#[inline(always)]
fn is_confirmed<A>(place: Place<A>) -> bool {
    place.flags() & flag::CONFIRMED != 0
}

/// `false`: something changed there meanwhile.
#[inline(always)]
fn publish<A>(first: Place<A>, seen: Control, old: Option<u32>, new: u32) -> bool {
    let now = first.control();
    let kept = if let Some(old) = old { now.withdrawn(old) } else { now };
    now.is_like(seen) && first.exchange(now, kept.with_published(new))
}

#[cfg(feature = "user")]
mod pod {
    use super::Header;

    const _: () = assert!(size_of::<Header>() == 32);
    // SAFETY: integers only; the size assertion rules padding out.
    unsafe impl aya::Pod for Header {}
}

#[cfg(test)]
mod tests;
