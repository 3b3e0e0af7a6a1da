//! What of traffic control is in a frame's way: the filters of interfaces. Called by `doctor`. I/O.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption};

use super::Netlink;
use super::request::dump;

/// A filter that every frame of one direction passes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter {
    pub ingress: bool,
    /// As `tc` calls it: `bpf`, `flower`, `u32` and others.
    pub kind: String,
    /// Of a BPF program, if it has one.
    pub name: Option<String>,
}

impl Netlink {
    /// The filters of each interface that has a place for them (`clsact`, `ingress`); there may be none.
    pub async fn filters(&self) -> Result<BTreeMap<u32, BTreeSet<Filter>>> {
        let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let found = dump(&self.handle, &request).await.context("list the queueing disciplines")?;
        let mut filters: BTreeMap<u32, BTreeSet<Filter>> = BTreeMap::new();
        for (index, kind) in found.iter().filter_map(place) {
            let of = filters.entry(index).or_default();
            of.extend(self.filters_at(index, true).await?);
            // One for ingress alone answers with its filters whatever is asked for.
            if kind == CLSACT {
                of.extend(self.filters_at(index, false).await?);
            }
        }
        Ok(filters)
    }

    async fn filters_at(&self, index: u32, ingress: bool) -> Result<Vec<Filter>> {
        let minor = if ingress { TcHandle::MIN_INGRESS } else { TcHandle::MIN_EGRESS };
        let mut message = TcMessage::default();
        message.header.index = i32::try_from(index)?;
        message.header.parent = TcHandle { major: TcHandle::CLSACT.major, minor };
        let request = RouteNetlinkMessage::GetTrafficFilter(message);
        let context = || format!("list the filters of interface {index}");
        let found = dump(&self.handle, &request).await.with_context(context)?;
        Ok(found.iter().filter_map(|message| filter(message, ingress)).collect())
    }
}

const CLSACT: &str = "clsact";

/// A place for filters: the interface, and of what kind it is.
fn place(message: &RouteNetlinkMessage) -> Option<(u32, &str)> {
    let RouteNetlinkMessage::NewQueueDiscipline(qdisc) = message else { return None };
    let kind = kind(qdisc).filter(|kind| [CLSACT, "ingress"].contains(kind))?;
    Some((u32::try_from(qdisc.header.index).ok()?, kind))
}

fn filter(message: &RouteNetlinkMessage, ingress: bool) -> Option<Filter> {
    let RouteNetlinkMessage::NewTrafficFilter(filter) = message else { return None };
    let options = filter.attributes.iter().find_map(|attribute| {
        let TcAttribute::Options(options) = attribute else { return None };
        Some(options.as_slice())
    });
    let name = options.unwrap_or_default().iter().find_map(|option| {
        let TcOption::Bpf(TcFilterBpfOption::ProgName(name)) = option else { return None };
        Some(name.clone())
    });
    Some(Filter { ingress, kind: kind(filter)?.to_owned(), name })
}

fn kind(message: &TcMessage) -> Option<&str> {
    message.attributes.iter().find_map(|attribute| {
        let TcAttribute::Kind(kind) = attribute else { return None };
        Some(kind.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(attributes: Vec<TcAttribute>) -> TcMessage {
        let mut message = TcMessage::default();
        message.header.index = 7;
        message.attributes = attributes;
        message
    }

    #[test]
    fn filters_have_their_kind_and_programs_their_name() {
        let kind = |kind: &str| TcAttribute::Kind(kind.to_owned());
        let name = TcOption::Bpf(TcFilterBpfOption::ProgName("cil_from_netdev".to_owned()));
        let bpf = message(vec![kind("bpf"), TcAttribute::Options(vec![name])]);
        let found = filter(&RouteNetlinkMessage::NewTrafficFilter(bpf), false).unwrap();
        assert_eq!((found.kind.as_str(), found.ingress), ("bpf", false));
        assert_eq!(found.name.as_deref(), Some("cil_from_netdev"));
        let flower = message(vec![kind("flower")]);
        let found = filter(&RouteNetlinkMessage::NewTrafficFilter(flower), true).unwrap();
        assert_eq!((found.kind.as_str(), found.name), ("flower", None));
    }

    #[test]
    fn only_places_that_every_frame_passes_count() {
        for (kind, counts) in [("clsact", true), ("ingress", true), ("fq_codel", false)] {
            let qdisc = message(vec![TcAttribute::Kind(kind.to_owned())]);
            let qdisc = RouteNetlinkMessage::NewQueueDiscipline(qdisc);
            assert_eq!(place(&qdisc).is_some(), counts, "{kind}");
        }
    }
}
