//! The registry: which containers the file holds, and what is known of each.

use super::{Replica, ReplicaError};
use crate::change::Merge;
use crate::container_name::{ContainerName, container_id};
use crate::description::Description;
use crate::feed::Feed;
use crate::id::{ContainerId, PeerId, RealmId, ReplicaId, Seq};
use crate::message::Cursor;
use crate::root::Root;
use crate::store::triggers::{self, Mode};
use crate::store::user_table::UserTable;
use crate::store::{StoreError, documents, holds, layout, schema};
use rusqlite::{Connection, params};
use std::sync::Arc;

/// Tables above one another that are counted; schemas are not deeper.
const DEPTH_MAX: usize = 16;

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

/// A look at a whole table that is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    /// None.
    No = 0,
    /// The counterpart has not been met: rows and log wait until all it has is here.
    Meet = 1,
    /// Take in the rows that no document knows (they were here before tracking).
    Adopt = 2,
    /// Compare every row (the triggers were missing for a while).
    Compare = 3,
    /// Bring every document into the table (it was made anew).
    Fill = 4,
}

impl Scan {
    fn from_code(code: i64) -> Self {
        [Self::No, Self::Meet, Self::Adopt, Self::Compare, Self::Fill]
            .into_iter()
            .find(|s| *s as i64 == code)
            .unwrap_or(Self::Compare)
    }
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

/// A container of this file.
#[derive(Debug, Clone)]
pub(crate) struct ContainerState {
    pub(crate) no: i64,
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) table: String,
    pub(crate) read_only: bool,
    pub(crate) scan: Scan,
    pub(crate) prefer_local: bool,
    pub(crate) integer_keys: bool,
    pub(crate) columns: Vec<ColumnBinding>,
    pub(crate) feed: Feed,
    /// The table as it is now; None while there is none.
    pub(crate) user: Option<Arc<UserTable>>,
    pub(crate) description: Option<Arc<Description>>,
    /// Whether the application has triggers on the table.
    pub(crate) app_triggers: bool,
    /// How far a scan has come: the key it goes on after.
    pub(crate) scan_after: Option<crate::key::RowKey>,
}

impl ContainerState {
    /// Writes the end of the feed and the root.
    pub(super) fn store_feed(&self, conn: &Connection) -> Result<(), StoreError> {
        conn.prepare_cached("UPDATE piecewise_containers SET root = ?, seq = ?, hash = ? WHERE no = ?")?
            .execute(params![
                &self.feed.root.to_bytes()[..],
                self.feed.tip.seq.0 as i64,
                self.feed.tip.hash,
                self.no
            ])?;
        Ok(())
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
        for state in read_containers(conn)? {
            self.containers.insert(state.no, state);
        }
        let numbers: Vec<_> = self.containers.keys().copied().collect();
        for no in numbers {
            self.read_user_table(no)?;
            self.read_description(no)?;
            let integer_keys = self.containers[&no].integer_keys;
            let unsettled = holds::unsettled(&self.conn, no, integer_keys)?;
            self.unsettled.extend(unsettled.into_iter().map(|key| (no, key)));
        }
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
        let numbers: Vec<_> = self.containers.keys().copied().collect();
        for no in numbers {
            self.read_user_table(no)?;
            let state = &self.containers[&no];
            let Some(user) = state.user.clone() else { continue };
            let (mode, grown) = (mode(state), state.columns.iter().any(|c| c.is_new));
            if grown && state.scan == Scan::No {
                self.set_scan(no, Scan::Fill)?;
            }
            if !triggers::are_installed(&self.conn, no, &user.table, mode)? {
                triggers::remove(&self.conn, no)?;
                triggers::ensure_log(&self.conn, user.key_columns().len())?;
                triggers::install(&self.conn, no, &user.table, mode)?;
                if matches!(self.containers[&no].scan, Scan::No | Scan::Fill) {
                    self.set_scan(no, Scan::Compare)?;
                }
            }
        }
        self.schema_version = schema::schema_version(&self.conn)?;
        Ok(())
    }

    /// Reads how the user's table looks now.
    pub(crate) fn read_user_table(&mut self, no: i64) -> Result<(), ReplicaError> {
        let name = self.containers[&no].table.clone();
        let table = schema::read_table(&self.conn, &name);
        let app_triggers = schema::app_triggers(&self.conn, &name)?;
        let Some(state) = self.containers.get_mut(&no) else { return Ok(()) };
        state.app_triggers = app_triggers;
        state.user = None;
        if let Ok(mut table) = table {
            let now: Vec<_> = table.columns.iter().map(|c| c.name.clone()).collect();
            follow_renames(&mut state.columns, &now);
            for column in &mut table.columns {
                if let Some(b) = state.columns.iter().find(|b| b.name == column.name) {
                    column.merge = b.merge;
                }
            }
            let columns = state.columns.clone();
            let key = |name: &str| {
                columns.iter().find(|b| b.name == name).map_or(name.to_owned(), |b| b.key.clone())
            };
            let user = UserTable::new(table, key);
            if user.has_integer_key() == state.integer_keys {
                state.user = Some(Arc::new(user));
            }
            store_columns(&self.conn, no, &state.columns)?;
        }
        Ok(())
    }

    /// Reads the container's description from its document.
    pub(crate) fn read_description(&mut self, no: i64) -> Result<(), ReplicaError> {
        let document = self.history.document(&self.conn, no, &crate::key::RowKey::Description)?;
        let view = document.evaluate();
        let entries = crate::row::description_entries(&view);
        let Some(state) = self.containers.get_mut(&no) else { return Ok(()) };
        state.description = match entries.is_empty() {
            true => None,
            // A description that cannot be read holds nothing up: the rows are stored and wait for a better one.
            false => {
                Description::from_entries(entries.iter().map(|(k, v)| (k.as_str(), v))).ok().map(Arc::new)
            }
        };
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
        let id = container_id(&binding.realm, name);
        let feed = Feed::default();
        self.conn.execute(
            "INSERT INTO piecewise_containers(id, name, table_name, read_only, scan, prefer_local, columns, root, seq, hash)
             VALUES (?, ?, ?, 0, ?, 0, ?, ?, 0, ?)",
            params![
                id.0,
                name.as_str(),
                name.table(),
                scan as i64,
                columns_text(&columns),
                &feed.root.to_bytes()[..],
                feed.tip.hash
            ],
        )?;
        let no = self.conn.last_insert_rowid();
        documents::create(&self.conn, no, integer_keys)?;
        let state = ContainerState {
            no,
            id,
            name: name.as_str().to_owned(),
            table: name.table().to_owned(),
            read_only: false,
            scan,
            prefer_local: false,
            integer_keys,
            columns,
            feed,
            user: None,
            description: None,
            app_triggers: false,
            scan_after: None,
        };
        self.containers.insert(no, state);
        self.schema_version = -1;
        Ok(no)
    }

    /// Takes a container out of the file; the last one takes our tables with it. Call it in a transaction.
    pub(crate) fn remove_container(&mut self, no: i64) -> Result<(), ReplicaError> {
        triggers::remove(&self.conn, no)?;
        documents::drop(&self.conn, no)?;
        for table in ["segments", "cursors", "acknowledged", "held", "claims", "refused", "unsettled"] {
            self.conn.execute(&format!("DELETE FROM piecewise_{table} WHERE container = ?"), [no])?;
        }
        self.conn.execute("DELETE FROM piecewise_containers WHERE no = ?", [no])?;
        triggers::forget(&self.conn, no)?;
        self.containers.remove(&no);
        self.touched.remove(&no);
        if self.containers.is_empty() {
            layout::drop(&self.conn)?;
            self.binding = None;
        }
        Ok(())
    }

    /// Notes a scan to do, or that it is done.
    pub(crate) fn set_scan(&mut self, no: i64, scan: Scan) -> Result<(), ReplicaError> {
        self.conn
            .execute("UPDATE piecewise_containers SET scan = ? WHERE no = ?", params![scan as i64, no])?;
        if let Some(state) = self.containers.get_mut(&no) {
            state.scan = scan;
            state.scan_after = None;
        }
        self.touch(no);
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

    /// Makes a table read-only here, or writable again. Call it in a transaction.
    pub(crate) fn set_read_only(&mut self, no: i64, read_only: bool) -> Result<(), ReplicaError> {
        let Some(state) = self.containers.get_mut(&no) else { return Ok(()) };
        if state.read_only == read_only {
            return Ok(());
        }
        state.read_only = read_only;
        self.conn
            .execute("UPDATE piecewise_containers SET read_only = ? WHERE no = ?", params![read_only, no])?;
        if let Some(user) = state.user.clone() {
            triggers::remove(&self.conn, no)?;
            triggers::install(&self.conn, no, &user.table, mode(&self.containers[&no]))?;
            self.schema_version = schema::schema_version(&self.conn)?;
        }
        Ok(())
    }

    /// Containers to whose tables this one's refers.
    pub(crate) fn parents_of(&self, no: i64) -> Vec<i64> {
        let Some(user) = self.containers.get(&no).and_then(|c| c.user.as_ref()) else { return vec![] };
        let parents = user.table.foreign_keys.iter().filter_map(|f| self.number(&f.parent_table).ok());
        parents.filter(|parent| *parent != no).collect()
    }

    /// How many tables stand above this one: 0 refers to none. Tables that refer to each other in a
    /// circle have some order too.
    pub(crate) fn depth(&self, no: i64) -> u32 {
        fn of(replica: &Replica, no: i64, path: &mut Vec<i64>) -> u32 {
            if path.contains(&no) || path.len() > DEPTH_MAX {
                return 0;
            }
            path.push(no);
            let above = replica.parents_of(no).into_iter().map(|parent| 1 + of(replica, parent, path)).max();
            path.pop();
            above.unwrap_or(0)
        }
        of(self, no, &mut vec![])
    }

    /// The number of the container of a table.
    pub(crate) fn number(&self, table: &str) -> Result<i64, ReplicaError> {
        self.containers
            .values()
            .find(|c| c.table.eq_ignore_ascii_case(table))
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
        "SELECT c.no, c.id, c.name, c.table_name, c.read_only, c.scan, c.prefer_local, c.columns, c.root, c.seq, c.hash,
           (SELECT lower(type) = 'integer' FROM pragma_table_info('piecewise_rows_' || c.no) WHERE name = 'key')
         FROM piecewise_containers c",
    )?;
    let rows = stmt.query_map([], |row| {
        let root: Vec<u8> = row.get(8)?;
        let state = ContainerState {
            no: row.get(0)?,
            id: ContainerId(row.get(1)?),
            name: row.get(2)?,
            table: row.get(3)?,
            read_only: row.get(4)?,
            scan: Scan::from_code(row.get(5)?),
            prefer_local: row.get(6)?,
            integer_keys: row.get::<_, Option<bool>>(11)?.unwrap_or(false),
            columns: columns_from_text(&row.get::<_, String>(7)?),
            feed: Feed {
                tip: Cursor { seq: Seq(row.get::<_, i64>(9)? as u64), hash: row.get(10)? },
                root: Root::default(),
            },
            user: None,
            description: None,
            app_triggers: false,
            scan_after: None,
        };
        Ok((state, root))
    })?;
    rows.map(|row| {
        let (mut state, root) = row?;
        state.feed.root = root
            .as_slice()
            .try_into()
            .map(Root::from_bytes)
            .map_err(|_| StoreError::Damaged { what: "the root of a container" })?;
        Ok(state)
    })
    .collect()
}
