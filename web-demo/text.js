// Text: what somebody types, and what comes from elsewhere meanwhile, in one field. Nothing here knows of sync: the
// database merges what two devices wrote; this keeps the field from writing over what arrived between two keystrokes.

/** Where two texts differ: from `at`, `removed` characters gave way to `added`. */
function difference(from, to) {
  let at = 0, end = 0;
  const most = Math.min(from.length, to.length);
  while (at < most && from[at] === to[at]) at++;
  while (end < most - at && from[from.length - 1 - end] === to[to.length - 1 - end]) end++;
  return { at, removed: from.length - at - end, added: to.slice(at, to.length - end) };
}

/** `mine` and `theirs` were both made of `base`: a text with both edits. */
export function rebase(base, mine, theirs) {
  const [own, other] = [difference(base, mine), difference(base, theirs)];
  if (other.at + other.removed <= own.at) {
    const at = own.at + other.added.length - other.removed;
    return theirs.slice(0, at) + own.added + theirs.slice(at + own.removed);
  }
  if (own.at + own.removed <= other.at) return theirs.slice(0, own.at) + own.added + theirs.slice(own.at + own.removed);
  // Both replaced the same characters: theirs, then mine.
  const at = Math.min(other.at + other.added.length, theirs.length);
  return theirs.slice(0, at) + own.added + theirs.slice(at);
}

/** Puts a text into a field that somebody may type in: the caret stays with the characters around it. */
export function put(field, text) {
  if (field.value === text) return;
  const { selectionStart, selectionEnd, value } = field;
  const { at, removed, added } = difference(value, text);
  const moved = place => (place <= at ? place : Math.max(at, place - removed) + added.length);
  field.value = text;
  if (document.activeElement === field) field.setSelectionRange(moved(selectionStart), moved(selectionEnd));
}

/**
 * Binds a field to a stored text. `write(text, base)` stores it if `base` still stands, and says so; `read()` gives what
 * stands, undefined if it is gone. The result takes in what changed elsewhere.
 */
export function bind(field, base, { write, read, failed }) {
  let busy = false;
  const settle = async () => {
    if (busy) return;
    busy = true;
    try {
      for (;;) {
        const text = field.value;
        if (text !== base && await write(text, base)) base = text;
        const stands = await read();
        if (stands === undefined) break;
        if (stands !== base) {
          put(field, rebase(base, field.value, stands));
          base = stands;
        }
        if (field.value === base) break;
      }
    } catch (error) { failed(error); } finally { busy = false; }
  };
  field.addEventListener('input', settle);
  return text => { if (text !== base) settle(); };
}
