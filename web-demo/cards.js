// Cards: the board of one replica, drawn from a live query.
import { showHistory } from './history.js';
import { STATUS } from './people.js';
import { bind } from './text.js';

const ALL = 'SELECT * FROM cards ORDER BY made, id';

const copy = id => document.getElementById(id).content.firstElementChild.cloneNode(true);

/** Draws the board and keeps it drawn; `rows` are its cards by id. */
export function board(section, db, act) {
  const cards = new Map();
  const result = { rows: new Map(), changed: () => {} };
  const groups = new Map(Object.entries(STATUS).map(([status, words]) => {
    const group = copy('group');
    group.querySelector('h3').textContent = words;
    section.querySelector('.groups').append(group);
    return [status, group];
  }));

  db.subscribe(ALL, [], rows => {
    result.rows = new Map(rows.map(row => [row.id, row]));
    for (const [id, card] of cards) if (!result.rows.has(id)) { card.element.remove(); cards.delete(id); }
    for (const [status, group] of groups) {
      const list = group.querySelector('.cards');
      const here = rows.filter(row => (row.status in STATUS ? row.status : 'todo') === status);
      group.hidden = here.length === 0;
      here.forEach((row, n) => {
        const card = cards.get(row.id) ?? make(row);
        if (list.children[n] !== card.element) move(list, card.element, list.children[n] ?? null);
        card.show(row);
      });
    }
    section.querySelector('.empty').hidden = rows.length > 0;
    result.changed();
  });

  function make(row) {
    const { id } = row;
    const element = copy('card');
    element.dataset.id = id;
    const $ = selector => element.querySelector(selector);
    const set = (column, value) => db.run(`UPDATE cards SET ${column} = ? WHERE id = ?`, [value, id]);
    const [title, note, status, votes] = ['.title', '.note', '.status', '.votes'].map($);
    let shown = row.title;
    title.value = shown;
    title.onchange = act(async () => {
      const text = title.value.trim();
      if (!text || text === shown) { title.value = shown; return; }
      try { await set('title', text); } catch (error) { title.value = shown; throw error; }
    });
    title.onkeydown = event => {
      if (event.key === 'Escape') title.value = shown;
      if (event.key === 'Escape' || event.key === 'Enter') title.blur();
    };
    note.value = row.note;
    const takeNote = bind(note, row.note, {
      write: async (text, base) => (await db.run('UPDATE cards SET note = ? WHERE id = ? AND note = ?', [text, id, base])).changes > 0,
      read: async () => (await db.query('SELECT note FROM cards WHERE id = ?', [id]))[0]?.note,
      failed: act(error => { throw error; }),
    });
    status.append(...Object.entries(STATUS).map(([value, words]) => new Option(words, value)));
    status.onchange = act(() => set('status', status.value));
    votes.onclick = act(() => db.run('UPDATE cards SET votes = votes + 1 WHERE id = ?', [id]));
    $('.history').onclick = act(() => showHistory(db, id, result.rows.get(id)?.title ?? ''));
    $('.delete').onclick = act(async () => {
      // The keyboard goes on where it was.
      const next = element.nextElementSibling ?? element.previousElementSibling;
      (next?.querySelector('.delete') ?? section.querySelector('.add input')).focus();
      await db.run('DELETE FROM cards WHERE id = ?', [id]);
    });
    const card = {
      element,
      show(row) {
        element.classList.toggle('done', row.status === 'done');
        shown = row.title;
        if (document.activeElement !== title) title.value = row.title;
        takeNote(row.note);
        if (document.activeElement !== status || status.value === row.status) status.value = row.status;
        votes.textContent = `▲ ${row.votes}`;
        votes.setAttribute('aria-label', `Vote for ${row.title}, ${row.votes} so far`);
        $('.delete').setAttribute('aria-label', `Delete ${row.title}`);
        $('.history').setAttribute('aria-label', `History of ${row.title}`);
      },
    };
    cards.set(id, card);
    return card;
  }
  return result;
}

/** Moves an element without taking the keyboard away from it. */
function move(list, element, before) {
  const held = element.contains(document.activeElement) ? document.activeElement : null;
  const caret = held?.selectionStart;
  list.insertBefore(element, before);
  held?.focus();
  if (typeof caret === 'number') held.setSelectionRange(caret, caret);
}
