// Inbox: what wants a person's decision: values written at the same time, rows held, rows that the server refused.
import { STATUS, when, who } from './people.js';

const COLUMNS = { title: 'Title', status: 'Status', note: 'Note', made: 'Order' };

/** Draws the inbox into a section; the result draws it again. */
export function inbox(section, db, act, cards) {
  const list = section.querySelector('ul');
  let drawn = '';

  return async status => {
    const count = status.conflicts + status.held + status.refused;
    section.hidden = count === 0;
    if (count === 0) { drawn = ''; list.replaceChildren(); return; }
    const [conflicts, held, refused] = await Promise.all([db.conflicts(), db.held(), db.refused()]);
    // What is drawn already stays, with the keyboard's place and what was typed.
    const now = JSON.stringify([conflicts, held, refused]);
    if (now === drawn) return;
    drawn = now;
    const items = [...conflicts.map(conflict), ...held.map(heldRow), ...(refused.length ? [refusal(refused)] : [])];
    section.querySelector('h3').textContent = `Inbox: ${items.length} to decide`;
    list.replaceChildren(...items);
  };

  function conflict(found) {
    const choose = number => () => db.choose(found.table, found.key, number, { column: found.column });
    if (found.kind === 'cell') {
      const title = cards.rows.get(found.key)?.title ?? found.key;
      const choices = [found.shown, ...found.others].map((written, n) => ({
        words: `${n === 0 ? 'Keep' : 'Take'} “${STATUS[written.value] ?? written.value}”`, by: written, work: choose(n),
      }));
      return item(`${COLUMNS[found.column] ?? found.column} of “${title}” was written on both sides.`, choices);
    }
    const choices = [{ row: found.shown }, ...found.others].map((other, n) => ({
      words: `${n === 0 ? 'Keep' : 'Take'} “${other.row.title}”`, by: other.author && other, work: choose(n),
    }));
    return item('Two cards were made under one key.', choices);
  }

  function heldRow({ table, key, cause, row }) {
    const why = /UNIQUE/.test(cause) ? 'another card has this title, and had it earlier' : cause;
    const li = item(`“${row.title}” is held back: ${why}. It returns when one of the two has another title.`, []);
    const form = document.createElement('form');
    form.className = 'choices';
    const input = Object.assign(document.createElement('input'), { value: `${row.title} (2)`, required: true, maxLength: 120 });
    input.setAttribute('aria-label', `New title for ${row.title}`);
    form.append(input, Object.assign(document.createElement('button'), { textContent: 'Rename it' }));
    form.onsubmit = act(() => db.editHeld(table, key, { title: input.value.trim() }));
    li.append(form);
    return li;
  }

  function refusal(rows) {
    const words = rows.length === 1 ? 'A change was not taken by the server' : `${rows.length} changes were not taken by the server`;
    return item(`${words}: ${rows[0].reason}.`, [
      { words: 'Try again', work: () => db.retryRefused() }, { words: 'Give up and show what the server has', work: () => db.revertRefused() }]);
  }

  function item(text, choices) {
    const li = document.createElement('li');
    const line = Object.assign(document.createElement('div'), { className: 'choices' });
    for (const { words, by, work } of choices) {
      const button = Object.assign(document.createElement('button'), { type: 'button', textContent: words });
      if (by) button.append(Object.assign(document.createElement('small'), { textContent: `${who(by.author, by.authorName)}, ${when(by.time)}` }));
      button.onclick = act(work);
      line.append(button);
    }
    li.append(Object.assign(document.createElement('p'), { textContent: text }), ...(choices.length ? [line] : []));
    return li;
  }
}
