// @ts-check
// What is known of the broker: its snapshots by server-sent events, its history, its plan. Memory is fixed: 15 minutes by second.

/**
 * @typedef {any} Stats tapline.stats/1
 * @typedef {{from: number, step: number, values: Record<string, (number | null)[]>}} Past
 * @typedef {'loading' | 'live' | 'lost' | 'ended' | 'refused'} Connection
 */

/** How many seconds are kept. */
const KEPT = 900;
/** Without numbers for so long, the connection counts as lost. */
const SILENCE_MS = 4000;
/** How many events are kept. */
const MOST_EVENTS = 200;

export class Live extends EventTarget {
  constructor() {
    super();
    /** @type {Connection} */
    this.connection = 'loading';
    this.reason = '';
    /** @type {any} */
    this.hello = null;
    /** @type {Stats | null} */
    this.stats = null;
    /** @type {Stats | null} */
    this.before = null;
    /** @type {any} */
    this.plan = null;
    /** @type {any} */
    this.graph = null;
    /** @type {any} */
    this.me = null;
    /** @type {any} */
    this.receipt = null;
    /** @type {any[]} */
    this.events = [];
    /** The rules that are shown where there are too many to be in each snapshot. @type {any} */
    this.rules = null;
    this.rulesBefore = null;
    this.find = '';
    /** Rates of the past, a list a counter: `ports/span0/received`. @type {Map<string, (number | null)[]>} */
    this.past = new Map();
    /** The time of the last value of each list. */
    this.pastEnd = 0;
    /** The same by minute, of the last 24 hours, where it was asked for. @type {{lists: Map<string, (number | null)[]>, end: number, read: number} | null} */
    this.day = null;
    /** When each loss began and when its last was, by its key. @type {Map<string, {since: number, last: number}>} */
    this.losses = new Map();
    this.heard = 0;
    /** @type {EventSource | null} */
    this.source = null;
  }

  start() {
    this.open();
    setInterval(() => this.look(), 1000);
  }

  changed() {
    this.dispatchEvent(new Event('change'));
  }

  open() {
    this.source?.close();
    const source = new EventSource('/api/v1/stream');
    this.source = source;
    source.addEventListener('hello', event => this.begin(JSON.parse(event.data)));
    source.addEventListener('stats', event => this.take(JSON.parse(event.data)));
    source.addEventListener('event', event => this.note(JSON.parse(event.data)));
    source.addEventListener('plan', event => this.planned(JSON.parse(event.data)));
    source.addEventListener('end', () => this.lose('ended', 'the broker has ended'));
    source.onerror = () => this.lose('lost', 'the broker does not answer');
  }

  /** Looks whether numbers still come, and reaches for the broker again where the browser has given up. */
  look() {
    if (this.connection === 'live' && performance.now() - this.heard > SILENCE_MS) this.lose('lost', 'no numbers come');
    if (this.source?.readyState === EventSource.CLOSED) {
      this.ask('/api/v1/me').then(me => {
        this.me = me;
        this.open();
      }, error => {
        if (error.status === 401) this.lose('refused', error.message);
      });
    }
    if (this.connection === 'live' && this.stats?.rules_left_out) this.readRules();
    if (this.connection !== 'live') this.changed();
  }

  /** @param {Connection} connection @param {string} reason */
  lose(connection, reason) {
    // an end that was told is not a connection that was lost
    if (this.connection === 'ended' && connection === 'lost') return;
    if (this.connection === 'loading' && connection === 'lost' && !this.hello) this.reason = reason;
    this.connection = connection;
    this.reason = reason;
    this.changed();
  }

  /** @param {any} hello */
  async begin(hello) {
    if (this.hello && this.hello.boot !== hello.boot) {
      // another start of the broker: its counters have nothing to do with those before
      this.stats = this.before = this.graph = this.rules = this.rulesBefore = this.day = null;
      this.past.clear();
      this.losses.clear();
    }
    this.hello = hello;
    this.heard = performance.now();
    const quietly = /** @param {string} path */ path => this.ask(path).catch(() => null);
    const [me, history, events, receipt] = await Promise.all(
      ['/api/v1/me', '/api/v1/history?span=15m', '/api/v1/events', '/api/v1/reload'].map(quietly));
    this.me = me;
    this.receipt = receipt;
    if (history) this.remember(history);
    if (events?.events) this.events = events.events.slice(-MOST_EVENTS).reverse();
    this.changed();
  }

  /** @param {any} history tapline.history/1 */
  remember(history) {
    this.past = listsOf(history, KEPT);
    this.pastEnd = history.from + (history.count - 1) * history.step;
    // losses that go on began where the past says so
    this.losses.clear();
  }

  /** Reads the last 24 hours, once a minute. */
  async readDay() {
    const now = performance.now();
    if (this.day && now - this.day.read < 60000) return;
    this.day = { lists: this.day?.lists ?? new Map(), end: this.day?.end ?? 0, read: now };
    const history = await this.ask('/api/v1/history?span=24h').catch(() => null);
    if (!history) return;
    this.day = { lists: listsOf(history, 1440), end: history.from + (history.count - 1) * history.step, read: now };
    this.changed();
  }

  /** @param {Stats} stats */
  take(stats) {
    this.heard = performance.now();
    this.connection = 'live';
    if (this.stats && stats.uptime_s <= this.stats.uptime_s) {
      // the same numbers once more, after a change
      this.stats = stats;
    } else {
      this.before = this.stats;
      this.stats = stats;
      if (this.before) this.append();
    }
    this.changed();
  }

  /** Adds the rates of the last interval to the past. */
  append() {
    const { stats, before } = this;
    const steps = Math.max(1, Math.min(KEPT, Math.round(stats.time - (this.pastEnd || before.time))));
    const seen = new Set();
    const add = (/** @type {string} */ key, /** @type {number | null} */ value) => {
      seen.add(key);
      const list = this.past.get(key) ?? [];
      // seconds in which nothing came are gaps
      for (let gap = 1; gap < steps; gap++) list.push(null);
      list.push(value);
      if (list.length > KEPT) list.splice(0, list.length - KEPT);
      this.past.set(key, list);
    };
    const rate = (/** @type {(stats: Stats) => number | undefined} */ count) => this.rate(count);
    add('totals/received', rate(s => s.packets.received));
    add('totals/sent', rate(s => s.copies.sent));
    for (const name of Object.keys(stats.ports)) {
      add(`ports/${name}/received`, rate(s => s.ports[name]?.received));
      add(`ports/${name}/received_bytes`, rate(s => s.ports[name]?.received_bytes));
      add(`ports/${name}/lost`, rate(s => s.ports[name] && missed(s.ports[name])));
    }
    for (const [name, tool] of Object.entries(stats.tools)) {
      add(`tools/${name}/requested`, rate(s => s.tools[name]?.requested));
      add(`tools/${name}/sent`, rate(s => s.tools[name]?.sent));
      add(`tools/${name}/sent_bytes`, rate(s => s.tools[name]?.sent_bytes));
      add(`tools/${name}/dropped`, rate(s => s.tools[name] && sum(s.tools[name].dropped)));
      add(`tools/${name}/queue_depth`, tool.queue_depth);
      add(`tools/${name}/latency_p99_ns`, tool.latency_ns.p99);
    }
    for (const name of Object.keys(stats.groups)) add(`groups/${name}/requested`, rate(s => s.groups[name]?.requested));
    // objects that are gone are forgotten
    for (const key of this.past.keys()) {
      if (/^(ports|tools|groups)\//.test(key) && !seen.has(key) && !(key.split('/')[1] in stats[key.split('/')[0]])) this.past.delete(key);
    }
    this.pastEnd = stats.time;
  }

  /**
   * What was counted a second between the last two snapshots; null without two. What went back was cleared, and counts from zero.
   * @param {(stats: Stats) => number | undefined} count
   * @returns {number | null}
   */
  rate(count) {
    if (!this.stats || !this.before) return null;
    const now = count(this.stats);
    if (now === undefined) return null;
    const before = count(this.before) ?? 0;
    return (now >= before ? now - before : now) / (this.stats.uptime_s - this.before.uptime_s);
  }

  /** @param {any} event */
  note(event) {
    this.events = [event, ...this.events].slice(0, MOST_EVENTS);
    this.changed();
  }

  /** @param {any} plan */
  async planned(plan) {
    this.plan = { ...this.plan, ...plan };
    this.changed();
    const quietly = /** @param {string} path */ path => this.ask(path).catch(() => null);
    const [whole, graph, receipt] = await Promise.all(['/api/v1/plan', '/api/v1/graph?rules=60', '/api/v1/reload'].map(quietly));
    if (whole) this.plan = whole;
    if (graph) this.graph = graph;
    this.receipt = receipt;
    this.changed();
  }

  async readRules() {
    const found = await this.ask(`/api/v1/rules?sort=matched&limit=50&find=${encodeURIComponent(this.find)}`).catch(() => null);
    if (!found) return;
    if (!this.rules || found.time > this.rules.time) this.rulesBefore = this.rules;
    this.rules = found;
    this.changed();
  }

  /** @param {string} path */
  async ask(path) {
    return answered(await fetch(path, { headers: { accept: 'application/json' } }));
  }

  /** @param {string} path @param {any} body */
  async change(path, body) {
    const response = await fetch(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
    return answered(response);
  }
}

/** The lists of a history, by `ports/NAME/COUNTER`. @param {any} history @param {number} most */
function listsOf(history, most) {
  const lists = /** @type {Map<string, (number | null)[]>} */ (new Map());
  const add = (/** @type {string} */ prefix, /** @type {Record<string, any>} */ counters) => {
    for (const [name, values] of Object.entries(counters)) lists.set(`${prefix}${name}`, values.slice(-most));
  };
  add('totals/', history.totals);
  for (const kind of ['ports', 'tools', 'groups']) {
    for (const [name, counters] of Object.entries(history[kind] ?? {})) add(`${kind}/${name}/`, counters);
  }
  return lists;
}

/** @param {Response} response */
async function answered(response) {
  const text = await response.text();
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // an answer that is no JSON has its status alone
  }
  if (response.ok) return body;
  const said = body?.error;
  throw Object.assign(new Error(said?.text?.trim() || said?.message || `${response.status} ${response.statusText}`), { status: response.status });
}

/** What a port lost before Tapline had it. @param {any} port */
export const missed = port => port.driver.missed + port.driver.rx_errors + (port.replay ? 0 : port.driver.no_mbuf);

/** @param {Record<string, number>} counts */
export const sum = counts => Object.values(counts).reduce((total, count) => total + count, 0);
