//! Description: what a table is like, as the entries of a document, and back to SQL.
//!
//! Each column, UNIQUE index and foreign key is an entry of its own, so that two replicas that add
//! different columns agree. Fields of an entry are joined by U+001F. SQL is made here from parts that
//! were checked one by one; none is ever taken from a peer.
//!
//! ```text
//! table            "rowid" or "without rowid" · "strict" or ""
//! key              the key's columns
//! column NAME      position · type · "not null" or "" · default literal or "" · collation · merge kind
//! unique A␟B       collations
//! orphans A␟B      parent table: rows may refer to parents that do not exist
//! foreign A␟B      parent table · on delete · on update · parent's columns
//! ```
//!
//! No two entries have one key, and versions that do not know a kind leave it alone; of one that they do know they take
//! just these fields. So what came later has kinds of its own:
//!
//! ```text
//! also-unique A␟B␟COLLATION␟COLLATION      nothing: a second UNIQUE over columns that have one
//! also-foreign A␟B␟PARENT␟C␟D              on delete · on update: a second foreign key of columns that have one
//! deferred KEY OF A FOREIGN KEY            nothing: it is INITIALLY DEFERRED
//! default NAME                             CURRENT_TIME, CURRENT_DATE or CURRENT_TIMESTAMP
//! index NAME                               for each column: its name · collation · "desc" or ""
//! autoincrement                            nothing
//! keep-numbers                             nothing, or "no": rows keep numbers that other rows have, see `numbers`
//! ref A␟B␟PARENT␟C␟D                       nothing: a reference that the schema does not declare
//! user-version N, application-id N         nothing: of several the greatest counts
//! local KIND␟NAME                          nothing: what stays on the device that has it
//! ```

use crate::change::Merge;
use crate::store::extras::Extras;
use crate::store::schema::{literal, read_literal};
use crate::store::user_table::quote;
use crate::table::{Affinity, Collation, Column, Default, ForeignKey, KeyKind, Now, Table, TableKey};
use crate::value::Value;
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};

const SEPARATOR: char = '\u{1f}';
const COLUMNS_MAX: usize = 500;
const NAME_LEN_MAX: usize = 128;
const TYPE_LEN_MAX: usize = 64;
/// Indexes of one table that are made.
const INDEXES_MAX: usize = 64;
/// Types of columns in STRICT tables (SQLite's documentation, "STRICT Tables", 2).
const STRICT_TYPES: [&str; 6] = ["INT", "INTEGER", "REAL", "TEXT", "BLOB", "ANY"];
const ACTIONS: [&str; 5] = ["NO ACTION", "RESTRICT", "SET NULL", "SET DEFAULT", "CASCADE"];

/// A document does not describe a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the table's description is not valid: {what}")]
pub struct DescriptionError {
    what: String,
}

fn invalid(what: impl Into<String>) -> DescriptionError {
    DescriptionError { what: what.into() }
}

/// What a table is like, as all replicas know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    without_rowid: bool,
    strict: bool,
    key: Vec<String>,
    columns: Vec<DescribedColumn>,
    unique: Vec<(Vec<String>, Vec<Collation>)>,
    foreign: Vec<DescribedForeign>,
    unkept: BTreeSet<String>,
    autoincrement: bool,
    keeps_numbers: bool,
    says_of_numbers: bool,
    /// Keys of the entries of references that the schema does not declare.
    references: BTreeSet<String>,
    indexes: BTreeMap<String, Vec<DescribedIndexColumn>>,
    /// Defaults that are no literals; None: one that is not known here.
    defaults: BTreeMap<String, Option<Now>>,
    /// Keys of the foreign keys that are INITIALLY DEFERRED.
    deferred: Vec<String>,
    /// Whether columns were left out whose names differ from others in capitals alone.
    other_capitals: bool,
    user_version: i32,
    application_id: i32,
    local: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq)]
struct DescribedIndexColumn {
    name: String,
    collation: Collation,
    descending: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct DescribedColumn {
    name: String,
    position: u32,
    declared_type: String,
    not_null: bool,
    default: Option<Value>,
    collation: Collation,
    merge: Merge,
}

#[derive(Debug, Clone, PartialEq)]
struct DescribedForeign {
    /// The key of its entry.
    entry: String,
    columns: Vec<String>,
    parent: String,
    parent_columns: Vec<String>,
    on_delete: String,
    on_update: String,
}

/// The entries that describe a table, each under a key of its own.
pub(crate) fn entries(table: &Table, extras: &Extras) -> Vec<(String, Value)> {
    let mut entries = Entries::default();
    entries.put_shape(table);
    entries.put_unique(table);
    entries.put_foreign(table, &extras.deferred);
    entries.put_extras(table, extras);
    entries.list
}

#[derive(Default)]
struct Entries {
    list: Vec<(String, Value)>,
}

impl Entries {
    fn put(&mut self, key: String, fields: Vec<String>) {
        let travels = |text: &String| !text.contains(SEPARATOR);
        debug_assert!(!self.has(&key), "an entry for each key");
        if fields.iter().all(travels) {
            self.list.push((key, Value::Text(join(&fields))));
        }
    }

    fn has(&self, key: &str) -> bool {
        self.list.iter().any(|(known, _)| known == key)
    }

    fn put_shape(&mut self, table: &Table) {
        let option = |on: bool, text: &str| if on { text.to_owned() } else { String::new() };
        let rowid = if table.without_rowid { "without rowid" } else { "rowid" };
        self.put("table".to_owned(), vec![rowid.to_owned(), option(table.strict, "strict")]);
        self.put("key".to_owned(), names_of(table, &table.key_columns()));
        for (position, column) in table.columns.iter().enumerate().filter(|(_, c)| !c.generated) {
            let default = match &column.default {
                Default::Literal(value) => literal(value),
                _ => String::new(),
            };
            let default = option(!default.contains(SEPARATOR), &default);
            // A default that stays here cannot satisfy NOT NULL elsewhere; every row that comes has every column.
            let stays = column.default == Default::Expression
                || (default.is_empty() && matches!(column.default, Default::Literal(_)));
            let fields = vec![
                position.to_string(),
                type_that_travels(table, column),
                option(column.not_null && !stays, "not null"),
                default,
                column.collation.name().into(),
                column.merge.code().to_string(),
            ];
            self.put(format!("column {}", column.name), fields);
            if let Default::Now(now) = column.default {
                self.put(format!("default {}", column.name), vec![now.name().to_owned()]);
            }
        }
    }

    /// Of several UNIQUE over the same columns one is spelled as it always was.
    fn put_unique(&mut self, table: &Table) {
        let plain = table.unique.iter().filter(|u| u.partial.is_none());
        let mut all: Vec<(Vec<String>, Vec<String>)> = plain
            .map(|unique| {
                let columns: Vec<_> = unique.columns.iter().filter_map(|t| t.column).collect();
                let collations = unique.columns.iter().map(|t| t.collation.to_ascii_uppercase());
                (names_of(table, &columns), collations.collect())
            })
            .collect();
        all.sort();
        all.dedup();
        for (columns, collations) in all {
            let key = format!("unique {}", join(&columns));
            match self.has(&key) {
                false => self.put(key, collations),
                true => self.put(format!("also-unique {}", join(&[columns, collations].concat())), vec![]),
            }
        }
    }

    fn put_foreign(&mut self, table: &Table, deferred: &[bool]) {
        let travels = |foreign: &&(&ForeignKey, bool)| {
            let (foreign, _) = foreign;
            foreign.columns.iter().all(|n| !table.columns[*n].generated)
                && name(&foreign.parent_table).is_ok()
                && foreign.parent_columns.iter().all(|c| name(c).is_ok())
        };
        let mut all: Vec<_> = table.foreign_keys.iter().zip(deferred.iter().copied()).collect();
        // As the schema names them.
        all.sort_by_key(|(foreign, _)| std::cmp::Reverse(foreign.number));
        for (foreign, deferred) in all.iter().filter(travels) {
            let columns = names_of(table, &foreign.columns);
            let actions = vec![foreign.on_delete.clone(), foreign.on_update.clone()];
            let parent = vec![foreign.parent_table.clone()];
            let mut key = format!("foreign {}", join(&columns));
            if self.is_foreign(&key, &parent[0], &foreign.parent_columns) {
                continue; // the same once more
            }
            let also =
                format!("also-foreign {}", join(&[&columns[..], &parent, &foreign.parent_columns].concat()));
            match (self.has(&key), self.has(&also)) {
                (false, _) => {
                    self.put(key.clone(), [parent, actions, foreign.parent_columns.clone()].concat())
                }
                (true, false) => {
                    key = also;
                    self.put(key.clone(), actions);
                }
                (true, true) => continue,
            }
            if *deferred {
                self.put(format!("deferred {key}"), vec![]);
            }
            let unkept = unkept_entry(&columns);
            if !foreign.kept && !self.has(&unkept) {
                self.put(unkept, vec![foreign.parent_table.clone()]);
            }
        }
    }

    /// Whether an entry is of a foreign key to these columns.
    fn is_foreign(&self, key: &str, parent: &str, columns: &[String]) -> bool {
        let entry = self.list.iter().find(|(known, _)| known == key);
        let Some((_, Value::Text(fields))) = entry else { return false };
        let fields = split(fields);
        fields.first().is_some_and(|f| f == parent) && fields.get(3..) == Some(columns)
    }

    fn put_extras(&mut self, table: &Table, extras: &Extras) {
        if extras.autoincrement {
            self.put("autoincrement".to_owned(), vec![]);
        }
        for index in extras.indexes.iter().filter(|index| name(&index.name).is_ok()) {
            let fields = index.columns.iter().flat_map(|c| {
                let order = if c.descending { "desc" } else { "" };
                [table.columns[c.column].name.clone(), c.collation.name().to_owned(), order.to_owned()]
            });
            self.put(format!("index {}", index.name), fields.collect());
        }
        for (kind, number) in
            [("user-version", extras.user_version), ("application-id", extras.application_id)]
        {
            if number != 0 {
                self.put(format!("{kind} {number}"), vec![]);
            }
        }
        for (kind, name) in &extras.local {
            let key = format!("local {kind}{SEPARATOR}{name}");
            if !self.has(&key) && !name.contains(SEPARATOR) {
                self.put(key, vec![]);
            }
        }
    }
}

fn names_of(table: &Table, columns: &[usize]) -> Vec<String> {
    columns.iter().map(|n| table.columns[*n].name.clone()).collect()
}

/// A column's type as others may have it: one with the same affinity where the declared one is no plain words,
/// or would make the column the rowid, which it is not here.
fn type_that_travels(table: &Table, column: &Column) -> String {
    let alone = matches!(&table.key, TableKey::Columns(key) if key.len() == 1 && table.columns[key[0]].name == column.name);
    if alone && !table.without_rowid && column.declared_type.eq_ignore_ascii_case("INTEGER") {
        return "INT".to_owned();
    }
    declared_type(&column.declared_type).unwrap_or_else(|_| {
        match column.affinity() {
            Affinity::Integer => "INTEGER",
            Affinity::Text => "TEXT",
            Affinity::Blob => "BLOB",
            Affinity::Real => "REAL",
            Affinity::Numeric => "NUMERIC",
        }
        .to_owned()
    })
}

/// Whether an entry may be added to a description that is there: a table may grow columns and indexes, but what its rows
/// must keep is said once.
pub(crate) fn may_be_added(key: &str) -> bool {
    let kind = key.split_once(' ').map_or(key, |(kind, _)| kind);
    matches!(
        kind,
        "column"
            | "orphans"
            | "default"
            | "index"
            | "autoincrement"
            | "user-version"
            | "application-id"
            | "local"
            | "ref"
    )
}

/// The columns of a reference that the schema does not declare, its parent and the parent's columns, from its entry's key
/// behind the kind.
pub(crate) fn read_reference(text: &str) -> Option<(Vec<String>, String, Vec<String>)> {
    let parts = split(text);
    if parts.len() < 3 || parts.len().is_multiple_of(2) || parts.iter().any(|part| name(part).is_err()) {
        return None;
    }
    let (columns, parent) = parts.split_at(parts.len() / 2);
    Some((columns.to_vec(), parent[0].clone(), parent[1..].to_vec()))
}

/// What [`read_reference`] reads.
pub(crate) fn reference_text(columns: &[String], parent: &str, parent_columns: &[String]) -> String {
    join(&[columns, &[parent.to_owned()], parent_columns].concat())
}

/// The entry that says of a foreign key that it is not kept.
fn unkept_entry(columns: &[String]) -> String {
    format!("orphans {}", join(columns))
}

/// Whether two values of an entry say the same: a column's place among the others is nobody's property.
pub fn is_same_entry(key: &str, a: &Value, b: &Value) -> bool {
    let (Value::Text(a), Value::Text(b)) = (a, b) else { return a == b };
    let behind_place = |text: &str| text.split_once(SEPARATOR).map(|(_, rest)| rest.to_owned());
    a == b || (key.starts_with("column ") && behind_place(a) == behind_place(b))
}

fn join(parts: &[String]) -> String {
    parts.join(&SEPARATOR.to_string())
}

fn split(text: &str) -> Vec<String> {
    text.split(SEPARATOR).map(str::to_owned).collect()
}

impl Description {
    /// Reads the entries of a document. Entries of kinds not known here are left alone.
    pub fn from_entries<'a>(
        entries: impl Iterator<Item = (&'a str, &'a Value)>,
    ) -> Result<Self, DescriptionError> {
        let mut description = Self {
            without_rowid: false,
            strict: false,
            key: vec![],
            columns: vec![],
            unique: vec![],
            foreign: vec![],
            unkept: BTreeSet::new(),
            autoincrement: false,
            keeps_numbers: false,
            says_of_numbers: false,
            references: BTreeSet::new(),
            indexes: BTreeMap::new(),
            defaults: BTreeMap::new(),
            deferred: vec![],
            other_capitals: false,
            user_version: 0,
            application_id: 0,
            local: vec![],
        };
        for (key, value) in entries {
            let Value::Text(text) = value else { return Err(invalid(format!("entry {key:?} is no text"))) };
            description.take(key, split(text))?;
        }
        description.columns.sort_by(|a, b| (a.position, &a.name).cmp(&(b.position, &b.name)));
        description.leave_out_other_capitals();
        description.leave_out_what_fits_nothing();
        description.check()?;
        Ok(description)
    }

    fn take(&mut self, key: &str, fields: Vec<String>) -> Result<(), DescriptionError> {
        let (kind, rest) = key.split_once(' ').unwrap_or((key, ""));
        match (kind, fields.as_slice()) {
            ("table", [rowid, strict]) => {
                self.without_rowid = rowid == "without rowid";
                self.strict = strict == "strict";
            }
            ("key", names) => self.key = names.to_vec(),
            ("column", [position, declared, not_null, default, collation, merge]) => {
                let default = (!default.is_empty())
                    .then(|| read_literal(default).ok_or_else(|| invalid("a default is no literal")))
                    .transpose()?;
                self.columns.push(DescribedColumn {
                    name: rest.to_owned(),
                    position: position.parse().map_err(|_| invalid("a column's position is no number"))?,
                    declared_type: declared_type(declared)?,
                    not_null: not_null == "not null",
                    default,
                    collation: Collation::from_name(collation).ok_or_else(|| invalid("a collation"))?,
                    merge: merge
                        .parse()
                        .ok()
                        .and_then(Merge::from_code)
                        .ok_or_else(|| invalid("a merge kind"))?,
                });
            }
            ("unique", collations) => {
                let collations = collations
                    .iter()
                    .map(|c| Collation::from_name(c).ok_or_else(|| invalid("a collation")))
                    .collect::<Result<Vec<_>, _>>()?;
                self.unique.push((split(rest), collations));
            }
            ("foreign", [parent, on_delete, on_update, parents @ ..]) => {
                self.foreign.push(DescribedForeign {
                    entry: key.to_owned(),
                    columns: split(rest),
                    parent: parent.clone(),
                    parent_columns: parents.to_vec(),
                    on_delete: action(on_delete)?,
                    on_update: action(on_update)?,
                });
            }
            ("orphans", _) => drop(self.unkept.insert(rest.to_owned())),
            ("table" | "column" | "foreign", _) => return Err(invalid(format!("entry {key:?}"))),
            (kind, fields) => self.take_later(kind, key, rest, fields),
        }
        Ok(())
    }

    /// Reads an entry of a kind that came later. One that makes no sense is left out.
    fn take_later(&mut self, kind: &str, key: &str, rest: &str, fields: &[String]) {
        let parts = split(rest);
        match (kind, fields) {
            ("autoincrement", _) => self.autoincrement = true,
            ("keep-numbers", [says]) => {
                (self.keeps_numbers, self.says_of_numbers) = (says.is_empty(), true);
            }
            ("ref", _) if read_reference(rest).is_some() => drop(self.references.insert(rest.to_owned())),
            ("default", [text]) => {
                self.defaults.insert(rest.to_owned(), Now::from_name(text));
            }
            ("index", fields) if !fields.is_empty() && fields.len().is_multiple_of(3) => {
                let column = |f: &[String]| {
                    let collation = Collation::from_name(&f[1])?;
                    Some(DescribedIndexColumn { name: f[0].clone(), collation, descending: f[2] == "desc" })
                };
                let columns: Option<Vec<_>> = fields.chunks_exact(3).map(column).collect();
                if let Some(columns) = columns.filter(|_| name(rest).is_ok()) {
                    self.indexes.insert(rest.to_owned(), columns);
                }
            }
            ("also-unique", _) if parts.len().is_multiple_of(2) => {
                let (columns, collations) = parts.split_at(parts.len() / 2);
                let collations: Option<Vec<_>> = collations.iter().map(|c| Collation::from_name(c)).collect();
                self.unique.extend(collations.map(|collations| (columns.to_vec(), collations)));
            }
            ("also-foreign", [on_delete, on_update]) if parts.len() > 2 && !parts.len().is_multiple_of(2) => {
                let (columns, parent) = parts.split_at(parts.len() / 2);
                let (Ok(on_delete), Ok(on_update)) = (action(on_delete), action(on_update)) else { return };
                self.foreign.push(DescribedForeign {
                    entry: key.to_owned(),
                    columns: columns.to_vec(),
                    parent: parent[0].clone(),
                    parent_columns: parent[1..].to_vec(),
                    on_delete,
                    on_update,
                });
            }
            ("deferred", _) => self.deferred.push(rest.to_owned()),
            ("user-version", _) => {
                self.user_version = greatest(self.user_version, rest);
            }
            ("application-id", _) => {
                self.application_id = greatest(self.application_id, rest);
            }
            ("local", _) => {
                if let [kind, name] = &parts[..] {
                    self.local.push((kind.clone(), name.clone()));
                }
            }
            _ => {}
        }
    }

    /// Of columns whose names differ in capitals alone, which to SQLite are one, leaves the first in the order of names. A server
    /// lets no second one in; a device that added it offline has it until it learns of the first.
    fn leave_out_other_capitals(&mut self) {
        let mut names: Vec<_> = self.columns.iter().map(|c| c.name.clone()).collect();
        names.sort_unstable();
        let is_first = |name: &String| names.iter().find(|n| n.eq_ignore_ascii_case(name)) == Some(name);
        let all = self.columns.len();
        self.columns.retain(|c| is_first(&c.name));
        self.other_capitals = self.columns.len() < all;
    }

    /// Whether two of its columns have names that differ in capitals alone.
    pub(crate) fn has_other_capitals(&self) -> bool {
        self.other_capitals
    }

    /// Leaves out what entries that came later say of columns which are not there.
    fn leave_out_what_fits_nothing(&mut self) {
        let columns = &self.columns;
        let has = |name: &String| columns.iter().any(|c| c.name == *name);
        let is_later = |entry: &str| entry.starts_with("also-");
        self.unique
            .retain(|(columns, collations)| columns.len() != collations.len() || columns.iter().all(has));
        self.foreign.retain(|f| {
            !is_later(&f.entry)
                || (f.columns.iter().all(has)
                    && name(&f.parent).is_ok()
                    && f.parent_columns.iter().all(|c| name(c).is_ok()))
        });
        self.indexes.retain(|_, index| index.iter().all(|c| has(&c.name)));
    }

    fn check(&self) -> Result<(), DescriptionError> {
        let has = |name: &String| self.columns.iter().any(|c| c.name == *name);
        if self.columns.is_empty() || self.columns.len() > COLUMNS_MAX {
            return Err(invalid(format!("{} columns", self.columns.len())));
        }
        if self.key.is_empty() || !self.key.iter().all(has) {
            return Err(invalid("its key names no column"));
        }
        let names_twice = |names: &[String]| (1..names.len()).any(|n| names[..n].contains(&names[n]));
        if names_twice(&self.key) {
            return Err(invalid("its key names a column twice"));
        }
        self.columns.iter().try_for_each(|column| name(&column.name))?;
        let is_strict_type =
            |c: &DescribedColumn| STRICT_TYPES.iter().any(|t| t.eq_ignore_ascii_case(&c.declared_type));
        if self.strict && !self.columns.iter().all(is_strict_type) {
            return Err(invalid("a STRICT table has a column of another type than those of STRICT tables"));
        }
        for (columns, collations) in &self.unique {
            if columns.len() != collations.len() || !columns.iter().all(has) {
                return Err(invalid("a UNIQUE index names no column"));
            }
        }
        for foreign in &self.foreign {
            name(&foreign.parent)?;
            foreign.parent_columns.iter().try_for_each(|c| name(c))?;
            if foreign.columns.len() != foreign.parent_columns.len() || !foreign.columns.iter().all(has) {
                return Err(invalid("a foreign key names no column"));
            }
        }
        Ok(())
    }

    /// Whether rows have the same keys as under another description.
    pub(crate) fn has_keys_of(&self, other: &Self) -> bool {
        self.key == other.key
            && self.has_integer_key() == other.has_integer_key()
            && (self.has_integer_key() || self.key_kinds() == other.key_kinds())
    }

    /// Whether the key is an INTEGER PRIMARY KEY.
    pub fn has_integer_key(&self) -> bool {
        let integer = |name: &String| {
            self.columns.iter().any(|c| c.name == *name && c.declared_type.eq_ignore_ascii_case("INTEGER"))
        };
        !self.without_rowid && self.key.len() == 1 && integer(&self.key[0])
    }

    /// The columns of foreign keys that are not kept, each joined by U+001F.
    pub(crate) fn unkept(&self) -> &BTreeSet<String> {
        &self.unkept
    }

    /// Whether rows keep their numbers although other rows have them.
    pub(crate) fn keeps_numbers(&self) -> bool {
        self.keeps_numbers
    }

    /// References that the schema does not declare, as [`read_reference`] reads them.
    pub(crate) fn references(&self) -> &BTreeSet<String> {
        &self.references
    }

    /// Whether it says that rows keep their numbers, or that they do not.
    pub(crate) fn says_of_numbers(&self) -> bool {
        self.says_of_numbers
    }

    /// Its foreign keys, in the same form.
    pub(crate) fn foreign_references(&self) -> BTreeSet<String> {
        self.foreign.iter().map(|f| reference_text(&f.columns, &f.parent, &f.parent_columns)).collect()
    }

    /// How concurrent values of a column come together.
    pub fn merge(&self, column: &str) -> Option<Merge> {
        self.columns.iter().find(|c| c.name == column).map(|c| c.merge)
    }

    /// Its columns with their merge kinds, in the order in which the table is made.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&str, Merge)> {
        self.columns.iter().map(|c| (c.name.as_str(), c.merge))
    }

    /// Its columns, by their keys in documents, that are not among `known`.
    pub(crate) fn columns_besides<'k>(&self, known: impl Iterator<Item = &'k str>) -> Vec<String> {
        let known: Vec<_> = known.collect();
        let is_new = |c: &&DescribedColumn| !known.contains(&c.name.as_str());
        self.columns.iter().filter(is_new).map(|c| c.name.clone()).collect()
    }

    /// The document keys of its primary key's columns, in key order.
    pub(crate) fn key(&self) -> &[String] {
        &self.key
    }

    /// How the primary key's columns store and compare values, in key order.
    pub(crate) fn key_kinds(&self) -> Vec<KeyKind> {
        let of = |key: &String| self.columns.iter().find(|c| c.name == *key);
        let kind = |c: &DescribedColumn| KeyKind::new(Affinity::of(&c.declared_type), c.collation);
        self.key.iter().filter_map(of).map(kind).collect()
    }

    /// Whether numbers of deleted rows are not given out again.
    pub(crate) fn is_autoincrement(&self) -> bool {
        self.autoincrement
    }

    /// The literal default of a column by its key in documents.
    pub(crate) fn default_of(&self, column: &str) -> Option<&Value> {
        self.columns.iter().find(|c| c.name == column)?.default.as_ref()
    }

    /// The affinity of a column by its key in documents.
    pub(crate) fn affinity(&self, column: &str) -> Option<Affinity> {
        let column = self.columns.iter().find(|c| c.name == column)?;
        Some(Affinity::of(&column.declared_type))
    }

    /// `PRAGMA user_version` and `PRAGMA application_id` of the files that the table is in; 0: not set.
    pub(crate) fn numbers(&self) -> (i32, i32) {
        (self.user_version, self.application_id)
    }

    /// What stays on the devices that have it, such as ("CHECK", "2") or ("trigger", "touch").
    pub fn local(&self) -> &[(String, String)] {
        &self.local
    }

    /// The SQL that makes the table, with the foreign keys for which `fits` says of the parent table and its columns that it
    /// may refer to them.
    pub fn create_table_sql(
        &self,
        table: &str,
        fits: impl Fn(&str, &[String]) -> bool,
    ) -> Result<String, DescriptionError> {
        name(table)?;
        let integer_key = self.has_integer_key();
        let key = match (integer_key, self.autoincrement) {
            (false, _) => "",
            (true, false) => " PRIMARY KEY",
            (true, true) => " PRIMARY KEY AUTOINCREMENT",
        };
        let column = |c: &DescribedColumn| {
            let sql = self.column_sql(c, c.not_null && !self.has_unknown_default(c), true);
            if self.key[0] == c.name { format!("{sql}{key}") } else { sql }
        };
        let mut parts: Vec<String> = self.columns.iter().map(column).collect();
        if !integer_key {
            parts.push(format!("PRIMARY KEY ({})", names(&self.key)));
        }
        parts.extend(self.foreign_keys_sql(fits));
        let options: Vec<_> = [(self.strict, "STRICT"), (self.without_rowid, "WITHOUT ROWID")]
            .into_iter()
            .filter_map(|(on, text)| on.then_some(text))
            .collect();
        Ok(format!("CREATE TABLE {}({}) {}", quote(table), parts.join(", "), options.join(", ")))
    }

    /// The clauses of the foreign keys for which `fits` says of the parent table and its columns that it may refer to them.
    pub(crate) fn foreign_keys_sql(&self, fits: impl Fn(&str, &[String]) -> bool) -> Vec<String> {
        let clause = |f: &DescribedForeign| {
            let deferred =
                if self.deferred.contains(&f.entry) { " DEFERRABLE INITIALLY DEFERRED" } else { "" };
            format!(
                "FOREIGN KEY ({}) REFERENCES {}({}) ON DELETE {} ON UPDATE {}{deferred}",
                names(&f.columns),
                quote(&f.parent),
                names(&f.parent_columns),
                f.on_delete,
                f.on_update
            )
        };
        self.foreign.iter().filter(|f| fits(&f.parent, &f.parent_columns)).map(clause).collect()
    }

    /// Makes the table and its indexes in a database of their own, to see whether SQLite does, and adds to the table as it was
    /// described `before` the columns that are new.
    pub fn try_out(&self, before: Option<&Self>) -> Result<(), DescriptionError> {
        let refused = |error: rusqlite::Error| invalid(format!("SQLite does not make the table: {error}"));
        let conn = Connection::open_in_memory().map_err(refused)?;
        let mut all = vec![self.create_table_sql("t", |_, _| true)?];
        all.extend(self.create_unique_sql("t", |_| true));
        all.extend(self.create_indexes_sql("t", |_| true, |_| true));
        if let Some(before) = before {
            all.push(before.create_table_sql("grown", |_, _| true)?);
            for column in self.columns_besides(before.columns.iter().map(|c| c.name.as_str())) {
                all.push(self.add_column_sql("grown", &column)?);
            }
        }
        all.iter().try_for_each(|sql| conn.execute_batch(sql)).map_err(refused)
    }

    /// The tables that its foreign keys refer to, each with the columns.
    pub(crate) fn parents(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.foreign.iter().map(|f| (f.parent.as_str(), &f.parent_columns[..]))
    }

    /// The SQL that makes its UNIQUE indexes, under names that are free.
    pub fn create_unique_sql(&self, table: &str, is_free: impl Fn(&str) -> bool) -> Vec<String> {
        let mut number = 0;
        let mut free_name = || {
            loop {
                number += 1;
                let name = format!("{table}_unique_{number}");
                // A plain index has its name from the application.
                if is_free(&name) && !self.indexes.keys().any(|index| index.eq_ignore_ascii_case(&name)) {
                    return quote(&name);
                }
            }
        };
        let sql = |(columns, collations): &(Vec<String>, Vec<Collation>)| {
            let term =
                |(c, collation): (&String, &Collation)| format!("{} COLLATE {}", quote(c), collation.name());
            let terms: Vec<_> = columns.iter().zip(collations).map(term).collect();
            format!("CREATE UNIQUE INDEX {} ON {}({})", free_name(), quote(table), terms.join(", "))
        };
        self.unique.iter().map(sql).collect()
    }

    /// The SQL that makes its plain indexes, but those whose names are not free or whose columns the table has not.
    pub fn create_indexes_sql(
        &self,
        table: &str,
        is_free: impl Fn(&str) -> bool,
        has: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let sql = |(name, columns): (&String, &Vec<DescribedIndexColumn>)| {
            let term = |c: &DescribedIndexColumn| {
                let order = if c.descending { " DESC" } else { "" };
                format!("{} COLLATE {}{order}", quote(&c.name), c.collation.name())
            };
            let terms: Vec<_> = columns.iter().map(term).collect();
            format!("CREATE INDEX {} ON {}({})", quote(name), quote(table), terms.join(", "))
        };
        let free = self
            .indexes
            .iter()
            .filter(|(name, columns)| is_free(name) && columns.iter().all(|c| has(&c.name)));
        free.take(INDEXES_MAX).map(sql).collect()
    }

    /// The SQL that adds one of its columns to the table.
    pub fn add_column_sql(&self, table: &str, column: &str) -> Result<String, DescriptionError> {
        name(table)?;
        let column = self
            .columns
            .iter()
            .find(|c| c.name == column)
            .ok_or_else(|| invalid("there is no such column"))?;
        let not_null = column.not_null && column.default.as_ref().is_some_and(|v| *v != Value::Null);
        // SQLite adds no column with a default that is the time.
        Ok(format!("ALTER TABLE {} ADD COLUMN {}", quote(table), self.column_sql(column, not_null, false)))
    }

    /// Whether a column has a default that is not known here; then NOT NULL could not be satisfied.
    fn has_unknown_default(&self, column: &DescribedColumn) -> bool {
        self.defaults.get(&column.name).is_some_and(Option::is_none)
    }

    fn column_sql(&self, column: &DescribedColumn, not_null: bool, with_time: bool) -> String {
        let mut sql = format!("{} {}", quote(&column.name), column.declared_type);
        if not_null {
            sql.push_str(" NOT NULL");
        }
        match (&column.default, self.defaults.get(&column.name)) {
            (Some(default), _) => sql.push_str(&format!(" DEFAULT {}", literal(default))),
            (None, Some(Some(now))) if with_time => sql.push_str(&format!(" DEFAULT {}", now.name())),
            _ => {}
        }
        if column.collation != Collation::Binary {
            sql.push_str(&format!(" COLLATE {}", column.collation.name()));
        }
        sql
    }
}

fn names(list: &[String]) -> String {
    list.iter().map(|n| quote(n)).collect::<Vec<_>>().join(", ")
}

fn name(name: &str) -> Result<(), DescriptionError> {
    let lower = name.to_ascii_lowercase();
    let bad = name.is_empty()
        || name.len() > NAME_LEN_MAX
        || name.chars().any(char::is_control)
        || lower.starts_with("sqlite_")
        || lower.starts_with("piecewise_");
    if bad { Err(invalid(format!("{name:?} is no name"))) } else { Ok(()) }
}

/// A type is words and numbers in parentheses; anything else could be more than a type.
fn declared_type(text: &str) -> Result<String, DescriptionError> {
    let text = text.trim(); // as SQLite reads it: `INTEGER ` is the rowid's type
    let plain = |c: char| c.is_ascii_alphanumeric() || " _,()".contains(c);
    let mut depth = 0;
    let balanced = text.chars().all(|c| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        (0..=1).contains(&depth)
    });
    let upper = text.to_ascii_uppercase();
    let words = [
        "PRIMARY",
        "UNIQUE",
        "CHECK",
        "REFERENCES",
        "DEFAULT",
        "COLLATE",
        "NOT",
        "GENERATED",
        "AS",
        "CONSTRAINT",
        "NULL",
        "ON",
    ];
    let reserved = upper.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|w| words.contains(&w));
    let comma_outside = text.split('(').next().is_some_and(|head| head.contains(','));
    if text.len() > TYPE_LEN_MAX
        || !text.chars().all(plain)
        || !balanced
        || depth != 0
        || reserved
        || comma_outside
    {
        return Err(invalid(format!("{text:?} is no type")));
    }
    Ok(text.to_owned())
}

fn action(text: &str) -> Result<String, DescriptionError> {
    ACTIONS
        .iter()
        .find(|a| a.eq_ignore_ascii_case(text))
        .map(|a| (*a).to_owned())
        .ok_or_else(|| invalid(format!("{text:?} is no foreign key action")))
}

/// Returns the greater of `known` and the number in the entry `told`; 0 means not set.
fn greatest(known: i32, told: &str) -> i32 {
    match told.parse() {
        Ok(0) | Err(_) => known,
        Ok(told) if known == 0 => told,
        Ok(told) => told.max(known),
    }
}

#[cfg(test)]
mod tests;
