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

use crate::change::Merge;
use crate::store::schema::{literal, read_literal};
use crate::store::user_table::quote;
use crate::table::{Affinity, Collation, Column, Default, Table, TableKey};
use crate::value::Value;
use std::collections::BTreeSet;

const SEPARATOR: char = '\u{1f}';
const COLUMNS_MAX: usize = 500;
const NAME_LEN_MAX: usize = 128;
const TYPE_LEN_MAX: usize = 64;
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
    columns: Vec<String>,
    parent: String,
    parent_columns: Vec<String>,
    on_delete: String,
    on_update: String,
}

/// The entries that describe a table.
pub fn entries(table: &Table) -> Vec<(String, Value)> {
    let name = |n: &usize| table.columns[*n].name.clone();
    let text = |parts: Vec<String>| Value::Text(join(&parts));
    let mut entries = vec![
        (
            "table".to_owned(),
            text(vec![
                if table.without_rowid { "without rowid" } else { "rowid" }.into(),
                if table.strict { "strict" } else { "" }.into(),
            ]),
        ),
        ("key".to_owned(), text(table.key_columns().iter().map(name).collect())),
    ];
    for (position, column) in table.columns.iter().enumerate().filter(|(_, c)| !c.generated) {
        let default = match &column.default {
            Default::Literal(value) => literal(value),
            _ => String::new(),
        };
        // A default that stays local cannot satisfy NOT NULL elsewhere; every insert writes every column.
        let fields = vec![
            position.to_string(),
            type_that_travels(table, column),
            if column.not_null { "not null" } else { "" }.into(),
            default,
            column.collation.name().into(),
            column.merge.code().to_string(),
        ];
        entries.push((format!("column {}", column.name), text(fields)));
    }
    for unique in table.unique.iter().filter(|u| u.partial.is_none()) {
        let columns: Vec<_> = unique.columns.iter().filter_map(|t| t.column.as_ref().map(name)).collect();
        let collations = unique.columns.iter().map(|t| t.collation.clone()).collect();
        entries.push((format!("unique {}", join(&columns)), text(collations)));
    }
    for foreign in &table.foreign_keys {
        if foreign.columns.iter().any(|n| table.columns[*n].generated) {
            continue;
        }
        let columns: Vec<_> = foreign.columns.iter().map(name).collect();
        let mut fields =
            vec![foreign.parent_table.clone(), foreign.on_delete.clone(), foreign.on_update.clone()];
        fields.extend(foreign.parent_columns.iter().cloned());
        if !foreign.kept {
            entries.push((unkept_entry(&columns), text(vec![foreign.parent_table.clone()])));
        }
        entries.push((format!("foreign {}", join(&columns)), text(fields)));
    }
    entries
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

/// The entry that says of a foreign key that it is not kept.
fn unkept_entry(columns: &[String]) -> String {
    format!("orphans {}", join(columns))
}

/// Whether a writer may add an entry to a description that exists: it takes nothing from anybody.
pub(crate) fn may_be_added(key: &str) -> bool {
    is_column(key) || key.starts_with("orphans ")
}

/// Whether an entry describes a column.
pub fn is_column(key: &str) -> bool {
    key.starts_with("column ")
}

/// Whether whoever may write may add an entry to a description that is there: a table may grow columns and indexes, but what
/// its rows must keep takes an administrator.
pub(crate) fn is_growth(key: &str) -> bool {
    let kind = key.split_once(' ').map_or(key, |(kind, _)| kind);
    matches!(kind, "column" | "default" | "index" | "user-version" | "application-id" | "local")
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
        };
        for (key, value) in entries {
            let Value::Text(text) = value else { return Err(invalid(format!("entry {key:?} is no text"))) };
            description.take(key, split(text))?;
        }
        description.columns.sort_by(|a, b| (a.position, &a.name).cmp(&(b.position, &b.name)));
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
                    columns: split(rest),
                    parent: parent.clone(),
                    parent_columns: parents.to_vec(),
                    on_delete: action(on_delete)?,
                    on_update: action(on_update)?,
                });
            }
            ("orphans", _) => drop(self.unkept.insert(rest.to_owned())),
            ("table" | "column" | "foreign", _) => return Err(invalid(format!("entry {key:?}"))),
            _ => {}
        }
        Ok(())
    }

    fn check(&self) -> Result<(), DescriptionError> {
        let has = |name: &String| self.columns.iter().any(|c| c.name == *name);
        if self.columns.is_empty() || self.columns.len() > COLUMNS_MAX {
            return Err(invalid(format!("{} columns", self.columns.len())));
        }
        if self.key.is_empty() || !self.key.iter().all(has) {
            return Err(invalid("its key names no column"));
        }
        let mut seen = std::collections::HashSet::new();
        for column in &self.columns {
            name(&column.name)?;
            if !seen.insert(column.name.to_ascii_lowercase()) {
                return Err(invalid(format!("two columns are called {}", column.name)));
            }
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
        self.key == other.key && self.has_integer_key() == other.has_integer_key()
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

    /// How concurrent values of a column come together.
    pub fn merge(&self, column: &str) -> Option<Merge> {
        self.columns.iter().find(|c| c.name == column).map(|c| c.merge)
    }

    /// Its columns with their merge kinds, in the order in which the table is made.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&str, Merge)> {
        self.columns.iter().map(|c| (c.name.as_str(), c.merge))
    }

    /// Columns that it has and the table has not.
    pub fn columns_missing_in(&self, table: &Table) -> Vec<String> {
        let has = |name: &str| table.columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
        self.columns.iter().filter(|c| !has(&c.name)).map(|c| c.name.clone()).collect()
    }

    /// The SQL that makes the table and its UNIQUE indexes.
    pub fn create_table_sql(&self, table: &str) -> Result<Vec<String>, DescriptionError> {
        name(table)?;
        let integer_key = self.has_integer_key();
        let mut parts: Vec<String> = self
            .columns
            .iter()
            .map(|c| {
                let key = if integer_key && self.key[0] == c.name { " PRIMARY KEY" } else { "" };
                format!("{}{key}", c.sql(c.not_null))
            })
            .collect();
        if !integer_key {
            parts.push(format!("PRIMARY KEY ({})", names(&self.key)));
        }
        for foreign in &self.foreign {
            parts.push(format!(
                "FOREIGN KEY ({}) REFERENCES {}({}) ON DELETE {} ON UPDATE {}",
                names(&foreign.columns),
                quote(&foreign.parent),
                names(&foreign.parent_columns),
                foreign.on_delete,
                foreign.on_update
            ));
        }
        let options: Vec<_> = [(self.strict, "STRICT"), (self.without_rowid, "WITHOUT ROWID")]
            .into_iter()
            .filter_map(|(on, text)| on.then_some(text))
            .collect();
        let mut sql =
            vec![format!("CREATE TABLE {}({}) {}", quote(table), parts.join(", "), options.join(", "))];
        for (n, (columns, collations)) in self.unique.iter().enumerate() {
            let terms: Vec<_> = columns
                .iter()
                .zip(collations)
                .map(|(c, collation)| format!("{} COLLATE {}", quote(c), collation.name()))
                .collect();
            let index = quote(&format!("{table}_unique_{}", n + 1));
            sql.push(format!("CREATE UNIQUE INDEX {index} ON {}({})", quote(table), terms.join(", ")));
        }
        Ok(sql)
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
        Ok(format!("ALTER TABLE {} ADD COLUMN {}", quote(table), column.sql(not_null)))
    }
}

impl DescribedColumn {
    fn sql(&self, not_null: bool) -> String {
        let mut sql = format!("{} {}", quote(&self.name), self.declared_type);
        if not_null {
            sql.push_str(" NOT NULL");
        }
        if let Some(default) = &self.default {
            sql.push_str(&format!(" DEFAULT {}", literal(default)));
        }
        if self.collation != Collation::Binary {
            sql.push_str(&format!(" COLLATE {}", self.collation.name()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::read_table;
    use rusqlite::Connection;

    fn described(conn: &Connection, table: &str) -> Vec<(String, Value)> {
        entries(&read_table(conn, table).unwrap())
    }

    fn read(entries: &[(String, Value)]) -> Result<Description, DescriptionError> {
        Description::from_entries(entries.iter().map(|(k, v)| (k.as_str(), v)))
    }

    #[test]
    fn a_table_made_from_a_description_has_the_same_description() {
        for sql in [
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT NOT NULL DEFAULT 'it''s', b REAL DEFAULT -1.5)",
            "CREATE TABLE t(k VARCHAR(20) COLLATE NOCASE PRIMARY KEY, \"odd \"\"name\" BLOB, UNIQUE (\"odd \"\"name\"))",
            "CREATE TABLE t(a TEXT, b INT, c, PRIMARY KEY (b, a)) WITHOUT ROWID",
            "CREATE TABLE t(id TEXT PRIMARY KEY, n ANY, i INT) STRICT",
            "CREATE TABLE t(id INT PRIMARY KEY, p INT REFERENCES q(x) ON DELETE SET NULL, u, v, UNIQUE (u COLLATE RTRIM, v))",
            "CREATE TABLE t(id INTEGER PRIMARY KEY, g AS (id + 1), d DEFAULT CURRENT_DATE)",
            "CREATE TABLE t(id INTEGER PRIMARY KEY DESC, v)",
            "CREATE TABLE t(id TEXT, v, PRIMARY KEY (id COLLATE NOCASE))",
            "CREATE TABLE t(id TEXT PRIMARY KEY, a \"enum['x']\", b \"größe-int\", g AS (lower(a)) UNIQUE, p AS (a) REFERENCES q(x))",
        ] {
            let conn = Connection::open_in_memory().unwrap();
            conn.execute_batch(sql).unwrap();
            let first = described(&conn, "t");
            let made = Connection::open_in_memory().unwrap();
            for sql in read(&first).unwrap().create_table_sql("t").unwrap() {
                made.execute_batch(&sql).unwrap();
            }
            let without_places = |entries: &[(String, Value)]| {
                let mut d = read(entries).unwrap();
                d.columns.iter_mut().for_each(|c| c.position = 0);
                d
            };
            assert_eq!(without_places(&first), without_places(&described(&made, "t")), "{sql}");
        }
    }

    #[test]
    fn sql_from_a_peer_goes_nowhere() {
        let column = |name: &str, declared: &str, default: &str| {
            let fields = ["0", declared, "", default, "BINARY", "0"].map(str::to_owned);
            vec![
                ("key".to_owned(), Value::Text(name.into())),
                (format!("column {name}"), Value::Text(join(&fields))),
            ]
        };
        assert!(read(&column("id", "TEXT", "'x'")).is_ok());
        for (name, declared, default) in [
            ("id", "TEXT); DROP TABLE x; --", ""),
            ("id", "TEXT PRIMARY KEY", ""),
            ("id", "TEXT, b INT", ""),
            ("id", "TEXT CHECK (1)", ""),
            ("id", "INT(", ""),
            ("id", "TEXT", "(SELECT 1)"),
            ("id", "TEXT", "'a'||'b'"),
            ("a\nb", "TEXT", ""),
            ("sqlite_x", "TEXT", ""),
        ] {
            assert!(read(&column(name, declared, default)).is_err(), "{name} {declared} {default}");
        }
        assert!(read(&[]).is_err());
    }
}
