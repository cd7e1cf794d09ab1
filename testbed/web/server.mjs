// Serves the pages with recorded statistics, as the broker's HTTP server does: the fixture of the browser tests.
//
//   node testbed/web/server.mjs [PORT] [STATE]     STATE is well, incident, empty, unbalanced, down, many, rules, confirm
//
// It shows the recording over and over, each time with later times and higher counters. POST /fixture/STATE changes what it shows,
// POST /fixture/end ends the broker, POST /fixture/begin begins another, POST /fixture/silence says nothing any more.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const pages = join(here, '../../web');
const types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml' };
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const read = name => readFileSync(join(here, '../top', name), 'utf8').trim().split('\n').map(line => JSON.parse(line));
const recordings = { well: read('well.jsonl'), incident: read('incident.jsonl') };
const plan = readFileSync(join(here, 'edge.pipe'), 'utf8');
const graph = JSON.parse(readFileSync(join(here, 'graph.json'), 'utf8'));

/** Adds, for each number of `last` that is above that of `first`, what came in between, `times` times. */
function onward(now, first, last, times) {
  if (typeof now === 'number') return Math.round(now + (last - first) * times);
  if (Array.isArray(now) || now === null || typeof now !== 'object') return now;
  return Object.fromEntries(Object.entries(now).map(([key, value]) => [key, typeof value === 'number' && !/^(time|uptime_s|speed_mbps|since|busy|queue_.*|p\d+|max|samples|offset_ns|.*_ns|ns_per_tick|buckets.*|sample_share|flows)$/.test(key) && first?.[key] !== undefined ? onward(value, first[key], last[key], times) : typeof value === 'object' ? onward(value, first?.[key], last?.[key], times) : value]));
}

export function serve(port = 0, state = 'well', { interval = 1000 } = {}) {
  const broker = { state, boot: 1, step: 0, isEnded: false, isSilent: false, pending: null, role: 'admin', asked: [] };
  const streams = new Set();
  const began = Date.now() / 1000 - 400;

  function stats() {
    const recording = recordings[broker.state === 'incident' || broker.state === 'rules' ? 'incident' : 'well'];
    const [first, last] = [recording[0], recording[recording.length - 1]];
    const at = broker.step % recording.length;
    const now = onward(structuredClone(recording[at]), first, last, Math.floor(broker.step / recording.length) * recording.length / (recording.length - 1));
    now.uptime_s = 400 + broker.step;
    now.time = began + now.uptime_s;
    for (const tool of Object.values(now.tools)) tool.since = began;
    now.broker = 'edge';
    now.seq = broker.step + 1;
    change(now);
    return now;
  }

  function change(now) {
    if (broker.state === 'empty') {
      for (const counters of [now.packets, ...Object.values(now.rules)]) for (const key of Object.keys(counters)) if (typeof counters[key] === 'number') counters[key] = 0;
      for (const tool of Object.values(now.tools)) Object.assign(tool, { requested: 0, sent: 0, sent_bytes: 0 });
      for (const port of Object.values(now.ports)) {
        Object.assign(port, { received: 0, received_bytes: 0 });
        for (const key of Object.keys(port.driver)) port.driver[key] = 0;
      }
      for (const group of Object.values(now.groups)) group.requested = group.assigned = 0;
      now.copies.requested = now.copies.sent = 0;
      now.latency_ns.p99 = null;
      now.ports.span1.link_up = false;
    }
    if (broker.state === 'unbalanced') {
      now.balanced = false;
      now.packets.delivered -= 12;
    }
    if (broker.state === 'down') {
      now.tools.soc.state = 'down';
      now.tools.soc.reason = 'link_down';
    }
    if (broker.state === 'many') {
      for (let index = 0; index < 26; index++) now.tools[`sensor-${String(index).padStart(2, '0')}`] = structuredClone(now.tools.soc);
    }
    if (broker.state === 'rules') {
      now.rules_left_out = 10000;
      now.rules = {};
    }
  }

  function rules(url) {
    const all = broker.state === 'rules'
      ? Object.fromEntries(Array.from({ length: 10000 }, (_, index) => [String(index + 1), { matched: (10000 - index) * (broker.step + 1), duplicates: 0, sampled_out: 0, unread: 0, sample_share: null, on: true, next_change: null, limit_remaining: null }]))
      : stats().rules;
    const find = url.searchParams.get('find') ?? '';
    const found = Object.entries(all).filter(([rule]) => rule.includes(find)).sort((a, b) => url.searchParams.get('sort') === 'matched' ? b[1].matched - a[1].matched : 0);
    const now = stats();
    return { schema: 'tapline.stats/1', broker: 'edge', time: now.time, seq: now.seq, uptime_s: now.uptime_s, total: Object.keys(all).length, found: found.length, rules: Object.fromEntries(found.slice(0, Number(url.searchParams.get('limit') ?? 100))) };
  }

  function history(span) {
    if (span === '24h') {
      const day = history('15m');
      const hours = list => Array.from({ length: 1440 }, (_, minute) => minute < 300 ? null : list[500 + minute % 400]);
      const all = counters => Object.fromEntries(Object.entries(counters).map(([name, list]) => [name, Array.isArray(list) ? hours(list) : all(list)]));
      return { ...day, step: 60, count: 1440, from: stats().time - 1439 * 60, totals: all(day.totals), ports: all(day.ports), tools: all(day.tools), groups: all(day.groups) };
    }
    const recording = recordings.well;
    const rate = count => (count(recording[6]) - count(recording[0])) / 6;
    const list = (count, seed, factor = () => 1) => Array.from({ length: 900 }, (_, index) => index < 500 ? null : Math.max(0, rate(count) * (1 + 0.12 * Math.sin(index / 37 + seed) + 0.05 * Math.sin(index / 7 + seed * 3)) * factor(index)));
    const isBad = broker.state === 'incident';
    const from = stats().time - 899;
    const out = { schema: 'tapline.history/1', broker: 'edge', seq: 1, step: 1, from, count: 900, totals: { received: list(s => s.packets.received, 1) }, ports: {}, tools: {}, groups: {}, left_out: 0 };
    Object.keys(recording[0].ports).forEach((name, index) => {
      out.ports[name] = { received: list(s => s.ports[name].received, index), received_bytes: list(s => s.ports[name].received_bytes, index), lost: list(() => 0, 0).map((zero, second) => zero === null ? null : isBad && name === 'span1' && second > 760 ? 932 : 0) };
    });
    Object.keys(recording[0].tools).forEach((name, index) => {
      const requested = list(s => s.tools[name].requested, index);
      const isSlow = second => isBad && name === 'ids-b' && second > 760;
      const sent = requested.map((value, second) => isSlow(second) ? 24 : value);
      out.tools[name] = { requested, sent, sent_bytes: sent.map(value => value && value * 300), dropped: requested.map((value, second) => value === null ? null : value - sent[second]), queue_depth: requested.map((value, second) => value === null ? null : isSlow(second) ? 64 : 0), latency_p99_ns: requested.map((value, second) => value === null ? null : isSlow(second) ? 3.2e9 : 70000 + 9000 * Math.sin(second / 11)) };
    });
    for (const name of Object.keys(recording[0].groups)) out.groups[name] = { requested: list(s => s.groups[name].requested, 2), assigned: [], unassigned: [] };
    return out;
  }

  const planned = () => ({ id: broker.pending ? 14 : 13, sha256: '3f9a17c0ffee3f9a17c0ffee3f9a17c0ffee3f9a17c0ffee3f9a17c0ffee1234', confirm: broker.pending });
  const events = () => [
    { schema: 'tapline.event/1', seq: 39, time: began + 10, kind: 'workers_placed', level: 'info', object: null, text: 'workers on lcores 1, chosen: a core of its own on NUMA node 0' },
    { schema: 'tapline.event/1', seq: 40, time: began + 300, kind: 'plan_changed', level: 'notice', object: null, text: 'plan changed: 5 rules; planned in 3.1 ms, in force in 0.4 ms' },
    ...broker.state === 'incident' ? [{ schema: 'tapline.event/1', seq: 41, time: began + 310, kind: 'alarm', level: 'warning', object: 'ids-b', text: 'tool ids-b: its queue is above 80 % of its fill' }] : [],
  ];
  const receipt = () => ({ schema: 'tapline.reload/1', time: began + 300, broker: 'edge', seq: 2, id: planned().id, before: '81c2e05b', after: '3f9a17c0', by: { uid: 1004, user: 'anna', via: 'socket' }, result: 'done', planned_ms: 41.2, swapped_us: 310, retired_ms: 212, paused_us: 120,
    objects: { ports: { kept: ['span0', 'span1'], changed: [] }, tools: { kept: ['web'], added: ['soc'] }, groups: { changed: [{ name: 'ids', what: 'weights' }] }, rules: { kept: ['10', '20'], changed: [{ name: '40', what: 'to' }], added: ['50'] } },
    state: [], moved: { buckets: 256, flows: 310 }, lost: { packets: 0, copies: 0, by_port: {}, by_tool: {} }, balanced: true, confirm: broker.pending, text: 'reload 14: …\n', remarks: '' });

  const send = (stream, event, data, id) => stream.write(`${id === undefined ? '' : `id: ${broker.boot}-${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  const all = (event, data, id) => streams.forEach(stream => send(stream, event, data, id));
  const answer = (response, body, status = 200) => {
    response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
    response.end(JSON.stringify(body));
  };

  function get(url, response, request) {
    const path = url.pathname;
    if (broker.isEnded) return request.socket.destroy();
    if (path === '/api/v1/stats') return answer(response, stats());
    if (path === '/api/v1/rules') return answer(response, rules(url));
    if (path === '/api/v1/plan') return answer(response, { broker: 'edge', ...planned(), text: plan, words: '' });
    if (path === '/api/v1/graph') return answer(response, graph);
    if (path === '/api/v1/events') return answer(response, { schema: 'tapline.events/1', broker: 'edge', seq: 41, events: events() });
    if (path === '/api/v1/history') return answer(response, history(url.searchParams.get('span')));
    if (path === '/api/v1/reload') return answer(response, receipt());
    if (path === '/api/v1/me') return answer(response, { user: broker.role === 'viewer' ? 'anonymous' : 'anna', role: broker.role, peek: false, via: 'link', is_anonymous: broker.role === 'viewer', expires: null });
    if (path === '/api/v1/stream') {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
      response.write('retry: 300\n\n');
      streams.add(response);
      request.on('close', () => streams.delete(response));
      send(response, 'hello', { schema: 'tapline.stream/1', broker: 'edge', boot: String(broker.boot), version: '0.1.0', since: 41 }, 41);
      send(response, 'plan', planned());
      send(response, 'stats', stats());
      return;
    }
    const name = path === '/' ? '/index.html' : path.startsWith('/web/') ? path.slice(4) : null;
    const file = name && normalize(join(pages, name));
    try {
      if (!file?.startsWith(pages)) throw new Error('no page');
      const bytes = readFileSync(file);
      response.writeHead(200, { 'content-type': types[extname(file)] ?? 'application/octet-stream', 'content-security-policy': policy, 'x-content-type-options': 'nosniff' });
      response.end(bytes);
    } catch {
      answer(response, { error: { kind: 'not_found', message: 'there is no such route' } }, 404);
    }
  }

  function post(path, body, response) {
    const [, fixture, word] = path.split('/');
    if (fixture === 'fixture') {
      if (word === 'end') {
        all('end', {});
        broker.isEnded = true;
        streams.forEach(stream => stream.end());
      } else if (word === 'begin') Object.assign(broker, { isEnded: false, isSilent: false, boot: broker.boot + 1, step: 0 });
      else if (word === 'silence') broker.isSilent = true;
      else if (['viewer', 'operator', 'admin'].includes(word)) broker.role = word;
      else if (word === 'confirm') {
        broker.pending = { id: 14, until: Date.now() / 1000 + 41, rollback_to: 13 };
        all('plan', planned());
      } else broker.state = word;
      return answer(response, {});
    }
    broker.asked.push({ path, body });
    if (broker.role === 'viewer') return answer(response, { error: { kind: 'forbidden', message: 'it needs the role operator; anonymous is viewer', status: 1, text: '', diagnostics: [] } }, 403);
    if (path === '/api/v1/confirm' || path === '/api/v1/rollback') {
      broker.pending = null;
      all('plan', planned());
      return answer(response, { id: body.id ?? 13, result: 'confirmed', text: 'plan 14 is confirmed\n' });
    }
    if (path === '/api/v1/run' && body.line.startsWith('show diff')) return answer(response, { status: 0, result: '- group create ids tools ids-a,ids-b,ids-c weights 1,1,1\n+ group create ids tools ids-a,ids-b,ids-c weights 2,1,1\n', remarks: '', diagnostics: [] });
    if (path === '/api/v1/run') return answer(response, { status: 0, result: 'done\n', remarks: '', diagnostics: [] });
    if (path === '/api/v1/reload' && body.file) return answer(response, { error: { kind: 'refused', message: 'wrong', status: 2, text: 'x.pipe:3:27: error: unknown tool `idz`\n', diagnostics: [] } }, 400);
    if (path === '/api/v1/reload') return answer(response, receipt());
    return answer(response, { error: { kind: 'not_found', message: 'there is no such route' } }, 404);
  }

  const server = createServer((request, response) => {
    const url = new URL(request.url, 'http://localhost');
    if (request.method === 'GET') return get(url, response, request);
    let text = '';
    request.on('data', part => { text += part; });
    request.on('end', () => post(url.pathname, JSON.parse(text || '{}'), response));
  });
  const timer = setInterval(() => {
    if (broker.isEnded) return;
    broker.step++;
    if (!broker.isSilent) all('stats', stats());
  }, interval);
  return new Promise(resolve => server.listen(port, '127.0.0.1', () => resolve({
    url: `http://127.0.0.1:${server.address().port}`, broker, stats,
    close: () => { clearInterval(timer); server.closeAllConnections(); server.close(); },
  })));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await serve(Number(process.argv[2] ?? 0), process.argv[3] ?? 'well');
  console.log(url);
}
