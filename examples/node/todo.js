// Adds a line to a list that is kept on a server, and prints the list: `node todo.js INVITE "Buy milk"`.
import { open } from 'piecewise';

const [invite, title] = process.argv.slice(2);
if (!invite) {
  console.error('usage: node todo.js INVITE [TITLE]');
  process.exit(2);
}

// Node has a WebSocket from version 22 on; before, the package ws has one.
const WebSocket = globalThis.WebSocket ?? (await import('ws')).WebSocket;
const db = await open('todos', { memory: true, device: 'node', WebSocket });
try {
  await db.join(invite, { database: 'todos' });
  await db.level();
  // The table comes from the server if it has one, with its rows.
  await db.exec('CREATE TABLE IF NOT EXISTS todos(id TEXT PRIMARY KEY, title TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0, made INTEGER NOT NULL)');
  await db.track('todos');
  if (title) {
    const insert = await db.prepare('INSERT INTO todos(id, title, made) VALUES (:id, :title, :made)');
    await insert.run({ id: crypto.randomUUID(), title, made: Date.now() });
  }
  await db.level();
  for (const row of await db.query('SELECT title, done FROM todos ORDER BY done, made')) console.log(`${row.done ? '✓' : '·'} ${row.title}`);
} catch (error) {
  console.error(`error: ${error.message}`);
  if (error.hint) console.error(`hint: ${error.hint}`);
  process.exitCode = 1;
} finally {
  await db.close();
}
