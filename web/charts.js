// @ts-check
// Lines over time as SVG. Everything is an attribute: the page's policy allows no inline style.

import { h } from './html.js';
import { clock, short, time } from './units.js';

/**
 * @typedef {import('./html.js').Node} Node
 * @typedef {{label: string, values: (number | null)[], kind: 'flow' | 'ask' | 'bad'}} Line
 */

/** The most values that a line has: about one for each pixel. */
const PIXELS = 450;

/** A path through values, with gaps where nothing is known. */
function path(/** @type {(number | null)[]} */ values, /** @type {(index: number) => number} */ x, /** @type {(value: number) => number} */ y) {
  let isOpen = false;
  return values.map((value, index) => {
    if (value === null || value === undefined) {
      isOpen = false;
      return '';
    }
    const step = `${isOpen ? 'L' : 'M'}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    isOpen = true;
    return step;
  }).join('');
}

/** What is between two lines where the first is above the second. */
function between(/** @type {(number | null)[]} */ above, /** @type {(number | null)[]} */ below, /** @type {(index: number) => number} */ x, /** @type {(value: number) => number} */ y) {
  let d = '';
  for (let from = 0; from < above.length; from++) {
    let to = from;
    while (to < above.length && (above[to] ?? 0) > (below[to] ?? 0) * 1.002) to++;
    if (to > from + 1) {
      const point = (/** @type {(number | null)[]} */ values) => (/** @type {number} */ index) => `${x(index).toFixed(1)} ${y(values[index] ?? 0).toFixed(1)}`;
      const range = Array.from({ length: to - from }, (_, step) => from + step);
      d += `M${range.map(point(above)).join('L')}L${range.reverse().map(point(below)).join('L')}Z`;
    }
    from = Math.max(from, to);
  }
  return d && h('path', { class: 'area bad', d });
}

/** Means of neighbours, so that there is no more than one value a pixel; the highest where it is loss. */
function thinned(/** @type {(number | null)[]} */ values, /** @type {number} */ most, isHighest = false) {
  if (values.length <= most) return values;
  const step = values.length / most;
  return Array.from({ length: most }, (_, index) => {
    const part = /** @type {number[]} */ (values.slice(Math.floor(index * step), Math.floor((index + 1) * step)).filter(value => value !== null));
    if (!part.length) return null;
    return isHighest ? Math.max(...part) : part.reduce((total, value) => total + value, 0) / part.length;
  });
}

/**
 * A small line from zero on, the last value at the right edge, and what was lost below it in red.
 * @param {(number | null)[]} values
 * @param {(number | null)[]} [lost]
 * @param {number} [seconds] the width of the time that is shown
 * @returns {Node}
 */
export function spark(values, lost = [], seconds = 900) {
  const [width, height] = [88, 20];
  const shown = thinned(values.slice(-seconds), width);
  const bad = thinned(lost.slice(-seconds), width, true);
  const most = Math.max(1e-9, ...shown.map(value => value ?? 0));
  // each value has its place in time
  const step = Math.max(1, Math.min(values.length, seconds) / width);
  const x = (/** @type {number} */ index) => width * (1 - (shown.length - 1 - index) * step / seconds);
  const y = (/** @type {number} */ value) => height - 1 - value / most * (height - 3);
  const line = path(shown, x, y);
  const marks = bad.map((value, index) => value ? `M${x(index + shown.length - bad.length).toFixed(1)} ${height}v-4` : '').join('');
  return h('svg', { class: 'spark', viewBox: `0 0 ${width} ${height}`, width, height, 'aria-hidden': 'true' },
    h('line', { class: 'base', x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5 }),
    line && h('path', { class: 'line', d: line }),
    marks && h('path', { class: 'lost', d: marks }));
}

/** Round numbers from 0 to above `most`. */
function ticks(/** @type {number} */ most) {
  const raw = (most || 1) / 3;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(step => step >= raw) ?? raw;
  return Array.from({ length: Math.ceil((most || 1) / step) + 1 }, (_, index) => index * step);
}

/**
 * A chart of the last 900 values, each of a second, or of 1440, each of a minute.
 * @param {{title: string, note: string, lines: Line[], end: number, step: number, isTime?: boolean, width: number}} chart
 * @returns {Node}
 */
export function chart({ title, note, lines, end, step, isTime = false, width }) {
  const [height, left, right, top, bottom] = [190, 52, 104, 10, 22];
  // in values, and in seconds
  const count = step === 1 ? 900 : 1440;
  const span = count * step;
  const shown = lines.map(line => ({ ...line, values: thinned(line.values.slice(-count), PIXELS, line.kind === 'bad') }));
  const most = Math.max(0, ...shown.flatMap(line => line.values.map(value => value ?? 0)));
  const marks = ticks(most);
  const high = marks[marks.length - 1] || 1;
  const plot = width - left - right;
  const y = (/** @type {number} */ value) => top + (1 - value / high) * (height - top - bottom);
  const write = (/** @type {number | null} */ value) => isTime ? time(value) : short(value);
  const apart = (step === 1 ? 180 : 14400) * (plot < 300 ? 2 : 1);
  const zone = new Date(end * 1000).getTimezoneOffset() * 60;
  const last = Math.floor((end - zone) / apart) * apart + zone;
  const hours = Array.from({ length: Math.floor(span / apart) + 1 }, (_, index) => last - index * apart).filter(at => at > end - span);
  const xOf = (/** @type {number} */ at) => left + plot * (1 - (end - at) / span);
  /** The place of a value of a list that was thinned. */
  const xIn = (/** @type {(number | null)[]} */ values, /** @type {number} */ all) => {
    const each = Math.max(1, Math.min(all, count) / PIXELS);
    return (/** @type {number} */ index) => left + plot * (1 - (values.length - 1 - index) * each / count);
  };
  let lowest = -Infinity;
  const labels = shown.map(line => ({ ...line, now: line.values[line.values.length - 1] ?? null }))
    .sort((a, b) => (b.now ?? 0) - (a.now ?? 0)).map(line => {
      // labels keep off each other
      lowest = Math.max(lowest + 14, y(Math.min(high, line.now ?? 0)) + 4);
      return h('text', { class: line.kind === 'bad' && line.now ? 'label bad' : 'label', x: left + plot + 6, y: lowest }, `${line.label} ${write(line.now)}`);
    });
  const [ask, flow] = [shown.find(line => line.kind === 'ask'), shown.find(line => line.kind === 'flow')];
  const lost = ask && flow && between(ask.values, flow.values, xIn(ask.values, lines[0].values.length), y);
  const said = shown.map(line => `${line.label} ${write(line.values[line.values.length - 1] ?? null)}`).join(', ');
  return h('figure', { class: 'chart' },
    h('figcaption', null, h('h2', null, title), h('span', { class: 'note' }, note)),
    h('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': `${title}: ${said}, at most ${write(most)} in ${step === 1 ? '15 minutes' : '24 hours'}` },
      marks.map(mark => [h('line', { class: 'grid', x1: left, x2: left + plot, y1: y(mark), y2: y(mark) }), h('text', { class: 'axis end', x: left - 6, y: y(mark) + 4 }, write(mark))]),
      hours.map(at => h('text', { class: 'axis middle', x: xOf(at), y: height - 6 }, clock(at).slice(0, 5))),
      shown.map((line, index) => {
        const x = xIn(line.values, lines[index].values.length);
        const way = path(line.values, x, y);
        const first = line.values.findIndex(value => value !== null);
        const area = line.kind !== 'ask' && first >= 0 && !way.slice(1).includes('M') && `${way}L${left + plot} ${y(0)}L${x(first)} ${y(0)}Z`;
        return [area && h('path', { class: `area ${line.kind}`, d: area }), way && h('path', { class: `line ${line.kind}`, d: way })];
      }),
      lost,
      labels));
}
