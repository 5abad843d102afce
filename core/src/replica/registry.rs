//! The registry: which containers the file holds, and what is known of each.

use super::containers::{ContainerState, Surroundings};
use super::{Replica, ReplicaError, Scan, TRUSTED};
use crate::change::Merge;
use crate::container_name::{ContainerName, container_id};
use crate::description::Description;
use crate::feed::Feed;
use crate::id::{ContainerId, PeerId, RealmId, ReplicaId, Seq};
use crate::key::RowKey;
use crate::message::Cursor;
use crate::root::{Root, RootDigest};
use crate::store::clauses::Clauses;
use crate::store::schema::{Catalogue, Kinds, TrackRefusal};
use crate::store::triggers::{self, Mode};
use crate::store::user_table::{Acts, UserTable};
use crate::store::{StoreError, documents, holds, layout, schema};
use rusqlite::{Connection, OptionalExtension, params};
use std::cell::OnceCell;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Between names of tables in one text.
const SEPARATOR: &str = "\u{1f}";

/// To which database, of which server, a file belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The database's name.
    pub database: String,
    /// The realm: the server's name for all it holds.
    pub realm: RealmId,
    /// The server's key.
    pub server: PeerId,
    /// Which tables to hold.
    pub follow: Follow,
}

/// Which tables of a database a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Those tracked here.
    Tracked,
    /// Every one that may be seen, also those created later.
    All,
}

/// How a column of the table stands in documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnBinding {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) merge: Merge,
    /// Whether it is new in the table, and documents may have values for it that are still to be filled in.
    pub(crate) is_new: bool,
}

impl ContainerState {
    /// Writes the end of the feed and the root.
    pub(super) fn store_feed(&self, conn: &Connection) -> Result<(), StoreError> {
        conn.prepare_cached("UPDATE piecewise_containers SET seq = ?, hash = ?, digest = ? WHERE no = ?")?
            .execute(params![
                self.feed.tip.seq.0 as i64,
                self.feed.tip.hash,
                self.feed.digest().0,
                self.no
            ])?;
        if let Some(root) = self.feed.root() {
            conn.prepare_cached("REPLACE INTO piecewise_roots VALUES (?, ?)")?
                .execute(params![self.no, &root.to_bytes()[..]])?;
        }
        Ok(())
    }

    /// The table as it is now, and how its columns stand in documents; None if there is none that fits.
    fn look_at_table(
        &self,
        conn: &Connection,
        kinds: &Kinds,
        clauses: &Clauses,
        unkept: &BTreeSet<String>,
    ) -> Result<Option<(UserTable, Vec<ColumnBinding>)>, StoreError> {
        if !self.has_table() || !kinds.has(&self.table) {
            return Ok(None);
        }
        let mut table = match schema::read_known_table(conn, kinds, &self.table) {
            Ok(table) => table,
            Err(TrackRefusal::Store(error)) => return Err(error),
            Err(_) => return Ok(None),
        };
        let mut columns = self.columns.clone();
        let now: Vec<_> = table.columns.iter().map(|c| c.name.clone()).collect();
        follow_renames(&mut columns, &now);
        for column in &mut table.columns {
            if let Some(binding) = columns.iter().find(|b| b.name == column.name) {
                column.merge = binding.merge;
            }
        }
        for foreign in &mut table.foreign_keys {
            let key = |n: &usize| {
                let name = &table.columns[*n].name;
                columns.iter().find(|b| b.name == *name).map_or(name.as_str(), |b| b.key.as_str())
            };
            let names: Vec<_> = foreign.columns.iter().map(key).collect();
            foreign.kept = !unkept.contains(&names.join(SEPARATOR));
        }
        let key =
            |name: &str| columns.iter().find(|b| b.name == name).map_or(name.to_owned(), |b| b.key.clone());
        let mut user = UserTable::new(table, key);
        user.acts = Acts {
            triggers: !clauses.triggers_on(&user.table.name).is_empty(),
            clauses: clauses.has_conflict_clauses(&user.table.name),
        };
        Ok((user.has_integer_key() == self.integer_keys).then_some((user, columns)))
    }
}

impl Replica {
    /// Connects the file to a database; its own tables are made at the first time.
    pub fn bind(&mut self, binding: Binding) -> Result<(), ReplicaError> {
        if let Some(old) = &self.binding
            && (old.database != binding.database || old.realm != binding.realm)
        {
            return Err(ReplicaError::AlreadyBound { database: old.database.clone() });
        }
        let replica_id = if self.binding.is_some() { self.replica_id } else { ReplicaId(self.nonce()) };
        self.replica_id = replica_id;
        self.transaction(|r| {
            if !layout::exists(&r.conn)? {
                layout::create(&r.conn)?;
            }
            let set = |name: &str, value: &[u8]| layout::set_meta(&r.conn, name, value);
            set("realm", &binding.realm.0)?;
            set("server", &binding.server.0)?;
            set("replica", &replica_id.0)?;
            layout::set_meta(&r.conn, "database", &binding.database)?;
            layout::set_meta(&r.conn, "follow_all", binding.follow == Follow::All)?;
            Ok(())
        })?;
        self.reload()
    }

    /// Takes our tables out of a file that tracks nothing.
    pub fn unbind(&mut self) -> Result<(), ReplicaError> {
        if self.binding.is_none() || !self.containers.is_empty() {
            return Ok(());
        }
        self.transaction(|r| {
            layout::drop(&r.conn)?;
            r.binding = None;
            Ok(())
        })
    }

    /// Reads everything known from the file, as after opening it.
    pub(crate) fn reload(&mut self) -> Result<(), ReplicaError> {
        self.binding = None;
        self.containers.clear();
        self.unsettled.clear();
        self.schema_version = -1;
        self.forget_schema();
        if !layout::exists(&self.conn)? {
            return Ok(());
        }
        let conn = &self.conn;
        let blob = |name: &str| -> Result<Vec<u8>, StoreError> {
            layout::meta(conn, name)?
                .ok_or(StoreError::Damaged { what: "a setting of the replica is missing" })
        };
        fn fixed<const N: usize>(bytes: Vec<u8>) -> Result<[u8; N], StoreError> {
            bytes.try_into().map_err(|_| StoreError::Damaged { what: "a setting of the replica" })
        }
        let follow_all = layout::meta::<bool>(conn, "follow_all")?.unwrap_or(false);
        self.binding = Some(Binding {
            database: layout::meta(conn, "database")?.unwrap_or_default(),
            realm: RealmId(fixed(blob("realm")?)?),
            server: PeerId(fixed(blob("server")?)?),
            follow: if follow_all { Follow::All } else { Follow::Tracked },
        });
        self.replica_id = ReplicaId(fixed(blob("replica")?)?);
        self.clock_offset_ms = layout::meta(conn, "clock_offset_ms")?.unwrap_or(0);
        let trusted: Vec<u8> = layout::meta(conn, TRUSTED)?.unwrap_or_default();
        self.trusted =
            trusted.chunks_exact(32).filter_map(|key| Some(PeerId(key.try_into().ok()?))).collect();
        self.schema_version = layout::meta(conn, "schema_version")?.unwrap_or(-1);
        self.generation = layout::meta(conn, "generation")?.unwrap_or(0);
        for state in read_containers(conn)? {
            self.containers.insert(state);
        }
        self.unkept = super::kept::read(&self.conn)?;
        let integer_keys = |no| self.containers.get(&no).map(|c| c.integer_keys);
        self.unsettled = holds::unsettled(&self.conn, integer_keys)?;
        Ok(())
    }

    /// Looks at the schema again if anybody changed it; puts triggers back that a migration dropped.
    ///
    /// Call it in a transaction.
    pub(super) fn refresh_schema(&mut self) -> Result<(), ReplicaError> {
        let version = schema::schema_version(&self.conn)?;
        if version == self.schema_version || self.binding.is_none() {
            return Ok(());
        }
        let catalogue = Catalogue::read(&self.conn)?;
        self.forget_schema();
        self.stumbles.schema_is_new();
        self.containers.forget_tables();
        let changed: Vec<_> = self
            .containers
            .values()
            .filter(|c| c.fingerprint != Some(catalogue.of(&c.table).fingerprint))
            .map(|c| c.no)
            .collect();
        let mut without = BTreeSet::new();
        for no in changed {
            if !self.look_again(no, &catalogue)? {
                without.insert(no);
            }
        }
        self.renew_triggers(&without)?;
        for no in without {
            // A scan that had come some way has not seen what was written there meanwhile.
            match self.containers[&no].scan() {
                Scan::Meet | Scan::Make => {}
                Scan::Join => self.set_scan(no, Scan::Join)?,
                // What is not in the table yet was not deleted.
                Scan::Fill | Scan::CompareAndFill => self.set_scan(no, Scan::CompareAndFill)?,
                _ => self.set_scan(no, Scan::Compare)?,
            }
        }
        self.schema_is_new()?;
        self.note_schema()
    }

    /// Takes in how a table looks after its schema changed; whether the triggers are as they should be.
    fn look_again(&mut self, no: i64, catalogue: &Catalogue) -> Result<bool, ReplicaError> {
        let new = |state: &ContainerState| state.columns.iter().filter(|c| c.is_new).count();
        let before = new(&self.containers[&no]);
        self.read_user_table(no)?;
        let seen = catalogue.of(&self.containers[&no].table);
        self.set_app_triggers(no, seen.app_triggers)?;
        let Some(user) = self.user_table(no)? else {
            self.set_fingerprint(no, None)?;
            return Ok(true);
        };
        let state = &self.containers[&no];
        let are = triggers::are(&seen.triggers, no, &user.table, mode(state));
        // A table that is being filled is filled from the start again, for the sake of one more column.
        let to_fill = match state.scan() {
            Scan::No => new(state) > 0,
            Scan::Fill => new(state) > before,
            _ => false,
        };
        if to_fill {
            self.set_scan(no, Scan::Fill)?;
        }
        if are {
            self.set_fingerprint(no, Some(seen.fingerprint))?;
        }
        Ok(are)
    }

    /// Drops the triggers of containers, if they have any, and makes them anew. Call it in a transaction.
    pub(super) fn renew_triggers(&mut self, numbers: &BTreeSet<i64>) -> Result<(), ReplicaError> {
        if numbers.is_empty() {
            return Ok(());
        }
        triggers::remove(&self.conn, numbers)?;
        self.install_triggers(numbers)
    }

    /// Adds the triggers of containers to their tables: once for many of them, since the schema is read for it.
    /// Call it in a transaction.
    pub(super) fn install_triggers(&mut self, numbers: &BTreeSet<i64>) -> Result<(), ReplicaError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let mut tables = vec![];
        for no in numbers {
            if let Some(user) = self.user_table(*no)? {
                tables.push((*no, user, mode(&self.containers[no])));
            }
        }
        let wanted: Vec<_> = tables.iter().map(|(no, user, mode)| (*no, &user.table, *mode)).collect();
        triggers::install(&self.conn, &wanted)?;
        self.note_schema()?;
        let names: HashSet<_> =
            tables.iter().map(|(_, user, _)| user.table.name.to_ascii_lowercase()).collect();
        let catalogue = Catalogue::read_of(&self.conn, |table| names.contains(table))?;
        for (no, user, _) in &tables {
            let seen = catalogue.of(&user.table.name);
            self.set_app_triggers(*no, seen.app_triggers)?;
            self.set_fingerprint(*no, Some(seen.fingerprint))?;
        }
        Ok(())
    }

    /// The schema is as we have just made it.
    pub(super) fn note_schema(&mut self) -> Result<(), ReplicaError> {
        let version = schema::schema_version(&self.conn)?;
        if version != self.schema_version {
            self.forget_schema();
            self.schema_version = version;
            layout::set_meta(&self.conn, "schema_version", version)?;
        }
        Ok(())
    }

    /// What kind of table each is.
    pub(crate) fn kinds(&self) -> Result<&Kinds, StoreError> {
        if let Some(known) = self.kinds.get() {
            return Ok(known);
        }
        let kinds = Kinds::read(&self.conn)?;
        Ok(self.kinds.get_or_init(|| kinds))
    }

    /// What acts on rows as they are written.
    pub(crate) fn clauses(&self) -> Result<&Clauses, StoreError> {
        if let Some(known) = self.clauses.get() {
            return Ok(known);
        }
        let clauses = Clauses::read(&self.conn)?;
        Ok(self.clauses.get_or_init(|| clauses))
    }

    fn forget_schema(&mut self) {
        self.kinds.take();
        self.clauses.take();
    }

    /// The table of a container as it is now; None while there is none that fits.
    pub(crate) fn user_table(&self, no: i64) -> Result<Option<Arc<UserTable>>, StoreError> {
        let Some(state) = self.containers.get(&no) else { return Ok(None) };
        if let Some(known) = state.user.get() {
            return Ok(known.clone());
        }
        let user = state
            .look_at_table(&self.conn, self.kinds()?, self.clauses()?, self.unkept_of(no))?
            .map(|(user, _)| Arc::new(user));
        Ok(state.user.get_or_init(|| user).clone())
    }

    /// Reads how the user's table looks now, and keeps what follows from it. Call it in a transaction.
    pub(crate) fn read_user_table(&mut self, no: i64) -> Result<(), ReplicaError> {
        let Some(state) = self.containers.get(&no) else { return Ok(()) };
        let (user, columns) =
            state.look_at_table(&self.conn, self.kinds()?, self.clauses()?, self.unkept_of(no))?.unzip();
        if let Some(columns) = &columns {
            store_columns(&self.conn, no, columns)?;
        }
        let mut parents: Vec<_> = user.iter().flat_map(|u| &u.table.foreign_keys).collect();
        parents.dedup_by(|a, b| a.parent_table == b.parent_table);
        let parents: Vec<_> = parents.iter().map(|f| f.parent_table.to_ascii_lowercase()).collect();
        self.conn
            .prepare_cached("UPDATE piecewise_containers SET parents = ?1 WHERE no = ?2 AND parents <> ?1")?
            .execute(params![parents.join(SEPARATOR), no])?;
        self.containers.change(no, |state| {
            state.surroundings.parents = parents;
            state.user = OnceCell::from(user.map(Arc::new));
            if let Some(columns) = columns {
                state.columns = columns;
            }
        });
        Ok(())
    }

    /// Where rows here and at the server differ at first contact, those from here shall show.
    pub(super) fn set_prefer_local(&mut self, no: i64, prefer_local: bool) -> Result<(), ReplicaError> {
        self.conn
            .prepare_cached(
                "UPDATE piecewise_containers SET prefer_local = ?1 WHERE no = ?2 AND prefer_local <> ?1",
            )?
            .execute(params![prefer_local, no])?;
        if let Some(state) = self.containers.get_mut(&no) {
            state.prefer_local = prefer_local;
        }
        Ok(())
    }

    /// Notes whether the application has triggers on a table. Call it in a transaction.
    pub(super) fn set_app_triggers(&mut self, no: i64, app_triggers: bool) -> Result<(), ReplicaError> {
        self.conn
            .prepare_cached(
                "UPDATE piecewise_containers SET app_triggers = ?1 WHERE no = ?2 AND app_triggers <> ?1",
            )?
            .execute(params![app_triggers, no])?;
        self.containers.change(no, |state| state.surroundings.app_triggers = app_triggers);
        Ok(())
    }

    /// Notes the schema for which all is in place; None: it is looked at again once anybody changes the schema.
    fn set_fingerprint(&mut self, no: i64, fingerprint: Option<i64>) -> Result<(), ReplicaError> {
        self.conn
            .prepare_cached("UPDATE piecewise_containers SET fingerprint = ?1 WHERE no = ?2")?
            .execute(params![fingerprint, no])?;
        if let Some(state) = self.containers.get_mut(&no) {
            state.fingerprint = fingerprint;
        }
        Ok(())
    }

    /// The container's description, from its document.
    pub(crate) fn description(&mut self, no: i64) -> Result<Option<Description>, ReplicaError> {
        let view = self.history.view(&self.conn, no, &RowKey::Description)?;
        let entries = crate::row::description_entries(&view);
        // A description that cannot be read holds nothing up: the rows are stored and wait for a better one.
        let read = || Description::from_entries(entries.iter().map(|(k, v)| (k.as_str(), v))).ok();
        Ok(if entries.is_empty() { None } else { read() })
    }

    /// Reads the state behind a root, before a segment is added.
    pub(crate) fn read_root(&mut self, no: i64) -> Result<(), ReplicaError> {
        let damaged = StoreError::Damaged { what: "the root of a container" };
        let Some(state) = self.containers.get_mut(&no).filter(|c| c.feed.root().is_none()) else {
            return Ok(());
        };
        let sql = "SELECT root FROM piecewise_roots WHERE container = ?";
        let bytes: Option<Vec<u8>> =
            self.conn.prepare_cached(sql)?.query_row([no], |row| row.get(0)).optional()?;
        let Some(Ok(bytes)) = bytes.map(|b| b.as_slice().try_into()) else { return Err(damaged.into()) };
        state.feed.set_root(Root::from_bytes(&bytes));
        Ok(())
    }

    /// Adds a container to the file; its number. Call it in a transaction.
    pub(crate) fn add_container(
        &mut self,
        name: &ContainerName,
        integer_keys: bool,
        columns: Vec<ColumnBinding>,
        scan: Scan,
    ) -> Result<i64, ReplicaError> {
        let binding = self.binding.as_ref().ok_or(ReplicaError::NotBound)?;
        let state = ContainerState {
            no: 0,
            id: container_id(&binding.realm, name),
            name: name.as_str().to_owned(),
            table: name.table().to_owned(),
            prefer_local: false,
            integer_keys,
            columns,
            feed: Feed::default(),
            scan_after: None,
            counted: (0, 0),
            fingerprint: None,
            user: OnceCell::new(),
            read_only: false,
            scan,
            surroundings: Surroundings::default(),
        };
        self.conn
            .prepare_cached(
                "INSERT INTO piecewise_containers(id, name, table_name, integer_keys, read_only, scan, prefer_local,
                   columns, parents, app_triggers, seq, hash, digest)
                 VALUES (?, ?, ?, ?, 0, ?, 0, ?, '', 0, 0, ?, ?)",
            )?
            .execute(params![
                state.id.0,
                state.name,
                state.table,
                integer_keys,
                scan as i64,
                columns_text(&state.columns),
                state.feed.tip.hash,
                state.feed.digest().0
            ])?;
        let no = self.conn.last_insert_rowid();
        self.containers.insert(ContainerState { no, ..state });
        self.touch(no);
        Ok(no)
    }

    /// Takes containers out of the file; the last one takes our tables with it. Call it in a transaction.
    pub(crate) fn remove_containers(&mut self, numbers: &BTreeSet<i64>) -> Result<(), ReplicaError> {
        if self.containers.numbers().all(|no| numbers.contains(&no)) {
            triggers::remove(&self.conn, numbers)?;
            layout::drop(&self.conn)?;
            self.containers.clear();
            self.touched.clear();
            self.history.clear();
            self.binding = None;
            return Ok(());
        }
        self.forget_containers(numbers)?;
        self.note_schema()
    }

    /// Takes containers out of the file. Call it in a transaction.
    pub(crate) fn forget_containers(&mut self, numbers: &BTreeSet<i64>) -> Result<(), ReplicaError> {
        triggers::remove(&self.conn, numbers)?;
        for no in numbers {
            self.containers.remove(*no);
            self.touched.remove(no);
            self.scrubbing.forget(*no);
            documents::forget(&self.conn, *no)?;
            for table in [
                "roots",
                "segments",
                "cursors",
                "acknowledged",
                "held",
                "claims",
                "unkept",
                "exempt",
                "accepted",
                "refused",
                "unsettled",
                "checks",
                "log",
            ] {
                let sql = format!("DELETE FROM piecewise_{table} WHERE container = ?");
                self.conn.prepare_cached(&sql)?.execute([no])?;
            }
            self.conn.prepare_cached("DELETE FROM piecewise_containers WHERE no = ?")?.execute([no])?;
        }
        // Their segments' numbers are given out again.
        self.history.clear();
        Ok(())
    }

    /// Notes a scan to do, or that it is done.
    pub(crate) fn set_scan(&mut self, no: i64, scan: Scan) -> Result<(), ReplicaError> {
        self.conn
            .prepare_cached("UPDATE piecewise_containers SET scan = ?, scan_after = NULL WHERE no = ?")?
            .execute(params![scan as i64, no])?;
        self.containers.change(no, |state| {
            (state.scan, state.scan_after, state.counted) = (scan, None, (0, 0));
        });
        self.touch(no);
        Ok(())
    }

    /// Notes how far a scan has come: it goes on from there, even if the process dies.
    pub(crate) fn set_scan_after(&mut self, no: i64, key: RowKey) -> Result<(), ReplicaError> {
        self.conn
            .prepare_cached("UPDATE piecewise_containers SET scan_after = ? WHERE no = ?")?
            .execute(params![documents::key_bytes(&key), no])?;
        if let Some(state) = self.containers.get_mut(&no) {
            state.scan_after = Some(key);
        }
        Ok(())
    }

    /// A scan has come to its end.
    pub(crate) fn end_scan(&mut self, no: i64) -> Result<(), ReplicaError> {
        let Some(state) = self.containers.get_mut(&no) else { return Ok(()) };
        // A comparison does not write what documents have for new columns: that comes after it.
        let to_fill = state.scan != Scan::Fill && state.columns.iter().any(|c| c.is_new);
        if to_fill {
            return self.set_scan(no, Scan::Fill);
        }
        state.columns.iter_mut().for_each(|c| c.is_new = false);
        store_columns(&self.conn, no, &state.columns)?;
        self.set_scan(no, Scan::No)
    }

    /// Makes tables read-only here, or writable again. Call it in a transaction.
    pub(crate) fn set_read_only(&mut self, wanted: &[(i64, bool)]) -> Result<(), ReplicaError> {
        let mut changed = BTreeSet::new();
        for (no, read_only) in wanted {
            if self.containers.get(no).is_none_or(|c| c.read_only == *read_only) {
                continue;
            }
            self.containers.change(*no, |state| state.read_only = *read_only);
            self.conn
                .prepare_cached("UPDATE piecewise_containers SET read_only = ? WHERE no = ?")?
                .execute(params![read_only, no])?;
            if self.user_table(*no)?.is_some() {
                changed.insert(*no);
            }
        }
        self.renew_triggers(&changed)
    }

    /// The number of the container of a table.
    pub(crate) fn number(&self, table: &str) -> Result<i64, ReplicaError> {
        self.containers
            .of_table(table)
            .map(|c| c.no)
            .ok_or_else(|| ReplicaError::NotTracked { table: table.to_owned() })
    }
}

pub(crate) fn mode(state: &ContainerState) -> Mode {
    if state.read_only { Mode::ReadOnly } else { Mode::Capture }
}

/// A column that went and one that came at the same place, with all others as before, is a column renamed.
fn follow_renames(bindings: &mut Vec<ColumnBinding>, now: &[String]) {
    let came: Vec<_> =
        now.iter().filter(|name| !bindings.iter().any(|b| b.name == **name)).cloned().collect();
    if bindings.len() == now.len() {
        for (binding, name) in bindings.iter_mut().zip(now) {
            if !now.contains(&binding.name) && came.contains(name) {
                binding.name.clone_from(name);
            }
        }
    }
    for name in now {
        if !bindings.iter().any(|b| b.name == *name) {
            let key = name.clone();
            bindings.push(ColumnBinding { name: name.clone(), key, merge: Merge::Register, is_new: true });
        }
    }
    let place = |b: &ColumnBinding| now.iter().position(|n| *n == b.name).unwrap_or(usize::MAX);
    bindings.retain(|b| now.contains(&b.name));
    bindings.sort_by_key(place);
}

fn columns_text(columns: &[ColumnBinding]) -> String {
    let line = |c: &ColumnBinding| {
        format!("{}\u{1f}{}\u{1f}{}\u{1f}{}", c.name, c.key, c.merge.code(), u8::from(c.is_new))
    };
    columns.iter().map(line).collect::<Vec<_>>().join("\u{1e}")
}

fn columns_from_text(text: &str) -> Vec<ColumnBinding> {
    let column = |line: &str| {
        let mut parts = line.split('\u{1f}');
        let (name, key) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let merge = Merge::from_code(parts.next()?.parse().ok()?)?;
        let is_new = parts.next()? == "1";
        Some(ColumnBinding { name, key, merge, is_new })
    };
    text.split('\u{1e}').filter_map(column).collect()
}

pub(crate) fn store_columns(conn: &Connection, no: i64, columns: &[ColumnBinding]) -> Result<(), StoreError> {
    conn.prepare_cached("UPDATE piecewise_containers SET columns = ?1 WHERE no = ?2 AND columns <> ?1")?
        .execute(params![columns_text(columns), no])?;
    Ok(())
}

fn read_containers(conn: &Connection) -> Result<Vec<ContainerState>, StoreError> {
    let mut stmt = conn.prepare(
        "SELECT no, id, name, table_name, integer_keys, read_only, scan, prefer_local, columns, parents, app_triggers,
           fingerprint, seq, hash, digest, scan_after
         FROM piecewise_containers",
    )?;
    let rows = stmt.query_map([], |row| {
        let parents: String = row.get(9)?;
        let tip = Cursor { seq: Seq(row.get::<_, i64>(12)? as u64), hash: row.get(13)? };
        let integer_keys = row.get(4)?;
        let after: Option<Vec<u8>> = row.get(15)?;
        Ok(ContainerState {
            no: row.get(0)?,
            id: ContainerId(row.get(1)?),
            name: row.get(2)?,
            table: row.get(3)?,
            integer_keys,
            read_only: row.get(5)?,
            scan: Scan::from_code(row.get(6)?),
            prefer_local: row.get(7)?,
            columns: columns_from_text(&row.get::<_, String>(8)?),
            feed: Feed::unread(tip, RootDigest(row.get(14)?)),
            // What cannot be read is gone through anew.
            scan_after: after.and_then(|after| documents::key_from_bytes(&after, integer_keys).ok()),
            counted: (0, 0),
            fingerprint: row.get(11)?,
            user: OnceCell::new(),
            surroundings: Surroundings {
                parents: parents.split(SEPARATOR).filter(|p| !p.is_empty()).map(str::to_owned).collect(),
                app_triggers: row.get(10)?,
            },
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
