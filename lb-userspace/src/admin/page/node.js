// The node and its pair: addresses, elections, shared flows, drops, events.

import { el, find, keep, say, set, show } from "./dom.js";
import { age, count, milliseconds, short, time } from "./format.js";
import { holderOf } from "./headline.js";
import { refusals } from "./rates.js";

/** Who holds which VIP. */
export function showVips(status) {
  const items = status.vips.map((vip) => ({ vip, status }));
  keep(find("#vips .items"), items, (item) => item.vip.address, () => {
    const row = item();
    return {
      node: row.node,
      update({ vip, status }) {
        const holder = vip.owner ? "this node" : (holderOf(status, vip.address) ?? "not this node");
        const lease = vip.owner && vip.lease_ms !== null ? `lease ${milliseconds(vip.lease_ms)}` : "";
        set(row.node, "data-tone", vip.owner ? "good" : null);
        row.say(vip.address, holder, lease);
      },
    };
  });
}

/** Elections and the sharing of flows: one item for each instance and each peer. */
export function showPair(status, now) {
  const section = find("#pair");
  show(section, status.vrrp.length > 0 || Boolean(status.sync));
  const items = [...status.vrrp.flatMap((it) => ofInstance(it, now)), ...ofSync(status.sync, now)];
  keep(section.querySelector(".items"), items, (it) => it.key, () => {
    const row = item();
    return {
      node: row.node,
      update({ tone, name, value, rest }) {
        set(row.node, "data-tone", tone);
        row.say(name, value, rest);
      },
    };
  });
}

function ofInstance(instance, now) {
  const tones = { active: "good", fault: "bad" };
  const own = {
    key: `vrrp ${instance.name}`,
    tone: tones[instance.state] ?? null,
    name: `${instance.name}, VRID ${instance.vrid}`,
    value: instance.draining ? `${instance.state}, draining` : instance.state,
    rest: `priority ${instance.priority}, for ${age(instance.since, now)}; ${instance.reason}`,
  };
  const limit = 3 * instance.advert_interval_ms + 1000;
  const peers = instance.peers.map((peer) => ({
    key: `vrrp ${instance.name} ${peer.address}`,
    tone: instance.state === "backup" && peer.last_seen_ms > limit ? "warn" : null,
    name: `peer ${peer.address}`,
    value: `priority ${peer.priority}`,
    rest: `heard ${milliseconds(peer.last_seen_ms)} ago, jitter ${milliseconds(peer.jitter_us / 1000)}`,
  }));
  return [own, ...peers];
}

function ofSync(sync, now) {
  if (!sync) return [];
  return sync.peers.map((peer) => ({
    key: `sync ${peer.address}`,
    tone: peer.state === "synced" ? "good" : "warn",
    name: `flows with ${peer.name ?? peer.address}`,
    value: peer.state,
    rest:
      peer.error ??
      `lag ${milliseconds(peer.lag_ms)}, ${count(peer.held)} of its flows here, ${count(peer.held_by_peer)} of ours there, for ${age(peer.since, now)}`,
  }));
}

/** What was dropped or reset, the most first. */
export function showDrops(status, rates) {
  const found = refusals(status).filter(([, total]) => total > 0);
  found.sort(([, a], [, b]) => b - a);
  const items = found.map(([name, total]) => ({ name, total, rate: rates.drop(name) }));
  show(find("#drops .empty"), items.length === 0);
  keep(find("#drops .items"), items, (it) => it.name, () => {
    const row = item();
    return {
      node: row.node,
      update({ name, total, rate }) {
        set(row.node, "data-tone", rate > 0 ? "warn" : null);
        row.say(name.replaceAll("_", " "), count(total), rate > 0 ? `${short(rate)} a second` : "");
      },
    };
  });
}

/** What happened last, the newest first. */
export function showEvents(events, now) {
  const items = events.toReversed().map((event) => ({ event, now }));
  keep(find("#events ol"), items, (it) => it.event.sequence, ({ event }) => {
    const at = el("time", { datetime: event.time });
    const kind = el("span", { class: "kind" }, event.kind);
    const message = el("span", { class: "message" }, event.message);
    return { node: el("li", { "data-kind": event.kind }, at, kind, message), update: ({ event, now }) => say(at, time(event.time, now)) };
  });
}

/** A line of three parts. */
function item() {
  const name = el("span", { class: "name" });
  const value = el("span", { class: "value" });
  const rest = el("span", { class: "rest quiet" });
  return {
    node: el("li", {}, name, value, rest),
    say(...texts) {
      [name, value, rest].forEach((node, index) => say(node, texts[index]));
    },
  };
}
