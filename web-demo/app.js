// The board: ordinary tables, ordinary SQL; all of sync is in `open`, `join` and `track`.
import { open } from './piecewise/index.js';

const SCHEMA = `CREATE TABLE IF NOT EXISTS cards(
  id TEXT PRIMARY KEY, title TEXT NOT NULL UNIQUE, note TEXT NOT NULL DEFAULT '',
  status TEXT NOT NULL DEFAULT 'todo', votes INTEGER NOT NULL DEFAULT 0, made INTEGER NOT NULL DEFAULT 0)`;
const CARDS = `SELECT * FROM cards ORDER BY status = 'done', made, id`;
const NAMES = { board: 'Phone', 'board-laptop': 'Laptop' };

const $ = (selector, root = document) => root.querySelector(selector);
const copy = id => document.getElementById(id).content.firstElementChild.cloneNode(true);
const invites = new URLSearchParams(location.hash.slice(1)).get('invites')?.split(',') ?? [];
if (invites.length) history.replaceState(null, '', location.pathname);
const people = new Map();

await Promise.all(Object.entries(NAMES).map(([name, title], n) => replica(name, title, invites[n])));
navigator.serviceWorker?.register('sw.js');
navigator.storage?.persist?.();
document.body.dataset.ready = 'yes';

async function replica(name, title, invite) {
  const section = copy('replica');
  section.dataset.name = name;
  $('#replicas').append(section);
  $('h2', section).textContent = title;
  $('.add label', section).htmlFor = $('.add input', section).id = `${name}-new`;
  const problem = error => { $('.problem', section).textContent = error ? [error.message, error.hint].filter(Boolean).join(' · ') : ''; };

  let db;
  try { db = await open(name, { device: `Board (${title})` }); } catch (error) {
    if (error.code !== 'STORAGE') return problem(error);
    db = await open(name, { memory: true, device: `Board (${title})` });
    problem({ message: 'this window keeps nothing: what you write is gone when it is closed' });
  }
  (window.boards ??= {})[name] = db;
  const act = work => async event => { event?.preventDefault?.(); try { await work(event); problem(); } catch (error) { problem(error); } };

  const join = async text => {
    await db.join(text, { database: 'board' });
    await db.exec(SCHEMA);
    await db.track('cards', { text: ['note'], counter: ['votes'] });
  };
  let status = await db.status();
  people.set(status.key, title);
  if (!status.database && invite) await join(invite).catch(problem);
  await db.exec(SCHEMA);

  const form = $('.join', section);
  form.onsubmit = act(async () => { await join(form.invite.value.trim()); await showState(); });
  $('.add', section).onsubmit = act(async event => {
    const input = event.target.elements.title;
    await db.run('INSERT INTO cards(id, title, made) VALUES (?, ?, ?)', [crypto.randomUUID(), input.value.trim(), Date.now()]);
    input.value = '';
  });
  const online = $('.switch input', section);
  online.onchange = act(() => (online.checked ? db.connect() : db.disconnect()));

  const showState = async () => {
    status = await db.status();
    form.hidden = Boolean(status.database);
    online.checked = status.online;
    const waiting = status.writesWaiting + status.tables.reduce((n, t) => n + t.segmentsWaiting, 0);
    const log = status.log.alarm ? ` · server unverified: ${status.log.alarm.reason}` : status.log.entries ? ` · log checked up to entry ${status.log.entries}` : '';
    $('.state', section).textContent = !status.database ? 'Not joined to a server: paste an invite'
      : (!status.online ? `Offline${waiting ? `, ${waiting} changes waiting` : ''}`
        : !status.open ? `Server not reachable, trying again${waiting ? `, ${waiting} changes waiting` : ''}`
          : status.level ? 'Level with the server' : 'Syncing …') + log;
    await showInbox();
  };

  const inbox = $('.inbox', section);
  const showInbox = async () => {
    const [conflicts, held, refused] = await Promise.all([db.conflicts(), db.held(), db.refused()]);
    const items = [
      ...conflicts.map(conflict => item(conflict.kind === 'cell' ? `“${conflict.column}” was written on both sides` : 'Two cards have one key',
        (conflict.kind === 'cell' ? [conflict.shown, ...conflict.others].map(w => [w.value, w]) : [[conflict.shown.title], ...conflict.others.map(o => [o.row.title, o])])
          .map(([text, by], n) => [`${n === 0 ? 'Keep' : 'Take'} “${text}”${by ? ` (${who(by.author)})` : ''}`,
            () => db.choose(conflict.table, conflict.key, n, { column: conflict.column })]))),
      ...held.map(row => item(`“${row.row.title}” is held: ${row.cause}`, [
        ['Rename it', async () => {
          const title = `${row.row.title} (2)`;
          await db.run('INSERT INTO cards(id, title, note, status, votes, made) VALUES (?, ?, ?, ?, ?, ?)', [row.key, title, row.row.note, row.row.status, row.row.votes, row.row.made]);
        }]])),
      ...(refused.length ? [item(`${refused.length} rows were not taken by the server: ${refused[0].reason}`, [['Try again', () => db.retryRefused()], ['Give up', () => db.revertRefused()]])] : []),
    ];
    inbox.hidden = items.length === 0;
    $('ul', inbox).replaceChildren(...items);
  };
  const item = (text, choices) => {
    const li = document.createElement('li');
    li.append(Object.assign(document.createElement('span'), { textContent: text }));
    const line = Object.assign(document.createElement('div'), { className: 'choices' });
    for (const [label, work] of choices) {
      const button = Object.assign(document.createElement('button'), { type: 'button', textContent: label });
      button.onclick = act(async () => { await work(); await showState(); });
      line.append(button);
    }
    li.append(line);
    return li;
  };

  const cards = new Map();
  db.subscribe(CARDS, [], rows => {
    const list = $('.cards', section);
    for (const [id, card] of cards) if (!rows.some(row => row.id === id)) { card.element.remove(); cards.delete(id); }
    rows.forEach((row, place) => {
      const card = cards.get(row.id) ?? make(row.id);
      card.show(row);
      if (list.children[place] !== card.element) list.insertBefore(card.element, list.children[place] ?? null);
    });
    showState();
  }, problem);

  function make(id) {
    const element = copy('card');
    const set = (column, value) => act(() => db.run(`UPDATE cards SET ${column} = ? WHERE id = ?`, [value(), id]));
    const [title, note, state, votes] = ['.title', '.note', '.status', '.votes'].map(selector => $(selector, element));
    title.onchange = set('title', () => title.value.trim() || 'Untitled');
    note.oninput = set('note', () => note.value);
    state.onchange = set('status', () => state.value);
    votes.onclick = act(() => db.run('UPDATE cards SET votes = votes + 1 WHERE id = ?', [id]));
    $('.delete', element).onclick = act(() => db.run('DELETE FROM cards WHERE id = ?', [id]));
    $('.history', element).onclick = act(() => showHistory(id));
    const card = {
      element,
      show(row) {
        element.classList.toggle('done', row.status === 'done');
        if (document.activeElement !== title) title.value = row.title;
        if (note.value !== row.note) keepCaret(note, row.note);
        state.value = row.status;
        votes.textContent = `▲ ${row.votes}`;
        votes.setAttribute('aria-label', `Vote for ${row.title}, ${row.votes} votes`);
        $('.delete', element).setAttribute('aria-label', `Delete ${row.title}`);
        $('.history', element).setAttribute('aria-label', `History of ${row.title}`);
      },
    };
    cards.set(id, card);
    return card;
  }

  const dialog = $('#history');
  async function showHistory(id) {
    const entries = await db.history('cards', id, { log: true });
    $('ol', dialog).replaceChildren(...entries.map(entry => {
      const li = document.createElement('li');
      const columns = Object.entries(entry.columns).map(([column, what]) => `${column} = ${what}`).join(', ');
      li.append(`${entry.kind} by ${who(entry.author)}, ${new Date(entry.time).toLocaleString()}`);
      const log = entry.log ? `log entry ${entry.log.entry}, proven` : status.open ? 'not in the log yet' : 'log not asked: offline';
      li.append(Object.assign(document.createElement('small'), { textContent: [columns, log].filter(Boolean).join(' · ') }));
      return li;
    }));
    dialog.showModal();
  }

  db.on('status', showState);
  db.on('error', event => problem(event.error));
  await showState();
}

const who = key => people.get(key) ?? `${key.slice(0, 4)}…${key.slice(-2)}`;

/** Puts a text that merged into a field that somebody types in: the caret stays with the characters around it. */
function keepCaret(field, text) {
  const { selectionStart: start, selectionEnd: end, value } = field;
  let same = 0;
  while (same < Math.min(value.length, text.length) && value[same] === text[same]) same++;
  const shift = text.length - value.length;
  field.value = text;
  if (document.activeElement === field) field.setSelectionRange(start > same ? start + shift : start, end > same ? end + shift : end);
}
