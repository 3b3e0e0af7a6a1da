//! Says that something changed; what, a new snapshot tells. Used by control. I/O.

use anyhow::{Context as _, Result};
use futures_util::{Stream, StreamExt as _};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::watch;

use super::request::Message;

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv6Route,
];

/// A subscription to changes of interfaces, addresses, routes and neighbours.
///
/// Any number of changes count as one until they are asked for. Neighbours change their state
/// all the time: wait a little before each snapshot.
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<()>);

impl Changes {
    pub(super) fn subscribe() -> Result<Self> {
        let (connection, handle, messages) =
            new_multicast_connection(&GROUPS).context("subscribe to the kernel's route changes")?;
        let (sender, receiver) = watch::channel(());
        tokio::spawn(async move {
            // The connection ends with its last handle.
            let _handle = handle;
            tokio::select! {
                () = connection => {}
                () = forward(messages.map(|(message, _)| message), &sender) => {}
                () = sender.closed() => {}
            }
        });
        Ok(Self(receiver))
    }

    /// Waits for a change since the subscription or the last call. An error is final: changes can
    /// no longer be seen. Cancel-safe.
    pub async fn changed(&mut self) -> Result<()> {
        self.0.changed().await.context("the subscription to the kernel's route changes ended")
    }
}

async fn forward(messages: impl Stream<Item = Message>, sender: &watch::Sender<()>) {
    let mut messages = std::pin::pin!(messages);
    while let Some(message) = messages.next().await {
        if is_change(&message) {
            sender.send_replace(());
        }
    }
}

/// Whether a snapshot may differ: not for neighbours of other families. An overrun may hide anything.
fn is_change(message: &Message) -> bool {
    let is_ip = |neighbour: &NeighbourMessage| {
        matches!(neighbour.header.family, AddressFamily::Inet | AddressFamily::Inet6)
    };
    match &message.payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewNeighbour(neighbour)
            | RouteNetlinkMessage::DelNeighbour(neighbour),
        ) => is_ip(neighbour),
        NetlinkPayload::InnerMessage(_)
        | NetlinkPayload::Overrun(_)
        | NetlinkPayload::Error(_)
        | NetlinkPayload::Done(_) => true,
        NetlinkPayload::Noop | _ => false,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use rtnetlink::packet_core::{NetlinkHeader, NetlinkMessage};
    use rtnetlink::packet_route::link::LinkMessage;

    use super::*;

    #[test]
    fn bridge_ports_are_no_change_and_an_overrun_is_one() {
        let cases = [
            (neighbour(AddressFamily::Inet), true),
            (neighbour(AddressFamily::Inet6), true),
            (neighbour(AddressFamily::Bridge), false),
            (inner(RouteNetlinkMessage::DelLink(LinkMessage::default())), true),
            (message(NetlinkPayload::Overrun(Vec::new())), true),
            (message(NetlinkPayload::Noop), false),
        ];
        for (message, expected) in cases {
            assert_eq!(is_change(&message), expected, "{message:?}");
        }
    }

    #[tokio::test]
    async fn changes_coalesce_and_the_end_is_an_error() {
        let (sender, receiver) = watch::channel(());
        let mut changes = Changes(receiver);
        forward(stream::iter([0; 3].map(|_| neighbour(AddressFamily::Inet))), &sender).await;
        changes.changed().await.unwrap();
        drop(sender);
        assert!(changes.changed().await.is_err());
    }

    fn neighbour(family: AddressFamily) -> Message {
        let mut neighbour = NeighbourMessage::default();
        neighbour.header.family = family;
        inner(RouteNetlinkMessage::NewNeighbour(neighbour))
    }

    fn inner(inner: RouteNetlinkMessage) -> Message {
        message(NetlinkPayload::InnerMessage(inner))
    }

    fn message(payload: NetlinkPayload<RouteNetlinkMessage>) -> Message {
        NetlinkMessage::new(NetlinkHeader::default(), payload)
    }
}
