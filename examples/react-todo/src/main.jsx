// A to-do list that works offline: every list, count and status below is live.
import { createRoot } from 'react-dom/client';
import { open } from 'piecewise';
import { PiecewiseProvider, useConflicts, useDatabase, useQuery, useStatus } from 'piecewise/react';
import './style.css';

const SCHEMA = 'CREATE TABLE IF NOT EXISTS todos(id TEXT PRIMARY KEY, title TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0, made INTEGER NOT NULL)';

/** Opens the database of this browser. It works at once, and syncs from when it has joined. */
async function openTodos() {
  const db = await open('todos');
  await db.exec(SCHEMA);
  return db;
}

async function join(db, invite) {
  await db.join(invite, { database: 'todos' });
  await db.track('todos');
}

function App() {
  const db = useDatabase();
  const { rows, isLoading, error } = useQuery('SELECT id, title, done FROM todos ORDER BY done, made');
  const { rows: [left] } = useQuery('SELECT count(*) AS count FROM todos WHERE done = 0');

  const add = form => {
    const title = form.get('title').trim();
    if (title) return db.run('INSERT INTO todos(id, title, made) VALUES (:id, :title, :made)', { id: crypto.randomUUID(), title, made: Date.now() });
  };
  if (error) return <p role="alert">{error.message}. {error.hint}</p>;
  if (isLoading) return <p>Loading …</p>;
  return (
    <main>
      <h1>To do: {left?.count}</h1>
      <form action={add}>
        <input name="title" aria-label="New" placeholder="What is to be done?" autoComplete="off" required />
        <button>Add</button>
      </form>
      <ul>
        {rows.map(row => (
          <li key={row.id} className={row.done ? 'done' : ''}>
            <label>
              <input type="checkbox" checked={row.done === 1} onChange={event => db.run('UPDATE todos SET done = ? WHERE id = ?', [event.target.checked, row.id])} />
              {row.title}
            </label>
            <button aria-label={`Delete ${row.title}`} onClick={() => db.run('DELETE FROM todos WHERE id = ?', [row.id])}>✕</button>
          </li>
        ))}
      </ul>
      <Sync />
    </main>
  );
}

/** How sync stands, and the way to it. */
function Sync() {
  const db = useDatabase();
  const status = useStatus();
  const conflicts = useConflicts();
  if (!status) return null;
  if (!status.database) {
    return (
      <form action={form => join(db, form.get('invite')).catch(error => alert(error.message))}>
        <input name="invite" aria-label="Invite" placeholder="piecewise1-…" required />
        <button>Sync with a server</button>
      </form>
    );
  }
  const waiting = status.tables.reduce((sum, table) => sum + table.changesWaiting, status.writesWaiting);
  const words = !status.online ? 'offline' : status.level ? 'in sync' : status.open ? 'syncing …' : status.problem?.message ?? 'connecting …';
  return (
    <footer>
      <label><input type="checkbox" checked={status.online} onChange={event => (event.target.checked ? db.connect() : db.disconnect())} /> online</label>
      <span role="status">{words}{waiting > 0 && `, ${waiting} waiting`}</span>
      {conflicts.map(({ key, column, others }) => (
        <span key={`${key} ${column}`}>Elsewhere it was “{others?.[0].value}” <button onClick={() => db.choose('todos', key, 1, { column })}>Take that</button></span>
      ))}
    </footer>
  );
}

createRoot(document.getElementById('root')).render(<PiecewiseProvider database={openTodos()}><App /></PiecewiseProvider>);
