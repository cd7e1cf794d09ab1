// @ts-check
// The tables of each kind of object, and the account.

import { spark } from './charts.js';
import { h } from './html.js';
import { missed, sum } from './live.js';
import { exact, inUnit, percent, perSecond, short, time } from './units.js';
import { linkShare, ruleTexts, toolPorts } from './verdict.js';

/**
 * @typedef {import('./live.js').Live} Live
 * @typedef {import('./html.js').Node} Node
 * @typedef {import('./html.js').Child} Child
 * @typedef {import('./units.js').Unit} Unit
 * @typedef {{head: string, isNumber?: boolean, more?: boolean}} Column more: a phone has it in the second line of a row
 * @typedef {{key: string, isHurt?: boolean, cells: Child[]}} Row
 */

/** A number that is quiet where it is zero. */
const number = (/** @type {string} */ text, isBad = false) => h('span', { class: text === '0' || text === '–' ? 'zero' : isBad ? 'bad' : null }, text);
const link = (/** @type {string} */ kind, /** @type {string} */ name, /** @type {Child} */ note = null) =>
  [h('a', { class: 'name', href: `#/${kind}/${encodeURIComponent(name)}` }, name), note && h('span', { class: 'note' }, ' ', note)];

/** What is dropped a second, with its reasons. */
function drops(/** @type {Live} */ live, /** @type {(stats: any) => Record<string, number> | undefined} */ of) {
  const reasons = Object.keys(of(live.stats) ?? {}).map(word => ({ word, rate: live.rate(s => of(s)?.[word]) ?? 0 })).filter(({ rate }) => rate > 0).sort((a, b) => b.rate - a.rate);
  const rate = reasons.reduce((all, reason) => all + reason.rate, 0);
  return { rate, node: rate ? h('span', { class: 'bad' }, h('b', null, short(rate)), ' ', reasons.map(({ word }) => word).join(', ')) : number('0') };
}

/**
 * @param {string} caption
 * @param {Child} note
 * @param {Column[]} columns
 * @param {Row[]} rows
 * @param {Child} [foot]
 * @returns {Node}
 */
function table(caption, note, columns, rows, foot = null) {
  const place = (/** @type {Column} */ column) => [column.isNumber && 'number', column.more && 'more'].filter(Boolean).join(' ') || null;
  const sorted = [...rows].sort((a, b) => Number(b.isHurt ?? false) - Number(a.isHurt ?? false));
  return h('section', { class: 'block', key: caption },
    h('h2', null, caption, ' ', h('span', { class: 'note' }, note)),
    rows.length > 0 && h('table', { 'aria-label': caption },
      h('thead', null, h('tr', null, columns.map(column => h('th', { scope: 'col', class: place(column) }, column.head)))),
      h('tbody', null, sorted.map(row => h('tr', { key: row.key, class: row.isHurt ? 'hurt' : null },
        row.cells.map((cell, index) => {
          const column = columns[index];
          return index === 0 ? h('th', { scope: 'row' }, cell) : h('td', { class: place(column), 'data-head': column.head }, cell);
        }))))),
    (Array.isArray(foot) ? foot.some(Boolean) : foot) && h('p', { class: 'note foot' }, foot));
}

/** Leaves the rows that lose and the busiest, where there are many; the others are well, and one line. */
function folded(/** @type {(Row & {rate?: number | null})[]} */ rows, /** @type {number} */ most) {
  if (rows.length <= most + 2) return { kept: rows, rest: 0 };
  const busiest = new Set(rows.filter(row => !row.isHurt).sort((a, b) => (b.rate ?? 0) - (a.rate ?? 0)).slice(0, most));
  const kept = rows.filter(row => row.isHurt || busiest.has(row));
  return { kept, rest: rows.length - kept.length };
}

/** @param {Live} live @param {Unit} unit @param {number} [most] */
export function ports(live, unit, most = Infinity) {
  const senders = toolPorts(live);
  const rows = Object.entries(live.stats.ports).map(([name, port]) => {
    const rate = (/** @type {(port: any) => number} */ count) => live.rate(s => s.ports[name] && count(s.ports[name]));
    const lost = (/** @type {(port: any) => number} */ count) => rate(count) ?? 0;
    const [miss, broken] = [lost(p => p.driver.missed + (p.replay ? 0 : p.driver.no_mbuf)), lost(p => p.driver.rx_errors)];
    const [into, out] = [rate(p => p.received), rate(p => p.driver.tx_packets)];
    const isOut = !into && out;
    const shown = isOut ? inUnit(unit, out, rate(p => p.driver.tx_bytes)) : inUnit(unit, into, rate(p => p.received_bytes));
    const sends = isOut && Object.entries(senders).find(([, port]) => port === name);
    const used = Math.max(linkShare(live, name, 'in') ?? 0, linkShare(live, name, 'out') ?? 0);
    const state = port.gone ? 'gone' : port.closed ? 'closed' : port.stopped ? 'stopped' : !port.link_up ? 'no link' : port.replay?.ended ? 'ended' : '';
    return {
      key: name,
      rate: into || out,
      isHurt: miss + broken > 0 || port.gone || Boolean(port.closed),
      cells: [link('ports', name, state ? h('span', { class: 'warn' }, state) : port.driver_name.replace(/^net_/, '')),
        [isOut ? h('span', { class: 'note' }, 'out ') : null, number(short(shown))],
        spark(live.past.get(sends ? `tools/${sends[0]}/sent` : `ports/${name}/received`) ?? [], live.past.get(`ports/${name}/lost`) ?? []),
        number(port.speed_mbps ? percent(used) : '–'), number(short(miss), true), number(short(broken), true)],
    };
  });
  const { kept, rest } = folded(rows, most);
  const up = Object.values(live.stats.ports).filter(port => port.link_up && !port.gone).length;
  return table('Ports', `${up} of ${rows.length} up`, [{ head: 'port' }, { head: perSecond(unit), isNumber: true }, { head: '15 min', more: true }, { head: 'link', isNumber: true, more: true },
    { head: 'missed/s', isNumber: true }, { head: 'broken/s', isNumber: true, more: true }], kept, rest > 0 && h('a', { href: '#/ports' }, `${rest} more ports lose nothing`));
}

/** @param {Live} live @param {Unit} unit @param {number} [most] */
export function tools(live, unit, most = Infinity) {
  const ports = toolPorts(live);
  const rows = Object.entries(live.stats.tools).map(([name, tool]) => {
    const rate = (/** @type {(tool: any) => number} */ count) => live.rate(s => s.tools[name] && count(s.tools[name]));
    const dropped = drops(live, s => s.tools[name]?.dropped);
    const latency = tool.latency_ns;
    return {
      key: name,
      rate: rate(t => t.requested),
      isHurt: dropped.rate > 0 || tool.state === 'down',
      cells: [link('tools', name, tool.state === 'up' ? ports[name] : h('span', { class: tool.state === 'down' ? 'bad' : 'warn' }, tool.state, tool.state === 'down' && tool.reason ? `: ${tool.reason}` : '')),
        number(short(rate(t => t.requested))), number(short(inUnit(unit, rate(t => t.sent), rate(t => t.sent_bytes)))),
        spark(live.past.get(`tools/${name}/sent`) ?? [], live.past.get(`tools/${name}/dropped`) ?? []),
        dropped.node, number(short(tool.queue_depth), dropped.rate > 0), number(time(latency.p50)), number(time(latency.p99)), number(time(latency.max))],
    };
  });
  const { kept, rest } = folded(rows, most);
  const well = rows.filter(row => !row.isHurt).length;
  const earlier = Object.entries(live.stats.tools).flatMap(([name, tool]) => Object.entries(tool.dropped).filter(([word, count]) => count && !live.rate(s => s.tools[name]?.dropped[word]))
    .map(([word, count]) => `${name} ${exact(/** @type {number} */ (count))} ${word}`));
  return table('Tools', well === rows.length ? `${well} well` : `${well} well, ${rows.length - well} not`,
    [{ head: 'tool' }, { head: 'asked/s', isNumber: true, more: true }, { head: unit === 'packets' ? 'sent/s' : `sent ${perSecond(unit)}`, isNumber: true }, { head: '15 min', more: true },
      { head: 'dropped/s' }, { head: 'queue', isNumber: true, more: true }, { head: 'p50', isNumber: true, more: true }, { head: 'p99', isNumber: true, more: true }, { head: 'max', isNumber: true, more: true }],
    kept, [rest > 0 && h('a', { href: '#/tools' }, `${rest} more tools are well. `), earlier.length > 0 && `Dropped earlier, since the start: ${earlier.slice(0, 6).join(', ')}${earlier.length > 6 ? `, and ${earlier.length - 6} more` : ''}`]);
}

/** A meter with a mark where it should be. */
function meter(/** @type {number | null} */ share, /** @type {number} */ should) {
  return h('svg', { class: 'meter', viewBox: '0 0 72 8', width: 72, height: 8, 'aria-hidden': 'true' },
    h('rect', { class: 'ground', width: 72, height: 8 }), h('rect', { class: 'fill', width: Math.min(72, (share ?? 0) * 72), height: 8 }),
    h('line', { class: 'mark', x1: should * 72, x2: should * 72, y1: 0, y2: 8 }));
}

/** @param {Live} live @param {string} name */
export function group(live, name) {
  const of = live.stats.groups[name];
  const all = sum(of.buckets);
  const asked = (/** @type {string} */ tool) => live.rate(s => s.tools[tool]?.requested);
  const total = Object.keys(of.buckets).reduce((sum, tool) => sum + (asked(tool) ?? 0), 0);
  const dropped = drops(live, s => s.groups[name]?.unassigned.dropped);
  const rows = Object.entries(of.buckets).map(([tool, buckets]) => {
    const should = all ? /** @type {number} */ (buckets) / all : 0;
    const share = total ? (asked(tool) ?? 0) / total : null;
    return { key: tool, isHurt: live.stats.tools[tool]?.state === 'down', cells: [link('tools', tool), meter(share, should), number(percent(share)), number(percent(should)), number(exact(/** @type {number} */ (buckets))), number(short(asked(tool)))] };
  });
  const note = [`${short(live.rate(s => s.groups[name]?.requested))} copies/s`, `about ${exact(of.flows)} flows`, `${exact(of.buckets_moved)} buckets moved`, of.buckets_pending && `${exact(of.buckets_pending)} wait`].filter(Boolean).join(', ');
  return table(`Group ${name}`, [note, dropped.rate ? [', without a member ', dropped.node] : null],
    [{ head: 'member' }, { head: 'mark = its buckets', more: true }, { head: 'is', isNumber: true }, { head: 'should', isNumber: true }, { head: 'buckets', isNumber: true, more: true }, { head: 'asked/s', isNumber: true }], rows);
}

/** @param {Live} live */
export function lcores(live) {
  const rows = Object.entries(live.stats.lcores).map(([name, lcore]) => {
    const share = lcore.busy;
    return { key: name, isHurt: lcore.is_stalled, cells: [h('span', { class: 'name' }, name), lcore.is_stalled ? h('span', { class: 'bad' }, 'stalled in ', lcore.stage) : lcore.stages.length === 3 ? 'all stages' : lcore.stages.join(', '),
      number(short(live.rate(s => s.lcores[name] && s.lcores[name].received + s.lcores[name].from_rings))), meter(share, 1), number(percent(share)), number(exact(lcore.panics), true)] };
  });
  return table('Lcores', 'share of the time in which there was something to do', [{ head: 'lcore' }, { head: 'does', more: true }, { head: 'packets/s', isNumber: true }, { head: 'share', more: true }, { head: 'busy', isNumber: true }, { head: 'panics', isNumber: true, more: true }], rows);
}

/** Rules by what they match, the most first. @param {Live} live @param {number} most */
export function rules(live, most) {
  const texts = ruleTexts(live);
  const isPart = Boolean(live.stats.rules_left_out);
  const now = isPart ? live.rules?.rules ?? {} : live.stats.rules;
  const seconds = live.rules && live.rulesBefore ? live.rules.uptime_s - live.rulesBefore.uptime_s : 0;
  const rate = (/** @type {string} */ rule, /** @type {string} */ counter) => {
    if (!isPart) return live.rate(s => s.rules[rule]?.[counter]);
    const before = live.rulesBefore?.rules?.[rule]?.[counter];
    return before === undefined || seconds <= 0 ? null : Math.max(0, now[rule][counter] - before) / seconds;
  };
  const find = live.find.trim().toLowerCase();
  const all = Object.keys(now).filter(rule => isPart || !find || rule.includes(find) || (texts[rule] ?? '').toLowerCase().includes(find))
    .sort((a, b) => (rate(b, 'matched') ?? now[b].matched) - (rate(a, 'matched') ?? now[a].matched) || Number(a) - Number(b));
  const rows = all.slice(0, most).map(rule => ({ key: rule, cells: [[link('rules', rule), h('code', { class: 'less' }, texts[rule] ?? '')], number(short(rate(rule, 'matched'))), number(short(rate(rule, 'duplicates'))), number(short(rate(rule, 'sampled_out'))), now[rule].on ? 'on' : h('span', { class: 'warn' }, 'off'),
    h('code', { class: 'does' }, texts[rule] ?? '')] }));
  const total = isPart ? live.rules?.total ?? live.stats.rules_left_out : Object.keys(live.stats.rules).length;
  const found = isPart ? live.rules?.found : all.length;
  return table('Rules', total > rows.length ? `the ${rows.length} busiest of ${exact(found ?? total)}${find ? ` with “${find}”` : ''}` : 'the busiest first',
    [{ head: 'rule' }, { head: 'matched/s', isNumber: true }, { head: 'duplicates/s', isNumber: true, more: true }, { head: 'sampled out/s', isNumber: true, more: true }, { head: 'state', more: true }, { head: 'does', more: true }], rows,
    total > rows.length && h('a', { href: '#/rules' }, 'Search all rules'));
}

/** @param {Live} live @param {Unit} unit */
export function wires(live, unit) {
  const rows = Object.entries(live.stats.wires).map(([name, wire]) => {
    const way = (/** @type {string} */ key) => inUnit(unit, live.rate(s => s.wires[name]?.[key].forwarded), live.rate(s => s.wires[name]?.[key].forwarded_bytes));
    const there = drops(live, s => s.wires[name]?.a_to_b.dropped);
    const back = drops(live, s => s.wires[name]?.b_to_a.dropped);
    return { key: name, isHurt: there.rate + back.rate > 0, cells: [h('span', { class: 'name' }, name), `${wire.a} – ${wire.b}`, number(short(way('a_to_b'))), number(short(way('b_to_a'))), there.node, back.node] };
  });
  return rows.length > 0 && table('Wires', 'originals that pass', [{ head: 'wire' }, { head: 'ports', more: true }, { head: 'a to b', isNumber: true }, { head: 'b to a', isNumber: true }, { head: 'dropped a to b' }, { head: 'dropped b to a' }], rows);
}

/** The two identities, exact to the packet. @param {Live} live */
export function account(live) {
  const { packets, copies, ports: all, balanced, in_flight_limit: limit } = live.stats;
  const part = (/** @type {number} */ count) => packets.received ? ` ${percent(count / packets.received)}` : '';
  const term = (/** @type {number} */ count, /** @type {string} */ word, /** @type {boolean} */ isBad = false) => h('div', { class: count ? isBad ? 'term bad' : 'term' : 'term zero' }, h('dt', null, word), h('dd', null, exact(count)));
  const sign = (/** @type {string} */ text) => h('span', { class: 'sign', 'aria-hidden': 'true' }, text);
  const isNow = (/** @type {string} */ word) => (live.rate(s => s.copies.dropped[word]) ?? 0) > 0;
  const lost = Object.values(all).reduce((total, port) => total + missed(port), 0);
  const lossNow = (live.rate(s => Object.values(s.ports).reduce((total, port) => total + missed(port), 0)) ?? 0) > 0;
  const dispositions = ['delivered', 'sampled_out', 'duplicate', 'excluded', 'unmatched', 'failed'];
  const dropped = Object.entries(copies.dropped).filter(([, count]) => count);
  const verdict = balanced ? h('span', { class: 'good' }, '✓ balanced') : h('span', { class: 'bad' }, '✗ not balanced');
  return h('section', { class: 'account', id: 'account', 'aria-label': 'The account' },
    h('h2', null, 'Packets'),
    h('dl', null, term(packets.received, 'received'), dispositions.map((word, index) => [sign(index ? '+' : '='), term(packets[word], word.replace('_', ' ') + (packets[word] ? part(packets[word]) : ''), word === 'failed')]),
      lost > 0 && h('div', { class: lossNow ? 'term beside bad' : 'term beside' }, h('dt', null, 'lost before Tapline, beside these'), h('dd', null, exact(lost)))),
    verdict,
    h('h2', null, 'Copies'),
    h('dl', null, term(copies.requested, 'requested'), sign('='), term(copies.sent, 'sent'), dropped.map(([word, count]) => [sign('+'), term(/** @type {number} */ (count), `dropped: ${word}${isNow(word) ? ', now' : ''}`, isNow(word))]), !dropped.length && [sign('+'), term(0, 'dropped')]),
    balanced ? h('span', { class: 'note' }, limit.packets + limit.copies ? `up to ${short(limit.copies)} on their way` : '') : verdict);
}

/** What happened, the latest first. @param {any[]} events @param {number} most @param {(seconds: number) => string} when */
export function events(events, most, when) {
  return h('section', { class: 'block', key: 'events' }, h('h2', null, 'Events ', h('span', { class: 'note' }, 'the latest first')),
    events.length ? h('ol', { class: 'events' }, events.slice(0, most).map(event => event.lost
      ? h('li', { class: 'level-warning' }, h('span', null, `${exact(event.lost)} events were not kept`))
      : h('li', { key: event.seq, class: `level-${event.level}` }, h('time', null, when(event.time)), h('span', { class: 'level' }, ['info', 'notice'].includes(event.level) ? '' : event.level), h('span', null, event.text))))
      : h('p', { class: 'note' }, 'Nothing happened yet.'));
}
