// The field of the demo page: what is typed and what arrives meanwhile.
import assert from 'node:assert/strict';
import test from 'node:test';
import { bind, rebase } from '../../web-demo/text.js';

test('two edits of one text both stand, wherever they are', () => {
  const base = 'one two three';
  assert.equal(rebase(base, 'one two three four', 'zero one two three'), 'zero one two three four');
  assert.equal(rebase(base, 'zero one two three', 'one two three four'), 'zero one two three four');
  assert.equal(rebase(base, 'one three', 'one two three!'), 'one three!');
  assert.equal(rebase(base, 'one 2 three', 'one deux three'), 'one deux2 three');
  assert.equal(rebase(base, base, 'other'), 'other');
  assert.equal(rebase(base, 'mine', base), 'mine');
  assert.equal(rebase('', 'a', 'b'), 'ba');
});

test('what arrives between two keystrokes is not written over', async () => {
  globalThis.document = { activeElement: null };
  const field = Object.assign(new EventTarget(), { value: 'text', selectionStart: 0, selectionEnd: 0 });
  let stored = 'text';
  const store = {
    write: async (text, base) => {
      // Somebody else was faster, once.
      if (stored === 'text') stored = 'text from elsewhere';
      if (stored !== base) return false;
      stored = text;
      return true;
    },
    read: async () => stored,
    failed: error => { throw error; },
  };
  const stored_is = bind(field, 'text', store);
  field.value = 'my text';
  field.dispatchEvent(new Event('input'));
  field.value = 'my own text';
  field.dispatchEvent(new Event('input'));
  await new Promise(resolve => setImmediate(resolve));
  assert.deepEqual([field.value, stored], ['my own text from elsewhere', 'my own text from elsewhere']);
  stored = 'all new';
  stored_is('all new');
  await new Promise(resolve => setImmediate(resolve));
  assert.equal(field.value, 'all new');
});
