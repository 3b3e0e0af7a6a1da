// What changes from one status to the next: rates, and what they were in the last two minutes.

const KEPT = 120;

/** One series; `null` where there was nothing to measure. */
class Series {
  values = [];

  push(value) {
    this.values.push(value);
    if (this.values.length > KEPT) this.values.shift();
  }

  get last() {
    return this.values.at(-1) ?? null;
  }
}

export const keyOf = (service, backend) => `${service}/${backend.name}`;

export class Rates {
  #before = null;
  #backends = new Map();
  #drops = new Map();
  total = { requests: new Series(), replies: new Series(), packets: new Series(), opened: new Series(), drops: new Series() };

  /** Compares with the status before it. */
  feed(status) {
    const now = sums(status);
    const before = this.#before;
    this.#before = now;
    const seconds = before && (now.at - before.at) / 1000;
    // Of another controller the counters begin anew; what comes twice says nothing.
    if (!before || before.pid !== now.pid || !(seconds > 0)) {
      for (const [key, value] of now.backends) this.of(key).latency.push(value.latency);
      return;
    }
    const rate = (after, earlier) => Math.max(0, after - (earlier ?? after)) / seconds;
    const total = { requests: 0, replies: 0, packets: 0, opened: 0 };
    const known = this.#backends;
    this.#backends = new Map();
    for (const [key, value] of now.backends) {
      const series = known.get(key) ?? fresh();
      this.#backends.set(key, series);
      const earlier = before.backends.get(key) ?? value;
      const requests = rate(value.requests, earlier.requests);
      const replies = rate(value.replies, earlier.replies);
      series.traffic.push(requests + replies);
      series.latency.push(value.latency);
      total.requests += requests;
      total.replies += replies;
      total.packets += rate(value.packets, earlier.packets);
      total.opened += rate(value.opened, earlier.opened);
    }
    this.#drops.clear();
    let drops = 0;
    for (const [name, value] of now.drops) {
      const perSecond = rate(value, before.drops.get(name) ?? 0);
      this.#drops.set(name, perSecond);
      drops += name.startsWith("drop_") ? perSecond : 0;
    }
    for (const name of Object.keys(total)) this.total[name].push(total[name]);
    this.total.drops.push(drops);
  }

  of(key) {
    if (!this.#backends.has(key)) this.#backends.set(key, fresh());
    return this.#backends.get(key);
  }

  drop(name) {
    return this.#drops.get(name) ?? 0;
  }
}

const fresh = () => ({ traffic: new Series(), latency: new Series() });

function sums(status) {
  const backends = new Map();
  for (const service of status.services) {
    for (const backend of service.backends) {
      backends.set(keyOf(service.name, backend), {
        requests: backend.requests.bytes,
        replies: backend.replies.bytes,
        packets: backend.requests.packets + backend.replies.packets,
        opened: backend.opened,
        latency: backend.probe_us === undefined ? null : backend.probe_us / 1000,
      });
    }
  }
  return { at: Date.parse(status.time), pid: status.pid, backends, drops: new Map(refusals(status)) };
}

/** Counters of what was not forwarded, and not passed on either. */
export const refusals = (status) =>
  Object.entries(status.counters).filter(([name]) => name.startsWith("drop_") || name.startsWith("reset_"));
