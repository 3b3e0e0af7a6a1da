// Who may change something: the token, what it is asked for, and what is done with it. It is kept for this tab alone.

import { find, say, show } from "./dom.js";
import { plural } from "./format.js";

const KEPT = "fairlead-token";

export class Access {
  /** Whether the controller has a token, or lets everybody. */
  #kind = "never";
  #token = sessionStorage.getItem(KEPT);
  #changed;
  #proposed = null;

  /** `changed` is called when buttons come or go. */
  constructor(changed) {
    this.#changed = changed;
    for (const dialog of document.querySelectorAll("dialog")) {
      dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    }
    find("#unlock").addEventListener("click", () => (this.#token ? this.#forget() : this.#ask()));
    find("#ask-token form").addEventListener("submit", (event) => this.#unlock(event));
    find("#confirm form").addEventListener("submit", (event) => this.#carryOut(event));
    find("#ask-token").addEventListener("close", () => (find("#token").value = ""));
  }

  get isOpen() {
    return this.#kind === "token" && this.#token !== null;
  }

  /** What the controller says of itself: `token` or `never`. */
  set kind(kind) {
    this.#kind = kind;
    this.#show();
  }

  /** What there is to be done about a backend. */
  actionOf(backend) {
    return backend.admin === "enabled" ? { action: "Drain", admin: "draining" } : { action: "Enable", admin: "enabled" };
  }

  /** Asks before it does something. */
  propose(service, backend) {
    const { action, admin } = this.actionOf(backend);
    const name = `${service.name}/${backend.name}`;
    this.#proposed = { service: service.name, backend: backend.name, admin };
    say(find("#confirm-title"), `${action} ${name}?`);
    const others = service.backends.filter((it) => it !== backend && it.state === "up").length;
    const last = others === 0 ? " No other backend of the service is up." : "";
    const kept = plural(backend.connections, "connection");
    say(
      find("#confirm-text"),
      admin === "draining"
        ? `New connections go elsewhere; the ${kept} it has may end by themselves. It lasts until it is enabled again, over restarts.${last}`
        : "It gets new connections again as soon as its probes allow.",
    );
    say(find("#confirm-do"), action);
    say(find("#confirm-error"), "");
    find("#confirm").showModal();
  }

  async #carryOut(event) {
    event.preventDefault();
    const { service, backend, admin } = this.#proposed;
    const path = `/v1/services/${encodeURIComponent(service)}/backends/${encodeURIComponent(backend)}`;
    const error = await this.#request(path, { method: "POST", body: JSON.stringify({ admin }) }, this.#token);
    if (error === null) find("#confirm").close();
    else say(find("#confirm-error"), error);
  }

  #ask() {
    say(find("#token-error"), "");
    find("#ask-token").showModal();
  }

  async #unlock(event) {
    event.preventDefault();
    const token = find("#token").value.trim();
    const error = await this.#request("/v1/access", {}, token);
    if (error !== null) return say(find("#token-error"), error);
    this.#token = token;
    sessionStorage.setItem(KEPT, token);
    find("#ask-token").close();
    this.#show();
  }

  #forget() {
    this.#token = null;
    sessionStorage.removeItem(KEPT);
    this.#show();
  }

  /** Null, or what went wrong. */
  async #request(path, options, token) {
    try {
      const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
      const answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
      if (answer.ok) return null;
      if (answer.status === 401) {
        this.#forget();
        return "This is not the token.";
      }
      return (await answer.json()).error ?? `The controller answers ${answer.status}.`;
    } catch {
      return "The controller does not answer.";
    }
  }

  #show() {
    const button = find("#unlock");
    show(button, this.#kind === "token");
    say(button, this.#token ? "Lock changes" : "Unlock changes");
    this.#changed();
  }
}
