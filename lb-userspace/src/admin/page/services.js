// The services and their backends.

import { el, keep, say, set, show } from "./dom.js";
import { age, bits, count, endpoint, milliseconds, percent } from "./format.js";
import { keyOf } from "./rates.js";
import { Share, Spark } from "./spark.js";

const COLUMNS = ["Backend", "State", "Since", "Connections", "Traffic", "Probe", "SYNs retried", "Weight"];
/** The first columns; figures follow. */
const WORDS = 2;

/** `context`: the rates, the access and the time that everything is shown with. */
export function showServices(parent, status, context) {
  const items = status.services.map((service) => ({ service, context }));
  keep(parent, items, (item) => item.service.name, makeService);
}

function makeService({ service: { name } }) {
  const id = `service-${name}`;
  const title = el("h2", { id }, name);
  const vips = el("span", { class: "endpoints" });
  const mode = el("span", { class: "quiet" });
  const sum = el("span", { class: "sum quiet" });
  const heads = COLUMNS.map((text, index) => head(text, index < WORDS ? null : "number"));
  const actions = head("", "actions");
  actions.append(el("span", { class: "unseen" }, "Actions"));
  const body = el("tbody", { role: "rowgroup" });
  const row = el("tr", { role: "row" }, ...heads, actions);
  const top = el("thead", { role: "rowgroup" }, row);
  const table = el("table", { role: "table", "aria-labelledby": id }, top, body);
  const node = el("section", { class: "service" }, el("header", {}, title, vips, mode, sum), table);
  node.setAttribute("aria-labelledby", id);
  return {
    node,
    update({ service, context }) {
      const total = service.backends.reduce((all, backend) => all + backend.connections, 0);
      say(vips, service.vips.map((vip) => endpoint(vip, service.port)).join("  "));
      say(mode, service.mode);
      say(sum, total === 1 ? "1 connection" : `${count(total)} connections`);
      set(node, "data-panic", service.panic ? "" : null);
      set(table, "data-open", context.access.isOpen ? "" : null);
      const items = service.backends.map((backend) => ({ service, backend, total, context }));
      keep(body, items, (item) => item.backend.name, makeBackend);
    },
  };
}

const head = (text, kind) => el("th", { scope: "col", role: "columnheader", class: kind }, text);

function makeBackend() {
  const name = el("span", { class: "name" });
  const address = el("span", { class: "address quiet" });
  const state = el("span", { class: "state" });
  const reason = el("span", { class: "reason quiet" });
  const since = el("span", {});
  const connections = el("span", { class: "figure" });
  const part = el("span", { class: "quiet part-text" });
  const share = new Share();
  const traffic = el("span", { class: "figure" });
  const trafficCurve = new Spark();
  const probe = el("span", { class: "figure" });
  const probeCurve = new Spark();
  const retried = el("span", { class: "figure" });
  const weight = el("span", { class: "figure" });
  const button = el("button", { type: "button", class: "plain" });
  const node = el(
    "tr",
    { role: "row" },
    el("th", { scope: "row", role: "rowheader" }, name, address),
    cell("State", null, state, reason),
    cell("Since", "number", since),
    cell("Connections", "number", connections, part, share.node),
    cell("Traffic", "number", traffic, trafficCurve.node),
    cell("Probe", "number", probe, probeCurve.node),
    cell("SYNs retried", "number", retried),
    cell("Weight", "number", weight),
    cell("", "actions", button),
  );
  let current = null;
  button.addEventListener("click", () => current.context.access.propose(current.service, current.backend));
  return {
    node,
    update(item) {
      current = item;
      const { service, backend, total, context } = item;
      const key = keyOf(service.name, backend);
      const series = context.rates.of(key);
      set(node, "data-key", key);
      set(node, "data-state", backend.state);
      say(name, backend.name);
      say(address, backend.address);
      say(state, backend.state);
      say(reason, backend.reason);
      say(since, age(backend.since, context.now));
      say(connections, count(backend.connections));
      const ofAll = total > 0 ? backend.connections / total : 0;
      say(part, percent(ofAll));
      share.draw(ofAll);
      say(traffic, series.traffic.last === null ? "" : bits(series.traffic.last));
      trafficCurve.draw(series.traffic.values);
      say(probe, series.latency.last === null ? "–" : milliseconds(series.latency.last));
      probeCurve.draw(series.latency.values);
      say(retried, backend.refused ? `${count(backend.unanswered)} + ${count(backend.refused)} refused` : count(backend.unanswered));
      const { weight: said, effective_weight: used } = backend;
      say(weight, said === used ? `${said}` : `${used} of ${said}`);
      const { action } = context.access.actionOf(backend);
      say(button, action);
      set(button, "aria-label", `${action} ${key}`);
      show(button, context.access.isOpen);
    },
  };
}

const cell = (label, kind, ...children) =>
  el("td", { role: "cell", class: kind, "data-label": label }, ...children);
