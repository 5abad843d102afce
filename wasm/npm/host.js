// Host: the one that owns a database: runs calls on the engine one after another, keeps the talk with the server going,
// tells of changes. It knows neither worker nor tab: `worker.js` and `memory.js` give it an engine, a place for settings
// and ways to tell.
import { fault, isTrap, plain, random, unique } from './fault.js';
import { Line } from './line.js';
import { Live } from './live.js';
import { yieldTo } from './turn.js';

/** Of writes in quick succession, such as typing, the first is captured at once, the next ones this long after it. */
const CAPTURE_EVERY_MS = 20;
/** While no server is there to see them, writes gather for at most this long: the edits of a row in between are one change. */
const GATHER_APART_MS = 60_000;
/** Findings of a check that are described; all are counted. */
const FINDINGS_MAX = 100;
/** Calls that leave nothing to capture. */
const READS = new Set(['status', 'conflicts', 'held', 'refused', 'history', 'export', 'level', 'connect', 'begin', 'close', 'prepare', 'watch', 'unwatch']);
/** Calls that an open transaction does not keep waiting. */
const ALWAYS = new Set(['within', 'end', 'close', 'unwatch']);
/** Statements that begin or end a transaction, and those that cannot stand in one of ours. */
const CONTROL = /^\s*(begin|commit|end|rollback|savepoint|release)\b/i;
const NOT_INSIDE = /^\s*(vacuum|pragma|attach|detach|select|explain|values)\b/i;
/** Writes of other tabs that are remembered. */
const CALLS_KEPT = 256;
/** Errors after which calling the server again would end the same. */
const LASTING = new Set(['WRONG_SERVER', 'OTHER_SERVER', 'BOUND', 'BAD_INVITE', 'NOT_GRANTED', 'VERSION', 'ADDRESS']);
const NOTE_EVERY_MS = 1000;
/** The server signs a checkpoint of its log a second after it has grown. */
const ASK_LOG_AFTER_MS = 1500;
const QUEUED_MAX = 4 << 20;

/** Results as text, with integers beyond 2^53. */
const toText = value => JSON.stringify(value, (_, one) => (typeof one === 'bigint' ? { bigint: String(one) } : one));
const fromText = text => JSON.parse(text, (_, one) => (typeof one?.bigint === 'string' ? BigInt(one.bigint) : one));

export class Host {
  #engine; #settings; #save; #tell; #died; #line;
  /** What came from the server and waits for a transaction to end; who waits for the server; proofs asked for. */
  #frames = []; #waiting = []; #proofs = [];
  /** An invite that is being used; the last error of the connection; whether both sides hold the same. */
  #joining = null; #problem = null; #level = false;
  /** Whether the server has let this device in over this connection; the error that was told since both sides were level. */
  #wasOpen = false; #told = null;
  /** The transaction that a page has open. */
  #open = null;
  /** Live queries, and how those of each tab end. */
  #live; #watched = new Map();
  #dirty = true; #captured = 0; #noted = 0; #asking = null; #pumping = false; #closed = false;
  /** How long writes gather while the server is there; since when some do, and what wakes us once they are to be captured. */
  #every; #since = null; #timer = null;

  /** `save(settings)` keeps settings; `tell(event)` hears `change`, `status`, `error`; `died(error)`, that the engine trapped. */
  constructor(engine, settings, { save, tell, died, WebSocket, every = 0 }) {
    this.#every = every;
    this.#engine = engine; this.#settings = settings; this.#tell = tell; this.#died = died;
    this.#save = () => save(settings).catch(error => this.#complain(error));
    this.#line = new Line({
      opened: () => this.#guard(() => this.#greet()),
      message: bytes => { this.#frames.push(bytes); this.#hear(); },
      silent: () => this.#askLog(),
      lost: () => this.#failed(fault('UNREACHABLE', `the server at ${this.#server().address} cannot be reached`, 'changes made here wait, and go out when it is back')),
    }, WebSocket);
    if (settings.witness) engine.setWitness(settings.witness);
    this.#live = new Live(engine, () => !this.#open && !this.#closed, error => this.#trapped(error));
    if (settings.server && settings.online !== false) this.#dial();
    this.#wrote();
  }

  /** Runs a call by name: what the page's Database asks. */
  async call(method, args) {
    const work = this[`do_${method}`];
    if (!work) throw fault('VALUE', `there is no ${method}`);
    while (this.#open && !ALWAYS.has(method)) await this.#open.over;
    if (this.#closed) throw fault('CLOSED', 'the database is closed');
    try { return await work.apply(this, args); } catch (error) {
      if (isTrap(error)) this.#trapped(error);
      throw error;
    } finally { if (!READS.has(method)) this.#wrote(); }
  }

  do_run(sql, params) {
    if (CONTROL.test(sql)) throw fault('VALUE', 'a transaction cannot be begun or ended by a statement, for others share this database', 'use transaction(…)');
    return this.#engine.run(sql, params);
  }
  do_exec(sql) {
    const result = this.#engine.exec(sql);
    if (this.#open || !this.#engine.inTransaction) return result;
    this.#engine.exec('ROLLBACK');
    throw fault('VALUE', 'these statements left a transaction open, which was undone', 'end it in the same call, or use transaction(…)');
  }
  do_prepare(sql) { return this.#engine.prepare(sql); }
  /** Begins a live query of a tab; `hear` gets its rows and then what changes. */
  do_watch(tab, id, sql, params, hear) {
    this.do_unwatch(tab, id);
    if (!this.#watched.has(tab)) this.#watched.set(tab, new Map());
    this.#watched.get(tab).set(id, this.#live.watch(sql, params, hear));
  }
  do_unwatch(tab, id) {
    this.#watched.get(tab)?.get(id)?.();
    this.#watched.get(tab)?.delete(id);
  }
  /** A tab is gone. */
  leave(tab) {
    if (!this.#closed) this.#watched.get(tab)?.forEach(end => end());
    this.#watched.delete(tab);
  }
  do_batch(statements) { return this.#transaction(() => this.#batch(statements)); }
  /** A write of another tab, which may be asked again by its number after the owner changed: done once. */
  do_once(id, method, args) {
    if (method !== 'batch' && (NOT_INSIDE.test(args[0]) || CONTROL.test(args[0]) || (method === 'run' && this.#engine.prepare(args[0]).readonly))) return this[`do_${method}`](...args);
    this.#engine.exec('CREATE TABLE IF NOT EXISTS piecewise_calls(id TEXT PRIMARY KEY, no INTEGER, result TEXT)');
    const [known] = this.#engine.run('SELECT result FROM piecewise_calls WHERE id = ?', [id]).rows;
    if (known) return fromText(known[0]);
    return this.#transaction(() => {
      const result = method === 'batch' ? this.#batch(args[0]) : method === 'run' ? this.#engine.run(...args) : this.#engine.exec(...args);
      // Rows of a statement that is asked again are not kept, only what it changed.
      const kept = method === 'run' ? { ...result, rows: [] } : method === 'batch' ? result.map(r => ({ ...r, rows: [] })) : result;
      this.#engine.run('INSERT INTO piecewise_calls SELECT ?, coalesce(max(no), 0) + 1, ? FROM piecewise_calls', [id, toText(kept)]);
      this.#engine.run('DELETE FROM piecewise_calls WHERE no <= (SELECT max(no) FROM piecewise_calls) - ?', [CALLS_KEPT]);
      return result;
    });
  }
  #batch(statements) { return statements.map(([sql, params]) => this.do_run(sql, params)); }
  #transaction(work) {
    this.#engine.exec('BEGIN IMMEDIATE');
    try {
      const result = work();
      this.#engine.exec('COMMIT');
      return result;
    } catch (error) {
      if (!isTrap(error) && this.#engine.inTransaction) this.#engine.exec('ROLLBACK');
      throw error;
    }
  }

  /** Opens a transaction that spans calls: all others wait until it ends, or has stood idle for too long. */
  do_begin(idleMs) {
    this.#engine.exec('BEGIN IMMEDIATE');
    const open = { token: unique(), idleMs };
    open.over = new Promise(resolve => { open.end = resolve; });
    this.#open = open;
    this.#idle();
    return open.token;
  }
  do_within(token, method, args) {
    this.#mine(token);
    if (method !== 'run' && method !== 'exec') throw fault('VALUE', `${method} has no place in a transaction`);
    this.#idle();
    const result = this[`do_${method}`](...args);
    if (!this.#engine.inTransaction) {
      this.#leave();
      throw fault('TRANSACTION', 'a statement ended the transaction', 'leave COMMIT and ROLLBACK to transaction(…)');
    }
    return result;
  }
  do_end(token, keep) {
    this.#mine(token);
    try { this.#engine.exec(keep ? 'COMMIT' : 'ROLLBACK'); } finally {
      if (this.#engine.inTransaction) this.#engine.exec('ROLLBACK');
      this.#leave();
    }
  }
  #mine(token) {
    if (this.#open?.token !== token) throw fault('TRANSACTION', 'the transaction is over and was undone: it stood idle for too long, or the tab that held the database was closed', 'inside transaction(…) use only what it hands you, and try again');
  }
  #idle() {
    const open = this.#open;
    clearTimeout(open.timer);
    open.timer = setTimeout(() => { if (this.#open === open) { this.#engine.exec('ROLLBACK'); this.#leave(); } }, open.idleMs);
  }
  #leave() {
    const { timer, end } = this.#open;
    clearTimeout(timer);
    this.#open = null;
    end();
    this.#hear();
  }

  do_track(table, text, counter, keepNumbers, references, autoincrement) {
    let warnings;
    // It may have come from the server a moment ago, tracked as it is there.
    try { warnings = this.#engine.track(table, text, counter, keepNumbers, references, autoincrement, Date.now()); } catch (error) { if (error.code === 'TRACKED') return []; throw error; }
    // A table that is new here is told of on a new connection.
    if (this.#line.inUse) { this.#hangUp(undefined, true); this.#dial(); }
    return warnings;
  }
  do_untrack(table, leaveHeld) { return JSON.parse(this.#engine.untrack(table, leaveHeld)); }
  do_status() {
    const progress = JSON.parse(this.#engine.progress());
    const witness = JSON.parse(this.#engine.witness());
    return {
      ...JSON.parse(this.#engine.status()), ...progress, key: this.#engine.key, online: this.#settings.online !== false,
      server: this.#settings.server?.address ?? null, problem: this.#problem,
      log: { name: witness.log, entries: witness.entries, checkpoint: witness.checkpoint, alarm: witness.alarm },
    };
  }
  do_conflicts() { return JSON.parse(this.#engine.conflicts(Date.now())); }
  do_choose(table, key, number, column, asNewRow, withReferences) {
    const newKey = typeof asNewRow === 'boolean' ? undefined : String(asNewRow);
    return this.#engine.choose(table, String(key), number, column ?? undefined, asNewRow !== false, newKey, withReferences, Date.now());
  }
  do_held() { return JSON.parse(this.#engine.held(Date.now())); }
  do_chooseHeld(table, key) { return this.#engine.chooseHeld(table, String(key), Date.now()); }
  do_editHeld(table, key, edits) {
    return this.#engine.editHeld(table, String(key), edits.map(([column]) => column), edits.map(([, value]) => value), Date.now());
  }
  do_discardHeld(table, key) { return this.#engine.discardHeld(table, String(key), Date.now()); }
  /** Compares all tables with their documents, a few thousand rows at a time, and heals what differs. */
  async do_check() {
    const first = [];
    this.#engine.beginCheck(Date.now());
    for (;;) {
      const { findings, tables } = JSON.parse(this.#engine.checkSome(Date.now()));
      first.push(...findings.slice(0, FINDINGS_MAX - first.length));
      if (tables) return { found: tables.reduce((sum, t) => sum + t.found, 0), unhealed: tables.reduce((sum, t) => sum + t.unhealed, 0), tables, findings: first };
      await new Promise(resolve => setTimeout(resolve));
      while (this.#open) await this.#open.over;
      if (this.#closed) throw fault('CLOSED', 'the database is closed');
    }
  }
  do_refused() { return JSON.parse(this.#engine.refused()); }
  do_retryRefused() { return this.#engine.retryRefused(Date.now()); }
  do_revertRefused() { return this.#engine.revertRefused(); }
  async do_history(table, key, withLog) {
    while (this.#capture());
    const entries = JSON.parse(this.#engine.history(table, String(key)));
    if (!withLog || !this.#isOpen()) return entries;
    const proofs = await this.#prove(entries.map(e => e.segment));
    return entries.map((entry, n) => ({ ...entry, log: proofs[n].entry === null ? null : { entry: proofs[n].entry, from: proofs[n].from } }));
  }
  do_export() {
    // Of two copies with one write that waits to be captured, each would send it as its own.
    while (this.#capture());
    return this.#engine.exportFile();
  }
  /** Puts a SQLite file in the place of all there is, or changes nothing. */
  async do_import(bytes) {
    this.#engine.importFile(bytes, random());
    this.#hangUp(fault('OFFLINE', 'another file took the place of the database'));
    if (this.#settings.server && this.#settings.server.realm !== this.#engine.realm) {
      for (const name of ['server', 'witness', 'synced']) delete this.#settings[name];
      this.#engine.setWitness('{}');
      await this.#save();
    }
    if (this.#settings.server && this.#settings.online !== false) this.#dial();
  }

  /** Joins a server with an invite, once; resolves when it has let this device in and answered with the database. */
  async do_join(invite, database, readInvite) {
    if (typeof database !== 'string' || !database) throw fault('VALUE', 'join needs the name of a database on the server', "join(invite, { database: 'shop' })");
    if (!this.#line.canDial) throw fault('WEBSOCKET', 'this JavaScript has no WebSocket', "use Node 22 or newer, or open with { memory: true, WebSocket } and a class such as that of the package ws");
    const { address, server, realm, secret } = JSON.parse(readInvite(invite));
    const known = this.#settings.server?.realm ?? this.#engine.realm;
    if (known && known !== realm) throw fault('OTHER_SERVER', 'this database belongs to another server', 'open another database for this one');
    this.#hangUp(undefined, Boolean(this.#settings.server));
    const joining = { address, server, realm, secret, database };
    this.#joining = joining;
    const open = this.#until(false);
    this.#dial();
    try { await open; } catch (error) {
      if (this.#joining !== joining) throw error;
      this.#joining = null;
      if (this.#settings.server && this.#settings.online !== false) {
        this.#problem = null;
        this.#dial();
      }
      throw error;
    }
    this.#joining = null;
    this.#settings.server = { address, server, realm };
    this.#settings.online = true;
    await this.#save();
    this.#tellStatus();
  }
  /** Connects, or stays offline until told otherwise. */
  async do_connect(online) {
    this.#settings.online = online;
    await this.#save();
    if (!online) this.#hangUp();
    else if (this.#settings.server && !this.#line.inUse) { this.#line.settle(); this.#dial(); }
    this.#tellStatus();
  }
  /** Resolves once both sides hold the same. */
  do_level() {
    if (this.#settings.online === false || !this.#server()) throw fault('OFFLINE', 'this database is not connected', this.#server() ? 'call connect()' : 'join a server with an invite');
    if (this.#problem && LASTING.has(this.#problem.code)) throw Object.assign(new Error(), this.#problem);
    this.#dirty = true;
    const level = this.#until(true);
    this.#pump();
    return level;
  }
  do_close() {
    if (this.#open) { this.#engine.exec('ROLLBACK'); this.#leave(); }
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#hangUp(fault('CLOSED', 'the database was closed'));
    this.#engine.free();
  }

  // ---- the connection

  #isOpen() { return !this.#closed && this.#engine.isOpen; }
  #server() { return this.#joining ?? this.#settings.server; }
  #until(level) { return new Promise((resolve, reject) => this.#waiting.push({ level, resolve, reject })); }

  #dial() {
    const { address } = this.#server();
    if (!this.#line.dial(address)) this.#failed(fault('ADDRESS', `${address} is not the address of a server`, 'ask for a new invite'));
  }

  #greet() {
    this.#dirty = true;
    const { server, realm, secret, database } = this.#server();
    this.#engine.connect(server, realm, secret, database, this.#settings.device ?? 'browser', random());
    this.#pump();
  }

  /** Takes in what came, unless a transaction is open. */
  #hear() {
    while (this.#frames.length && !this.#open && !this.#closed) {
      this.#guard(() => {
        if (this.#engine.receive(this.#frames.shift(), Date.now()) > 0) this.#line.settle();
        this.#wasOpen ||= this.#engine.isOpen;
        this.#events();
        this.#dirty = true;
      });
    }
    this.#pump();
  }

  /** Errors of the engine end the connection. */
  #guard(work) {
    if (this.#closed) return;
    try { work(); } catch (error) {
      if (isTrap(error)) return this.#trapped(error);
      this.#line.hangUp();
      // The same again and again is told once.
      if (this.#told !== error.message) this.#complain(error);
      this.#told = error.message;
      this.#failed(error);
    }
  }

  #failed(error) {
    if (this.#closed) return;
    // A database that was synced before and is not there now may come back; a device that is turned away says so in the handshake.
    const mayReturn = error.code === 'NOT_GRANTED' && this.#wasOpen && this.#settings.synced;
    const lasting = (LASTING.has(error.code) && !mayReturn) || this.#joining !== null;
    this.#wasOpen = false;
    this.#problem = plain(error);
    this.#drop(error, !lasting);
    if (!lasting && this.#settings.online !== false) this.#line.later();
    this.#tellStatus();
  }

  #hangUp(error = fault('OFFLINE', 'the connection was closed'), goesOn = false) {
    this.#line.hangUp();
    this.#problem = null;
    this.#drop(error, goesOn);
  }

  /** Forgets the talk; who waits to be level goes on waiting if it goes on. */
  #drop(error, goesOn) {
    clearTimeout(this.#asking);
    this.#asking = null;
    this.#engine.disconnect();
    this.#level = false;
    this.#frames = [];
    const waiting = this.#waiting;
    this.#waiting = waiting.filter(one => one.level && goesOn);
    waiting.filter(one => !this.#waiting.includes(one)).forEach(one => one.reject(error));
    this.#proofs.splice(0).forEach(proof => proof.reject(error));
  }

  /** Captures, sends what there is to say, a little at a time so that calls get their turn. */
  #pump() {
    if (this.#pumping || this.#closed) return;
    this.#pumping = true;
    const step = () => {
      this.#pumping = false;
      if (this.#closed || this.#open) return;
      let more = this.#dirty && this.#capture();
      if (this.#line.isOpen && !this.#closed) {
        if (this.#line.queued < QUEUED_MAX) {
          this.#guard(() => {
            const frames = this.#engine.outgoing(Date.now());
            frames.forEach(frame => this.#line.send(frame));
            more ||= frames.length > 0;
          });
        } else more = true;
      }
      if (this.#closed) return;
      this.#noticeChanges();
      this.#noticeLevel();
      if (!more) return;
      this.#pumping = true;
      yieldTo(step);
    };
    step();
  }

  /** Whether there is more to capture. */
  #capture() {
    this.#captured = Date.now();
    this.#dirty = false;
    this.#since = null;
    clearTimeout(this.#timer);
    this.#timer = null;
    try { this.#dirty = this.#engine.capture(Date.now()); } catch (error) {
      if (isTrap(error)) this.#trapped(error); else this.#complain(error);
    }
    return this.#dirty;
  }

  #noticeLevel() {
    if (!this.#isOpen()) return;
    this.#problem = null;
    const level = this.#engine.isLevel && !this.#dirty;
    const ready = this.#waiting.filter(one => one.level ? level : this.#engine.isAttached);
    this.#waiting = this.#waiting.filter(one => !ready.includes(one));
    if (level !== this.#level) {
      this.#level = level;
      if (level) {
        this.#told = null;
        this.#line.settle();
        if (!this.#settings.synced) { this.#settings.synced = true; this.#save(); }
        this.#noteLevel();
        this.#asking ??= setTimeout(() => { this.#asking = null; this.#askLog(); }, ASK_LOG_AFTER_MS);
      }
      this.#tellStatus();
    }
    ready.forEach(one => one.resolve());
  }

  /** Keeps the time for people to read; each costs a commit. */
  #noteLevel() {
    if (Date.now() - this.#noted < NOTE_EVERY_MS) return;
    this.#noted = Date.now();
    this.#guard(() => this.#engine.noteLevel(this.#noted));
  }

  /** Tells which tables were changed by what was committed, here or by the server's rows, and wakes the queries that read them. */
  #noticeChanges() {
    if (this.#closed || this.#open) return;
    let found;
    try { found = this.#engine.changed(); } catch (error) {
      if (isTrap(error)) this.#trapped(error); else this.#complain(error);
      return;
    }
    if (!found) return this.#live.go();
    if (found.schema || found.tables.length) this.#tell({ type: 'change', tables: found.tables ?? null, schema: found.schema });
    if (found.attention) this.#tellStatus();
    this.#live.mark(found.stale);
  }

  /** After a call that may have written. */
  #wrote() {
    if (this.#closed || this.#open) return;
    this.#noticeChanges();
    this.#since ??= Date.now();
    if (this.#timer !== null) return;
    const captured = this.#captured + CAPTURE_EVERY_MS;
    const due = this.#isOpen() ? Math.max(captured, this.#since + this.#every) : this.#since + GATHER_APART_MS;
    this.#dirty ||= this.#isOpen() && !this.#every;
    const work = () => { this.#timer = null; this.#dirty = true; this.#pump(); };
    const wait = due - Date.now();
    if (wait > 0) this.#timer = setTimeout(work, wait); else { this.#timer = 0; yieldTo(work); }
  }

  #events() {
    for (const event of JSON.parse(this.#engine.events())) {
      if (event.event === 'proof') this.#proofs.shift()?.resolve(event);
      else if (event.event === 'log') {
        this.#settings.witness = this.#engine.witness();
        this.#save();
        if (event.verdict !== 'verified') this.#tell({ type: 'log', verdict: event.verdict });
        this.#tellStatus();
      } else if (event.event === 'renumbered') {
        this.#tell({ type: 'renumbered', table: event.table, old: event.old, new: event.new });
      } else if (event.event === 'refused') this.#tell({ type: 'refused', rows: event.rows });
      else this.#tellStatus();
    }
  }

  #prove(segments) {
    const proofs = segments.map(() => new Promise((resolve, reject) => this.#proofs.push({ resolve, reject })));
    this.#engine.prove(segments);
    this.#pump();
    return Promise.all(proofs);
  }

  /** Nothing more is asked of the engine. */
  #trapped(error) {
    this.#closed = true;
    this.#line.hangUp();
    this.#died(error);
  }

  /** Whether the server's log continues what it was; also a sign of life. */
  #askLog() { this.#guard(() => { if (this.#isOpen()) this.#prove([]); }); }

  #complain(error) { this.#tell({ type: 'error', error: plain(error) }); }
  #tellStatus() { this.#tell({ type: 'status' }); }
}
