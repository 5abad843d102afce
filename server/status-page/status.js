// The status page: opens a link, then asks every two seconds, while it can be seen, how the server does.
const EVERY_MS = 2000;
const HISTORY = 60;

const at = id => document.getElementById(id);
const element = (tag, props = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), props);
  made.append(...children);
  return made;
};

const number = new Intl.NumberFormat('en');
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

function bytes(n) {
  let unit = 0;
  while (n >= 1024 && unit < UNITS.length - 1) { n /= 1024; unit += 1; }
  return `${n.toLocaleString('en', { maximumFractionDigits: n < 10 && unit ? 1 : 0 })} ${UNITS[unit]}`;
}

function span(seconds) {
  if (seconds < 120) return [Math.round(seconds), 'second'];
  if (seconds < 7200) return [Math.round(seconds / 60), 'minute'];
  if (seconds < 172800) return [Math.round(seconds / 3600), 'hour'];
  return [Math.round(seconds / 86400), 'day'];
}

function ago(seconds) {
  const [n, unit] = span(Math.max(seconds, 0));
  return relative.format(-n, unit);
}

/** Writes a text where it differs: whoever reads or selects is not disturbed. */
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function say(text, bad) {
  write(at('state'), text);
  at('state').classList.toggle('bad', bad);
}

// ---- opening

async function openLink() {
  const secret = location.hash.slice(1);
  if (!/^[0-9a-f]{64}$/.test(secret)) return;
  // Out of the address and the history before anything else: it is good only once anyway.
  history.replaceState(null, '', location.pathname);
  const answer = await fetch('/status/open', { method: 'POST', headers: { authorization: `Bearer ${secret}` } });
  if (!answer.ok) write(at('why'), (await answer.text()).trim());
}

// ---- tiles

const tiles = new Map();

function tile(name, value, more = '', bad = false) {
  if (!tiles.has(name)) {
    const made = element('div', {}, element('dt', { textContent: name }), element('dd'), element('dd'));
    tiles.set(name, made);
    at('tiles').append(made);
  }
  const made = tiles.get(name);
  const [first, second] = made.querySelectorAll('dd');
  write(first, value);
  write(second, more);
  made.classList.toggle('bad', bad);
}

const rates = [];

function sparkline() {
  const made = tiles.get('Rows a second');
  let line = made.querySelector('polyline');
  if (!line) {
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    line = document.createElementNS('http://www.w3.org/2000/svg', 'polyline');
    svg.setAttribute('viewBox', `0 0 ${HISTORY - 1} 20`);
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('aria-hidden', 'true');
    svg.append(line);
    made.append(svg);
  }
  const most = Math.max(...rates, 1);
  const x = n => HISTORY - rates.length + n;
  line.setAttribute('points', rates.map((rate, n) => `${x(n)},${19 - 18 * rate / most}`).join(' '));
}

let before;

/** Rows and bytes a second, in and out, of all databases whose counts one may see. */
function throughput(seen) {
  const { rows, bytes: moved } = seen.totals.counts;
  const now = { ms: seen.now_ms, up: seen.up_seconds, databases: seen.totals.databases, rows, bytes: moved };
  const same = before && before.databases === seen.totals.databases && now.ms > before.ms && now.up >= before.up && now.rows >= before.rows;
  const seconds = same ? (now.ms - before.ms) / 1000 : 1;
  const rate = key => (same ? (now[key] - before[key]) / seconds : 0);
  const result = { rows: rate('rows'), bytes: rate('bytes') };
  before = now;
  rates.push(result.rows);
  if (rates.length > HISTORY) rates.shift();
  return result;
}

function state(d) {
  if (d.cannot_be_opened) return ` cannot be opened: ${d.cannot_be_opened}`;
  if (d.stopped) return ` ${plural(d.stopped, 'table', 'tables').join(' ')} stopped`;
  return d.at_rest ? ' at rest' : '';
}

function showTiles(seen) {
  const { disk, log, totals } = seen;
  const connected = seen.peers.filter(p => p.connected).length;
  tile('Devices connected', number.format(connected), `of ${number.format(seen.peers.length + seen.more_peers)}`);
  if (totals.counts) {
    const { rows, bytes: moved } = throughput(seen);
    tile('Rows a second', number.format(Math.round(rows)), `${bytes(moved)} a second, in and out`);
    sparkline();
  }
  tile('Databases', number.format(totals.databases), [
    `${number.format(totals.at_rest)} at rest`,
    totals.cannot_be_opened ? `${number.format(totals.cannot_be_opened)} cannot be opened` : '',
  ].filter(Boolean).join(', '));
  tile('Rows held', number.format(totals.held), totals.counts ? `${number.format(totals.counts.refused_rows)} refused since the start` : '');
  const age = log.age_seconds === null ? 'none signed yet' : `checkpoint ${ago(log.age_seconds)}`;
  tile('Log entries', number.format(log.entries), log.halted ? `unverified: ${log.halted}` : age, Boolean(log.halted));
  const free = disk.free === null ? 'unknown' : bytes(disk.free);
  tile('Disk free', free, `${bytes(disk.reserve)} in reserve`, Boolean(disk.stopped));
}

// ---- databases

const databases = new Map();

function fact(value, word, alert = false) {
  return element('span', { className: alert ? 'fact alert' : 'fact' }, element('b', { textContent: value }), ` ${word}`);
}

function plural(n, one, many) {
  return [number.format(n), n === 1 ? one : many];
}

/** When all tables were compared with their documents last, and what was found. */
function checked(d, now_ms) {
  if (d.check_unhealed > 0) return fact(number.format(d.check_unhealed), 'not as documents say', true);
  if (d.checked_ms === null) return fact('not', 'checked yet');
  const found = d.check_found > 0 ? `, ${number.format(d.check_found)} healed` : '';
  return fact('checked', `${ago(Math.max(0, (now_ms - d.checked_ms) / 1000))}${found}`);
}

function showDatabase(d, now_ms) {
  if (!databases.has(d.name)) {
    const body = element('tbody');
    const table = element('table', {},
      element('caption', { className: 'sr', textContent: `Tables of ${d.name}` }),
      element('thead', {}, element('tr', {},
        element('th', { scope: 'col', textContent: 'Table' }),
        element('th', { scope: 'col', className: 'number', textContent: 'Segments' }),
        element('th', { scope: 'col', className: 'number', textContent: 'Held' }))), body);
    const more = element('p', { className: 'soft' });
    const scroll = element('div', { className: 'scroll', tabIndex: 0, role: 'region', ariaLabel: `Tables of ${d.name}` }, table, more);
    const made = element('details', {}, element('summary'), scroll);
    databases.set(d.name, { made, body, more, rows: new Map() });
  }
  const { made, body, more, rows } = databases.get(d.name);
  const facts = [
    element('span', { className: 'name' }, d.name, element('small', { className: 'soft', textContent: state(d) })),
    fact(...plural(d.tables, 'table', 'tables')),
    fact(...plural(d.segments, 'segment', 'segments')),
    fact(...plural(d.connected, 'connected', 'connected')),
    fact(number.format(d.held), 'held', d.held > 0),
    checked(d, now_ms),
    d.counts ? fact(number.format(d.counts.refused_rows), 'refused', d.counts.refused_rows > 0) : element('span'),
  ];
  const summary = made.querySelector('summary');
  if (summary.textContent !== facts.map(f => f.textContent).join('')) summary.replaceChildren(...facts);
  for (const c of d.containers) {
    if (!rows.has(c.name)) {
      const row = element('tr', {}, element('th', { scope: 'row', textContent: c.name.slice(d.name.length + 1) }),
        element('td', { className: 'number' }), element('td', { className: 'number' }));
      rows.set(c.name, row);
      body.append(row);
    }
    const cells = rows.get(c.name).children;
    write(cells[1], number.format(c.segments));
    write(cells[2], number.format(c.held));
    cells[2].classList.toggle('alert', c.held > 0);
    write(cells[0], c.name.slice(d.name.length + 1) + (c.stopped ? ` · stopped: ${c.stopped.words}` : ''));
    cells[0].classList.toggle('alert', Boolean(c.stopped));
  }
  write(more, d.tables > d.containers.length ? `and ${number.format(d.tables - d.containers.length)} more` : '');
  return made;
}

/** Puts nodes in this order without touching those that are in place. */
function arrange(parent, nodes) {
  nodes.forEach((node, n) => { if (parent.children[n] !== node) parent.insertBefore(node, parent.children[n] ?? null); });
  while (parent.children.length > nodes.length) parent.lastChild.remove();
}

// ---- devices

const peers = new Map();

function showPeer(p, now_ms) {
  if (!peers.has(p.key)) {
    // With their roles told, since on a phone each row is a card.
    const cell = (label, className = '', ...children) => {
      const made = element('td', { role: 'cell', className }, ...children);
      made.dataset.label = label;
      return made;
    };
    const row = element('tr', { role: 'row' }, element('th', { scope: 'row', role: 'rowheader' }));
    row.append(cell('Key', '', element('code')), cell('May', '', element('code')), cell('Last seen', 'seen'),
      cell('To send', 'number'), cell('To come', 'number'));
    peers.set(p.key, row);
  }
  const row = peers.get(p.key);
  const [name, key, may, seen, send, come] = row.children;
  write(name, p.name || 'unnamed');
  write(key.firstChild, p.key);
  write(may.firstChild, p.may.join(' '));
  write(seen, p.connected ? 'connected' : p.seen_ms ? ago((now_ms - p.seen_ms) / 1000) : 'not yet');
  seen.classList.toggle('on', p.connected);
  write(send, p.to_send === null ? '–' : number.format(p.to_send));
  write(come, p.to_come === null ? '–' : number.format(p.to_come));
  return row;
}

// ---- going round

function show(seen) {
  at('closed').hidden = true;
  at('open').hidden = false;
  if (seen.disk.stopped) say(`Takes nothing in: ${seen.disk.stopped}`, true);
  else if (seen.log.halted) say('Serving; its log is unverified', true);
  else say('Serving', false);
  const [n, unit] = span(seen.up_seconds);
  write(at('about'), `version ${seen.version} · up for ${n} ${unit}${n === 1 ? '' : 's'} · you administer ${seen.grants.join(' ')}`);
  showTiles(seen);
  arrange(at('databases'), seen.databases.length
    ? seen.databases.map(d => showDatabase(d, seen.now_ms))
    : [element('p', { className: 'soft', textContent: 'There is no database that you administer.' })]);
  write(at('more-databases'), seen.more_databases ? `and ${number.format(seen.more_databases)} more` : '');
  arrange(at('peers'), seen.peers.map(p => showPeer(p, seen.now_ms)));
  write(at('more-peers'), seen.more_peers ? `and ${number.format(seen.more_peers)} more` : '');
}

async function look() {
  let answer;
  try {
    answer = await fetch('/status/now', { cache: 'no-store' });
  } catch {
    say('The server does not answer; trying again', true);
    return true;
  }
  if (answer.status === 401) {
    at('open').hidden = true;
    at('closed').hidden = false;
    say('Not open', true);
    return false;
  }
  if (answer.ok) show(await answer.json());
  else say((await answer.text()).trim(), true);
  return true;
}

let timer;

async function round() {
  clearTimeout(timer);
  if (document.hidden) return;
  if (await look()) timer = setTimeout(round, EVERY_MS);
}

document.addEventListener('visibilitychange', round);
window.addEventListener('hashchange', async () => { await openLink(); round(); });
await openLink();
round();
