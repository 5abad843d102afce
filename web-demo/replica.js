// Replica: one device. All of sync is in `open`, `join` and `track`; the rest is ordinary SQL on ordinary tables.
import { open } from './piecewise/index.js';
import { board } from './cards.js';
import { inbox } from './inbox.js';
import { people } from './people.js';

const SCHEMA = `CREATE TABLE IF NOT EXISTS cards(
  id TEXT PRIMARY KEY, title TEXT NOT NULL UNIQUE, note TEXT NOT NULL DEFAULT '',
  status TEXT NOT NULL DEFAULT 'todo', votes INTEGER NOT NULL DEFAULT 0, made INTEGER NOT NULL DEFAULT 0)`;
const NOTHING_KEPT = 'This window keeps nothing: what you write is gone when it is closed.';

/** Fills a section with a replica: its database, and whether it has joined a server; `told` hears when that may have changed. */
export async function replica(section, name, title, invite, told) {
  const $ = selector => section.querySelector(selector);
  let notice = '', status;
  const problem = error => { $('.problem').textContent = [notice, error && say(error)].filter(Boolean).join(' '); };
  /** A handler that tells of what goes wrong. */
  const act = work => async event => { event?.preventDefault?.(); try { await work(event); problem(); } catch (error) { problem(error); } };

  let db;
  try { db = await open(name, { device: `Board (${title})` }); } catch (error) {
    if (error.code !== 'STORAGE') { problem(error); return { name, title, joined: () => false, isGone: () => false }; }
    db = await open(name, { memory: true, device: `Board (${title})` });
    notice = NOTHING_KEPT;
  }
  const join = async text => {
    await db.join(text, { database: 'board' });
    await db.exec(SCHEMA);
    await db.track('cards', { text: ['note'], counter: ['votes'] });
  };
  status = await db.status();
  people.set(status.key, title);
  if (!status.database && invite) await join(invite).catch(problem);
  await db.exec(SCHEMA);

  $('.join').onsubmit = act(async event => { await join(event.target.elements.invite.value.trim()); await show(); });
  $('.add').onsubmit = act(async event => {
    const { title } = event.target.elements;
    const text = title.value.trim();
    // At once, for the next may be typed already.
    title.value = '';
    try { await db.run('INSERT INTO cards(id, title, made) VALUES (?, ?, ?)', [unique(), text, Date.now()]); } catch (error) {
      title.value ||= text;
      throw error;
    }
  });
  $('.switch input').onchange = act(event => (event.target.checked ? db.connect() : db.disconnect()));
  $('.again').onclick = act(() => db.connect());

  const cards = board(section, db, act);
  const showInbox = inbox($('.inbox'), db, act, cards);
  /** One at a time: what is told meanwhile is shown after it. */
  let showing = false, again = false;
  const show = async () => {
    if (showing) { again = true; return; }
    showing = true;
    do {
      again = false;
      status = await db.status();
      showState(section, name, status);
      told();
      await showInbox(status);
    } while (again);
    showing = false;
  };
  cards.changed = show;
  db.on('status', show);
  db.on('error', event => { if (event.error.code !== 'UNREACHABLE') problem(event.error); });
  problem();
  await show();
  return { name, title, db, section, joined: () => Boolean(status.database), isGone: () => status.online && !status.open && status.problem?.code === 'UNREACHABLE' };
}

/** The state of sync, in words. */
function showState(section, name, status) {
  const $ = selector => section.querySelector(selector);
  const waiting = status.tables.reduce((sum, table) => sum + table.changesWaiting, status.writesWaiting);
  const waits = waiting ? ` · ${waiting} ${waiting === 1 ? 'change' : 'changes'} waiting` : '';
  const gone = status.problem && status.problem.code !== 'UNREACHABLE';
  const [kind, words] = !status.database ? ['offline', 'Not joined to a server yet']
    : !status.online ? ['offline', `Offline${waits}`]
      : gone ? ['wrong', `${say(status.problem)}${waits}`]
        : !status.open ? ['away', `Server not reachable, trying again${waits}`]
          : status.level ? ['level', 'Level with the server']
            : ['busy', `Syncing …${waits}`];
  section.dataset.state = kind;
  document.querySelector(`#pick [data-name=${name}]`).dataset.state = kind;
  if ($('.words').textContent !== words) $('.words').textContent = words;
  $('.join').hidden = Boolean(status.database);
  $('.again').hidden = kind !== 'away' && kind !== 'wrong';
  $('.switch input').checked = status.online;
  $('.switch').hidden = !status.database;
  const { alarm, entries, checkpoint, name: log } = status.log;
  $('.log').hidden = !entries && !alarm;
  $('.log summary').textContent = alarm ? `The server's log is not what it was: ${alarm.reason}` : `Server's log verified: ${entries} entries`;
  $('.log pre').textContent = alarm ? [alarm.ours, alarm.theirs].filter(Boolean).join('\n') : `${checkpoint ?? ''}\n${log ?? ''}`;
}

/** An error as a person reads it. */
function say({ code, message, hint }) {
  if (code === 'CONSTRAINT') return 'There is a card with this title already.';
  return [message, hint].filter(Boolean).map(text => `${text[0].toUpperCase()}${text.slice(1)}`).join('. ');
}

/** `crypto.randomUUID` is not there on pages without TLS. */
const unique = () => [...crypto.getRandomValues(new Uint8Array(16))].map(byte => byte.toString(16).padStart(2, '0')).join('');
