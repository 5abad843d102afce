//! Live: the result of a query that is kept up to date, and how it differs from what was told before.
//!
//! The rows themselves are not kept: for each there are two hashes, of its key and of its content, so that a result of any size
//! is compared without crossing to JavaScript. Where each row shows one row of one table (`shape`), only rows whose keys were
//! changed are read again; else the whole query runs.

use crate::changes::{TableChanges, is_internal};
use crate::fault::{Fault, fault};
use crate::shape::{OrderBy, Shape};
use crate::values::{Parameters, to_js};
use js_sys::{Array, Int32Array, Object};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use wasm_bindgen::JsValue;

/// Rows of the old result looked at for one that equals a row of the new one.
const AHEAD: usize = 8;

/// One row of the result as it was told.
#[derive(Debug, Clone)]
struct Entry {
    key: u64,
    content: u64,
    /// The key itself, where rows are looked up by it.
    value: Value,
}

/// What a live query does not know yet.
#[derive(Debug)]
enum Stale {
    No,
    Keys(Vec<Value>),
    Whole,
}

/// A column that rows are ordered by.
#[derive(Debug)]
struct Sort {
    collation: Collation,
    is_descending: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Collation {
    Binary,
    NoCase,
    RTrim,
}

/// How to read single rows of the result by the key of their table.
#[derive(Debug)]
struct Lookup {
    table: String,
    /// The number of the key's column in the table.
    key_column: i32,
    /// The query, restricted to one key: its last parameter.
    by_key: String,
    /// The values that rows are ordered by, of one key; None: any order will do.
    sort_values: Option<String>,
    sort: Vec<Sort>,
}

/// A query that is kept up to date.
#[derive(Debug)]
pub(crate) struct Live {
    sql: String,
    parameters: Parameters,
    columns: Vec<String>,
    tables: BTreeSet<String>,
    /// Virtual tables that it may read: it depends on all tables whose names begin so.
    shadows: Vec<String>,
    /// The key's columns in the result; none: rows are told apart by their content.
    key: Vec<usize>,
    lookup: Option<Lookup>,
    entries: Vec<Entry>,
    stale: Stale,
    is_prepared: bool,
    /// Its columns are others than those told: the result is told even if both are empty.
    is_new: bool,
    /// Keyed, so that nobody can write rows that hash alike.
    hasher: DefaultHasher,
}

/// Runs of rows that stay, each followed by new ones, and those.
struct Patch {
    runs: Vec<[u32; 3]>,
    rows: Array,
}

impl Patch {
    fn new() -> Self {
        Self { runs: vec![], rows: Array::new() }
    }

    fn copy(&mut self, from: usize) {
        match self.runs.last_mut() {
            Some([start, len, 0]) if *start + *len == from as u32 => *len += 1,
            _ => self.runs.push([from as u32, 1, 0]),
        }
    }

    fn add(&mut self, row: &JsValue) {
        self.rows.push(row);
        match self.runs.last_mut() {
            Some(run) => run[2] += 1,
            None => self.runs.push([0, 0, 1]),
        }
    }

    fn is_nothing(&self, before: usize) -> bool {
        match self.runs[..] {
            [] => before == 0,
            [[0, len, 0]] => len as usize == before,
            _ => false,
        }
    }
}

impl Live {
    /// `secret` keys the hashes.
    pub(crate) fn new(sql: String, parameters: Parameters, secret: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        secret.hash(&mut hasher);
        Self {
            sql,
            parameters,
            columns: vec![],
            tables: BTreeSet::new(),
            shadows: vec![],
            key: vec![],
            lookup: None,
            entries: vec![],
            stale: Stale::Whole,
            is_prepared: false,
            is_new: true,
            hasher,
        }
    }

    /// The table whose changed keys it needs, with the number of the key's column.
    pub(crate) fn key_column(&self) -> Option<(String, i32)> {
        self.lookup.as_ref().map(|lookup| (lookup.table.clone(), lookup.key_column))
    }

    pub(crate) fn is_stale(&self) -> bool {
        !matches!(self.stale, Stale::No)
    }

    /// Notes that tables, or with `None` any of them and the schema, changed.
    pub(crate) fn note(&mut self, changes: Option<&BTreeMap<String, TableChanges>>) {
        let Some(changes) = changes else {
            self.is_prepared = false;
            self.stale = Stale::Whole;
            return;
        };
        for (table, changes) in changes {
            let is_shadow = self.shadows.iter().any(|shadow| table.starts_with(shadow.as_str()));
            if !is_shadow && !self.tables.contains(table) {
                continue;
            }
            let has_keys = self.lookup.is_some() && !changes.is_whole && !changes.keys.contains(&Value::Null);
            match &mut self.stale {
                Stale::Whole => {}
                _ if !has_keys => self.stale = Stale::Whole,
                Stale::No => self.stale = Stale::Keys(changes.keys.clone()),
                Stale::Keys(keys) => keys.extend(changes.keys.iter().cloned()),
            }
            if matches!(&self.stale, Stale::Keys(keys) if keys.len() > crate::changes::KEYS_MAX) {
                self.stale = Stale::Whole;
            }
        }
    }

    /// Prepares the query, if the schema changed since.
    fn prepare(&mut self, conn: &Connection) -> Result<(), Fault> {
        if self.is_prepared {
            return Ok(());
        }
        // Not a kept one: that would have the columns of the schema before.
        let statement = conn.prepare(&self.sql)?;
        if !statement.readonly() || statement.column_count() == 0 {
            return Err(fault("VALUE", "a live query is a statement that gives rows and changes nothing")
                .hint("write with run(…), and subscribe to a SELECT"));
        }
        self.parameters.check(&statement)?;
        let columns: Vec<_> = statement.column_names().map(str::to_owned).collect();
        let origins: Vec<_> = statement
            .columns_with_metadata()
            .map(|c| Some((c.table_name()?.to_owned(), c.origin_name()?.to_owned())))
            .collect();
        drop(statement);
        if columns != self.columns {
            self.entries.clear();
            self.is_new = true;
        }
        self.columns = columns;
        (self.tables, self.shadows) = dependencies(conn, &self.sql)?;
        let keyed = self.tables.first().filter(|_| self.tables.len() == 1 && self.shadows.is_empty());
        let source = keyed.map(|table| Source::read(conn, table)).transpose()?;
        self.key = source.as_ref().map_or(vec![], |source| source.key_in(&origins));
        self.lookup = match source {
            Some(source) if self.key.len() == 1 => {
                source.lookup(conn, &self.sql, &self.columns, &origins, self.key[0])?
            }
            _ => None,
        };
        self.stale = Stale::Whole;
        self.is_prepared = true;
        Ok(())
    }

    /// Brings the result up to date. Returns how it differs from the one before as `{ columns, runs, rows }`, undefined if it
    /// does not; with `all`, also all rows, as `all`. After an error it is run again once a table that it reads, or the schema,
    /// has changed.
    pub(crate) fn refresh(&mut self, conn: &Connection, all: bool) -> Result<Option<Object>, Fault> {
        let result = self.try_refresh(conn, all);
        if result.is_err() {
            self.stale = Stale::No;
            self.is_prepared = false;
        }
        result
    }

    fn try_refresh(&mut self, conn: &Connection, all: bool) -> Result<Option<Object>, Fault> {
        self.prepare(conn)?;
        let before = self.entries.len();
        let everything = all.then(Array::new);
        let stale = std::mem::replace(&mut self.stale, Stale::Whole);
        let patch = match stale {
            Stale::No if !all => None,
            Stale::Keys(keys) if !all => match self.by_keys(conn, keys)? {
                Some(patch) => Some(patch),
                None => Some(self.whole(conn, None)?),
            },
            _ => Some(self.whole(conn, everything.as_ref())?),
        };
        self.stale = Stale::No;
        let is_new = std::mem::take(&mut self.is_new);
        let patch = patch.filter(|patch| is_new || !patch.is_nothing(before));
        if patch.is_none() && !all {
            return Ok(None);
        }
        let columns: Array = self.columns.iter().map(|name| JsValue::from_str(name)).collect();
        let object = Object::new();
        let set = |name: &str, value: &JsValue| {
            // A plain object takes any property.
            let _ = js_sys::Reflect::set(&object, &name.into(), value);
        };
        set("columns", &columns);
        if let Some(all) = &everything {
            set("all", all);
        }
        if let Some(patch) = patch {
            let runs: Vec<i32> = patch.runs.iter().flatten().map(|n| *n as i32).collect();
            set("runs", &Int32Array::from(&runs[..]));
            set("rows", &patch.rows);
        }
        Ok(Some(object))
    }

    /// Runs the whole query, and compares as it goes.
    fn whole(&mut self, conn: &Connection, everything: Option<&Array>) -> Result<Patch, Fault> {
        let mut statement = conn.prepare_cached(&self.sql)?;
        self.parameters.bind(&mut statement, 0)?;
        let width = self.columns.len();
        let mut patch = Patch::new();
        let mut entries = Vec::with_capacity(self.entries.len());
        let mut comparing = Comparing { old: &self.entries, at: 0, places: None };
        let mut found = statement.raw_query();
        while let Some(row) = found.next()? {
            let entry = self.entry(row)?;
            let place = comparing.place(&entry);
            let cells = match (place, everything) {
                (Some(_), None) => None,
                _ => Some(cells(row, width)?),
            };
            if let (Some(all), Some(cells)) = (everything, &cells) {
                all.push(cells);
            }
            match (place, cells) {
                (Some(place), _) => patch.copy(place),
                (None, Some(cells)) => patch.add(&cells),
                (None, None) => {}
            }
            entries.push(entry);
        }
        self.entries = entries;
        Ok(patch)
    }

    /// Reads the rows of these keys again. None: they cannot be placed so.
    fn by_keys(&mut self, conn: &Connection, keys: Vec<Value>) -> Result<Option<Patch>, Fault> {
        let Some(lookup) = &self.lookup else { return Ok(None) };
        let mut hashes = HashSet::new();
        let mut fresh: Vec<(Entry, JsValue)> = vec![];
        let mut seen = HashSet::new();
        let mut statement = conn.prepare_cached(&lookup.by_key)?;
        for key in &keys {
            if !hashes.insert(self.hash_of([ValueRef::from(key)])) {
                continue;
            }
            self.parameters.bind(&mut statement, 1)?;
            let last = statement.parameter_count();
            statement.raw_bind_parameter(last, key)?;
            let mut found = statement.raw_query();
            while let Some(row) = found.next()? {
                let entry = self.entry(row)?;
                if seen.insert(entry.key) {
                    fresh.push((entry, cells(row, self.columns.len())?.into()));
                }
            }
        }
        hashes.extend(&seen);
        drop(statement);

        // Which rows they were. Most often it is one key: a comparison is cheaper than a look into a set.
        let few: Vec<u64> = hashes.iter().copied().collect();
        let is_among = |key: u64| if few.len() <= 4 { few.contains(&key) } else { hashes.contains(&key) };
        let mut gone = vec![];
        let mut was = HashMap::new();
        for (n, entry) in self.entries.iter().enumerate().filter(|(_, entry)| is_among(entry.key)) {
            gone.push(n);
            was.insert(entry.key, (n, entry.content));
        }
        if was.len() != gone.len() {
            return Ok(None);
        }
        // From here on `order` says for each entry which old row it is, or with NEW which of the fresh ones.
        const NEW: u32 = 1 << 31;
        let mut entries = std::mem::take(&mut self.entries);
        let mut order: Vec<u32> = (0..entries.len() as u32).collect();
        let mut n = 0;
        entries.retain(|entry| !is_among(entry.key));
        order.retain(|_| {
            n += 1;
            gone.binary_search(&(n - 1)).is_err()
        });
        // Rows that were there stay where they are if the order allows it.
        let mut sorter = Sorter { conn, lookup };
        let mut by_place: Vec<usize> = (0..fresh.len()).collect();
        by_place.sort_by_key(|n| was.get(&fresh[*n].0.key).map_or(usize::MAX, |(place, _)| *place));
        let mut moved = vec![];
        let mut stayed = 0;
        for n in by_place {
            let entry = &fresh[n].0;
            let Some((place, _)) = was.get(&entry.key) else {
                moved.push(n);
                continue;
            };
            let at = place - gone.partition_point(|gone| gone < place) + stayed;
            let Some(fits) = sorter.fits(&entries, at, entry)? else { return Ok(None) };
            if fits {
                entries.insert(at, entry.clone());
                order.insert(at, NEW | n as u32);
                stayed += 1;
            } else {
                moved.push(n);
            }
        }
        for n in moved {
            let entry = &fresh[n].0;
            let Some(at) = sorter.place(&entries, entry)? else { return Ok(None) };
            entries.insert(at, entry.clone());
            order.insert(at, NEW | n as u32);
        }
        let mut patch = Patch::new();
        for from in order {
            if from < NEW {
                patch.copy(from as usize);
                continue;
            }
            let (entry, row) = &fresh[(from & !NEW) as usize];
            match was.get(&entry.key) {
                // Written without another value.
                Some((place, content)) if *content == entry.content => patch.copy(*place),
                _ => patch.add(row),
            }
        }
        self.entries = entries;
        Ok(Some(patch))
    }

    fn entry(&self, row: &Row<'_>) -> Result<Entry, Fault> {
        let width = self.columns.len();
        let mut content = self.hasher.clone();
        for n in 0..width {
            hash_value(row.get_ref(n)?, &mut content);
        }
        let content = content.finish();
        let key = match self.key[..] {
            [] => content,
            _ => {
                let mut key = self.hasher.clone();
                for n in &self.key {
                    hash_value(row.get_ref(*n)?, &mut key);
                }
                key.finish()
            }
        };
        let value = match (&self.lookup, &self.key[..]) {
            (Some(_), [n]) => row.get(*n)?,
            _ => Value::Null,
        };
        Ok(Entry { key, content, value })
    }

    fn hash_of<'a>(&self, values: impl IntoIterator<Item = ValueRef<'a>>) -> u64 {
        let mut hasher = self.hasher.clone();
        values.into_iter().for_each(|value| hash_value(value, &mut hasher));
        hasher.finish()
    }
}

/// Finds rows of a new result in the old one as they come.
struct Comparing<'a> {
    old: &'a [Entry],
    /// The old row that is expected next.
    at: usize,
    /// Where each content was, once a row was not where it was expected.
    places: Option<HashMap<u64, usize>>,
}

impl Comparing<'_> {
    /// Which row of the old result equals a row.
    fn place(&mut self, entry: &Entry) -> Option<usize> {
        let ahead = self.old.get(self.at..).unwrap_or_default();
        if let Some(skipped) = ahead.iter().take(AHEAD).position(|old| old.content == entry.content) {
            self.at += skipped + 1;
            return Some(self.at - 1);
        }
        if ahead.first().is_some_and(|old| old.key == entry.key) {
            // The same row with other values.
            self.at += 1;
            return None;
        }
        let contents = self.old.iter().enumerate().map(|(n, old)| (old.content, n));
        let places = self.places.get_or_insert_with(|| contents.collect());
        let place = places.get(&entry.content).copied()?;
        self.at = place + 1;
        Some(place)
    }
}

/// Places rows by the values that a query orders them by.
struct Sorter<'a> {
    conn: &'a Connection,
    lookup: &'a Lookup,
}

impl Sorter<'_> {
    /// The values of one row; None: there is no such row.
    fn values(&self, entry: &Entry) -> Result<Option<Vec<Value>>, Fault> {
        let Some(sql) = &self.lookup.sort_values else { return Ok(Some(vec![])) };
        let mut statement = self.conn.prepare_cached(sql)?;
        let read = |row: &Row<'_>| (0..self.lookup.sort.len()).map(|n| row.get(n)).collect();
        Ok(statement.query_row([&entry.value], read).optional()?)
    }

    fn compare(&self, a: &[Value], b: &[Value]) -> Ordering {
        let terms = self.lookup.sort.iter().zip(a.iter().zip(b));
        let mut orders = terms.map(|(sort, (a, b))| {
            let order = compare(a, b, sort.collation);
            if sort.is_descending { order.reverse() } else { order }
        });
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// Whether an entry may stand between its neighbours at a place.
    fn fits(&mut self, entries: &[Entry], at: usize, entry: &Entry) -> Result<Option<bool>, Fault> {
        let Some(values) = self.values(entry)? else { return Ok(None) };
        for (neighbour, wrong) in [(at.checked_sub(1), Ordering::Greater), (Some(at), Ordering::Less)] {
            let Some(neighbour) = neighbour.and_then(|n| entries.get(n)) else { continue };
            let Some(others) = self.values(neighbour)? else { return Ok(None) };
            if self.compare(&others, &values) == wrong {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }

    /// Where an entry goes: behind those that are before it or equal.
    fn place(&mut self, entries: &[Entry], entry: &Entry) -> Result<Option<usize>, Fault> {
        if self.lookup.sort.is_empty() {
            return Ok(Some(entries.len()));
        }
        let Some(values) = self.values(entry)? else { return Ok(None) };
        let (mut from, mut to) = (0, entries.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            let Some(others) = self.values(&entries[middle])? else { return Ok(None) };
            if self.compare(&others, &values).is_gt() {
                to = middle;
            } else {
                from = middle + 1;
            }
        }
        Ok(Some(from))
    }
}

/// What is known of the one table that a query reads.
struct Source {
    table: String,
    /// Name, number and place in the primary key.
    columns: Vec<(String, i32, u32)>,
    is_view: bool,
    /// Whether a scan of the table goes by its primary key.
    is_in_key_order: bool,
}

impl Source {
    fn read(conn: &Connection, table: &str) -> Result<Self, Fault> {
        let mut statement =
            conn.prepare_cached("SELECT name, cid, pk FROM pragma_table_xinfo(?1, 'main')")?;
        let columns = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let kind = "SELECT type <> 'table', wr OR NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')
            FROM pragma_table_list(?1) WHERE schema = 'main'";
        let kind =
            conn.prepare_cached(kind)?.query_row([table], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let (is_view, is_in_key_order) = kind.unwrap_or((true, false));
        Ok(Self { table: table.to_owned(), columns, is_view, is_in_key_order })
    }

    /// The columns of a result that show the primary key, if all of it is there.
    fn key_in(&self, origins: &[Option<(String, String)>]) -> Vec<usize> {
        let shown = |name: &str| {
            let is_it = |origin: &Option<(String, String)>| {
                origin.as_ref().is_some_and(|(t, c)| *t == self.table && c == name)
            };
            origins.iter().position(is_it)
        };
        let mut key: Vec<_> = self.columns.iter().filter(|(_, _, pk)| *pk > 0).collect();
        key.sort_by_key(|(_, _, pk)| *pk);
        key.iter().map(|(name, _, _)| shown(name)).collect::<Option<Vec<_>>>().unwrap_or_default()
    }

    fn collation(&self, conn: &Connection, column: &str) -> Result<Option<Collation>, Fault> {
        let (_, collation, ..) = conn.column_metadata(Some("main"), self.table.as_str(), column)?;
        Ok(match collation.as_deref().and_then(|name| name.to_str().ok()) {
            None | Some("BINARY") => Some(Collation::Binary),
            Some("NOCASE") => Some(Collation::NoCase),
            Some("RTRIM") => Some(Collation::RTrim),
            Some(_) => None,
        })
    }

    /// How to read single rows of a query, if each of its rows shows one row of this table.
    fn lookup(
        &self,
        conn: &Connection,
        sql: &str,
        columns: &[String],
        origins: &[Option<(String, String)>],
        key: usize,
    ) -> Result<Option<Lookup>, Fault> {
        let Some(shape) = Shape::of(sql) else { return Ok(None) };
        let names: HashSet<_> = columns.iter().map(|name| name.to_ascii_lowercase()).collect();
        if self.is_view || !shape.table.eq_ignore_ascii_case(&self.table) || names.len() != columns.len() {
            return Ok(None);
        }
        let Some((key_name, key_column, _)) = self.columns.iter().find(|(_, _, pk)| *pk == 1) else {
            return Ok(None);
        };
        if self.collation(conn, key_name)? != Some(Collation::Binary) {
            return Ok(None);
        }
        let mut by = vec![];
        for term in &shape.order {
            let is_named = |column: &str| columns.iter().position(|name| name.eq_ignore_ascii_case(column));
            let of_table = |column: &str| {
                self.columns
                    .iter()
                    .find(|(name, _, _)| name.eq_ignore_ascii_case(column))
                    .map(|(name, _, _)| name.clone())
            };
            let of_result = |n: usize| origins.get(n)?.as_ref().map(|(_, column)| column.clone());
            let column = match &term.column {
                OrderBy::Position(n) => n.checked_sub(1).and_then(of_result),
                OrderBy::Column(name) => of_table(name),
                OrderBy::Name(name) => match is_named(name) {
                    Some(n) => of_result(n),
                    None => of_table(name),
                },
            };
            let Some(column) = column else { return Ok(None) };
            by.push((column, term.is_descending));
        }
        // SQLite gives rows of equal terms in the order in which it finds them.
        if self.is_in_key_order {
            by.push((key_name.clone(), false));
        }
        let mut sort = vec![];
        for (column, is_descending) in &by {
            let Some(collation) = self.collation(conn, column)? else { return Ok(None) };
            sort.push(Sort { collation, is_descending: *is_descending });
        }
        let table = quoted(&self.table);
        let terms: Vec<_> = by.iter().map(|(column, _)| quoted(column)).collect();
        let sort_values = (!by.is_empty()).then(|| {
            format!("SELECT {} FROM main.{table} WHERE {} = ?1", terms.join(", "), quoted(key_name))
        });
        let sql = sql.trim_end().trim_end_matches(';');
        // The line break ends a comment at the end of the query.
        let by_key = format!("SELECT * FROM ({sql}\n) WHERE {} = :piecewise_key", quoted(&columns[key]));
        if !is_search(conn, &by_key) {
            return Ok(None);
        }
        Ok(Some(Lookup { table: self.table.clone(), key_column: *key_column, by_key, sort_values, sort }))
    }
}

/// Whether SQLite finds the rows of a query by an index, without a scan.
fn is_search(conn: &Connection, sql: &str) -> bool {
    let steps = || -> rusqlite::Result<Vec<String>> {
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
        let mut found = statement.raw_query();
        let mut steps = vec![];
        while let Some(row) = found.next()? {
            steps.push(row.get("detail")?);
        }
        Ok(steps)
    };
    steps().is_ok_and(|steps| {
        !steps.is_empty()
            && steps.iter().all(|step| step.starts_with("SEARCH") || step.starts_with("USE TEMP"))
    })
}

/// The tables that a query reads, views resolved, and how the names of tables behind virtual ones begin.
fn dependencies(conn: &Connection, sql: &str) -> Result<(BTreeSet<String>, Vec<String>), Fault> {
    let tables = "SELECT DISTINCT coalesce(i.tbl_name, u.name) FROM tables_used(?1) u
        LEFT JOIN sqlite_schema i ON u.type = 'index' AND i.type = 'index' AND i.name = u.name WHERE u.name IS NOT NULL";
    let mut statement = conn.prepare_cached(tables)?;
    let names = statement.query_map([sql], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let is_virtual = "SELECT count(*) FROM bytecode(?1) WHERE opcode = 'VOpen'";
    let mut shadows = vec![];
    if conn.prepare_cached(is_virtual)?.query_row([sql], |row| row.get::<_, i64>(0))? > 0 {
        // Those that the query names, or any view does.
        let named = "SELECT name || '_' FROM sqlite_schema v WHERE type = 'table' AND sql LIKE 'create virtual table%'
            AND (instr(lower(?1), lower(name)) OR EXISTS
              (SELECT 1 FROM sqlite_schema w WHERE w.type = 'view' AND instr(lower(w.sql), lower(v.name))))";
        let mut statement = conn.prepare_cached(named)?;
        shadows = statement.query_map([sql], |row| row.get(0))?.collect::<Result<Vec<_>, _>>()?;
    }
    Ok((names.into_iter().filter(|name| !is_internal(name)).collect(), shadows))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn cells(row: &Row<'_>, width: usize) -> Result<Array, Fault> {
    Ok((0..width).map(|n| row.get_ref(n).map(to_js)).collect::<Result<Array, _>>()?)
}

fn hash_value(value: ValueRef<'_>, hasher: &mut DefaultHasher) {
    match value {
        ValueRef::Null => hasher.write_u8(0),
        ValueRef::Integer(i) => {
            hasher.write_u8(1);
            hasher.write_i64(i);
        }
        ValueRef::Real(f) => {
            hasher.write_u8(2);
            hasher.write_u64(f.to_bits());
        }
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            hasher.write_u8(if matches!(value, ValueRef::Text(_)) { 3 } else { 4 });
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        }
    }
}

/// The order of two values in SQLite.
fn compare(a: &Value, b: &Value, collation: Collation) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Integer(_) | Value::Real(_) => 1,
        Value::Text(_) => 2,
        Value::Blob(_) => 3,
    };
    match (a, b) {
        (Value::Integer(a), Value::Integer(b)) => a.cmp(b),
        (Value::Real(a), Value::Real(b)) => a.total_cmp(b),
        (Value::Integer(a), Value::Real(b)) => compare_numbers(*a, *b),
        (Value::Real(a), Value::Integer(b)) => compare_numbers(*b, *a).reverse(),
        (Value::Text(a), Value::Text(b)) => match collation {
            Collation::Binary => a.cmp(b),
            Collation::NoCase => a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase()),
            Collation::RTrim => a.trim_end_matches(' ').cmp(b.trim_end_matches(' ')),
        },
        (Value::Blob(a), Value::Blob(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn compare_numbers(a: i64, b: f64) -> Ordering {
    // Exact where a double holds fewer digits than an integer, and where it is beyond all of them.
    let whole = b.clamp(-1e19, 1e19).trunc();
    i128::from(a).cmp(&(whole as i128)).then(if b > whole {
        Ordering::Less
    } else if b < whole {
        Ordering::Greater
    } else {
        Ordering::Equal
    })
}
