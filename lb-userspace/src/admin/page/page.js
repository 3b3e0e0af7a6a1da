// The page: takes what the controller tells, and shows it.

import { Access } from "./access.js";
import { el, find, keep, say, set, show } from "./dom.js";
import { age, bits, count, percent, short } from "./format.js";
import { headline } from "./headline.js";
import { showDrops, showEvents, showPair, showVips } from "./node.js";
import { Rates } from "./rates.js";
import { showServices } from "./services.js";
import { Spark } from "./spark.js";

/** Of a status that should come every second. */
const LATE = 3500;

const rates = new Rates();
const access = new Access(() => status && draw());
let status = null;
let events = [];
let heard = 0;

const source = new EventSource("/v1/live");
source.addEventListener("hello", (event) => (access.kind = JSON.parse(event.data).changes));
source.addEventListener("status", (event) => {
  status = JSON.parse(event.data);
  heard = performance.now();
  rates.feed(status);
  draw();
});
source.addEventListener("events", (event) => {
  events = JSON.parse(event.data);
  if (status) showEvents(events, Date.parse(status.time));
});
setInterval(watch, 500);

/** A page that shows what was must say so. */
function watch() {
  const isLive = source.readyState === EventSource.OPEN && performance.now() - heard < LATE;
  const state = isLive ? "live" : status ? "stale" : "waiting";
  set(document.body, "data-state", state);
  say(find("#live-text"), { live: "live", stale: "the controller is not heard", waiting: "connecting" }[state]);
}

function draw() {
  const now = Date.parse(status.time);
  showHeadline();
  showFigures();
  showServices(find("#services"), status, { rates, access, now });
  showVips(status);
  showPair(status, now);
  showDrops(status, rates);
  showEvents(events, now);
  const { configuration } = status;
  say(find("#identity"), `${status.version}, up ${age(status.started, now)}`);
  const xdp = status.xdp.map((it) => `${it.interface} (${it.mode})`).join(", ");
  say(find("#machine"), `XDP on ${xdp || "no interface"}; ${configuration.path}, read ${age(configuration.loaded, now)} ago; process ${status.pid}`);
  watch();
}

function showHeadline() {
  const { tone, text, concerns } = headline(status);
  const verdict = find("#verdict");
  say(verdict, text);
  set(verdict, "data-tone", tone);
  show(find("#concerns"), concerns.length > 0);
  const numbered = concerns.map((concern, index) => ({ ...concern, index }));
  keep(find("#concerns"), numbered, (it) => it.index, () => {
    const node = el("li", {});
    return {
      node,
      update({ tone, text }) {
        set(node, "data-tone", tone);
        say(node, text);
      },
    };
  });
  document.title = tone === "good" ? "Fairlead" : `! ${text}`;
}

function showFigures() {
  const { established, capacity } = status.flows;
  const { requests, replies, packets, opened, drops } = rates.total;
  const rate = (series, unit) => (series.last === null ? "–" : unit(series.last));
  const items = [
    {
      name: "Connections",
      value: count(established),
      rest: `${percent(established / capacity.established)} of the table${opened.last === null ? "" : `, ${short(opened.last)} new a second`}`,
    },
    { name: "To clients", value: rate(replies, bits), curve: replies.values },
    { name: "To backends", value: rate(requests, bits), curve: requests.values },
    { name: "Packets a second", value: rate(packets, short), curve: packets.values },
    { name: "Drops a second", value: rate(drops, short), curve: drops.values },
  ];
  keep(find("#figures"), items, (it) => it.name, ({ name }) => {
    const value = el("dd", {});
    const rest = el("dd", { class: "quiet rest" });
    const curve = new Spark();
    return {
      node: el("div", { "data-figure": name }, el("dt", {}, name), value, rest, curve.node),
      update(it) {
        say(value, it.value);
        say(rest, it.rest);
        show(rest, Boolean(it.rest));
        curve.node.toggleAttribute("hidden", !it.curve);
        if (it.curve) curve.draw(it.curve);
      },
    };
  });
}
