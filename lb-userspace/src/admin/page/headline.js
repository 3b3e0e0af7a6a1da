// What an operator should know first, in sentences.

import { plural } from "./format.js";

/** `{ tone, text, concerns: [{ tone, text }] }`; a tone is `good`, `note`, `warn` or `bad`. */
export function headline(status) {
  const concerns = [
    ...status.services.flatMap(ofService),
    ...status.vrrp.flatMap(ofInstance),
    ...ofSync(status.sync),
    ...ofNode(status),
  ];
  const order = ["bad", "warn", "note"];
  concerns.sort((a, b) => order.indexOf(a.tone) - order.indexOf(b.tone));
  const worst = ["bad", "warn"].find((tone) => concerns.some((it) => it.tone === tone));
  return { tone: worst ?? "good", text: `${backends(status)} ${addresses(status)}`.trim(), concerns };
}

function backends(status) {
  const all = status.services.flatMap((service) => service.backends);
  const up = all.filter((backend) => backend.state === "up").length;
  if (all.length === 0) return "There are no backends.";
  if (up === all.length) return up === 1 ? "The backend is up." : `All ${up} backends are up.`;
  return up === 0 ? `None of ${plural(all.length, "backend")} is up.` : `${up} of ${plural(all.length, "backend")} are up.`;
}

function addresses(status) {
  const own = status.vips.filter((vip) => vip.owner).map((vip) => vip.address);
  const others = status.vips.filter((vip) => !vip.owner).map((vip) => vip.address);
  if (others.length === 0) return own.length ? `This node holds ${list(own)}.` : "";
  if (own.length) return `This node holds ${list(own)}, not ${list(others)}.`;
  const holder = others.map((address) => holderOf(status, address)).find(Boolean);
  return holder ? `${holder} holds ${list(others)}; this node stands by.` : `This node does not hold ${list(others)}.`;
}

function list(addresses) {
  if (addresses.length > 3) return `${addresses.length} addresses`;
  return addresses.length < 2 ? addresses[0] : `${addresses.slice(0, -1).join(", ")} and ${addresses.at(-1)}`;
}

/** The peer that serves an address, as far as this node hears. */
export function holderOf(status, address) {
  const instance = status.vrrp.find((it) => it.vips.includes(address));
  if (!instance || instance.state !== "backup") return null;
  const heard = instance.peers.filter((peer) => peer.last_seen_ms < 3 * (instance.advert_interval_ms + 1000));
  heard.sort((a, b) => a.last_seen_ms - b.last_seen_ms);
  return heard[0]?.address ?? null;
}

function ofService(service) {
  const found = [];
  if (service.panic) {
    found.push({ tone: "bad", text: `${service.name}: no backend is up; new connections go to those that last were.` });
  }
  for (const text of service.alarms) found.push({ tone: "warn", text: `${service.name}: ${text}` });
  for (const backend of service.backends) {
    const name = `${service.name}/${backend.name}`;
    const isSaid = backend.admin !== "enabled";
    if (isSaid) found.push({ tone: "note", text: `${name} is ${backend.admin} by an operator.` });
    else if (backend.state === "down") found.push({ tone: "bad", text: `${name} is down: ${backend.reason}` });
    else if (backend.state !== "up") {
      const tone = backend.state === "unknown" ? "note" : "warn";
      found.push({ tone, text: `${name} is ${backend.state}: ${backend.reason}` });
    }
  }
  return found;
}

function ofInstance(instance) {
  const found = instance.alarms.map((alarm) => ({ tone: "warn", text: `VRRP ${instance.name}: ${alarm.message}` }));
  if (instance.state === "fault") found.push({ tone: "bad", text: `VRRP ${instance.name} has a fault: ${instance.reason}` });
  if (instance.draining) found.push({ tone: "note", text: `VRRP ${instance.name} gives its addresses up.` });
  return found;
}

function ofSync(sync) {
  if (!sync) return [];
  const found = sync.error ? [{ tone: "bad", text: `Flows are not shared: ${sync.error}` }] : [];
  for (const peer of sync.peers.filter((it) => it.state !== "synced")) {
    const why = peer.error ? `: ${peer.error}` : "";
    found.push({ tone: "warn", text: `Flows are not shared with ${peer.name ?? peer.address} (${peer.state})${why}` });
  }
  return found;
}

function ofNode(status) {
  const found = [];
  const { established, capacity } = status.flows;
  if (established > 0.9 * capacity.established) {
    found.push({ tone: "bad", text: `The table of flows is nearly full: ${established} of ${capacity.established}.` });
  }
  for (const xdp of status.xdp.filter((it) => it.mode !== "native")) {
    found.push({ tone: "note", text: `XDP is ${xdp.mode} on ${xdp.interface}${xdp.reason ? `: ${xdp.reason}` : ""}` });
  }
  if (status.state_file.error) {
    found.push({ tone: "warn", text: `What operators say will be forgotten at the next start: ${status.state_file.error}` });
  }
  for (const name of (status.names ?? []).filter((it) => it.failure)) {
    found.push({ tone: "warn", text: `DNS says nothing of ${name.host} (${name.family}): ${name.failure}` });
  }
  return found;
}
