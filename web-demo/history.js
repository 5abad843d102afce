// History: who did what to a card and when, and where the server's log proves it.
import { STATUS, when, who } from './people.js';

/** Edits of one device that follow each other this closely are one in the list. */
const GOES_ON_MS = 3000;
const HIDDEN = new Set(['id', 'made']);
/** The one text column is the note. */
const COLUMNS = { '(text)': 'note' };
const KINDS = { insert: 'made the card', edit: 'edited', delete: 'deleted the card' };

/** Shows the history of a card in the page's dialog. */
export async function showHistory(db, id, title) {
  const dialog = document.getElementById('history');
  dialog.querySelector('h3').textContent = `History of “${title}”`;
  const [entries, status] = await Promise.all([db.history('cards', id, { log: true }), db.status()]);
  const line = (tag, text, className = '') => Object.assign(document.createElement(tag), { textContent: text, className });
  dialog.querySelector('ol').replaceChildren(...together(entries).map(({ first, changes, log, state }) => {
    const li = document.createElement('li');
    li.append(line('strong', `${who(first.author, first.authorName)} ${KINDS[first.kind]}`), ' ', line('time', when(first.time)));
    for (const [column, what] of changes) li.append(line('span', `${column}: ${what}`, 'what'));
    if (state !== 'counts') li.append(line('small', state === 'waits' ? 'waits for an earlier change' : 'void', 'warn'));
    li.append(line('small', log ?? (status.open ? 'not in the server\'s log yet' : 'offline: the server\'s log was not asked')));
    return li;
  }));
  dialog.showModal();
}

/** What an entry did to the columns that people know; of a new card, its title. */
const told = ({ kind, columns }) => Object.entries(columns)
  .filter(([column]) => (kind === 'insert' ? column === 'title' || column === '(text)' : !HIDDEN.has(column)))
  .map(([column, what]) => [COLUMNS[column] ?? column, column === 'status' ? STATUS[what] ?? what : what]);

/** What one device did to the card in one go, such as typing, as one line. */
function together(entries) {
  const lines = [];
  for (const entry of entries) {
    const last = lines.at(-1);
    const changes = told(entry);
    const goesOn = last && entry.kind === 'edit' && last.first.kind === 'edit' && entry.author === last.first.author
      && entry.time - last.until < GOES_ON_MS && entry.state === last.state && Boolean(entry.log) === Boolean(last.to !== null);
    if (!goesOn) { lines.push({ first: entry, until: entry.time, changes, state: entry.state, from: entry.log?.entry ?? null, to: entry.log?.entry ?? null }); continue; }
    for (const [column, what] of changes) {
      const before = last.changes.find(change => change[0] === column);
      if (!before) last.changes.push([column, what]);
      else before[1] = column === 'note' && /^\+".*"$/.test(before[1]) && /^\+".*"$/.test(what) ? `${before[1].slice(0, -1)}${what.slice(2)}` : `${before[1]}, ${what}`;
    }
    Object.assign(last, { until: entry.time, to: entry.log?.entry ?? null });
  }
  const proven = ({ from, to }) => (from === null ? null : from === to ? `entry ${to} of the server's log, proven` : `entries ${from} to ${to} of the server's log, proven`);
  return lines.map(one => ({ ...one, log: proven(one) }));
}
