//! Clients whose flows peers tell of, each told on once: the way to a client that only listens has to be known before
//! its flows come here. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::record::Change;

/// As many are remembered; then all are told on again. Beyond so many at a time, the controller finds them itself
/// within a second, as it passes over all flows.
const MOST: usize = 1024;

/// Those that were told on, and those that are to be.
#[derive(Debug, Default)]
pub(super) struct Clients {
    known: BTreeSet<IpAddr>,
    new: BTreeSet<IpAddr>,
}

impl Clients {
    pub(super) fn note(&mut self, clients: impl IntoIterator<Item = IpAddr>) {
        for client in clients {
            if self.known.len() < MOST && self.known.insert(client) {
                self.new.insert(client);
            }
        }
    }

    /// Those to tell on, if there are any.
    pub(super) fn take(&mut self) -> Option<BTreeSet<IpAddr>> {
        if self.known.len() >= MOST {
            self.known.clear();
        }
        (!self.new.is_empty()).then(|| std::mem::take(&mut self.new))
    }
}

/// The client of a flow that goes on.
pub(super) const fn of(change: &Change) -> Option<IpAddr> {
    match change {
        Change::Put(record) => Some(record.id.client.ip()),
        Change::Removed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn client(number: usize) -> IpAddr {
        Ipv4Addr::from_bits(u32::try_from(number).unwrap()).into()
    }

    #[test]
    fn a_client_is_told_on_once() {
        let mut clients = Clients::default();
        clients.note([client(1), client(2), client(1)]);
        assert_eq!(clients.take(), Some([client(1), client(2)].into()));
        clients.note([client(2)]);
        assert_eq!(clients.take(), None);
        clients.note([client(3)]);
        assert_eq!(clients.take(), Some([client(3)].into()));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let mut clients = Clients::default();
        clients.note((0..2 * MOST).map(client));
        assert_eq!(clients.take().map(|new| new.len()), Some(MOST));
        clients.note([client(1)]);
        assert_eq!(clients.take(), Some([client(1)].into()), "from the start again");
    }
}
