// @ts-check
// Whether anything is lost, where, why, and what to do about it. "Why" is what the numbers prove, never a guess.

import { missed, sum } from './live.js';
import { duration, exact, percent, short } from './units.js';

/**
 * @typedef {import('./live.js').Live} Live
 * @typedef {{kind: string, name: string, word: string, what: string, rate: number, total: number, share: number | null, since: number,
 *   because: string, why: string, command: string, does: string}} Loss
 */

/** What is lost is said so many seconds after the last of it. */
const HOLD_S = 10;
const FULL = 0.95;
/** Bytes of a frame on the wire that drivers do not count: preamble, start of frame, FCS, gap (IEEE 802.3, 3.1.1 and 4.4.2). */
const WIRE_BYTES = 24;
/** The parts that weights which are proposed are of. */
const WEIGHT_PARTS = 32;

/**
 * A number of the plan's text, made larger: of `key` in the line that begins with `start`; `other` where it is not said.
 * @param {Live} live @param {string} start @param {string} key @param {number} factor @param {string} other
 */
function larger(live, start, key, factor, other) {
  const line = (live.plan?.text ?? '').split('\n').find((/** @type {string} */ line) => line.startsWith(`${start} `) && line.includes(` ${key} `)) ?? '';
  const [, count, unit] = line.match(new RegExp(` ${key} (\\d+)([a-zA-Z]*)`)) ?? [];
  return count ? `${Number(count) * factor}${unit}` : other;
}

/** How many times more copies a tool is asked for than it sends, 2 at least. @param {Live} live @param {string} tool */
function more(live, tool) {
  const [asked, sent] = ['requested', 'sent'].map(word => live.rate(stats => stats.tools[tool]?.[word]) ?? 0);
  return sent > 0 ? Math.max(2, Math.ceil(asked / sent)) : 2;
}

/** The reasons for which copies are dropped, in words. @type {Record<string, [string, string, (tool: string, live: Live) => string, string]>} */
const REASONS = {
  down: ['The tool is down.', '', () => 'show tools', 'Says since when and why. Copies go on as soon as it is up.'],
  oversize: ['Copies are longer than the tool’s MTU.', '', tool => `tool modify ${tool} oversize slice`, 'Cuts them to the MTU; the bytes that they lose are counted.'],
  no_buffer: ['No mbuf was free to write the copies into.', 'Copies that are edited or encapsulated need one each.', (_, live) => `set mempool ${larger(live, 'set', 'mempool', 2, '131072')}`, 'In the pipeline file; it is settled at the start.'],
  rate_limited: ['More copies come than the tool’s rate allows.', 'The rate is set in the pipeline file.', (tool, live) => `tool modify ${tool} rate ${larger(live, `tool create ${tool}`, 'rate', more(live, tool), '1gbit')}`, 'Raises it. Or send the tool less: filter, sample, slice.'],
  undersize: ['Copies are too short for the tool’s port.', '', () => 'show tools', ''],
  unread: ['Copies have layers that cannot be read to anonymise them.', 'They are dropped rather than sent with addresses in them.', () => 'show rules', 'Says of which rules they are.'],
  internal: ['A stage panicked.', 'It is a fault of Tapline; the events tell more.', () => 'show stats', ''],
};

/** @param {Live} live @param {string} port @param {'in' | 'out'} way */
export function linkShare(live, port, way) {
  const speed = live.stats?.ports[port]?.speed_mbps;
  if (!speed) return null;
  const bytes = live.rate(stats => {
    const counts = stats.ports[port];
    if (!counts) return undefined;
    return way === 'in' ? counts.received_bytes + counts.received * WIRE_BYTES : counts.driver.tx_bytes + counts.driver.tx_packets * WIRE_BYTES;
  });
  return bytes === null ? null : bytes * 8 / (speed * 1e6);
}

/** The port that each tool sends by, from the plan's text. @param {Live} live @returns {Record<string, string>} */
export function toolPorts(live) {
  const ports = Object.create(null);
  for (const [, tool, port] of (live.plan?.text ?? '').matchAll(/^tool create (\S+) port (\S+)/gm)) ports[tool] = port;
  return ports;
}

/** What a rule does, in the words of the pipeline language. @param {Live} live @returns {Record<string, string>} */
export function ruleTexts(live) {
  const rules = Object.create(null);
  for (const [, priority, does] of (live.plan?.text ?? '').matchAll(/^rule create (\d+) (.*)$/gm)) rules[priority] = does;
  return rules;
}

/** All that is lost now, or was within the last seconds: the most first. @param {Live} live @returns {Loss[]} */
export function losses(live) {
  const { stats } = live;
  if (!stats || !live.before) return [];
  /** @type {Loss[]} */
  const found = [];
  const now = stats.time;
  const look = (/** @type {any} */ place, /** @type {(stats: any) => number | undefined} */ count, /** @type {(stats: any) => number | undefined} */ of) => {
    const total = count(stats) ?? 0;
    if (!total) return;
    const rate = live.rate(count) ?? 0;
    const key = `${place.kind} ${place.name} ${place.word}`;
    let span = live.losses.get(key);
    if (rate > 0) {
      if (!span || now - span.last >= HOLD_S) span = { since: began(live, place), last: now };
      span.last = now;
      live.losses.set(key, span);
    }
    if (!span || now - span.last >= HOLD_S) return;
    const asked = live.rate(of);
    const share = asked ? rate / asked : null;
    found.push({ ...place, rate, total, share, since: span.since, ...explain(live, place) });
  };
  for (const name of Object.keys(stats.ports)) {
    const of = (/** @type {any} */ s) => s.ports[name] && s.ports[name].received + missed(s.ports[name]);
    for (const word of ['missed', 'rx_errors', 'no_mbuf']) {
      // packets of a replay wait for mbufs, and are not lost
      if (word === 'no_mbuf' && stats.ports[name].replay) continue;
      look({ kind: 'port', name, word, what: 'packets' }, s => s.ports[name]?.driver[word], of);
    }
    look({ kind: 'port', name, word: 'congested', what: 'packets' }, s => s.ports[name]?.congested, of);
  }
  for (const [name, tool] of Object.entries(stats.tools)) {
    for (const word of Object.keys(tool.dropped)) look({ kind: 'tool', name, word, what: 'copies' }, s => s.tools[name]?.dropped[word], s => s.tools[name]?.requested);
  }
  for (const [name, group] of Object.entries(stats.groups)) {
    for (const word of Object.keys(group.unassigned.dropped)) look({ kind: 'group', name, word, what: 'copies' }, s => s.groups[name]?.unassigned.dropped[word], s => s.groups[name]?.requested);
  }
  for (const [name, wire] of Object.entries(stats.wires)) {
    for (const word of Object.keys(wire.a_to_b.dropped)) {
      look({ kind: 'wire', name, word, what: 'packets' }, s => s.wires[name] && s.wires[name].a_to_b.dropped[word] + s.wires[name].b_to_a.dropped[word],
        s => s.wires[name] && s.wires[name].a_to_b.received + s.wires[name].b_to_a.received);
    }
  }
  return found.sort((a, b) => b.rate - a.rate);
}

/** When a loss began that goes on now, as far back as the past is known. @param {Live} live @param {{kind: string, name: string}} place */
function began(live, { kind, name }) {
  const past = live.past.get(kind === 'port' ? `ports/${name}/lost` : `tools/${name}/dropped`) ?? [];
  let at = past.length - 1;
  while (at > 0 && past[at - 1]) at--;
  return Math.min(live.before.time, at >= 0 ? live.pastEnd - (past.length - at) : Infinity);
}

/** @param {Live} live @param {{kind: string, name: string, word: string}} place */
function explain(live, { kind, name, word }) {
  const says = (/** @type {string} */ because, /** @type {string} */ why, /** @type {string} */ command, /** @type {string} */ does) => ({ because, why, command, does });
  if (kind === 'group') return says('No member of the group is up.', '', 'show tools', 'Says why each is down.');
  if (kind === 'wire') return says('The port of the other side takes less than comes.', '', 'show wires', 'Says which direction it is.');
  if (kind === 'port') {
    if (word === 'rx_errors') return says('Frames are broken on the wire.', 'The NIC refused them.', 'show ports', 'Look at cable, optics and duplex of this port.');
    if (word === 'no_mbuf') return says('No mbuf was free.', 'Slow tools hold them, or there are too few.', `set mempool ${larger(live, 'set', 'mempool', 2, '131072')}`, 'In the pipeline file; it is settled at the start.');
    if (word === 'congested') return says('The lcores that work are slower than those that receive.', '', 'show lcores', 'More work lcores: `set lcores`, settled at the start.');
    return missedWhy(live, name);
  }
  if (word === 'congested') return congestedWhy(live, name);
  const [because, why, command, does] = REASONS[word] ?? [word, '', () => 'show stats', ''];
  const reason = word === 'down' && live.stats.tools[name]?.reason;
  return says(reason ? `The tool is down: ${reason}.` : because, why, command(name, live), does);
}

/** @param {Live} live @param {string} port */
function missedWhy(live, port) {
  const busy = Object.entries(live.stats.lcores).map(([lcore, { busy }]) => ({ lcore, share: busy })).sort((a, b) => b.share - a.share);
  const [first] = busy;
  if (first && first.share >= FULL) {
    return {
      because: `Missed by the NIC: lcore ${first.lcore} is ${percent(first.share)} busy.`,
      why: busy.length === 1 ? 'It alone polls all ports.' : 'It is the busiest.',
      command: `set workers ${busy.length + 1}`,
      does: 'One more than there are, in the pipeline file; it is settled at the start. Or rules that do less.',
    };
  }
  return {
    because: 'Missed by the NIC: a burst was longer than its ring.',
    why: first ? `No lcore is busy all the time: the busiest is ${percent(first.share)} busy.` : '',
    command: `port config ${port} rxd ${larger(live, `port attach ${port}`, 'rxd', 2, '4096')} interrupt`,
    does: 'Longer rings. The port stands still for a moment while it is set up again.',
  };
}

/** @param {Live} live @param {string} tool */
function congestedWhy(live, tool) {
  const asked = live.rate(stats => stats.tools[tool]?.requested) ?? 0;
  const sent = live.rate(stats => stats.tools[tool]?.sent) ?? 0;
  const port = toolPorts(live)[tool];
  const used = port ? linkShare(live, port, 'out') : null;
  const takes = `It takes ${short(sent)}/s and is asked for ${short(asked)}/s.`;
  let [because, why] = ['Congested: its queue is full.', takes];
  if (used !== null && used >= FULL) [because, why] = ['Congested: its link is full.', `${takes} ${percent(used)} of the link is used.`];
  else if (used !== null) [because, why] = ['Congested: the tool is too slow.', `${takes} Only ${percent(used)} of its link is used, so it is not the wire.`];
  for (const [name, group] of Object.entries(live.stats.groups)) {
    const weights = lighter(group.buckets, tool, asked ? sent / asked : 1);
    if (weights) {
      const share = weights[tool] / sum(weights);
      return { because, why, command: `group modify ${name} weights ${Object.values(weights).join(',')}`, does: `Gives ${tool} ${percent(share)} of the group, which it can take; the others get the rest.` };
    }
  }
  return { because, why, command: `tool modify ${tool} queue ${larger(live, `tool create ${tool}`, 'queue', 4, '16384')}`, does: 'Helps with short bursts alone. For good: send it less, or let several tools share it as a group.' };
}

/**
 * Weights by which a member gets of its present share what it takes, and the others the rest; null where it is no such group.
 * @param {Record<string, number>} buckets
 * @param {string} member
 * @param {number} takes
 * @returns {Record<string, number> | null}
 */
export function lighter(buckets, member, takes) {
  const all = sum(buckets);
  const own = buckets[member];
  if (!own || own === all || Object.keys(buckets).length < 2 || !Number.isFinite(takes)) return null;
  const [before, after] = [own / all, own / all * takes * 0.95];
  const weight = (/** @type {[string, number]} */ [name, count]) =>
    [name, Math.max(1, Math.round((name === member ? after : count / all * (1 - after) / (1 - before)) * WEIGHT_PARTS))];
  return Object.fromEntries(Object.entries(buckets).map(weight));
}

/**
 * What a colleague would say: a headline, a sentence below it, and how grave it is.
 * @param {Live} live
 * @param {Loss[]} lost
 * @returns {{mood: 'good' | 'warn' | 'bad' | 'none', head: string, says: string}}
 */
export function verdict(live, lost) {
  const { stats } = live;
  if (!stats) return { mood: 'none', head: 'Waiting for the first numbers', says: '' };
  const tools = Object.entries(stats.tools);
  if (!stats.balanced) {
    const packets = stats.packets;
    const ended = packets.delivered + packets.unmatched + packets.excluded + packets.sampled_out + packets.duplicate + packets.failed;
    const copies = stats.copies.requested - stats.copies.sent - sum(stats.copies.dropped);
    return { mood: 'bad', head: 'The account does not balance', says: `${exact(Math.abs(packets.received - ended))} packets and ${exact(Math.abs(copies))} copies are not accounted for. It is a fault of Tapline: please report it.` };
  }
  if (lost.length) {
    const places = (/** @type {string} */ what) => [...new Set(lost.filter(loss => loss.what === what).map(loss => loss.name))];
    const list = (/** @type {string[]} */ names) => names.length > 3 ? `${names.slice(0, 2).join(', ')} and ${names.length - 2} more` : names.join(' and ');
    const parts = ['copies', 'packets'].filter(what => places(what).length).map(what => `${what} at ${list(places(what))}`);
    const since = Math.min(...lost.map(loss => loss.since));
    const isOver = lost.every(loss => loss.rate === 0);
    const others = tools.filter(([name]) => !lost.some(loss => loss.kind === 'tool' && loss.name === name)).length;
    const rest = others === tools.length ? 'No tool loses copies.' : others ? `The other ${others} ${others === 1 ? 'tool loses' : 'tools lose'} nothing.` : 'All tools lose.';
    return { mood: 'bad', head: `${isOver ? 'Lost' : 'Losing'} ${parts.join(' and ')}`, says: `For ${duration(stats.time - since)}. ${rest}` };
  }
  /** @type {string[]} */
  const wrong = [];
  for (const [name, port] of Object.entries(stats.ports)) if (port.gone || port.closed) wrong.push(`port ${name} is gone`);
  for (const [name, tool] of tools) if (tool.state === 'down') wrong.push(`tool ${name} is down${tool.reason ? `: ${tool.reason}` : ''}`);
  for (const [name, lcore] of Object.entries(stats.lcores)) if (lcore.is_stalled) wrong.push(`lcore ${name} does not finish its turn`);
  if (wrong.length) return { mood: 'warn', head: capital(wrong[0]) + (wrong.length > 1 ? ` and ${wrong.length - 1} more` : ''), says: 'Nothing is lost now. ' + (wrong.length > 1 ? `${capital(wrong.slice(1).join(', '))}.` : '') };
  if (!stats.packets.received) {
    const dark = Object.entries(stats.ports).filter(([, port]) => !port.link_up).map(([name]) => name);
    return { mood: 'warn', head: 'No packet yet', says: `For ${duration(stats.uptime_s)}. ${dark.length ? `No link: ${dark.join(', ')}.` : 'All links are up: does anything send to these ports?'}` };
  }
  const last = Math.max(0, ...[...live.losses.values()].map(span => span.last));
  const seen = (live.past.get('totals/received') ?? []).filter(value => value !== null).length;
  const calm = last ? `Nothing lost since ${duration(stats.time - last)} ago` : `Nothing lost in the last ${duration(seen)}`;
  const rate = live.rate(s => s.packets.received);
  const out = live.rate(s => s.copies.sent);
  const up = tools.filter(([, tool]) => tool.state === 'up').length;
  const p99 = stats.latency_ns.p99;
  const rates = rate === null ? '' : ` ${short(rate)} packets/s in, ${short(out)} copies/s out to ${up} of ${tools.length} tools`;
  return { mood: 'good', head: 'All well', says: `${calm}, every packet and copy is accounted for.${rates}${p99 === null ? '' : `, p99 ${Math.round(p99 / 1e3) < 1000 ? `${Math.round(p99 / 1e3)} µs` : `${(p99 / 1e6).toFixed(1)} ms`}`}.` };
}

const capital = (/** @type {string} */ text) => text.charAt(0).toUpperCase() + text.slice(1);
