//! One request to the kernel and its complete answer. Called by `Netlink`. I/O.
//!
//! A connection that dies merely ends the answer's stream. So the connection forwards the last
//! message (done, or the acknowledgement), and an answer without one is an error: half a dump
//! must not look like a node with few routes.

use anyhow::{Result, bail};
use futures_util::{Stream, StreamExt as _};
use rtnetlink::Handle;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;

/// A dump that changes interrupt is tried this often.
const ATTEMPTS: u32 = 8;

pub(super) type Message = NetlinkMessage<RouteNetlinkMessage>;

/// The messages that answer `request`, of one state of the table.
pub(super) async fn dump(
    handle: &Handle,
    request: &RouteNetlinkMessage,
) -> Result<Vec<RouteNetlinkMessage>> {
    for _ in 0..ATTEMPTS {
        let mut message = NetlinkMessage::from(request.clone());
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        if let Some(found) = collect(handle.clone().request(message)?).await? {
            return Ok(found);
        }
    }
    bail!("the table changed during each of {ATTEMPTS} attempts")
}

/// None: the table changed meanwhile.
async fn collect(answer: impl Stream<Item = Message>) -> Result<Option<Vec<RouteNetlinkMessage>>> {
    let mut answer = std::pin::pin!(answer);
    let (mut found, mut interrupted) = (Vec::new(), false);
    while let Some(message) = answer.next().await {
        interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
        match message.payload {
            NetlinkPayload::InnerMessage(inner) => found.push(inner),
            NetlinkPayload::Done(_) => return Ok((!interrupted).then_some(found)),
            NetlinkPayload::Error(error) => return Err(error.to_io().into()),
            NetlinkPayload::Overrun(_) => return Ok(None),
            NetlinkPayload::Noop | _ => {}
        }
    }
    bail!("the netlink connection ended")
}

/// Sends a request that changes something; the outer error is the connection's, the inner one
/// the kernel's refusal.
pub(super) async fn execute(
    handle: &Handle,
    request: RouteNetlinkMessage,
    flags: u16,
) -> Result<std::io::Result<()>> {
    let mut message = NetlinkMessage::from(request);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    acknowledgement(handle.clone().request(message)?).await
}

async fn acknowledgement(answer: impl Stream<Item = Message>) -> Result<std::io::Result<()>> {
    let mut answer = std::pin::pin!(answer);
    while let Some(message) = answer.next().await {
        if let NetlinkPayload::Error(error) = message.payload {
            return Ok(if error.code.is_none() { Ok(()) } else { Err(error.to_io()) });
        }
    }
    bail!("the netlink connection ended")
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use rtnetlink::packet_core::{DoneMessage, ErrorMessage, NetlinkHeader};
    use rtnetlink::packet_route::link::LinkMessage;

    use super::*;

    #[tokio::test]
    async fn a_dump_without_its_end_is_an_error() {
        let half = stream::iter([link(0)]);
        let error = collect(half).await.unwrap_err();
        assert_eq!(error.to_string(), "the netlink connection ended");
    }

    #[tokio::test]
    async fn a_complete_dump_is_returned_and_an_interrupted_one_is_not() {
        let found = collect(stream::iter([link(0), link(0), done()])).await.unwrap();
        assert_eq!(found.map(|found| found.len()), Some(2));
        let found = collect(stream::iter([link(0), link(NLM_F_DUMP_INTR), done()])).await.unwrap();
        assert!(found.is_none());
    }

    #[tokio::test]
    async fn refusals_and_acknowledgements_differ_and_silence_is_an_error() {
        let refused = acknowledgement(stream::iter([error(Some(-libc::EEXIST))])).await.unwrap();
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EEXIST));
        assert!(acknowledgement(stream::iter([error(None)])).await.unwrap().is_ok());
        assert!(acknowledgement(stream::empty()).await.is_err());
    }

    fn link(flags: u16) -> Message {
        let mut message: Message =
            NetlinkMessage::from(RouteNetlinkMessage::NewLink(LinkMessage::default()));
        message.header.flags = flags;
        message
    }

    fn done() -> Message {
        NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::Done(DoneMessage::default()))
    }

    fn error(code: Option<i32>) -> Message {
        let mut error = ErrorMessage::default();
        error.code = code.and_then(std::num::NonZero::new);
        NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::Error(error))
    }
}
