//! The registry: which containers the file holds, and what is known of each.

use super::columns::{self, ColumnBinding, Decided, columns_from_text, columns_text, store_columns};
use super::containers::{ContainerState, Surroundings};
use super::stops::{self, StopKind};
use super::{Replica, ReplicaError, Scan, TRUSTED, tracking};
use crate::container_name::{ContainerName, container_id};
use crate::description::Description;
use crate::feed::Feed;
use crate::id::{ContainerId, PeerId, RealmId, ReplicaId, Seq};
use crate::key::RowKey;
use crate::message::Cursor;
use crate::numbers::Settings;
use crate::root::{Root, RootDigest};
use crate::store::clauses::Clauses;
use crate::store::other_tables::references_through;
use crate::store::schema::{Catalogue, Kinds, TrackRefusal};
use crate::store::triggers::{self, Mode};
use crate::store::user_table::{Acts, UserTable};
use crate::store::{StoreError, documents, holds, layout, schema};
use crate::table::KeyKind;
use rusqlite::{Connection, OptionalExtension, params};
use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// In a file with so many tables, each is looked at after a change of the schema that no table's text shows.
const ALIKE_LOOKED_AT: usize = 32;
/// The setting that lists the containers whose descriptions may lack something.
const UNDESCRIBED: &str = "undescribed";
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

    /// The table as it is now, and how its columns stand in documents, or why there is none that fits; None if this
    /// container has none yet.
    fn look_at_table(
        &self,
        conn: &Connection,
        kinds: &Kinds,
        clauses: &Clauses,
        unkept: &BTreeSet<String>,
        settings: &Settings,
    ) -> Result<Option<Found>, StoreError> {
        if !self.has_table() {
            return Ok(None);
        }
        if !kinds.has(&self.table) {
            let why = "the table is not in this file: it was dropped or has another name".to_owned();
            return Ok(Some(Err((StopKind::Missing, why))));
        }
        let mut table = match schema::read_known_table(conn, kinds, &self.table) {
            Ok(table) => table,
            Err(TrackRefusal::Store(error)) => return Err(error),
            Err(refusal) => return Ok(Some(Err((StopKind::Unfit, refusal.to_string())))),
        };
        let columns = columns::by_name(&self.columns, &table);
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
        for column in &mut user.columns {
            let binding = columns.iter().find(|b| b.key == column.key);
            if let Some(absent) = binding.and_then(|b| b.absent.as_ref()) {
                column.absent.clone_from(absent);
            }
        }
        user.references = settings.foreign_keys(&user.table, &columns);
        user.autoincrement = clauses.is_autoincrement(&user.table.name);
        user.acts = Acts {
            triggers: !clauses.triggers_on(&user.table.name).is_empty(),
            clauses: clauses.has_conflict_clauses(&user.table.name),
        };
        if user.has_integer_key() != self.integer_keys {
            let kind = |integer| if integer { "an INTEGER PRIMARY KEY" } else { "another kind of key" };
            let (was, is) = (kind(self.integer_keys), kind(user.has_integer_key()));
            let why = format!("the table's primary key has changed from {was} to {is}");
            return Ok(Some(Err((StopKind::Key, why))));
        }
        Ok(Some(Ok((user, columns))))
    }
}

/// A table that fits its container, with how its columns stand in documents; or why it does not.
type Found = Result<(UserTable, Vec<ColumnBinding>), (StopKind, String)>;

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
        self.authors.clear();
        self.unsettled.clear();
        self.undescribed.clear();
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
        self.authors = crate::store::authors::all(conn)?;
        let away = read_away(conn)?;
        for state in read_containers(conn)? {
            let away = away.get(&state.no).copied();
            self.containers.insert(ContainerState { away, ..state });
        }
        self.log_from = 0;
        for (no, stopped) in stops::read(&self.conn)? {
            self.containers.change(no, |state| state.stopped = Some(stopped));
        }
        self.unkept = super::kept::read(&self.conn)?;
        self.read_numbers()?;
        let integer_keys = |no| self.containers.get(&no).map(|c| c.integer_keys);
        self.unsettled = holds::unsettled(&self.conn, integer_keys)?;
        let undescribed: Option<String> = layout::meta(&self.conn, UNDESCRIBED)?;
        let numbers = undescribed.iter().flat_map(|list| list.split(' ')).filter_map(|no| no.parse().ok());
        self.undescribed = numbers.filter(|no| self.containers.get(no).is_some()).collect();
        Ok(())
    }

    /// Looks at the schema again if anybody changed it; puts triggers back that a migration dropped.
    ///
    /// Call it in a transaction.
    pub(super) fn refresh_schema(&mut self) -> Result<(), ReplicaError> {
        let version = schema::schema_version(&self.conn)?;
        if self.binding.is_none() {
            return Ok(());
        }
        let is_new = version != self.schema_version;
        let retried = self.take_retried();
        if !is_new && retried.is_empty() {
            return Ok(());
        }
        let catalogue = Catalogue::read(&self.conn)?;
        self.forget_schema();
        self.stumbles.schema_is_new();
        self.containers.forget_tables();
        let is_other = |c: &&ContainerState| {
            let seen = catalogue.of(&c.table);
            c.fingerprint != Some(seen.fingerprint) || seen.overtaken
        };
        let mut changed: Vec<_> = self.containers.values().filter(is_other).map(|c| c.no).collect();
        if !is_new {
            changed.retain(|no| retried.contains(no));
        } else if changed.is_empty() && self.containers.len() <= ALIKE_LOOKED_AT {
            // A column that went and came again leaves the text that was there before.
            changed.extend(self.containers.numbers());
        }
        let (mut without, mut to_compare) = (BTreeSet::new(), BTreeSet::new());
        for no in changed {
            let look = self.look_again(no, &catalogue)?;
            if !look.triggers_are_there {
                without.insert(no);
            }
            if look.to_compare {
                to_compare.insert(no);
            }
        }
        self.renew_triggers(&without)?;
        for no in without.union(&to_compare).copied() {
            // A scan that had come some way has not seen what was written there meanwhile.
            match self.containers[&no].scan() {
                Scan::Meet | Scan::Make => {}
                Scan::Gather | Scan::Join => self.set_scan(no, Scan::Gather)?,
                // What is not in the table yet was not deleted.
                Scan::Fill | Scan::CompareAndFill => self.set_scan(no, Scan::CompareAndFill)?,
                _ => self.set_scan(no, Scan::Compare)?,
            }
        }
        if is_new {
            self.read_references_through()?;
        }
        self.schema_is_new()?;
        self.note_schema()
    }

    /// Reads the tables anew whose references may lead through tables that are not tracked. Call it in a transaction.
    pub(super) fn read_references_through(&mut self) -> Result<(), ReplicaError> {
        let kinds = self.kinds()?;
        let leads = |table: &String| kinds.has(table) && !self.is_tracked(table);
        let leading = self.containers.values().filter(|c| c.surroundings.parents.iter().any(leads));
        let leading: Vec<i64> = leading.map(|c| c.no).collect();
        leading.into_iter().try_for_each(|no| self.read_user_table(no))
    }

    /// Takes in how a table looks after its schema changed.
    fn look_again(&mut self, no: i64, catalogue: &Catalogue) -> Result<Look, ReplicaError> {
        let halts = Look { triggers_are_there: true, to_compare: false };
        if !self.containers[&no].has_table() {
            self.make_again(no)?;
            self.set_fingerprint(no, None)?;
            return Ok(halts);
        }
        let fault = match self.fault_of(no)? {
            None => self.fault_of_key(no)?,
            fault => fault,
        };
        if let Some((kind, why)) = fault {
            self.stop(no, kind, &why)?;
            return Ok(halts);
        }
        if self.containers[&no].is_halted() {
            self.forget_stop(no)?;
        }
        let decided = self.decide_columns(no)?;
        self.read_user_table(no)?;
        let seen = catalogue.of(&self.containers[&no].table);
        self.set_app_triggers(no, seen.app_triggers)?;
        let Some(user) = self.user_table(no)? else { return Ok(halts) };
        let state = &self.containers[&no];
        let triggers_are_there =
            !seen.overtaken && triggers::are(&seen.triggers, no, &user.table, mode(state));
        let scan = state.scan();
        let was_away = state.away.is_some();
        let to_compare = decided == Decided::ByRows || was_away;
        if to_compare {
            // Where they have other columns, they may clash with other rows.
            let held = holds::all(&self.conn, no, user.has_integer_key())?;
            self.unsettled.extend(held.into_iter().map(|(key, _)| (no, key)));
        }
        // A table that is being filled is filled from the start again, for the sake of one more column.
        // What came for one that was not here is not in it yet.
        if (decided == Decided::Added || was_away) && matches!(scan, Scan::No | Scan::Fill) {
            self.set_scan(no, Scan::Fill)?;
        }
        if triggers_are_there {
            self.set_fingerprint(no, Some(seen.fingerprint))?;
        }
        self.set_undescribed(no, true)?;
        Ok(Look { triggers_are_there, to_compare })
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
    pub(crate) fn note_schema(&mut self) -> Result<(), ReplicaError> {
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

    /// A container's table as it is now, or what is wrong with it; None if there is none yet.
    fn look_at_table(&self, state: &ContainerState) -> Result<Option<Found>, StoreError> {
        let (kinds, clauses) = (self.kinds()?, self.clauses()?);
        let (unkept, settings) = (self.unkept_of(state.no), self.settings_of(state.no));
        let mut found = state.look_at_table(&self.conn, kinds, clauses, unkept, settings)?;
        if let Some(Ok((user, _))) = &mut found {
            let declared = &user.table.foreign_keys;
            let through = references_through(&self.conn, kinds, declared, |table| self.is_tracked(table))?;
            user.references.extend(through);
        }
        Ok(found)
    }

    /// Whether a table of the file is tracked.
    pub(crate) fn is_tracked(&self, table: &str) -> bool {
        self.containers.of_table(table).is_some_and(|c| c.has_table())
    }

    /// The table of a container as it is now; None while there is none that fits.
    pub(crate) fn user_table(&self, no: i64) -> Result<Option<Arc<UserTable>>, StoreError> {
        let Some(state) = self.containers.get(&no) else { return Ok(None) };
        if let Some(known) = state.user.get() {
            return Ok(known.clone());
        }
        if state.is_halted() {
            return Ok(None);
        }
        let found = self.look_at_table(state)?;
        let user = found.and_then(Result::ok).map(|(user, _)| Arc::new(user));
        Ok(state.user.get_or_init(|| user).clone())
    }

    /// What is wrong with a container's table itself: it is gone, does not fit, or cannot be written here.
    pub(crate) fn fault_of(&self, no: i64) -> Result<Option<(StopKind, String)>, ReplicaError> {
        let Some(state) = self.containers.get(&no) else { return Ok(None) };
        match self.look_at_table(state)? {
            None => Ok(None),
            Some(Err(fault)) => Ok(Some(fault)),
            Some(Ok((user, _))) => match tracking::check_writable(&self.conn, &user.table) {
                Ok(()) => Ok(None),
                Err(TrackRefusal::Store(error)) => Err(error.into()),
                Err(refusal) => Ok(Some((StopKind::NotWritable, refusal.to_string()))),
            },
        }
    }

    /// Whether a table's key is not the one that its container is described with. Call it in a transaction.
    pub(super) fn fault_of_key(&mut self, no: i64) -> Result<Option<(StopKind, String)>, ReplicaError> {
        let found = match self.containers.get(&no) {
            Some(state) => self.look_at_table(state)?,
            None => None,
        };
        let Some(Ok((user, columns))) = found else { return Ok(None) };
        let Some(description) = self.description(no)? else { return Ok(None) };
        let described = description.key();
        let key = user.table.key_columns();
        let names: Vec<_> = key.iter().map(|n| user.table.columns[*n].name.clone()).collect();
        // A column that documents do not know yet may be one that was renamed: only its place in the key is known.
        let is_described = |name: &str, key: &str| {
            let binding = columns.iter().find(|b| b.name == name);
            binding.is_none_or(|b| b.is_new || b.key.eq_ignore_ascii_case(key))
        };
        let fits = described.len() == names.len()
            && names.iter().zip(described).all(|(name, key)| is_described(name, key));
        // Under another collation other keys are equal, and another type stores them as others.
        let kinds: Vec<_> = key.iter().map(|n| KeyKind::of(&user.table.columns[*n])).collect();
        let (was, is) = match fits {
            true if user.has_integer_key() || kinds == description.key_kinds() => return Ok(None),
            true => {
                let spelled = |names: &[String], kinds: &[KeyKind]| {
                    let spell = |(name, kind): (&String, &KeyKind)| format!("{name} {kind}");
                    names.iter().zip(kinds).map(spell).collect::<Vec<_>>().join(", ")
                };
                (spelled(described, &description.key_kinds()), spelled(&names, &kinds))
            }
            false => (described.join(", "), names.join(", ")),
        };
        Ok(Some((StopKind::Key, format!("the table's primary key has changed from ({was}) to ({is})"))))
    }

    /// Reads how the user's table looks now, and keeps what follows from it. Call it in a transaction.
    pub(crate) fn read_user_table(&mut self, no: i64) -> Result<(), ReplicaError> {
        let Some(state) = self.containers.get(&no) else { return Ok(()) };
        if state.is_halted() {
            return Ok(());
        }
        let found = self.look_at_table(state)?;
        let (user, columns) = found.and_then(Result::ok).unzip();
        if let Some(columns) = &columns {
            store_columns(&self.conn, no, columns)?;
        }
        let references = user.iter().flat_map(|u| u.table.foreign_keys.iter().chain(&u.references));
        let mut parents: Vec<_> = references.collect();
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
    pub(super) fn set_fingerprint(&mut self, no: i64, fingerprint: Option<i64>) -> Result<(), ReplicaError> {
        self.log_from = 0;
        self.conn
            .prepare_cached("UPDATE piecewise_containers SET fingerprint = ?1 WHERE no = ?2")?
            .execute(params![fingerprint, no])?;
        self.containers.change(no, |state| state.fingerprint = fingerprint);
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

    /// Why the container's description cannot be read; None if it can, or there is none.
    pub(super) fn fault_of_description(&mut self, no: i64) -> Result<Option<String>, ReplicaError> {
        let view = self.history.view(&self.conn, no, &RowKey::Description)?;
        let entries = crate::row::description_entries(&view);
        let read = Description::from_entries(entries.iter().map(|(k, v)| (k.as_str(), v)));
        Ok(read.err().filter(|_| !entries.is_empty()).map(|error| error.to_string()))
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
            gathered: 0,
            counted: (0, 0),
            away: None,
            stopped: None,
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
            self.set_undescribed(*no, false)?;
            self.set_away(*no, None)?;
            self.forget_stop(*no)?;
            self.containers.remove(*no);
            self.touched.remove(no);
            self.scrubbing.forget(*no);
            documents::forget(&self.conn, *no)?;
            self.history.forget_container(*no);
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
                "numbering",
                "taken",
                "returned",
                "moves",
                "leases",
                "inserted",
                "given",
                "unsettled",
                "checks",
                "log",
            ] {
                let sql = format!("DELETE FROM piecewise_{table} WHERE container = ?");
                self.conn.prepare_cached(&sql)?.execute([no])?;
            }
            self.conn.prepare_cached("DELETE FROM piecewise_containers WHERE no = ?")?.execute([no])?;
        }
        self.log_from = 0;
        // Their segments' numbers are given out again.
        self.history.clear();
        Ok(())
    }

    /// Notes up to which segment the table may show what documents do, while it is not here and until it is compared.
    /// Call it in a transaction.
    pub(super) fn set_away(&mut self, no: i64, away: Option<i64>) -> Result<(), ReplicaError> {
        let name = format!("away {no}");
        match away {
            Some(last) => layout::set_meta(&self.conn, &name, last)?,
            None => layout::forget_meta(&self.conn, &name)?,
        }
        if let Some(state) = self.containers.get_mut(&no) {
            state.away = away;
        }
        Ok(())
    }

    /// Notes whether the container's description may lack something of the table. Call it in a transaction.
    pub(crate) fn set_undescribed(&mut self, no: i64, undescribed: bool) -> Result<(), ReplicaError> {
        let changed = match undescribed {
            true => self.undescribed.insert(no),
            false => self.undescribed.remove(&no),
        };
        if changed {
            let numbers: Vec<_> = self.undescribed.iter().map(i64::to_string).collect();
            layout::set_meta(&self.conn, UNDESCRIBED, numbers.join(" "))?;
        }
        Ok(())
    }

    /// Notes a scan to do, or that it is done.
    pub(crate) fn set_scan(&mut self, no: i64, scan: Scan) -> Result<(), ReplicaError> {
        self.log_from = 0;
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
        if state.away.is_some() && state.fingerprint.is_some() {
            self.set_away(no, None)?;
        }
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

/// How a table stands after its schema changed.
struct Look {
    /// Whether our triggers are, and run before the application's.
    triggers_are_there: bool,
    /// Whether its rows are to be compared with documents.
    to_compare: bool,
}

pub(crate) fn mode(state: &ContainerState) -> Mode {
    if state.read_only { Mode::ReadOnly } else { Mode::Capture }
}

fn read_away(conn: &Connection) -> Result<HashMap<i64, i64>, StoreError> {
    let sql = "SELECT CAST(substr(name, 6) AS INTEGER), value FROM piecewise_meta WHERE name GLOB 'away *'";
    let mut stmt = conn.prepare_cached(sql)?;
    let rows = stmt.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
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
            gathered: 0,
            counted: (0, 0),
            away: None,
            stopped: None,
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
