// Host: the one that owns a database: runs calls on the engine one after another, keeps the connection, tells of changes.
// It knows neither worker nor tab: `worker.js` and `memory.js` give it an engine, a place for settings and a way to tell.

const CAPTURE_AFTER_MS = 5;
/** Statements that cannot stand in a transaction of ours. */
const NOT_INSIDE = /^\s*(begin|commit|end|rollback|savepoint|release|vacuum|pragma|attach|detach|select|explain|values)\b/i;
/** Writes of other tabs that are remembered. */
const CALLS_KEPT = 256;
const PING_SILENCE_MS = 60_000;
const BACK_OFF_MS = [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000];

export const fault = (code, message, hint) => Object.assign(new Error(message), { name: 'PiecewiseError', code, ...(hint && { hint }) });

export const random = () => crypto.getRandomValues(new Uint8Array(32));

export class Host {
  #engine; #settings; #save; #tell;
  #socket = null; #online = true; #attempt = 0; #retry = null; #pumping = false; #dirty = false; #timer = null;
  #changes = 0; #level = false; #closed = false; #proofs = []; #opened = [];

  /** `settings` are kept by `save(settings)`; `tell(event)` hears `change`, `status`, `error`. */
  constructor(engine, settings, save, tell) {
    this.#engine = engine; this.#settings = settings; this.#save = save; this.#tell = tell;
    if (settings.witness) engine.setWitness(settings.witness);
    this.#changes = engine.totalChanges;
    if (settings.server && settings.online !== false) this.#connect().catch(() => {});
  }

  /** Runs a call by name: what the page's Database asks. */
  async call(method, args) {
    const work = this[`do_${method}`];
    if (!work) throw fault('VALUE', `there is no ${method}`);
    try { return await work.apply(this, args); } finally { this.#wrote(); }
  }

  do_run(sql, params) { return this.#engine.run(sql, params); }
  do_exec(sql) { this.#engine.exec(sql); }
  do_batch(statements) { return this.#transaction(() => this.#batch(statements)); }
  /** A write of another tab, which may be asked again by its number after the owner changed: done once. */
  do_once(id, method, args) {
    if (method !== 'batch' && NOT_INSIDE.test(args[0])) return this[`do_${method}`](...args);
    this.#engine.exec('CREATE TABLE IF NOT EXISTS piecewise_calls(id TEXT PRIMARY KEY, no INTEGER, result TEXT)');
    const [known] = this.#engine.run('SELECT result FROM piecewise_calls WHERE id = ?', [id]).rows;
    if (known) return JSON.parse(known[0]);
    return this.#transaction(() => {
      const result = method === 'batch' ? this.#batch(args[0]) : this[`do_${method}`](...args);
      // Rows of a statement that is asked again are not kept, only what it changed.
      const kept = method === 'run' ? { columns: [], rows: [], changes: result.changes } : method === 'batch' ? result.map(r => ({ ...r, rows: [] })) : null;
      this.#engine.run('INSERT INTO piecewise_calls SELECT ?, coalesce(max(no), 0) + 1, ? FROM piecewise_calls', [id, JSON.stringify(kept)]);
      this.#engine.run('DELETE FROM piecewise_calls WHERE no <= (SELECT max(no) FROM piecewise_calls) - ?', [CALLS_KEPT]);
      return result;
    });
  }
  #batch(statements) { return statements.map(([sql, params]) => this.#engine.run(sql, params)); }
  #transaction(work) {
    this.#engine.exec('BEGIN IMMEDIATE');
    try {
      const result = work();
      this.#engine.exec('COMMIT');
      return result;
    } catch (error) {
      if (this.#engine.inTransaction) this.#engine.exec('ROLLBACK');
      throw error;
    }
  }
  do_track(table, text, counter) {
    let warnings;
    // It may have come from the server a moment ago, tracked as it is there.
    try { warnings = this.#engine.track(table, text, counter); } catch (error) { if (error.code === 'TRACKED') return []; throw error; }
    this.#reconnect();
    return warnings;
  }
  do_untrack(table) { this.#engine.untrack(table); }
  do_status() {
    const progress = JSON.parse(this.#engine.progress());
    const witness = JSON.parse(this.#engine.witness());
    return {
      ...JSON.parse(this.#engine.status()), ...progress, key: this.#engine.key, online: this.#settings.online !== false,
      server: this.#settings.server?.address ?? null,
      log: { name: witness.log, entries: witness.entries, checkpoint: witness.checkpoint, alarm: witness.alarm },
    };
  }
  do_conflicts() { return JSON.parse(this.#engine.conflicts()); }
  do_choose(table, key, number, column, asNewRow) {
    return this.#engine.choose(table, String(key), number, column ?? undefined, asNewRow, Date.now());
  }
  do_held() { return JSON.parse(this.#engine.held()); }
  do_refused() { return JSON.parse(this.#engine.refused()); }
  do_retryRefused() { return this.#engine.retryRefused(Date.now()); }
  do_revertRefused() { return this.#engine.revertRefused(); }
  async do_history(table, key, withLog) {
    const entries = JSON.parse(this.#engine.history(table, String(key)));
    if (!withLog || !this.#isOpen()) return entries;
    const proofs = await this.#prove(entries.map(e => e.segment));
    return entries.map((entry, n) => ({ ...entry, log: proofs[n].entry === null ? null : { entry: proofs[n].entry, from: proofs[n].from } }));
  }
  do_export() { return this.#engine.exportFile(); }

  /** Joins a server with an invite, once; resolves when it has let this device in. */
  async do_join(invite, database, readInvite) {
    const { address, server, realm, secret } = JSON.parse(readInvite(invite));
    const known = this.#settings.server;
    if (known && known.realm !== realm) throw fault('OTHER_SERVER', 'this database belongs to another server', 'open another database for this one');
    this.#disconnect();
    this.#settings.server = { address, server, realm };
    this.#engine.bind(database, server, realm);
    await this.#connect(secret);
    this.#settings.database = database;
    this.#settings.online = true;
    await this.#save(this.#settings);
  }
  /** Connects, or stays offline until told otherwise. */
  async do_connect(online) {
    this.#settings.online = online;
    await this.#save(this.#settings);
    if (!online) { this.#disconnect(); this.#tellStatus(); } else if (!this.#socket) { this.#attempt = 0; this.#connect().catch(() => {}); }
  }
  /** Resolves once both sides hold the same. */
  do_level() {
    if (this.#engine.isLevel && !this.#dirty) return;
    if (this.#settings.online === false || !this.#settings.server) throw fault('OFFLINE', 'this database is not connected');
    return new Promise((resolve, reject) => this.#opened.push({ resolve, reject, level: true }));
  }
  do_close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#disconnect();
    this.#engine.free();
  }

  // ---- the connection

  #isOpen() { return !this.#closed && this.#engine.isOpen; }

  /** Resolves when the server has let this device in; after the first time it goes on trying by itself. */
  #connect(secret) {
    const { address, server, realm } = this.#settings.server;
    clearTimeout(this.#retry);
    return new Promise((resolve, reject) => {
      this.#opened.push({ resolve, reject, level: false });
      let socket;
      try { socket = new WebSocket(address); } catch { return this.#failed(fault('ADDRESS', `${address} is not the address of a server`), true); }
      this.#socket = socket;
      socket.binaryType = 'arraybuffer';
      let heard = Date.now();
      const watch = setInterval(() => { if (Date.now() - heard > PING_SILENCE_MS) socket.close(); }, PING_SILENCE_MS / 4);
      socket.onopen = () => this.#guard(socket, () => {
        this.#engine.connect(server, realm, secret, this.#settings.device ?? 'browser', random());
        this.#pump();
      });
      socket.onmessage = ({ data }) => this.#guard(socket, () => {
        heard = Date.now();
        this.#engine.receive(new Uint8Array(data), Date.now());
        this.#events();
        this.#dirty = true;
        this.#pump();
      });
      socket.onerror = () => {}; // what follows is a close, which says the same
      socket.onclose = () => {
        clearInterval(watch);
        if (this.#socket !== socket) return;
        this.#socket = null;
        this.#engine.disconnect();
        this.#failed(fault('UNREACHABLE', `the server at ${address} cannot be reached`, 'changes made here wait, and go out when it is back'), Boolean(secret));
      };
    });
  }

  /** Errors of the engine end the connection. */
  #guard(socket, work) {
    if (this.#socket !== socket || this.#closed) return;
    try { work(); } catch (error) {
      this.#socket = null;
      socket.onclose = null;
      socket.close();
      this.#engine.disconnect();
      this.#tell({ type: 'error', error: { code: error.code, message: error.message, hint: error.hint } });
      const lasting = ['WRONG_SERVER', 'BAD_INVITE', 'NOT_GRANTED', 'VERSION'].includes(error.code);
      this.#failed(error, lasting);
    }
  }

  #failed(error, lasting) {
    this.#level = false;
    const waiting = this.#opened;
    this.#opened = [];
    for (const one of waiting) one.level && !lasting ? this.#opened.push(one) : one.reject(error);
    this.#proofs.splice(0).forEach(p => p.reject(error));
    this.#tellStatus();
    if (lasting || this.#closed || this.#settings.online === false) return;
    const most = BACK_OFF_MS[Math.min(this.#attempt++, BACK_OFF_MS.length - 1)];
    this.#retry = setTimeout(() => this.#connect().catch(() => {}), most * (0.5 + Math.random() / 2));
  }

  #disconnect() {
    clearTimeout(this.#retry);
    const socket = this.#socket;
    this.#socket = null;
    this.#level = false;
    if (socket) { socket.onclose = null; socket.close(); }
    this.#engine.disconnect();
    this.#opened.splice(0).forEach(one => one.reject(fault('OFFLINE', 'the connection was closed')));
    this.#proofs.splice(0).forEach(p => p.reject(fault('OFFLINE', 'the connection was closed')));
  }

  /** A table that is new here is told of on a new connection. */
  #reconnect() {
    if (!this.#socket) return;
    this.#disconnect();
    this.#connect().catch(() => {});
  }

  /** Captures, sends what there is to say, a little at a time so that calls get their turn. */
  #pump() {
    if (this.#pumping || this.#closed) return;
    this.#pumping = true;
    const step = () => {
      if (this.#closed) return;
      let more = false;
      const socket = this.#socket;
      try {
        if (this.#dirty && !this.#engine.inTransaction) { more = this.#engine.capture(Date.now()); this.#dirty = more; }
      } catch (error) { this.#tell({ type: 'error', error: { code: error.code, message: error.message, hint: error.hint } }); this.#dirty = false; }
      if (socket?.readyState === WebSocket.OPEN && socket.bufferedAmount < 4 << 20) {
        this.#guard(socket, () => {
          const frames = this.#engine.outgoing(Date.now());
          frames.forEach(frame => socket.send(frame));
          more ||= frames.length > 0;
        });
      } else if (socket?.bufferedAmount) more = true;
      this.#noticeChanges();
      this.#noticeLevel();
      if (more) return setTimeout(step, 0);
      this.#pumping = false;
    };
    step();
  }

  #noticeLevel() {
    if (!this.#socket) return;
    const level = this.#engine.isLevel;
    if (this.#engine.isOpen) {
      this.#attempt = 0;
      const [ready, rest] = [[], []];
      for (const one of this.#opened) (!one.level || (level && !this.#dirty) ? ready : rest).push(one);
      this.#opened = rest;
      ready.forEach(one => one.resolve());
    }
    if (level !== this.#level) {
      this.#level = level;
      if (level) this.#engine.noteLevel(Date.now());
      this.#tellStatus();
    }
  }

  #noticeChanges() {
    const changes = this.#engine.totalChanges;
    if (changes === this.#changes) return;
    this.#changes = changes;
    this.#tell({ type: 'change' });
  }

  /** After each call: rows may have been written. */
  #wrote() {
    if (this.#closed) return;
    this.#noticeChanges();
    this.#dirty = true;
    this.#timer ??= setTimeout(() => { this.#timer = null; this.#pump(); }, CAPTURE_AFTER_MS);
  }

  #events() {
    for (const event of JSON.parse(this.#engine.events())) {
      if (event.event === 'proof') this.#proofs.shift()?.resolve(event);
      else if (event.event === 'log') {
        this.#settings.witness = this.#engine.witness();
        this.#save(this.#settings);
        if (event.verdict !== 'verified') this.#tell({ type: 'log', verdict: event.verdict });
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

  #tellStatus() { this.#tell({ type: 'status' }); }
}
