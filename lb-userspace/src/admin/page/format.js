// How numbers and times are written.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export const count = (value) => whole.format(value);

/** Three digits and a unit: 12.3 k. */
export function short(value, unit = "") {
  const steps = ["", "k", "M", "G", "T"];
  let index = 0;
  let rest = Math.abs(value);
  while (rest >= 999.5 && index < steps.length - 1) {
    rest /= 1000;
    index += 1;
  }
  const digits = index === 0 ? (rest < 9.95 && rest % 1 ? 1 : 0) : rest < 9.995 ? 2 : rest < 99.95 ? 1 : 0;
  const suffix = steps[index] + unit;
  return rest.toFixed(digits) + (suffix ? ` ${suffix}` : "");
}

export const bits = (bytesPerSecond) => short(bytesPerSecond * 8, "bit/s");

export const percent = (part) => (part > 0 && part < 0.01 ? "<1 %" : `${Math.round(part * 100)} %`);

/** Milliseconds, as precise as they are small. */
export function milliseconds(value) {
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** How long ago, in its two largest units; `now` in milliseconds. */
export function age(since, now) {
  const seconds = Math.max(0, Math.floor((now - Date.parse(since)) / 1000));
  if (Number.isNaN(seconds)) return "?";
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${seconds % 60}s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}h ${Math.floor((seconds % 3600) / 60)}m`;
  return `${Math.floor(seconds / 86400)}d ${Math.floor((seconds % 86400) / 3600)}h`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short" });

/** Time of day here, with the day if it is another than that of `now`. */
export function time(rfc3339, now) {
  const at = new Date(rfc3339);
  if (Number.isNaN(at.getTime())) return "";
  const isToday = at.toDateString() === new Date(now).toDateString();
  return isToday ? clock.format(at) : `${day.format(at)} ${clock.format(at)}`;
}

/** Address and port as they are written together. */
export const endpoint = (address, port) => (address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`);

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
