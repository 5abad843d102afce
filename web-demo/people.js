// People: what they read instead of keys, times and codes.

export const STATUS = { todo: 'To do', doing: 'Doing', done: 'Done' };

/** Names of the devices on this page. */
export const people = new Map();
export const who = (key, name) => people.get(key) ?? name ?? `${key.slice(0, 4)}…${key.slice(-2)}`;

export function when(ms) {
  const time = new Date(ms);
  const today = time.toDateString() === new Date().toDateString();
  return today ? time.toLocaleTimeString() : time.toLocaleString();
}
