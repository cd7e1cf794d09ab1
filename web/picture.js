// @ts-check
// The pipeline as ribbons: ports, rules, groups, tools. A ribbon is as wide as its rate; what is not counted by way is a thin line.

import { h } from './html.js';
import { missed, sum } from './live.js';
import { percent, short } from './units.js';
import { linkShare, ruleTexts, toolPorts } from './verdict.js';

/**
 * @typedef {import('./live.js').Live} Live
 * @typedef {import('./html.js').Node} Node
 * @typedef {{id: string, kind: string, name: string, href: string, says: string, rate: number, lost: number, words: string, isOff: boolean,
 *   x: number, y: number, w: number, h: number, in: Edge[], out: Edge[]}} Box
 * @typedef {{from: Box, to: Box, rate: number | null}} Edge
 */

/** The height for boxes, and the room between two of them. */
const HEIGHT = 340;
const GAP = 10;
const LEAST = 40;
/** Of boxes with one line. */
const LOW = 30;
/** More boxes than these in a column are folded: those in which nothing happens become one. */
const MOST = 12;

/** @param {Live} live @returns {{columns: {name: string, note: string, boxes: Box[]}[], edges: Edge[]}} */
function read(live) {
  const { stats, graph } = live;
  const texts = ruleTexts(live);
  const sends = toolPorts(live);
  /** @type {Map<string, Box>} */
  const boxes = new Map();
  const box = (/** @type {Partial<Box> & {id: string}} */ given) => {
    boxes.set(given.id, { kind: '', name: '', href: '', says: '', rate: 0, lost: 0, words: '', isOff: false, x: 0, y: 0, w: 0, h: 0, in: [], out: [], ...given });
  };
  for (const node of graph.nodes) {
    const { id, kind, name } = node;
    const isOff = node.off;
    if (kind === 'port' && stats.ports[name]) {
      const port = stats.ports[name];
      const lost = live.rate(s => s.ports[name] && missed(s.ports[name])) ?? 0;
      const used = linkShare(live, name, 'in');
      const speed = port.speed_mbps >= 1000 ? `${port.speed_mbps / 1000}G` : `${port.speed_mbps}M`;
      const says = port.gone ? 'gone' : !port.link_up ? 'no link' : used === null ? port.driver_name : `${percent(used)} of ${speed}`;
      box({ id, kind, name, isOff, says, lost, words: 'missed', href: `#/ports/${encodeURIComponent(name)}`, rate: live.rate(s => s.ports[name]?.received) ?? 0 });
    } else if (kind === 'rule') {
      const rate = node.rules.map((/** @type {number} */ rule) => live.rate(s => s.rules?.[rule]?.matched) ?? 0).reduce((/** @type {number} */ a, /** @type {number} */ b) => a + b, 0);
      const isOne = node.rules.length === 1;
      const says = isOne ? (texts[name] ?? '').replace(/^from \S+ /, '').replace(/^match /, '').split(/ to (?=\S+( |$))/)[0].replaceAll('"', '') : 'rules with the same targets';
      box({ id, kind, name, isOff, says, rate, href: isOne ? `#/rules/${name}` : '#/rules' });
    } else if (kind === 'group' && stats.groups[name]) {
      const members = Object.keys(stats.groups[name].buckets);
      const up = members.filter(member => stats.tools[member]?.state === 'up').length;
      const lost = live.rate(s => s.groups[name] && sum(s.groups[name].unassigned.dropped)) ?? 0;
      box({ id, kind, name, isOff, says: `${up} of ${members.length} up`, lost, words: 'no member', href: `#/groups/${encodeURIComponent(name)}`, rate: live.rate(s => s.groups[name]?.requested) ?? 0 });
    } else if (kind === 'tool' && stats.tools[name]) {
      const tool = stats.tools[name];
      const words = Object.keys(tool.dropped).filter(word => (live.rate(s => s.tools[name]?.dropped[word]) ?? 0) > 0);
      const lost = live.rate(s => s.tools[name] && sum(s.tools[name].dropped)) ?? 0;
      const used = sends[name] ? linkShare(live, sends[name], 'out') : null;
      const says = tool.state !== 'up' ? tool.state : used === null ? (node.says[0] ?? '') : `${percent(used)} of its link`;
      box({ id, kind, name, isOff, says, lost, words: words.join(', '), href: `#/tools/${encodeURIComponent(name)}`, rate: live.rate(s => s.tools[name]?.requested) ?? 0 });
    } else if (kind === 'wire') {
      const [wire, way] = name.split(' ');
      const of = (/** @type {any} */ s) => s.wires[wire]?.[way.replaceAll('-', '_')];
      const lost = live.rate(s => of(s) && sum(of(s).dropped)) ?? 0;
      box({ id, kind, name, isOff, says: 'wire', lost, words: 'dropped', href: '#/ports', rate: live.rate(s => of(s)?.received) ?? 0 });
    } else {
      // edits and ends of tunnels lead on
      box({ id, kind: 'through', name });
    }
  }
  /** @type {Set<string>} */
  const ways = new Set();
  const next = (/** @type {string} */ id) => graph.edges.filter((/** @type {any} */ edge) => edge.from === id).map((/** @type {any} */ edge) => edge.to);
  const ends = (/** @type {string} */ id, depth = 0) => boxes.get(id)?.kind !== 'through' ? [id] : depth > 6 ? [] : next(id).flatMap((/** @type {string} */ to) => ends(to, depth + 1));
  for (const edge of graph.edges) {
    if (boxes.get(edge.from)?.kind === 'through') continue;
    for (const to of ends(edge.to)) ways.add(`${edge.from}\n${to}`);
  }
  // what receives nothing is no source of a ribbon
  const hasTraffic = [...boxes.values()].some(found => found.kind === 'port' && (found.rate || found.lost));
  const isIdle = (/** @type {Box} */ found) => found.kind === 'port' && hasTraffic && !found.rate && !found.lost;
  /** @type {Edge[]} */
  const edges = [];
  for (const way of ways) {
    const [from, to] = way.split('\n').map(id => /** @type {Box} */ (boxes.get(id)));
    if (from && to && !isIdle(from)) edges.push({ from, to, rate: null });
  }
  for (const edge of edges) {
    edge.from.out.push(edge);
    edge.to.in.push(edge);
  }
  for (const edge of edges) {
    // statistics count by object: a way is known where it is the only one
    if (edge.to.in.length === 1) edge.rate = edge.to.rate;
    else if (edge.from.out.length === 1 && edge.from.kind === 'group') edge.rate = edge.from.rate;
  }
  const of = (/** @type {string[]} */ ...kinds) => [...boxes.values()].filter(found => kinds.includes(found.kind) && !isIdle(found));
  const total = (/** @type {Box[]} */ found) => found.reduce((all, { rate }) => all + rate, 0);
  const packets = stats.packets;
  const none = live.rate(s => s.packets.sampled_out + s.packets.duplicate + s.packets.excluded + s.packets.unmatched) ?? 0;
  const rules = fold(of('rule'), 'rules', '#/rules');
  if (packets.received) rules.push({ id: 'none', kind: 'none', name: 'no copy', href: '#/account', says: 'sampled out, unmatched, …', rate: none, lost: 0, words: '', isOff: false, x: 0, y: 0, w: 0, h: 0, in: [], out: [] });
  const tools = fold(of('tool', 'wire'), 'tools', '#/tools');
  const ports = fold(of('port'), 'ports', '#/ports');
  const columns = [
    { name: 'Ports', note: `${short(total(ports))} packets/s`, boxes: ports },
    { name: 'Rules', note: 'packets/s that they match', boxes: rules },
    { name: 'Groups', note: 'copies/s', boxes: of('group') },
    { name: 'Tools', note: `${short(live.rate(s => s.copies.sent))} copies/s sent`, boxes: tools },
  ].filter(column => column.boxes.length);
  const shown = new Set(columns.flatMap(column => column.boxes));
  return { columns, edges: edges.filter(edge => shown.has(edge.from) && shown.has(edge.to)) };
}

/** Leaves the boxes that lose and the busiest, in their order, and one for the rest. */
function fold(/** @type {Box[]} */ boxes, /** @type {string} */ word, /** @type {string} */ href) {
  if (boxes.length <= MOST) return boxes;
  const worth = (/** @type {Box} */ box) => (box.lost ? 1e18 : 0) + box.rate;
  const kept = new Set([...boxes].sort((a, b) => worth(b) - worth(a)).slice(0, MOST - 1));
  const rest = boxes.filter(box => !kept.has(box));
  /** @type {Box} */
  const one = { id: `rest-${word}`, kind: 'rest', name: `${rest.length} more ${word}`, href, says: 'well', rate: rest.reduce((all, box) => all + box.rate, 0), lost: 0, words: '', isOff: false, x: 0, y: 0, w: 0, h: 0, in: [], out: [] };
  return [...boxes.filter(box => kept.has(box)), one];
}

/** Places boxes; gives the height of the picture and pixels for a packet a second. */
const least = (/** @type {Box} */ box) => (box.kind === 'rule' || box.kind === 'none') && !box.lost ? LOW : LEAST;

/** The room that columns have for each other: rules say more. @param {string} name */
const breadth = name => name === 'Rules' ? 1.75 : 1;

function place(/** @type {{name: string, boxes: Box[]}[]} */ columns, /** @type {number} */ width, /** @type {number} */ left) {
  const needs = Math.max(...columns.map(({ boxes }) => boxes.reduce((all, box) => all + least(box) + GAP, 0)));
  const room = Math.max(HEIGHT, needs + 60);
  const scale = Math.min(...columns.map(({ boxes }) => {
    const total = boxes.reduce((all, box) => all + box.rate, 0);
    const free = room - boxes.reduce((all, box) => all + least(box) + GAP, 0);
    return total > 0 ? Math.max(free, 40) / total : Infinity;
  }));
  const pixels = Number.isFinite(scale) ? Math.min(scale, 110 / Math.max(1e-9, ...columns.flatMap(({ boxes }) => boxes.map(box => box.rate)))) : 0;
  const narrow = width < 820;
  const shares = columns.reduce((all, { name }) => all + breadth(name), 0);
  const one = narrow ? 128 : Math.min(220, Math.max(144, (width - left) / (shares * 1.7)));
  const gap = (width - left - shares * one) / Math.max(1, columns.length - 1);
  const heights = columns.map(({ boxes }) => boxes.map(box => Math.max(least(box), box.rate * pixels + 10)));
  const tall = Math.max(...heights.map(list => list.reduce((sum, height) => sum + height + GAP, -GAP)));
  let x = left;
  columns.forEach(({ name, boxes }, index) => {
    const all = heights[index].reduce((sum, height) => sum + height + GAP, -GAP);
    // a short column is spread, but not to the ends
    const more = boxes.length > 1 ? Math.min(40, (tall - all) / (boxes.length + 1)) : 0;
    let y = 34 + (tall - all - more * (boxes.length - 1)) / 2;
    boxes.forEach((box, at) => {
      Object.assign(box, { x, y, w: one * breadth(name), h: heights[index][at] });
      y += heights[index][at] + GAP + more;
    });
    x += one * breadth(name) + gap;
  });
  return { height: 34 + tall + 8, pixels };
}

const ribbon = (/** @type {number} */ x0, /** @type {number} */ y0, /** @type {number} */ x1, /** @type {number} */ y1, /** @type {number} */ w) => {
  const middle = (x0 + x1) / 2;
  return `M${x0} ${y0}C${middle} ${y0} ${middle} ${y1} ${x1} ${y1}v${w}C${middle} ${y1 + w} ${middle} ${y0 + w} ${x0} ${y0 + w}Z`;
};
const thread = (/** @type {number} */ x0, /** @type {number} */ y0, /** @type {number} */ x1, /** @type {number} */ y1) => {
  const middle = (x0 + x1) / 2;
  return `M${x0} ${y0}C${middle} ${y0} ${middle} ${y1} ${x1} ${y1}`;
};
const rounded = (/** @type {string} */ path) => path.replace(/\d+\.\d+/g, number => (+number).toFixed(1));

/** Draws ribbons between boxes: each side's are stacked in the order of where they lead. */
function ribbons(/** @type {Edge[]} */ edges, /** @type {number} */ pixels) {
  const size = (/** @type {Edge} */ edge) => edge.rate === null ? 3 : Math.max(1.5, edge.rate * pixels);
  /** @type {Map<Edge, number[]>} */
  const places = new Map(edges.map(edge => [edge, [0, 0]]));
  const boxes = new Set(edges.flatMap(edge => [edge.from, edge.to]));
  for (const box of boxes) {
    for (const [side, list] of /** @type {[number, Edge[]][]} */ ([[0, edges.filter(edge => edge.from === box).sort((a, b) => a.to.y - b.to.y)], [1, edges.filter(edge => edge.to === box).sort((a, b) => a.from.y - b.from.y)]])) {
      const all = list.reduce((total, edge) => total + size(edge), 0);
      let y = box.y + Math.max(2, (box.h - all) / 2);
      const squeeze = Math.min(1, (box.h - 4) / all);
      for (const edge of list) {
        /** @type {number[]} */ (places.get(edge))[side] = y;
        y += size(edge) * squeeze;
      }
    }
  }
  return edges.map(edge => {
    const [y0, y1] = /** @type {number[]} */ (places.get(edge));
    const [x0, x1] = [edge.from.x + edge.from.w, edge.to.x];
    const key = `${edge.from.id}:${edge.to.id}`;
    const title = `${edge.from.name} to ${edge.to.name}: ${edge.rate === null ? 'its part is not counted' : `${short(edge.rate)}/s`}`;
    if (edge.rate === null) return h('path', { key, class: 'thread', d: rounded(thread(x0, y0 + 1.5, x1, y1 + 1.5)) }, h('title', null, title));
    return h('path', { key, class: edge.rate * pixels < 2 ? 'ribbon thin' : 'ribbon', d: rounded(ribbon(x0, y0, x1, y1, size(edge))) }, h('title', null, title));
  });
}

/** @param {string} text @param {number} room in letters */
const fit = (text, room) => text.length <= room ? text : `${text.slice(0, Math.max(1, room - 1))}…`;

function drawn(/** @type {Box} */ box, /** @type {number} */ pixels) {
  const isHurt = box.lost > 0;
  const rate = short(box.kind === 'tool' ? Math.max(0, box.rate - box.lost) : box.rate);
  const letters = Math.floor((box.w - 16) / 6.6);
  const middle = box.y + box.h / 2;
  const lost = isHurt && `− ${short(box.lost)}/s ${box.words}`;
  const wide = Math.max(4, box.lost * pixels);
  const isRule = box.kind === 'rule' || box.kind === 'none';
  return h('a', { key: box.id, href: box.href, class: `box ${box.kind}${isHurt ? ' hurt' : ''}${box.isOff ? ' off' : ''}` },
    h('title', null, `${box.name}: ${rate}/s ${box.says}`),
    h('rect', { class: 'frame', x: box.x, y: box.y, width: box.w, height: box.h, rx: 4 }),
    isHurt && h('path', { class: 'lost', d: rounded(`M${box.x - 46} ${middle - wide / 2}h38v${wide}h-38Z`) }),
    isHurt && h('path', { class: 'blunt', d: rounded(`M${box.x - 8} ${middle - wide / 2 - 4}v${wide + 8}`) }),
    h('text', { class: 'name', x: box.x + 8, y: middle + (isRule && !lost ? 4 : -2) }, fit(box.name, letters - rate.length - 1)),
    h('text', { class: 'rate', x: box.x + box.w - 8, y: middle + (isRule && !lost ? 4 : -2) }, rate),
    isRule && !lost ? h('text', { class: 'says', x: box.x + 16 + box.name.length * 7.8, y: middle + 4 }, fit(box.says, Math.max(0, letters - rate.length - box.name.length - 5)))
      : h('text', { class: lost ? 'loss' : 'says', x: box.x + 8, y: middle + 13 }, fit(lost || box.says, letters + (lost ? 4 : 2))));
}

/** @param {Live} live @param {number} width @returns {Node} */
export function picture(live, width) {
  if (!live.graph || !live.stats) return h('div', { class: 'picture loading', 'aria-hidden': 'true' }, h('i'), h('i'), h('i'), h('i'));
  const { columns, edges } = read(live);
  const narrow = width < 820;
  const shown = narrow ? columns.filter(column => column.name === 'Ports' || column.name === 'Tools') : columns;
  const left = narrow ? 50 : 56;
  const { height, pixels } = place(shown, width, left);
  const parts = [];
  if (narrow && shown.length === 2) {
    // what leads where between ports and tools is not counted: all of it goes through the rules
    const [ports, tools] = shown;
    const x = (ports.boxes[0].x + ports.boxes[0].w + tools.boxes[0].x) / 2 - 3;
    const stack = (/** @type {Box[]} */ boxes) => boxes.reduce((all, box) => all + Math.max(1.5, box.rate * pixels), 0);
    const tall = Math.max(stack(ports.boxes), stack(tools.boxes), 20);
    const top = height / 2 - tall / 2;
    let at = top;
    for (const box of ports.boxes) {
      const wide = Math.max(1.5, box.rate * pixels);
      parts.push(h('path', { key: `in ${box.id}`, class: 'ribbon', d: rounded(ribbon(box.x + box.w, box.y + (box.h - wide) / 2, x, at, wide)) }));
      at += wide;
    }
    at = top;
    for (const box of tools.boxes) {
      const wide = Math.max(1.5, box.rate * pixels);
      parts.push(h('path', { key: `out ${box.id}`, class: 'ribbon', d: rounded(ribbon(x + 6, at, box.x, box.y + (box.h - wide) / 2, wide)) }));
      at += wide;
    }
    parts.push(h('a', { key: 'rules', href: '#/rules', 'aria-label': 'rules' }, h('title', null, 'rules'), h('rect', { class: 'bar', x, y: top - 3, width: 6, height: tall + 6, rx: 3 })));
  } else {
    parts.push(...ribbons(edges, pixels));
  }
  const ports = shown[0]?.name === 'Ports' ? shown[0].boxes : [];
  for (const box of ports) {
    const wide = Math.max(1.5, box.rate * pixels);
    parts.push(h('path', { key: `from ${box.id}`, class: 'source', d: rounded(`M${box.x - (narrow ? 40 : 48)} ${box.y + (box.h - wide) / 2}h${narrow ? 40 : 48}v${wide}h-${narrow ? 40 : 48}Z`) }));
  }
  return h('div', { class: 'picture' },
    h('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'group', 'aria-label': 'Ports, rules, groups and tools with their rates' },
      h('defs', null, h('linearGradient', { id: 'fade', x1: 0, x2: 1 }, h('stop', { class: 'clear', offset: 0 }), h('stop', { class: 'full', offset: 1 }))),
      shown.map(column => h('text', { key: column.name, class: 'column', x: column.boxes[0].x, y: 18 }, column.name, narrow || (width < 1200 && column.name === 'Tools') ? '' : h('tspan', { class: 'note', dx: 8 }, column.note))),
      parts,
      shown.flatMap(column => column.boxes.map(box => drawn(box, pixels)))),
    h('p', { class: 'key' }, h('i', { class: 'flow' }), 'width = rate', h('i', { class: 'thread' }), 'part not counted', h('i', { class: 'lost' }), 'lost'));
}
