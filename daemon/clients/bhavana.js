/**
 * Sends experiences and feedback to Bhavana so that each is stored exactly once.
 *
 * One module without dependencies, for browsers, Workers and Node: copy it into a frontend.
 * `record` and `feedback` queue an item and return its id; what is queued is sent in lists, and
 * again until the daemon has answered for every item. Ids and moments that are left out are
 * filled in here, so sending again doubles nothing. It sets no globals.
 *
 * @typedef {{role: "system" | "user" | "assistant", content: string}} Message
 * @typedef {{
 *   id?: string, occurred_at?: string | Date, source: string, messages: Message[],
 *   response: string, conversation_id?: string, subject?: string, model?: string,
 *   context?: object, consent?: {training: boolean, policy?: string}, metadata?: object,
 * }} Experience
 * @typedef {{
 *   id?: string, given_at?: string | Date, experience_id?: string, conversation_id?: string,
 *   kind: "thumb" | "rating" | "comment" | "correction" | "preference" | "outcome",
 *   value?: number, text?: string, subject?: string,
 * }} Feedback
 * @typedef {{id: string, status: string, code?: string, detail?: string, pointer?: string}} Result
 */

const BATCH = 100;
const BATCH_BYTES = 900_000; // the daemon takes 1,000,000
const BEACON_BYTES = 60_000; // browsers carry 65,536 past the end of a page
const LINGER = 200; // ms that a first item waits for company
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 60_000;
const LONGEST_RETRY_AFTER = 600_000;
let lastTime = 0; // of the last id
const KEPT = ["recorded", "duplicate"];
/** Answers that may be the fault of a single item. Other 3xx and 4xx are wrong for all items. */
const ITEM_FAULTS = { 400: "invalid", 409: "conflict", 413: "invalid", 422: "invalid" };
const TEMPORARY = [408, 425, 429];
/** So begins the type of what the daemon itself says is wrong; a proxy's 400 drops no item. */
const PROBLEM = "urn:bhavana:problem:";

/** As many items wait as may; this one was not taken. */
export class QueueFull extends Error {}

/** The daemon refused the key or the address, and no spool would hold the item. */
export class Stopped extends Error {}

export class Client {
  #url;
  #key;
  #options;
  #lanes = [
    { path: "/v1/experiences", prefix: "exp", moment: "occurred_at", waiting: [], fault: null },
    { path: "/v1/feedback", prefix: "fb", moment: "given_at", waiting: [], fault: null },
  ];
  #turn = 0;
  #timer = 0;
  #sending = null; // the promise of the loop that sends
  #stop = () => {}; // ends the request or the pause that goes on
  #closed = false;

  /**
   * @param {string} url the daemon's address
   * @param {string} key in a browser a publishable key (`bhvp_…`) or a feedback token (`bhvt_…`):
   *   everybody can read it there
   * @param {object} [options]
   * @param {?Storage} [options.spool] `localStorage`, say: an item lies there until the daemon has
   *   answered for it, and the next client for the same address sends what is left. Where it is
   *   full, items wait in memory only.
   * @param {number} [options.capacity] how many items may wait; one more throws QueueFull
   * @param {number} [options.timeout] of a request, in ms
   * @param {(item: object, result: Result) => void} [options.onRejected] gets what the daemon will
   *   not keep, however often it is sent
   */
  constructor(url, key, options = {}) {
    if (!/^https?:/.test(url)) throw new TypeError("url needs to begin with http:// or https://.");
    this.#url = url.replace(/\/+$/, "");
    this.#key = key.trim();
    this.#options = { spool: null, capacity: 1000, timeout: 30_000, onRejected: warn, ...options };
    for (const lane of this.#lanes) lane.waiting = this.#leftOver(lane);
    if (this.unsent) this.#soon();
    globalThis.document?.addEventListener("visibilitychange", this.#leave);
    if (globalThis.document) addEventListener("pagehide", this.#leave);
  }

  /** How many items still wait for the daemon's answer. */
  get unsent() {
    return this.#lanes.reduce((sum, lane) => sum + lane.waiting.length, 0);
  }

  /** Why nothing, or nothing of one kind, is sent any more; null while all is well. */
  get stopped() {
    return this.#lanes.find((lane) => lane.fault)?.fault ?? null;
  }

  /** Takes an experience and returns its id. @param {Experience} experience @returns {string} */
  record(experience) {
    return this.#put(this.#lanes[0], experience);
  }

  /** Takes feedback and returns its id. @param {Feedback} feedback @returns {string} */
  feedback(feedback) {
    return this.#put(this.#lanes[1], feedback);
  }

  /** Waits, in ms, for answers; whether there is one for every item. False when stopped. */
  async flush(timeout = 30_000) {
    let timer;
    const late = new Promise((resolve) => (timer = setTimeout(resolve, timeout, true)));
    while (this.#ready() && !(await Promise.race([late, this.#send()])));
    clearTimeout(timer);
    return this.unsent === 0;
  }

  /** Sends what it can in this time and ends; whether every item was answered for. */
  async close(timeout = 5_000) {
    await this.flush(timeout);
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#stop();
    globalThis.document?.removeEventListener("visibilitychange", this.#leave);
    if (globalThis.document) removeEventListener("pagehide", this.#leave);
    return this.unsent === 0;
  }

  #put(lane, item) {
    const { spool, capacity } = this.#options;
    if (this.#closed) throw new Error("This client is closed.");
    if (lane.fault && !spool) throw new Stopped(lane.fault);
    if (this.unsent >= capacity) throw new QueueFull(`${capacity} items wait to be sent.`);
    const id = item.id ?? newId(lane.prefix);
    if (typeof id !== "string") throw new TypeError("An id is a string.");
    const filled = { ...item, id, [lane.moment]: item[lane.moment] ?? new Date() };
    const found = entry(id, JSON.stringify(filled));
    try {
      spool?.setItem(this.#place(lane, found), found.body);
    } catch {
      console.warn("bhavana: the spool is full; items wait in memory only");
    }
    lane.waiting.push(found);
    this.#soon();
    return id;
  }

  #place(lane, { id }) {
    return `bhavana ${this.#url}${lane.path} ${id}`;
  }

  #leftOver(lane) {
    const { spool } = this.#options;
    const start = this.#place(lane, { id: "" });
    const places = Array.from({ length: spool?.length ?? 0 }, (_, i) => spool.key(i));
    const ours = places.filter((place) => place.startsWith(start)).sort();
    const entries = ours.map((place) => entry(place.slice(start.length), spool.getItem(place)));
    return entries.filter(({ body }) => body); // another page may have just removed it
  }

  #soon() {
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      this.#send();
    }, LINGER);
  }

  #ready() {
    const lanes = this.#lanes.filter((lane) => lane.waiting.length && !lane.fault);
    return this.#closed ? undefined : lanes[this.#turn % lanes.length];
  }

  #send() {
    this.#sending ??= this.#sendAll().finally(() => (this.#sending = null));
    return this.#sending;
  }

  async #sendAll() {
    for (let lane; (lane = this.#ready()); this.#turn++) {
      await this.#deliver(lane, head(lane.waiting, BATCH_BYTES));
    }
  }

  /** Sends until every item is answered for, the lane stops or the client is closed. */
  async #deliver(lane, batch) {
    for (let attempt = 0; !this.#closed && !lane.fault; attempt++) {
      const { status, document, retryAfter } = await this.#post(lane, batch);
      const results = resultsOf(status, document, batch);
      if (results) return this.#settle(lane, batch, results);
      const mayBeAnItems = status in ITEM_FAULTS;
      if (!mayBeAnItems || batch.length === 1) {
        if (status >= 300 && status < 500 && !TEMPORARY.includes(status) && !mayBeAnItems) {
          lane.fault = `${lane.path} answered ${status} ${document.code ?? ""}`;
          console.error(`bhavana: ${lane.fault}: sending stopped; ${lane.waiting.length} unsent`);
          return;
        }
        if (!this.#closed) await this.#pause(attempt, retryAfter);
      }
      if (batch.length > 1 && (mayBeAnItems || (status === 429 && attempt))) {
        // The fault is somewhere in this list, or so many will never be let in at once.
        const middle = batch.length >> 1;
        await this.#deliver(lane, batch.slice(0, middle));
        return this.#deliver(lane, batch.slice(middle));
      }
    }
  }

  #asking(batch) {
    const headers = { Authorization: `Bearer ${this.#key}`, "Content-Type": "application/json" };
    const body = `[${batch.map((entry) => entry.body).join()}]`;
    return { method: "POST", headers, body, redirect: "manual" };
  }

  async #post(lane, batch) {
    const request = new AbortController();
    this.#stop = () => request.abort();
    const timer = setTimeout(() => request.abort(), this.#options.timeout);
    try {
      const signal = request.signal;
      const answer = await fetch(this.#url + lane.path, { ...this.#asking(batch), signal });
      const told = answer.headers.get("Retry-After") ?? "";
      const retryAfter = /^\d+$/.test(told) ? Math.min(told * 1000, LONGEST_RETRY_AFTER) : 0;
      const document = (await answer.json().catch(() => null)) ?? {};
      const status = answer.type === "opaqueredirect" ? 302 : answer.status;
      return { status, document, retryAfter };
    } catch {
      return { status: 0, document: {}, retryAfter: 0 }; // no answer
    } finally {
      clearTimeout(timer);
    }
  }

  /** Backs off with full jitter, so that many pages do not come back at once. */
  async #pause(attempt, least) {
    const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** attempt);
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, least + Math.random() * longest);
      this.#stop = () => resolve(clearTimeout(timer));
    });
  }

  #settle(lane, batch, results) {
    batch.forEach((entry, i) => {
      if (!KEPT.includes(results[i].status)) {
        try {
          this.#options.onRejected(JSON.parse(entry.body), results[i]);
        } catch (error) {
          console.error(`bhavana: onRejected threw ${error?.name} for ${entry.id}`);
        }
      }
      this.#options.spool?.removeItem(this.#place(lane, entry));
    });
    lane.waiting.splice(0, batch.length);
  }

  /**
   * The page may end here. What is handed over gets no answer, so it stays in the queue and in
   * the spool: should it be sent again, its id makes it a duplicate.
   */
  #leave = (event) => {
    if (event.type === "visibilitychange" && document.visibilityState !== "hidden") return;
    for (const lane of this.#lanes) {
      const fresh = lane.fault ? [] : lane.waiting.filter((entry) => !entry.beaconed);
      const batch = head(fresh, BEACON_BYTES);
      if (batch.length) this.#handOver(lane, batch);
    }
  };

  #handOver(lane, batch) {
    for (const entry of batch) entry.beaconed = true;
    const asked = this.#asking(batch);
    const address = this.#url + lane.path;
    const keyed = `${address}?key=${encodeURIComponent(this.#key)}`;
    const mayStandInUrl = /^bhv[pt]_/.test(this.#key);
    if (mayStandInUrl && navigator.sendBeacon?.(keyed, asked.body)) return; // as text/plain
    fetch(address, { ...asked, keepalive: true }).catch(() => {});
  }
}

function entry(id, body) {
  return { id, body, size: new TextEncoder().encode(body ?? "").length + 1, beaconed: false };
}

/** The oldest items, as many as fit into one request. */
function head(waiting, bytes) {
  let size = 2;
  const fitting = waiting.slice(0, BATCH).findIndex((each) => (size += each.size) > bytes);
  return waiting.slice(0, fitting < 0 ? BATCH : Math.max(fitting, 1));
}

/** What became of each item, or null where the answer does not say so. */
function resultsOf(status, document, batch) {
  if ((status < 200 || status >= 300) && !(status in ITEM_FAULTS)) return null;
  const { results } = document;
  // A proxy's 200 must not count as kept.
  const fits = (result, i) =>
    typeof result?.status === "string" &&
    (!KEPT.includes(result.status) || result.id === batch[i].id);
  if (results?.length === batch.length && Array.from(results).every(fits)) return results;
  const ours = String(document.type).startsWith(PROBLEM);
  if (!(status in ITEM_FAULTS) || batch.length > 1 || !ours) return null;
  return [{ ...document, id: batch[0].id, status: ITEM_FAULTS[status] }];
}

/** A fresh id such as `exp-0198c2…`: in order of time, unique without coordination (UUIDv7). */
function newId(prefix) {
  // Not randomUUID: it is missing where the page came by plain http.
  const random = crypto.getRandomValues(new Uint8Array(10));
  const hex = Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
  lastTime = Math.max(Date.now(), lastTime + 1); // the spool's order within a millisecond
  return `${prefix}-${lastTime.toString(16).padStart(12, "0")}7${hex.slice(1)}`;
}

function warn(item, result) {
  console.warn(`bhavana: ${item.id} was not kept: ${result.code ?? result.status}`);
}
