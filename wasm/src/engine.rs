//! Engine: one database in the browser, or in Node, as the npm package's host sees it.
//!
//! Everything is synchronous but opening. Times come from JavaScript in milliseconds; chance is given once, when opening.

use crate::changes::Changes;
use crate::describe;
use crate::fault::{Fault, fault};
use crate::live::Live;
use crate::talk::Talk;
use crate::values::{Parameters, to_js};
use js_sys::{Array, Object, Reflect, Uint8Array};
use piecewise_core::handshake::Initiator;
use piecewise_core::id::{PeerId, RealmId, SegmentId, Timestamp};
use piecewise_core::identity::Identity;
use piecewise_core::invite::{Invite, InviteError};
use piecewise_core::replica::{
    self, Binding, Choice, Follow, HeldRow, Reference, Replica, ReplicaError, TrackOptions,
};
use piecewise_core::supervisor_log::{Alarm, Witness};
use rsqlite_vfs::VfsFilesManager;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, Statement};
use serde_json::{Value as Json, json};
use sqlite_wasm_vfs::sahpool::{OpfsSAHPoolCfgBuilder, OpfsSAHPoolUtil, install};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use wasm_bindgen::prelude::*;

/// Files that the pool of OPFS handles keeps ready: a database, its journal and some temporary ones.
const POOL: usize = 8;
/// Rows compared before other calls have their turn.
const CHECK_ROWS: usize = 2048;

#[wasm_bindgen(start)]
fn start() {
    console_error_panic_hook::set_once();
}

/// What an invite says, for the host to remember: `{ address, server, realm, secret }`, keys in hex.
#[wasm_bindgen(js_name = readInvite)]
pub fn read_invite(text: &str) -> Result<String, JsValue> {
    let invite: Invite = text.trim().parse().map_err(|error: InviteError| match error {
        InviteError::NewerVersion => {
            fault("VERSION", error.to_string()).hint("use the version of the package that fits the server")
        }
        _ => fault("BAD_INVITE", error.to_string())
            .hint("copy the whole line that `piecewise-server invite` printed"),
    })?;
    Ok(json!({ "address": invite.address, "server": hex(&invite.server.0), "realm": hex(&invite.realm.0),
               "secret": hex(&invite.secret) })
    .to_string())
}

/// Where OPFS files are, kept open as long as the worker lives.
#[wasm_bindgen]
pub struct Storage {
    pool: OpfsSAHPoolUtil,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").finish_non_exhaustive()
    }
}

#[wasm_bindgen]
impl Storage {
    /// Opens a folder of the origin's private file system; only in a dedicated worker.
    pub async fn open(directory: String) -> Result<Self, JsValue> {
        let cfg = OpfsSAHPoolCfgBuilder::new()
            .directory(&directory)
            .vfs_name(&directory)
            .initial_capacity(POOL)
            .build();
        let pool = install::<sqlite_wasm_rs::WasmOsCallback>(&cfg, true).await.map_err(|error| {
            fault("STORAGE", error.to_string()).hint(
                "private windows and old browsers have no persistent storage; open with { memory: true }",
            )
        })?;
        Ok(Self { pool })
    }

    /// Removes a file that is not open.
    pub fn remove(&self, name: &str) -> Result<(), JsValue> {
        self.pool.remove(name).map_err(|e| fault("STORAGE", e.to_string()))?;
        Ok(())
    }
}

/// Whether bytes are a sound SQLite file that this version can use; the error says what is wrong.
#[wasm_bindgen(js_name = checkFile)]
pub fn check_file(bytes: &[u8]) -> Result<(), JsValue> {
    in_memory(bytes, Identity::from_seed([0; 32]), [0; 32])?;
    Ok(())
}

/// A copy of a SQLite file in memory, checked.
fn in_memory(bytes: &[u8], identity: Identity, chance: [u8; 32]) -> Result<Replica, Fault> {
    let damaged = |what: String| fault("DAMAGED", what).hint("nothing was changed");
    if !bytes.starts_with(b"SQLite format 3\0") || bytes.len() < 512 {
        return Err(damaged("this is not a SQLite database file".into()));
    }
    let mut conn = Connection::open_in_memory()?;
    // A copy in memory has no WAL; what the file's own WAL held is in the file, or was not given.
    let reader = bytes[..18].chain(&[1, 1][..]).chain(&bytes[20..]);
    conn.deserialize_read_exact("main", reader, bytes.len(), false)?;
    let sound = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match sound {
        Ok(sound) if sound == "ok" => Ok(Replica::from_connection(conn, identity, chance)?),
        Ok(found) => Err(damaged(format!("this SQLite file is damaged: {found}"))),
        Err(error) => Err(damaged(format!("this SQLite file is damaged: {error}"))),
    }
}

/// A database and its talk with the server.
#[wasm_bindgen]
pub struct Engine {
    replica: Replica,
    /// Its file in the storage; None: it is in memory.
    file: Option<String>,
    identity: Identity,
    witness: Witness,
    talk: Option<Talk>,
    /// Whether the page is inside a transaction of its own.
    in_transaction: bool,
    /// Whether SQLite looks after foreign keys.
    foreign_keys: bool,
    changes: Changes,
    lives: BTreeMap<u32, Live>,
    lives_made: u32,
    /// The schema's version in the file, and the hash of what of it is the application's; None: all may be another.
    schema: Option<(i64, u64)>,
    /// Keys the hashes of results.
    secret: [u8; 32],
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("replica", &self.replica).finish_non_exhaustive()
    }
}

#[wasm_bindgen]
impl Engine {
    /// Opens a file of the storage that was opened before, or a new database in memory. `seed` is this device's secret,
    /// `chance` 32 random bytes.
    #[wasm_bindgen(constructor)]
    pub fn new(file: Option<String>, seed: &[u8], chance: &[u8]) -> Result<Self, JsValue> {
        let identity = Identity::from_seed(secret(seed)?);
        let mut replica = open_replica(file.as_deref(), identity.clone(), secret(chance)?)?;
        let changes = Changes::default();
        changes.install(replica.connection_mut()).map_err(Fault::from)?;
        let mut engine = Self {
            replica,
            file,
            identity,
            witness: Witness::default(),
            talk: None,
            in_transaction: false,
            foreign_keys: false,
            changes,
            lives: BTreeMap::new(),
            lives_made: 0,
            schema: None,
            secret: secret(chance)?,
        };
        engine.is_schema_new()?;
        Ok(engine)
    }

    /// Puts a SQLite file in the place of all there is; after an error nothing has changed.
    #[wasm_bindgen(js_name = importFile)]
    pub fn import_file(&mut self, bytes: &[u8], chance: &[u8]) -> Result<(), JsValue> {
        let chance = secret(chance)?;
        let copy = in_memory(bytes, self.identity.clone(), chance)?;
        self.talk = None;
        if let Some(file) = &self.file {
            self.replica.connection().flush_prepared_statement_cache();
            let step = |to: &mut Connection| Backup::new(copy.connection(), to)?.step(-1);
            if step(self.replica.connection_mut()).map_err(Fault::from)? != StepResult::Done {
                return Err(fault("BUSY", "the database is in use").into());
            }
            self.replica = copy;
            self.replica = open_replica(Some(file), self.identity.clone(), chance)?;
        } else {
            self.replica = copy;
        }
        self.foreign_keys = false;
        self.schema = None;
        self.changes.install(self.replica.connection_mut()).map_err(Fault::from)?;
        Ok(())
    }

    /// The realm of the server that the database belongs to, in hex.
    #[wasm_bindgen(getter)]
    pub fn realm(&self) -> Option<String> {
        self.replica.binding().map(|binding| hex(&binding.realm.0))
    }

    /// This device's public key.
    #[wasm_bindgen(getter)]
    pub fn key(&self) -> String {
        self.identity.peer_id().to_string()
    }

    /// Runs one statement: `{ columns, rows, changes, lastInsertRowid }`, rows as arrays.
    pub fn run(&mut self, sql: &str, parameters: &JsValue) -> Result<Object, JsValue> {
        let parameters = Parameters::from_js(parameters)?;
        let result = self.run_one(sql, &parameters);
        self.in_transaction = !self.replica.connection().is_autocommit();
        Ok(result?)
    }

    /// Runs statements, one after another, whose rows nobody wants: `{ changes, lastInsertRowid }` of all together.
    pub fn exec(&mut self, sql: &str) -> Result<Object, JsValue> {
        self.set_foreign_keys(true);
        let done = self.run_all(sql);
        self.in_transaction = !self.replica.connection().is_autocommit();
        Ok(done?)
    }

    /// What a statement is: `{ columns, parameters, readonly }`. It stays prepared.
    pub fn prepare(&self, sql: &str) -> Result<Object, JsValue> {
        let conn = self.replica.connection();
        conn.prepare_cached(sql).map_err(Fault::from)?;
        let statement = conn.prepare(sql).map_err(Fault::from)?;
        let columns: Array = statement.column_names().map(JsValue::from_str).collect();
        let name = |n| statement.parameter_name(n).map_or(JsValue::NULL, JsValue::from_str);
        let parameters: Array = (1..=statement.parameter_count()).map(name).collect();
        let fields = [
            ("columns", columns.into()),
            ("parameters", parameters.into()),
            ("readonly", statement.readonly().into()),
        ];
        Ok(object(&fields))
    }

    // ---- live queries

    /// Begins to keep the result of a query up to date; its number. `refresh` runs it.
    pub fn watch(&mut self, sql: &str, parameters: &JsValue) -> Result<u32, JsValue> {
        let live = Live::new(sql.to_owned(), Parameters::from_js(parameters)?, &self.secret);
        self.lives_made += 1;
        self.lives.insert(self.lives_made, live);
        Ok(self.lives_made)
    }

    /// Ends that.
    pub fn unwatch(&mut self, number: u32) {
        self.lives.remove(&number);
        self.want_keys();
    }

    /// What was committed since the last call: `{ tables, stale, schema, attention }`: tables with changed rows, live queries whose
    /// results may be others, whether the schema changed, and whether conflicts, held or refused rows did. Undefined: nothing.
    /// Without `tables`, any of them may have changed.
    pub fn changed(&mut self) -> Result<Option<Object>, JsValue> {
        if self.in_transaction {
            return Ok(None);
        }
        let changes = self.changes.take();
        let attention = self.changes.take_attention();
        let replaced = self.schema.is_none();
        let is_schema_new = self.is_schema_new()?;
        if changes.is_empty() && !is_schema_new && !attention {
            return Ok(None);
        }
        for live in self.lives.values_mut() {
            live.note(Some(&changes).filter(|_| !is_schema_new));
        }
        let stale: Array =
            self.lives.iter().filter(|(_, live)| live.is_stale()).map(|(n, _)| JsValue::from(*n)).collect();
        let tables: Array = changes.keys().map(|table| JsValue::from_str(table)).collect();
        let tables = if replaced { JsValue::UNDEFINED } else { tables.into() };
        Ok(Some(object(&[
            ("tables", tables),
            ("stale", stale.into()),
            ("schema", is_schema_new.into()),
            ("attention", attention.into()),
        ])))
    }

    /// Brings the result of a live query up to date: `{ columns, runs, rows }`, how it differs from what was told before, or
    /// undefined if it does not. Each run is three numbers: from where and how many old rows stay, and how many of `rows` come
    /// then. With `all`, also all its rows.
    pub fn refresh(&mut self, number: u32, all: bool) -> Result<Option<Object>, JsValue> {
        let conn = self.replica.connection();
        let live =
            self.lives.get_mut(&number).ok_or_else(|| fault("NOT_FOUND", "there is no such live query"))?;
        let known = live.key_column();
        let result = live.refresh(conn, all);
        if live.key_column() != known {
            self.want_keys();
        }
        Ok(result?)
    }

    /// Whether the page is inside a transaction; nothing is captured or received meanwhile.
    #[wasm_bindgen(getter, js_name = inTransaction)]
    pub fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Rows changed on this connection so far, by whomever.
    #[wasm_bindgen(getter, js_name = totalChanges)]
    pub fn total_changes(&self) -> f64 {
        self.replica.rows_written() as f64
    }

    /// Lets a table take part in sync; warnings. `text` and `counter` are names of columns, `references` such as
    /// `about_id=customers.id`. Of a table that takes part already, how it is numbered changes as asked.
    pub fn track(
        &mut self,
        table: &str,
        text: Vec<String>,
        counter: Vec<String>,
        keep_numbers: Option<bool>,
        references: Vec<String>,
        autoincrement: bool,
        now: f64,
    ) -> Result<Vec<String>, JsValue> {
        self.set_foreign_keys(false);
        let reference = |entry: &String| {
            let (column, parent) = entry.split_once('=')?;
            let (parent, parent_column) = parent.rsplit_once('.')?;
            let (column, parent) = (column.to_owned(), parent.to_owned());
            Some(Reference { column, parent, parent_column: parent_column.to_owned() })
        };
        let options = TrackOptions {
            text,
            counter,
            keep_numbers: keep_numbers == Some(true),
            references: references.iter().filter_map(reference).collect(),
            autoincrement,
            ..TrackOptions::default()
        };
        let tracked = self.replica.track(table, &options);
        if let Err(ReplicaError::AlreadyTracked { .. }) = &tracked {
            let now = time(now);
            if let Some(keeps) = keep_numbers {
                self.replica.keep_numbers(now, table, keeps).map_err(Fault::from)?;
            }
            for Reference { column, parent, parent_column } in &options.references {
                self.replica.add_reference(now, table, column, parent, parent_column).map_err(Fault::from)?;
            }
            if autoincrement {
                self.replica.autoincrement(now, table).map_err(Fault::from)?;
            }
        }
        let notes = tracked.map_err(Fault::from)?;
        Ok(notes.into_iter().map(|note| note.text).collect())
    }

    /// Ends that. Returns, as JSON, the rows that could not be put back into the table: with `leave_held` they are left to
    /// the caller, else an error tells of them and nothing is done.
    pub fn untrack(&mut self, table: &str, leave_held: bool) -> Result<String, JsValue> {
        self.set_foreign_keys(false);
        let (tables, mut left) = ([table.to_owned()], vec![]);
        if leave_held {
            let leave = |rows: &[HeldRow]| {
                left = rows.iter().map(describe::held).collect();
                Ok(())
            };
            self.replica.untrack_leaving(&tables, leave).map_err(Fault::from)?;
        } else {
            self.replica.untrack(&tables).map_err(Fault::from)?;
        }
        Ok(Json::from(left).to_string())
    }

    /// Captures what was written; whether there is more.
    pub fn capture(&mut self, now: f64) -> Result<bool, JsValue> {
        if self.in_transaction {
            return Ok(false);
        }
        self.set_foreign_keys(false);
        Ok(self.replica.capture(time(now)).map_err(Fault::from)?.more)
    }

    // ---- the talk

    /// Begins to talk with a server over a WebSocket that has just opened. With an invite's `secret` and a `database`, it
    /// joins: the server's database of that name is then this one's.
    pub fn connect(
        &mut self,
        server: &str,
        realm: &str,
        invite: Option<String>,
        database: Option<String>,
        device: &str,
        chance: &[u8],
    ) -> Result<(), JsValue> {
        let (server, realm) = (PeerId(from_hex(server)?), RealmId(from_hex(realm)?));
        let invite = invite.map(|secret| from_hex(&secret)).transpose()?;
        let binding = database.map(|database| Binding { database, realm, server, follow: Follow::All });
        if let (Some(new), Some(old)) = (&binding, self.replica.binding())
            && new.database != old.database
        {
            let error = ReplicaError::AlreadyBound { database: old.database.clone() };
            return Err(Fault::from(error).into());
        }
        let start = Initiator::start(self.identity.clone(), server, realm, invite, device, secret(chance)?);
        self.talk = Some(Talk::new(server, self.identity.clone(), start.map_err(Fault::from)?, binding));
        Ok(())
    }

    /// Takes one message of the WebSocket; rows that came with it.
    pub fn receive(&mut self, message: &[u8], now: f64) -> Result<f64, JsValue> {
        self.set_foreign_keys(false);
        let talk = self.talk.as_mut().ok_or_else(|| fault("OFFLINE", "there is no connection"))?;
        Ok(talk.receive(&mut self.replica, &mut self.witness, message, time(now))? as f64)
    }

    /// The next few messages for the WebSocket.
    pub fn outgoing(&mut self, now: f64) -> Result<Vec<Uint8Array>, JsValue> {
        if self.in_transaction {
            return Ok(vec![]);
        }
        self.set_foreign_keys(false);
        let Some(talk) = &mut self.talk else { return Ok(vec![]) };
        let frames = talk.outgoing(&mut self.replica, time(now))?;
        Ok(frames.iter().map(|frame| Uint8Array::from(&frame[..])).collect())
    }

    /// The connection is gone.
    pub fn disconnect(&mut self) {
        let was_cut = self.talk.as_ref().is_some_and(|talk| talk.is_open() && !talk.is_level());
        if was_cut && !self.in_transaction {
            // The next cut notes it, if this cannot be written now.
            let _ = self.replica.note_cut();
        }
        self.talk = None;
    }

    /// What happened on the connection since it was asked last, as a JSON array.
    pub fn events(&mut self) -> String {
        Json::from(self.talk.as_mut().map_or(vec![], |talk| std::mem::take(&mut talk.events))).to_string()
    }

    /// Whether the server has let this device in.
    #[wasm_bindgen(getter, js_name = isOpen)]
    pub fn is_open(&self) -> bool {
        self.talk.as_ref().is_some_and(Talk::is_open)
    }

    /// Whether the server has answered with the database.
    #[wasm_bindgen(getter, js_name = isAttached)]
    pub fn is_attached(&self) -> bool {
        self.talk.as_ref().is_some_and(Talk::is_attached)
    }

    /// Whether both sides hold the same.
    #[wasm_bindgen(getter, js_name = isLevel)]
    pub fn is_level(&self) -> bool {
        self.talk.as_ref().is_some_and(Talk::is_level)
    }

    /// How the connection is: `{ open, level, toSend, toCome, notGranted }`.
    pub fn progress(&self) -> String {
        let Some(talk) = &self.talk else { return json!({ "open": false, "level": false }).to_string() };
        let traffic = talk.traffic(&self.replica).unwrap_or_default();
        json!({ "open": talk.is_open(), "level": talk.is_level(), "toSend": traffic.segments_to_send,
                "toCome": traffic.segments_to_come, "notGranted": talk.not_granted(&self.replica) })
        .to_string()
    }

    /// Notes that both sides hold the same now.
    #[wasm_bindgen(js_name = noteLevel)]
    pub fn note_level(&mut self, now: f64) -> Result<(), JsValue> {
        let talk = replica::Talk { time: time(now), level: true, segments_to_come: 0, stopped: None };
        self.replica.note_whole().map_err(Fault::from)?;
        Ok(self.replica.note_talk(&talk).map_err(Fault::from)?)
    }

    // ---- reading

    /// The state of the database, as JSON.
    pub fn status(&self) -> Result<String, JsValue> {
        let status = self.replica.status().map_err(Fault::from)?;
        let bound = self.replica.binding().map(|b| b.database.as_str());
        let attention = match bound {
            Some(_) => self.replica.attention().map_err(Fault::from)?,
            None => Default::default(),
        };
        Ok(describe::status(&status, &attention, bound).to_string())
    }

    /// Values and rows written at the same time as those that show, as JSON.
    pub fn conflicts(&mut self, now: f64) -> Result<String, JsValue> {
        self.set_foreign_keys(false);
        self.replica.follow_schema(time(now)).map_err(Fault::from)?;
        let found = self.replica.conflicts(None).map_err(Fault::from)?;
        Ok(Json::from(found.iter().map(describe::conflict).collect::<Vec<_>>()).to_string())
    }

    /// Ends a conflict. With `column`, about a cell; else about whole rows, as a new row if so told, under a key that is
    /// given or the next free integer, with the references that mean it if so told. The new row's key.
    pub fn choose(
        &mut self,
        table: &str,
        key: &str,
        number: usize,
        column: Option<String>,
        as_new_row: bool,
        new_key: Option<String>,
        with_references: bool,
        now: f64,
    ) -> Result<Option<String>, JsValue> {
        self.set_foreign_keys(false);
        let choice = match column {
            Some(column) => Choice::Cell { column, number },
            None if as_new_row => Choice::AsNewRow { number, key: new_key, with_references },
            None => Choice::Row { number },
        };
        let made = self.replica.choose(time(now), table, key, &choice).map_err(Fault::from)?;
        Ok(made.map(|made| made.key))
    }

    /// Rows that the table cannot show, as JSON.
    pub fn held(&mut self, now: f64) -> Result<String, JsValue> {
        self.set_foreign_keys(false);
        self.replica.follow_schema(time(now)).map_err(Fault::from)?;
        let found = self.replica.held(None).map_err(Fault::from)?;
        Ok(Json::from(found.iter().map(describe::held).collect::<Vec<_>>()).to_string())
    }

    /// Has a held row show in place of those whose values it has; the keys of these.
    #[wasm_bindgen(js_name = chooseHeld)]
    pub fn choose_held(&mut self, table: &str, key: &str, now: f64) -> Result<Vec<String>, JsValue> {
        self.set_foreign_keys(false);
        Ok(self.replica.choose_held(time(now), table, key).map_err(Fault::from)?)
    }

    /// Gives columns of a held row other values, as texts; whether the table shows it then.
    #[wasm_bindgen(js_name = editHeld)]
    pub fn edit_held(
        &mut self,
        table: &str,
        key: &str,
        columns: Vec<String>,
        values: Vec<String>,
        now: f64,
    ) -> Result<bool, JsValue> {
        self.set_foreign_keys(false);
        let edits: Vec<_> = columns.into_iter().zip(values).collect();
        Ok(self.replica.edit_held(time(now), table, key, &edits).map_err(Fault::from)?)
    }

    /// Deletes a held row, everywhere.
    #[wasm_bindgen(js_name = discardHeld)]
    pub fn discard_held(&mut self, table: &str, key: &str, now: f64) -> Result<(), JsValue> {
        self.set_foreign_keys(false);
        Ok(self.replica.discard_held(time(now), table, key).map_err(Fault::from)?)
    }

    /// Begins to compare all tables with their documents.
    #[wasm_bindgen(js_name = beginCheck)]
    pub fn begin_check(&mut self, now: f64) -> Result<(), JsValue> {
        self.set_foreign_keys(false);
        let now = time(now);
        while self.replica.capture(now).map_err(Fault::from)?.more {}
        Ok(self.replica.begin_check(now).map_err(Fault::from)?)
    }

    /// Compares the next rows and heals those that differ, as JSON; at the end with how each table was checked.
    #[wasm_bindgen(js_name = checkSome)]
    pub fn check_some(&mut self, now: f64) -> Result<String, JsValue> {
        self.set_foreign_keys(false);
        let checked = self.replica.check_some(time(now), CHECK_ROWS).map_err(Fault::from)?;
        let status = match checked.is_over {
            true => Some(self.replica.check_status().map_err(Fault::from)?),
            false => None,
        };
        Ok(describe::checked(&checked, status.as_ref()).to_string())
    }

    /// Rows that the server did not take, as JSON.
    pub fn refused(&self) -> Result<String, JsValue> {
        let found = self.replica.refused().map_err(Fault::from)?;
        Ok(Json::from(found.iter().map(describe::refused).collect::<Vec<_>>()).to_string())
    }

    /// Writes refused rows again.
    #[wasm_bindgen(js_name = retryRefused)]
    pub fn retry_refused(&mut self, now: f64) -> Result<f64, JsValue> {
        self.set_foreign_keys(false);
        Ok(self.replica.retry_refused(time(now)).map_err(Fault::from)? as f64)
    }

    /// Gives refused rows up.
    #[wasm_bindgen(js_name = revertRefused)]
    pub fn revert_refused(&mut self) -> Result<f64, JsValue> {
        self.set_foreign_keys(false);
        Ok(self.replica.revert_refused().map_err(Fault::from)? as f64)
    }

    /// All that was ever done to a row, as JSON.
    pub fn history(&mut self, table: &str, key: &str) -> Result<String, JsValue> {
        let entries = self.replica.history(table, key).map_err(Fault::from)?;
        Ok(Json::from(entries.iter().map(describe::history).collect::<Vec<_>>()).to_string())
    }

    /// Asks the server to prove that segments are in its log; the answers are events.
    pub fn prove(&mut self, segments: Vec<String>) -> Result<(), JsValue> {
        let segments = segments.iter().map(|s| from_hex(s).map(SegmentId)).collect::<Result<Vec<_>, _>>()?;
        let talk = self.talk.as_mut().ok_or_else(|| fault("OFFLINE", "there is no connection"))?;
        Ok(talk.prove(&self.witness, &segments)?)
    }

    // ---- the server's log

    /// What is known of the server's log, for the host to keep, as JSON.
    pub fn witness(&self) -> String {
        let text = |note: &Option<_>| {
            note.as_ref().map(|n: &piecewise_core::supervisor_log::note::Note| n.to_string())
        };
        let alarm = self.witness.alarm.as_ref().map(|alarm| {
            json!({ "time": alarm.time.0, "reason": alarm.reason, "ours": text(&alarm.ours), "theirs": text(&alarm.theirs) })
        });
        json!({ "log": self.witness.log.as_ref().map(ToString::to_string), "entries": self.witness.size(),
                "checkpoint": text(&self.witness.note), "alarm": alarm })
        .to_string()
    }

    /// Sets what [`witness`](Self::witness) gave before.
    #[wasm_bindgen(js_name = setWitness)]
    pub fn set_witness(&mut self, kept: &str) -> Result<(), JsValue> {
        let damaged = || fault("DAMAGED", "what was kept of the server's log cannot be read");
        let kept: Json = serde_json::from_str(kept).map_err(|_| damaged())?;
        let note = |value: &Json| value.as_str().map(|t| t.parse().map_err(|_| damaged())).transpose();
        let alarm = match &kept["alarm"] {
            Json::Null => None,
            alarm => Some(Alarm {
                time: Timestamp(alarm["time"].as_u64().unwrap_or(0)),
                reason: alarm["reason"].as_str().unwrap_or_default().to_owned(),
                ours: note(&alarm["ours"])?,
                theirs: note(&alarm["theirs"])?,
            }),
        };
        let log = kept["log"].as_str().map(|t| t.parse().map_err(|_| damaged())).transpose()?;
        self.witness = Witness { log, note: note(&kept["checkpoint"])?, alarm };
        Ok(())
    }

    /// The whole database as the bytes of a SQLite file.
    #[wasm_bindgen(js_name = exportFile)]
    pub fn export_file(&mut self) -> Result<Vec<u8>, JsValue> {
        let data = self.replica.connection_mut().serialize("main").map_err(Fault::from)?;
        Ok(data.to_vec())
    }
}

impl Engine {
    fn run_one(&mut self, sql: &str, parameters: &Parameters) -> Result<Object, Fault> {
        if !self.replica.connection().prepare_cached(sql)?.readonly() {
            self.set_foreign_keys(true);
        }
        let conn = self.replica.connection();
        let mut statement = conn.prepare_cached(sql)?;
        parameters.bind(&mut statement, 0)?;
        let rows = Array::new();
        let [changes, inserted] = self.counted(&mut statement, |row| {
            let width = row.as_ref().column_count();
            let cells = (0..width).map(|n| row.get_ref(n).map(to_js)).collect::<Result<Array, _>>()?;
            rows.push(&cells);
            Ok(())
        })?;
        // Only now: a kept statement is prepared anew for another schema when it is run.
        let columns: Array = statement.column_names().map(JsValue::from_str).collect();
        Ok(object(&[
            ("columns", columns.into()),
            ("rows", rows.into()),
            ("changes", changes),
            ("lastInsertRowid", inserted),
        ]))
    }

    fn run_all(&self, sql: &str) -> Result<Object, Fault> {
        let mut batch = Batch::new(self.replica.connection(), sql);
        let mut all = 0.0;
        let mut last = JsValue::NULL;
        while let Some(mut statement) = batch.next()? {
            let [changes, inserted] = self.counted(&mut statement, |_| Ok(()))?;
            all += changes.as_f64().unwrap_or_default();
            if !inserted.is_null() {
                last = inserted;
            }
        }
        Ok(object(&[("changes", all.into()), ("lastInsertRowid", last)]))
    }

    /// Steps through a statement: how many rows it changed, not counting what triggers wrote, and the rowid of the last row
    /// that it inserted or null.
    fn counted(
        &self,
        statement: &mut Statement<'_>,
        mut hear: impl FnMut(&rusqlite::Row<'_>) -> Result<(), Fault>,
    ) -> Result<[JsValue; 2], Fault> {
        let conn = self.replica.connection();
        let before = conn.total_changes();
        self.changes.take_inserted();
        let mut found = statement.raw_query();
        while let Some(row) = found.next()? {
            hear(row)?;
        }
        drop(found);
        let changes = if conn.total_changes() == before { 0.0 } else { conn.changes() as f64 };
        // A table without rowid has none to tell.
        let inserted = self.changes.take_inserted().filter(|id| *id == conn.last_insert_rowid());
        Ok([changes.into(), inserted.map_or(JsValue::NULL, |id| to_js(ValueRef::Integer(id)))])
    }

    /// SQLite's own foreign keys are for what the page writes; sync looks after them by itself. Each switch makes SQLite
    /// prepare all statements anew, so it is left as it is until the other has its turn.
    fn set_foreign_keys(&mut self, on: bool) {
        let conn = self.replica.connection();
        // Inside a transaction nothing changes.
        if self.foreign_keys != on
            && conn.is_autocommit()
            && conn.pragma_update(None, "foreign_keys", on).is_ok()
        {
            self.foreign_keys = on;
        }
    }

    /// Whether the application's part of the schema is another than at the last call.
    fn is_schema_new(&mut self) -> Result<bool, Fault> {
        let conn = self.replica.connection();
        let version = conn.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))?;
        if self.schema.is_some_and(|(known, _)| known == version) {
            return Ok(false);
        }
        let mut hasher = DefaultHasher::new();
        let own = "SELECT name, sql FROM sqlite_schema WHERE name NOT GLOB 'piecewise_*' AND name NOT GLOB 'sqlite_*'";
        let mut statement = conn.prepare_cached(own)?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            (row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?).hash(&mut hasher);
        }
        let hash = hasher.finish();
        let is_new = self.schema.is_none_or(|(_, known)| known != hash);
        self.schema = Some((version, hash));
        Ok(is_new)
    }

    /// Tells which tables' changed keys live queries need.
    fn want_keys(&self) {
        self.changes.set_key_columns(self.lives.values().filter_map(Live::key_column).collect());
    }
}

/// Opens a file of the storage, or a new database in memory.
fn open_replica(file: Option<&str>, identity: Identity, chance: [u8; 32]) -> Result<Replica, Fault> {
    let conn = match file {
        None => Connection::open_in_memory()?,
        Some(file) => Connection::open(file)?,
    };
    // The pool's files have no shared memory, so no WAL.
    conn.pragma_update(None, "journal_mode", "truncate")?;
    // A commit survives the death of the browser; after a power loss the last ones may be gone, which peers notice and mend.
    conn.pragma_update(None, "synchronous", "normal")?;
    Ok(Replica::from_connection(conn, identity, chance)?)
}

/// A seed or chance, as JavaScript gives it.
fn secret(bytes: &[u8]) -> Result<[u8; 32], Fault> {
    bytes.try_into().map_err(|_| fault("VALUE", "a seed is 32 bytes"))
}

fn time(now: f64) -> Timestamp {
    Timestamp((now.max(0.0) as u64).min(Timestamp::MAX.0))
}

fn object(fields: &[(&str, JsValue)]) -> Object {
    let object = Object::new();
    for (name, value) in fields {
        // A plain object takes any property.
        let _ = Reflect::set(&object, &JsValue::from_str(name), value);
    }
    object
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex<const N: usize>(text: &str) -> Result<[u8; N], Fault> {
    let digits = |n: usize| text.get(2 * n..2 * n + 2).and_then(|d| u8::from_str_radix(d, 16).ok());
    let bytes: Option<Vec<u8>> = (0..N).map(digits).collect();
    let bytes = bytes.filter(|_| text.len() == 2 * N).and_then(|b| b.try_into().ok());
    bytes.ok_or_else(|| fault("VALUE", format!("expected {} hexadecimal digits", 2 * N)))
}
