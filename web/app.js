// @ts-check
// The page: one custom element that draws what is known of the broker, at most once a frame, and keeps what did not change.

import { chart } from './charts.js';
import { h, patch } from './html.js';
import { Live, sum } from './live.js';
import { picture } from './picture.js';
import * as tables from './tables.js';
import { clock, date, duration, exact, percent, short, time } from './units.js';
import { losses, ruleTexts, toolPorts, verdict } from './verdict.js';

/**
 * @typedef {import('./html.js').Child} Child
 * @typedef {import('./html.js').Node} Node
 * @typedef {import('./units.js').Unit} Unit
 * @typedef {import('./verdict.js').Loss} Loss
 */

const PAGES = [['', 'Overview'], ['ports', 'Ports'], ['tools', 'Tools'], ['groups', 'Groups'], ['rules', 'Rules'], ['reload', 'Reload'], ['events', 'Events']];
const NAMES = { packets: 'packets', bits: 'bits', bytes: 'bytes' };
/** At these many seconds before the end of a confirm the time is said. */
const SAID = [60, 30, 10];

class App extends HTMLElement {
  constructor() {
    super();
    this.live = new Live();
    /** @type {Unit} */
    this.unit = /** @type {Unit} */ (localStorage.getItem('unit') ?? 'packets');
    this.isDue = false;
    /** What the last command answered. @type {{isWell: boolean, text: string} | null} */
    this.answer = null;
    this.isBusy = false;
    this.headline = '';
    this.copied = '';
    this.span = '15 min';
    this.form = { file: '', confirm: '60' };
    this.said = '';
    /** The commands that differ between the last two plans. */
    this.diff = '';
  }

  connectedCallback() {
    this.textContent = '';
    this.live.addEventListener('change', () => this.draw());
    addEventListener('hashchange', () => {
      this.answer = null;
      this.diff = '';
      this.draw();
      scrollTo(0, 0);
      this.querySelector('h1')?.focus();
    });
    addEventListener('resize', () => this.draw());
    document.addEventListener('visibilitychange', () => this.draw());
    setInterval(() => this.live.plan?.confirm && this.draw(), 250);
    this.live.start();
    this.draw();
  }

  draw() {
    // a page that nobody sees is not drawn
    if (this.isDue || document.hidden) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      patch(this, this.page());
    });
  }

  /** @returns {Node[]} */
  page() {
    const { live } = this;
    const [, kind = '', name = ''] = location.hash.split('/').map(part => decodeURIComponent(part));
    const lost = losses(live);
    const said = verdict(live, lost);
    const state = live.connection === 'live' || live.connection === 'loading' ? '' : `${live.connection === 'ended' ? 'Ended' : 'No connection'}: `;
    document.title = `${state}${said.head} · ${live.hello?.broker ?? 'Tapline'}`;
    const isStale = live.connection !== 'live' && live.connection !== 'loading';
    return [
      h('a', { class: 'skip', href: '#main', onclick: (/** @type {Event} */ event) => { event.preventDefault(); this.querySelector('main')?.focus(); } }, 'Skip to the content'),
      this.bar(kind),
      h('main', { id: 'main', tabindex: -1, class: isStale && live.stats ? 'stale' : null }, this.disconnected(), this.pending(kind), this.content(kind, name, lost, said)),
      h('p', { class: 'unseen', role: 'status' }, said.head === this.headline ? said.head : (this.headline = said.head)),
      h('footer', null, live.hello ? `Tapline ${live.hello.version}` : '', h('span', null, 'Rates are of the last second.'), h('a', { href: '/api/v1/openapi.json' }, 'API'), h('a', { href: '/metrics' }, 'metrics')),
    ];
  }

  bar(/** @type {string} */ kind) {
    const { live } = this;
    const at = live.stats ? clock(live.stats.time) : '';
    const state = { loading: ['', 'connecting'], live: ['good', `live ${at}`], lost: ['warn', `lost ${at}`], ended: ['warn', `ended ${at}`], refused: ['warn', 'not signed in'] }[live.connection];
    const user = live.me ? live.me.is_anonymous ? 'viewer' : `${live.me.user}, ${live.me.role}` : '';
    return h('header', { class: 'bar' },
      h('span', { class: 'brand' }, h('svg', { viewBox: '0 0 16 16', width: 18, height: 18, 'aria-hidden': 'true' }, h('path', { class: 'mark', d: 'M1 3h14M5 3c3 0 2 5 5 5h5M2 3c4 0 3 10 7 10h6' })), 'Tapline'),
      h('span', { class: 'host' }, live.hello?.broker ?? ''),
      h('nav', { 'aria-label': 'Pages' }, PAGES.map(([page, title]) => h('a', { href: `#/${page}`, 'aria-current': page === kind ? 'page' : null }, title))),
      h('div', { class: 'units', role: 'group', 'aria-label': 'Units' }, Object.keys(NAMES).map(unit => h('button', {
        type: 'button', 'aria-pressed': String(unit === this.unit), onclick: () => {
          this.unit = /** @type {Unit} */ (unit);
          localStorage.setItem('unit', unit);
          this.draw();
        },
      }, unit))),
      h('span', { class: 'state' }, h('i', { class: `dot ${state[0]}`, 'aria-hidden': 'true' }), state[1]),
      h('span', { class: 'user', title: live.me?.is_anonymous ? '`tapline ctl web` gives a link that signs in' : null }, user),
      live.me && !live.me.is_anonymous && live.me.expires && h('button', { type: 'button', class: 'quiet', onclick: async () => { await live.change('/api/v1/sign-out', {}).catch(() => null); location.reload(); } }, 'Sign out'));
  }

  /** Says that numbers do not come, and since when. */
  disconnected() {
    const { live } = this;
    if (live.connection === 'live' || live.connection === 'loading') return null;
    const at = live.stats ? `The numbers below are of ${date(live.stats.time)}.` : 'There are no numbers yet.';
    const [head, text] = live.connection === 'ended' ? ['The broker has ended.', `${at} This page goes on when it is started again.`]
      : live.connection === 'refused' ? ['Nobody has signed in.', 'Run `tapline ctl web` on the broker’s machine, and open the link that it prints.']
        : ['No connection to the broker.', `${live.reason}. ${at} Trying again each second.`];
    return h('div', { class: 'notice', role: 'alert', key: 'notice' }, h('b', null, head), ' ', text);
  }

  /** The plan that waits to be confirmed. */
  pending(/** @type {string} */ kind) {
    const confirm = this.live.plan?.confirm;
    if (!confirm) return null;
    const left = Math.max(0, Math.ceil(confirm.until - Date.now() / 1000));
    if (SAID.includes(left)) this.said = `${left} seconds left to confirm`;
    const may = this.may('operator');
    return h('section', { class: 'confirm', key: 'confirm', 'aria-label': 'A change waits' },
      h('span', { class: 'clock', 'aria-hidden': 'true' }, `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}`),
      h('div', null, h('b', null, `Plan ${confirm.id} is in force, and waits to be confirmed`),
        h('p', null, `If nobody confirms, the broker goes back to plan ${confirm.rollback_to} at ${clock(confirm.until)}. Other changes are refused until then.`, kind !== 'reload' && [' ', h('a', { href: '#/reload' }, 'See what changed')])),
      may ? h('div', { class: 'acts' },
        h('button', { type: 'button', class: 'main', disabled: this.isBusy, onclick: () => this.act('/api/v1/confirm', { id: confirm.id }) }, `Confirm ${confirm.id}`),
        h('button', { type: 'button', class: 'danger', disabled: this.isBusy, onclick: () => this.act('/api/v1/rollback', {}) }, 'Roll back now'))
        : h('div', { class: 'acts' }, this.command(`confirm ${confirm.id}`)),
      h('span', { class: 'unseen', role: 'status' }, this.said));
  }

  may(/** @type {string} */ role) {
    const order = ['viewer', 'operator', 'admin'];
    const { live } = this;
    return live.connection === 'live' && live.me && !live.me.is_anonymous && order.indexOf(live.me.role) >= order.indexOf(role);
  }

  async act(/** @type {string} */ path, /** @type {any} */ body) {
    this.isBusy = true;
    this.draw();
    try {
      const answer = await this.live.change(path, body);
      this.answer = { isWell: true, text: (answer?.text ?? answer?.result ?? 'done') + (answer?.remarks ?? '') };
      if (answer?.schema === 'tapline.reload/1') this.live.receipt = answer;
    } catch (error) {
      this.answer = { isWell: false, text: /** @type {Error} */ (error).message };
    }
    this.isBusy = false;
    this.draw();
  }

  async readDiff(/** @type {number} */ id) {
    try {
      this.diff = (await this.live.change('/api/v1/run', { line: `show diff ${id - 1} ${id}` })).result || 'nothing';
    } catch (error) {
      this.answer = { isWell: false, text: /** @type {Error} */ (error).message };
    }
    this.draw();
  }

  answered() {
    return this.answer && h('pre', { class: this.answer.isWell ? 'answer' : 'answer bad', role: 'status', tabindex: 0 }, this.answer.text);
  }

  /** A command, to be copied. */
  command(/** @type {string} */ text) {
    return h('span', { class: 'command' }, h('code', null, text), h('button', {
      type: 'button', 'aria-label': `Copy ${text}`, onclick: async () => {
        try {
          await navigator.clipboard.writeText(text);
          this.copied = text;
        } catch {
          this.copied = '';
        }
        this.draw();
        setTimeout(() => { this.copied = ''; this.draw(); }, 1500);
      },
    }, this.copied === text ? 'Copied' : 'Copy'));
  }

  /** @param {{mood: string, head: string, says: string}} said @param {Child} [meta] */
  verdict(said, meta = null) {
    const mark = { good: 'M5 12.5l4.5 4.5L19 7.5', bad: 'M12 6v8M12 17.2v.3', warn: 'M12 6v8M12 17.2v.3', none: '' }[said.mood];
    return h('div', { class: `verdict ${said.mood}` },
      h('svg', { viewBox: '0 0 24 24', width: 28, height: 28, 'aria-hidden': 'true' },
        said.mood === 'good' || said.mood === 'none' ? h('circle', { cx: 12, cy: 12, r: 10.5 }) : h('path', { class: 'sign', d: 'M12 1.8L23.2 21.6H.8Z' }), mark && h('path', { class: 'mark', d: mark })),
      h('div', null, h('h1', { tabindex: -1 }, said.head), said.says && h('p', null, said.says)), meta && h('p', { class: 'meta' }, meta));
  }

  causes(/** @type {Loss[]} */ lost) {
    if (!lost.length) return null;
    const shown = lost.slice(0, 4);
    return h('section', { class: 'causes', 'aria-label': 'What is lost, where, why, and what to do' },
      shown.map(loss => h('article', { key: `${loss.kind} ${loss.name} ${loss.word}` },
        h('div', null, h('h2', null, 'Lost'), h('p', { class: 'big' }, loss.rate ? `${short(loss.rate)} ${loss.what}/s` : `${exact(loss.total)} ${loss.what}`),
          h('p', { class: 'small' }, loss.rate ? `${exact(loss.total)} so far` : 'stopped by now', loss.share !== null && loss.rate > 0 ? `, ${percent(loss.share)} of what ${loss.kind === 'port' ? 'came' : `${loss.name} should get`}` : '')),
        h('div', null, h('h2', null, 'Where'), h('p', { class: 'where' }, h('a', { href: `#/${loss.kind}s/${encodeURIComponent(loss.name)}` }, loss.name)), h('p', { class: 'small' }, loss.kind === 'port' ? 'port, before Tapline' : loss.kind)),
        h('div', null, h('h2', null, 'Why'), h('p', { class: 'because' }, loss.because), h('p', { class: 'small' }, loss.why)),
        h('div', null, h('h2', null, 'Do this'), this.command(loss.command), h('p', { class: 'small' }, loss.does)))),
      lost.length > shown.length && h('p', { class: 'small rest' }, `${lost.length - shown.length} more: ${lost.slice(4, 12).map(loss => `${loss.name} ${short(loss.rate)}/s ${loss.word}`).join(', ')}`));
  }

  /** @param {string} kind @param {string} name @param {Loss[]} lost @param {any} said @returns {Child} */
  content(kind, name, lost, said) {
    const { live, unit } = this;
    if (!live.stats) {
      return [h('div', { class: 'verdict none' }, h('div', null, h('h1', { tabindex: -1 }, live.connection === 'loading' ? 'Reading the broker’s numbers' : 'No numbers'))), h('div', { class: 'skeleton', 'aria-hidden': 'true' }, Array.from({ length: 8 }, () => h('i')))];
    }
    const { stats } = live;
    const width = Math.max(320, Math.min(1872, (this.clientWidth || innerWidth) - (innerWidth < 820 ? 32 : 48)));
    if (kind === '' || kind === 'main' || kind === 'account') {
      const meta = [`up ${duration(stats.uptime_s)}`, h('span', { class: 'break' }, ' · '), live.plan?.sha256 ? `plan ${live.plan.id} ${live.plan.sha256.slice(0, 7)}` : ''];
      return [this.verdict(said, meta), this.causes(lost), picture(live, width), tables.account(live),
        h('div', { class: 'columns' },
          h('div', null, tables.ports(live, unit, 12), tables.wires(live, unit), tables.lcores(live), tables.events(live.events, 6, date)),
          h('div', null, tables.tools(live, unit, 12), Object.keys(stats.groups).slice(0, 8).map(group => tables.group(live, group)), tables.rules(live, 8)))];
    }
    if (kind === 'events') return [h('h1', { tabindex: -1 }, 'Events'), tables.events(live.events, 200, date)];
    if (kind === 'reload') return this.reload();
    if (kind === 'rules' && name) return this.rule(name);
    if (kind === 'rules') {
      return [h('h1', { tabindex: -1 }, 'Rules'),
        h('p', null, h('label', null, 'Find ', h('input', { type: 'search', value: live.find, placeholder: stats.rules_left_out ? 'part of a priority' : 'priority or words', oninput: (/** @type {any} */ event) => {
          live.find = event.target.value;
          if (stats.rules_left_out) live.readRules();
          this.draw();
        } }))), tables.rules(live, 50)];
    }
    if (kind === 'ports' && name) return stats.ports[name] ? this.port(name, lost, width) : this.missing('port', name);
    if (kind === 'tools' && name) return stats.tools[name] ? this.tool(name, lost, width) : this.missing('tool', name);
    if (kind === 'groups' && name) return stats.groups[name] ? [this.crumb('groups', 'Groups', name), h('h1', { tabindex: -1 }, name), tables.group(live, name), this.charts(width, [{ title: 'Asked', note: 'copies/s', counters: [[`groups/${name}/requested`, 'asked', 'flow']] }])] : this.missing('group', name);
    if (kind === 'ports') return [h('h1', { tabindex: -1 }, 'Ports'), tables.ports(live, unit), tables.wires(live, unit), tables.lcores(live)];
    if (kind === 'tools') return [h('h1', { tabindex: -1 }, 'Tools'), tables.tools(live, unit)];
    if (kind === 'groups') {
      const groups = Object.keys(stats.groups);
      return [h('h1', { tabindex: -1 }, 'Groups'), groups.length ? groups.map(group => tables.group(live, group)) : h('p', { class: 'note' }, 'The plan has no group.')];
    }
    return [h('h1', { tabindex: -1 }, 'There is no such page'), h('p', null, h('a', { href: '#/' }, 'Overview'))];
  }

  missing(/** @type {string} */ kind, /** @type {string} */ name) {
    return [h('h1', { tabindex: -1 }, `There is no ${kind} ${name}`), h('p', { class: 'note' }, 'It may have left with a change of the plan. ', h('a', { href: `#/${kind}s` }, `All ${kind}s`))];
  }

  crumb(/** @type {string} */ kind, /** @type {string} */ title, /** @type {string} */ name) {
    return h('nav', { class: 'crumb', 'aria-label': 'Where this is' }, h('a', { href: '#/' }, 'Overview'), ' / ', h('a', { href: `#/${kind}` }, title), ` / ${name}`);
  }

  /** @param {number} width @param {{title: string, note: string, isTime?: boolean, counters: [string, string, 'flow' | 'ask' | 'bad'][]}[]} wanted */
  charts(width, wanted) {
    const { live } = this;
    const one = width < 820 ? width : Math.floor((width - 40) / 2);
    const isDay = this.span === '24 h';
    if (isDay) live.readDay();
    const [lists, end, step] = isDay ? [live.day?.lists ?? new Map(), live.day?.end || live.stats.time, 60] : [live.past, live.pastEnd || live.stats.time, 1];
    return [h('div', { class: 'units spans', role: 'group', 'aria-label': 'Time' }, ['15 min', '24 h'].map(span => h('button', { type: 'button', 'aria-pressed': String(span === this.span), onclick: () => { this.span = span; this.draw(); } }, span))),
      h('div', { class: 'charts' }, wanted.map(({ title, note, isTime, counters }) => chart({ title, note, isTime, width: one, end, step, lines: counters.map(([key, label, kind]) => ({ label, kind, values: lists.get(key) ?? [] })) })))];
  }

  facts(/** @type {[string, Child][]} */ facts) {
    return h('dl', { class: 'facts' }, facts.map(([word, value]) => h('div', null, h('dt', null, word), h('dd', null, value))));
  }

  /** @param {string} kind @param {string} name @param {Loss[]} lost @param {string} well */
  objectVerdict(kind, name, lost, well) {
    const own = lost.filter(loss => loss.kind === kind && loss.name === name);
    const [first] = own;
    const said = first
      ? { mood: 'bad', head: first.rate ? `${name} loses ${short(first.rate)} ${first.what}/s: ${first.word}` : `${name} lost ${first.what}: ${first.word}`, says: `For ${duration(this.live.stats.time - first.since)}. ${first.because} ${first.why}` }
      : { mood: 'good', head: name, says: well };
    return [this.verdict(said), this.causes(own)];
  }

  /** @param {string} name @param {Loss[]} lost @param {number} width */
  tool(name, lost, width) {
    const { live } = this;
    const tool = live.stats.tools[name];
    const port = toolPorts(live)[name];
    const groups = Object.entries(live.stats.groups).filter(([, group]) => name in group.buckets).map(([group]) => group);
    const rules = Object.entries(ruleTexts(live)).filter(([, text]) => [name, ...groups].some(target => new RegExp(` to (\\S+,)?${target.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}(,\\S+)?( |$)`).test(text)));
    const isOut = tool.state === 'drained' || tool.state === 'draining';
    const command = isOut ? `tool enable ${name}` : `tool drain ${name}`;
    return [this.crumb('tools', 'Tools', name),
      this.objectVerdict('tool', name, lost, tool.state === 'up' ? `Up. It gets all that it is asked for: ${short(live.rate(s => s.tools[name]?.sent))} copies/s.` : `${tool.state}${tool.reason ? `: ${tool.reason}` : ''}, since ${date(tool.since)}.`),
      h('p', { class: 'acts' }, this.may('operator') ? h('button', { type: 'button', disabled: this.isBusy, onclick: () => this.act('/api/v1/run', { line: command }) }, isOut ? 'Enable' : 'Drain') : this.command(command)),
      this.answered(),
      this.facts([['state', `${tool.state}${tool.alarms.length ? `, alarm: ${tool.alarms.join(', ')}` : ''}`], ['since', date(tool.since)], ['port', port ? h('a', { href: `#/ports/${encodeURIComponent(port)}` }, port) : 'none'], ['group', groups.length ? groups.map(group => h('a', { href: `#/groups/${encodeURIComponent(group)}` }, group)) : 'none'],
        ['queue', `${exact(tool.queue_depth)} now, ${exact(tool.queue_peak)} at most`], ['latency', `p50 ${time(tool.latency_ns.p50)}, p99 ${time(tool.latency_ns.p99)}, max ${time(tool.latency_ns.max)}`]]),
      this.charts(width, [
        { title: 'Rate', note: 'copies/s', counters: [[`tools/${name}/requested`, 'asked', 'ask'], [`tools/${name}/sent`, 'sent', 'flow']] },
        { title: 'Dropped', note: 'copies/s, all reasons', counters: [[`tools/${name}/dropped`, 'dropped', 'bad']] },
        { title: 'Queue', note: 'copies that wait', counters: [[`tools/${name}/queue_depth`, 'waiting', 'flow']] },
        { title: 'Latency', note: 'receive to transmit, 99th percentile', isTime: true, counters: [[`tools/${name}/latency_p99_ns`, 'p99', 'flow']] }]),
      h('div', { class: 'columns' },
        h('section', { class: 'block' }, h('h2', null, 'Account ', h('span', { class: 'note' }, 'since the start')), h('table', { class: 'plain' }, h('tbody', null,
          [['requested', tool.requested, ''], ['sent', tool.sent, ''], ...Object.entries(tool.dropped).map(([word, count]) => [`dropped: ${word}`, count, word])].map(([title, count, word]) =>
            h('tr', null, h('th', { scope: 'row' }, title), h('td', { class: !count ? 'number zero' : word && live.rate(s => s.tools[name]?.dropped[word]) ? 'number bad' : 'number' }, exact(count)))))),
        h('p', { class: tool.requested - tool.sent - sum(tool.dropped) === tool.queue_depth || live.stats.balanced ? 'good' : 'bad' }, 'requested = sent + dropped, but for what waits')),
        h('section', { class: 'block' }, h('h2', null, 'Rules that send here'), rules.length ? h('table', { class: 'plain' }, h('tbody', null, rules.slice(0, 20).map(([priority, text]) =>
          h('tr', null, h('th', { scope: 'row' }, h('a', { class: 'name', href: `#/rules/${priority}` }, priority)), h('td', null, h('code', { class: 'does' }, text)))))) : h('p', { class: 'note' }, 'None.'),
        rules.length > 20 && h('p', { class: 'note' }, `${rules.length - 20} more`)))];
  }

  /** @param {string} name @param {Loss[]} lost @param {number} width */
  port(name, lost, width) {
    const { live } = this;
    const port = live.stats.ports[name];
    const tools = Object.entries(toolPorts(live)).filter(([, of]) => of === name).map(([tool]) => tool);
    const counts = { received: port.received, ...port.driver };
    return [this.crumb('ports', 'Ports', name),
      this.objectVerdict('port', name, lost, port.gone ? 'Its device is gone.' : !port.link_up ? 'It has no link.' : port.received ? 'It loses nothing.' : 'It receives nothing.'),
      this.facts([['device', h('code', null, port.device)], ['driver', port.driver_name], ['link', port.link_up ? `up${port.speed_mbps ? `, ${port.speed_mbps / 1000} Gbit/s` : ''}` : 'down'], ['times from', `${port.clock.source}${port.clock.degraded ? ', not fitted' : ''}`],
        ['tools', tools.length ? tools.map(tool => [h('a', { href: `#/tools/${encodeURIComponent(tool)}` }, tool), ' ']) : 'none']]),
      this.charts(width, [{ title: 'Received', note: 'packets/s', counters: [[`ports/${name}/received`, 'in', 'flow']] }, { title: 'Lost before Tapline', note: 'packets/s: missed, broken, no mbuf', counters: [[`ports/${name}/lost`, 'lost', 'bad']] }]),
      h('section', { class: 'block' }, h('h2', null, 'Counted ', h('span', { class: 'note' }, 'since the start')), h('table', { class: 'plain' }, h('tbody', null, Object.entries(counts).map(([word, count]) =>
        h('tr', null, h('th', { scope: 'row' }, word), h('td', { class: count ? 'number' : 'number zero' }, exact(count)))))))];
  }

  /** @param {string} name */
  rule(name) {
    const { live } = this;
    const rule = live.stats.rules?.[name] ?? live.rules?.rules?.[name];
    const text = ruleTexts(live)[name];
    if (!rule && !text) return this.missing('rule', name);
    const command = rule?.on === false ? `rule enable ${name}` : `rule disable ${name}`;
    return [this.crumb('rules', 'Rules', name), h('h1', { tabindex: -1 }, `Rule ${name}`), h('pre', { class: 'text', tabindex: 0 }, `rule create ${name} ${text ?? ''}`),
      h('p', { class: 'acts' }, this.may('operator') ? h('button', { type: 'button', disabled: this.isBusy, onclick: () => this.act('/api/v1/run', { line: command }) }, rule?.on === false ? 'Enable' : 'Disable') : this.command(command)), this.answered(),
      rule ? this.facts([['state', rule.on ? 'on' : 'off'], ['matched', `${exact(rule.matched)}, ${short(live.rate(s => s.rules?.[name]?.matched))}/s`], ['duplicates', exact(rule.duplicates)], ['sampled out', exact(rule.sampled_out)], ['unread', exact(rule.unread)],
        ['keeps', rule.sample_share === null ? 'all' : percent(rule.sample_share)], ['limit', rule.limit_remaining === null ? 'none' : `${exact(rule.limit_remaining)} left`]]) : h('p', { class: 'note' }, 'Its counters are not among the busiest that are read.')];
  }

  reload() {
    const { live, form } = this;
    const { receipt, plan } = live;
    const isAdmin = this.may('admin');
    const reload = (/** @type {boolean} */ isDry) => this.act('/api/v1/reload', { ...(form.file.trim() ? { file: form.file.trim() } : {}), ...(isDry ? { dry_run: true } : Number(form.confirm) > 0 ? { confirm: Number(form.confirm) } : {}) });
    return [h('h1', { tabindex: -1 }, 'Reload'),
      h('section', { class: 'block' }, h('h2', null, 'A whole file in the place of the running plan'),
        isAdmin ? h('form', { class: 'form', onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); reload(false); } },
          h('label', null, 'File ', h('input', { type: 'text', value: form.file, placeholder: 'that of the start', oninput: (/** @type {any} */ event) => { form.file = event.target.value; } })),
          h('label', null, 'Goes back unless confirmed within ', h('input', { type: 'number', min: 0, max: 86400, value: form.confirm, oninput: (/** @type {any} */ event) => { form.confirm = event.target.value; } }), ' s'),
          h('button', { type: 'button', disabled: this.isBusy, onclick: () => reload(true) }, 'Try it: what would change'), h('button', { type: 'submit', class: 'main', disabled: this.isBusy }, 'Reload'))
          : [h('p', { class: 'note' }, 'It needs the role admin. On the broker’s machine:'), this.command('tapline ctl reload confirm 60s')],
        this.answered()),
      receipt && h('section', { class: 'block' }, h('h2', null, 'Receipt ', h('span', { class: 'note' }, `plan ${receipt.id}, by ${receipt.by?.user ?? '?'}, ${date(receipt.time)}, ${receipt.before?.slice(0, 7)} → ${receipt.after?.slice(0, 7)}`)),
        h('table', { class: 'plain' }, h('tbody', null,
          h('tr', null, h('th', { scope: 'row' }, 'times'), h('td', null, `planned ${receipt.planned_ms} ms, swapped in ${receipt.swapped_us} µs, retired in ${receipt.retired_ms} ms`)),
          Object.entries(receipt.objects ?? {}).map(([kind, moved]) => h('tr', null, h('th', { scope: 'row' }, kind), h('td', null, objects(moved)))),
          h('tr', null, h('th', { scope: 'row' }, 'lost'), h('td', { class: receipt.lost?.packets || receipt.lost?.copies ? 'bad' : null }, `${exact(receipt.lost?.packets ?? 0)} packets, ${exact(receipt.lost?.copies ?? 0)} copies`)),
          h('tr', null, h('th', { scope: 'row' }, 'account'), h('td', { class: receipt.balanced ? 'good' : 'bad' }, receipt.balanced ? '✓ balanced' : '✗ not balanced'))))),
      receipt?.id > 1 && h('section', { class: 'block' }, h('h2', null, 'Text ', h('span', { class: 'note' }, `plan ${receipt.id - 1} → ${receipt.id}`)),
        this.diff ? h('pre', { class: 'text', tabindex: 0 }, this.diff.trimEnd().split('\n').map(line => h('span', { class: line.startsWith('+') ? 'plus' : line.startsWith('-') ? 'minus' : null }, `${line}\n`)))
          : this.may('viewer') ? h('button', { type: 'button', onclick: () => this.readDiff(receipt.id) }, 'Show the commands that differ') : this.command(`tapline ctl show diff ${receipt.id - 1} ${receipt.id}`)),
      plan?.text && h('section', { class: 'block' }, h('h2', null, 'Plan in force ', h('span', { class: 'note' }, `number ${plan.id}, ${plan.sha256.slice(0, 12)}, ${exact(plan.text.split('\n').length - 1)} commands`)),
        h('pre', { class: 'text', tabindex: 0 }, plan.text.length > 60000 ? `${plan.text.slice(0, 60000)}\n…` : plan.text))];
  }
}

/** What became of the objects of one kind. @param {any} moved */
function objects(moved) {
  const names = (/** @type {any[]} */ list) => list.slice(0, 6).map(one => typeof one === 'object' ? `${one.name}: ${one.what}` : one).join(', ') + (list.length > 6 ? ', …' : '');
  const parts = Object.entries(moved).filter(([, list]) => Array.isArray(list) && list.length)
    .map(([word, list]) => word === 'kept' ? `${list.length} kept` : `${list.length} ${word.replace('_', ' ')} (${names(list)})`);
  return parts.join(', ') || 'none';
}

customElements.define('tl-app', App);
