//! Table: the shape of a user's table on this replica, as far as sync has to know it.

use crate::change::Merge;
use crate::key::{RowKey, decode_tuple, encode_tuple};
use crate::value::{Value, ValueRef};

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Its name, as the schema spells it.
    pub name: String,
    /// Its columns in order.
    pub columns: Vec<Column>,
    /// Its primary key.
    pub key: TableKey,
    /// Whether it is WITHOUT ROWID.
    pub without_rowid: bool,
    /// Whether it is STRICT.
    pub strict: bool,
    /// Its UNIQUE indexes; the primary key's only where it compares otherwise than the key's columns.
    pub unique: Vec<Unique>,
    /// Its foreign keys.
    pub foreign_keys: Vec<ForeignKey>,
}

/// A primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableKey {
    /// An INTEGER PRIMARY KEY: the index of the column.
    Rowid(usize),
    /// Any other: indexes of the columns in key order.
    Columns(Vec<usize>),
}

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type as declared; may be empty.
    pub declared_type: String,
    /// Whether it is NOT NULL.
    pub not_null: bool,
    /// Its default.
    pub default: Default,
    /// Its collation.
    pub collation: Collation,
    /// Whether it is generated from others.
    pub generated: bool,
    /// How concurrent values of it come together.
    pub merge: Merge,
}

/// A column's default.
#[derive(Debug, Clone, PartialEq)]
pub enum Default {
    /// None, which is NULL.
    None,
    /// A literal.
    Literal(Value),
    /// The time of the insert.
    Now(Now),
    /// An expression; it stays local.
    Expression,
}

/// What SQLite calls the time of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Now {
    /// CURRENT_TIME.
    Time,
    /// CURRENT_DATE.
    Date,
    /// CURRENT_TIMESTAMP.
    Timestamp,
}

/// SQLite's own collations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collation {
    /// Byte by byte.
    Binary,
    /// ASCII letters without case.
    NoCase,
    /// Without spaces at the end.
    Rtrim,
}

/// What SQLite makes of values on their way into a column (its documentation, "Datatypes", 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// INTEGER.
    Integer,
    /// TEXT.
    Text,
    /// BLOB, or no type.
    Blob,
    /// REAL.
    Real,
    /// NUMERIC.
    Numeric,
}

/// How a column of a key stores values, and which of them it calls equal: keys of two tables fit each other only if both
/// are alike in this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyKind {
    affinity: Affinity,
    collation: Collation,
}

impl KeyKind {
    pub(crate) fn new(affinity: Affinity, collation: Collation) -> Self {
        // The two store values alike (SQLite's documentation, "Datatypes", 3).
        let affinity = if affinity == Affinity::Numeric { Affinity::Integer } else { affinity };
        Self { affinity, collation }
    }

    pub(crate) fn of(column: &Column) -> Self {
        Self::new(column.affinity(), column.collation)
    }
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let affinity = match self.affinity {
            Affinity::Integer | Affinity::Numeric => "INTEGER",
            Affinity::Text => "TEXT",
            Affinity::Blob => "without a type",
            Affinity::Real => "REAL",
        };
        match self.collation {
            Collation::Binary => f.write_str(affinity),
            collation => write!(f, "{affinity} COLLATE {}", collation.name()),
        }
    }
}

/// A UNIQUE index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unique {
    /// The index's name.
    pub index: String,
    /// What it is over.
    pub columns: Vec<UniqueTerm>,
    /// Whether it is a constraint of the table (not a CREATE UNIQUE INDEX).
    pub constraint: bool,
    /// The SQL of a partial index or of one over expressions or generated columns, which stay local.
    pub partial: Option<String>,
}

/// A term of a UNIQUE index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueTerm {
    /// The column; None for an expression.
    pub column: Option<usize>,
    /// Its collation in the index.
    pub collation: String,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// SQLite's number of it: from 0 for the one that the schema names last.
    pub number: usize,
    /// Indexes of the child's columns.
    pub columns: Vec<usize>,
    /// The parent.
    pub parent_table: String,
    /// The parent's columns.
    pub parent_columns: Vec<String>,
    /// What happens to the child when the parent is deleted, as SQL says it.
    pub on_delete: String,
    /// What happens to the child when the parent's key changes.
    pub on_update: String,
    /// Whether the application keeps it: it has no rows whose parents do not exist.
    pub kept: bool,
}

/// A key with a NULL in it names no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a primary key with NULL in it names no row")]
pub struct NullKey;

impl Affinity {
    /// Of a column by its declared type.
    pub fn of(declared_type: &str) -> Self {
        let t = declared_type.to_ascii_uppercase();
        if t.contains("INT") {
            Self::Integer
        } else if ["CHAR", "CLOB", "TEXT"].iter().any(|s| t.contains(s)) {
            Self::Text
        } else if t.contains("BLOB") || t.is_empty() || t == "ANY" {
            Self::Blob
        } else if ["REAL", "FLOA", "DOUB"].iter().any(|s| t.contains(s)) {
            Self::Real
        } else {
            Self::Numeric
        }
    }
}

impl Now {
    /// From its name in SQL.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Time, Self::Date, Self::Timestamp].into_iter().find(|n| n.name().eq_ignore_ascii_case(name))
    }

    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "CURRENT_TIME",
            Self::Date => "CURRENT_DATE",
            Self::Timestamp => "CURRENT_TIMESTAMP",
        }
    }
}

impl Collation {
    /// From its name in SQL.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Binary, Self::NoCase, Self::Rtrim].into_iter().find(|c| c.name().eq_ignore_ascii_case(name))
    }

    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binary => "BINARY",
            Self::NoCase => "NOCASE",
            Self::Rtrim => "RTRIM",
        }
    }

    /// The same text for all texts that it calls equal.
    fn fold(self, text: &str) -> String {
        match self {
            Self::Binary => text.to_owned(),
            Self::NoCase => text.to_ascii_lowercase(),
            Self::Rtrim => text.trim_end_matches(' ').to_owned(),
        }
    }

    /// The same for a text that is not UTF-8.
    fn fold_raw(self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Binary => text.to_owned(),
            Self::NoCase => text.to_ascii_lowercase(),
            Self::Rtrim => {
                text.iter().rposition(|b| *b != b' ').map_or(&[][..], |end| &text[..=end]).to_owned()
            }
        }
    }
}

impl Column {
    /// What SQLite makes of values on their way in.
    pub fn affinity(&self) -> Affinity {
        Affinity::of(&self.declared_type)
    }

    /// What rows have that do not say: the literal default, or NULL.
    pub fn absent(&self) -> Value {
        match &self.default {
            Default::Literal(value) => self.kept(value),
            _ => Value::Null,
        }
    }

    /// A value as the column keeps it: a literal of a schema, or what another column has.
    pub(crate) fn kept(&self, value: &Value) -> Value {
        let number = |text: &str| {
            let text = text.trim();
            let real = || text.parse().ok().filter(|f: &f64| f.is_finite()).map(Value::Real);
            text.parse().ok().map(Value::Integer).or_else(real)
        };
        let numeric = |value: Value| match (self.affinity(), value) {
            (Affinity::Real, Value::Integer(i)) => Value::Real(i as f64),
            (Affinity::Integer | Affinity::Numeric, Value::Real(f)) if f.fract() == 0.0 && f.abs() < 9e15 => {
                Value::Integer(f as i64)
            }
            (_, value) => value,
        };
        match (self.affinity(), value) {
            (Affinity::Text, Value::Integer(i)) => Value::Text(i.to_string()),
            (Affinity::Integer | Affinity::Numeric | Affinity::Real, Value::Text(text)) => {
                number(text).map_or_else(|| value.clone(), numeric)
            }
            (Affinity::Integer | Affinity::Numeric | Affinity::Real, _) => numeric(value.clone()),
            _ => value.clone(),
        }
    }

    /// The same value for all values that the column's comparison calls equal.
    pub fn fold(&self, value: ValueRef<'_>) -> Value {
        self.fold_as(self.collation, value)
    }

    /// The same for all values that are equal under another collation.
    pub(crate) fn fold_as(&self, collation: Collation, value: ValueRef<'_>) -> Value {
        match value {
            ValueRef::Text(text) => Value::Text(collation.fold(text)),
            ValueRef::RawText(text) => Value::RawText(collation.fold_raw(text)),
            ValueRef::Real(f) if f == 0.0 && self.affinity() == Affinity::Real => Value::Real(0.0),
            ValueRef::Real(f)
                if self.affinity() != Affinity::Real && f.fract() == 0.0 && f.abs() < 9.2e18 =>
            {
                Value::Integer(f as i64)
            }
            ValueRef::Integer(i) if self.affinity() == Affinity::Real => Value::Real(i as f64),
            other => other.to_owned(),
        }
    }

    /// Whether a key folded by this column does not tell its exact value, so that documents keep it too.
    pub fn is_spelled_in_document(&self) -> bool {
        self.collation != Collation::Binary || self.affinity() == Affinity::Blob
    }
}

impl Table {
    /// Indexes of the key's columns in key order.
    pub fn key_columns(&self) -> Vec<usize> {
        match &self.key {
            TableKey::Rowid(n) => vec![*n],
            TableKey::Columns(columns) => columns.clone(),
        }
    }

    /// Whether no two rows can have the same values in these columns, so that foreign keys may refer to them (SQLite's
    /// documentation, "Foreign Key Support", 3): they are the key or have a UNIQUE index, with the columns' own collations.
    pub fn is_unique(&self, names: &[String]) -> bool {
        let place = |name: &String| self.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
        let Some(mut wanted) = names.iter().map(place).collect::<Option<Vec<_>>>() else { return false };
        wanted.sort_unstable();
        let is = |mut columns: Vec<usize>| {
            columns.sort_unstable();
            columns == wanted
        };
        let index_is = |unique: &Unique| {
            let own = |t: &UniqueTerm| {
                t.column.filter(|n| t.collation.eq_ignore_ascii_case(self.columns[*n].collation.name()))
            };
            unique.partial.is_none() && unique.columns.iter().map(own).collect::<Option<_>>().is_some_and(is)
        };
        is(self.key_columns()) || self.unique.iter().any(index_is)
    }

    /// The key of a row from the values of its key columns, in key order.
    pub fn row_key(&self, values: &[ValueRef<'_>]) -> Result<RowKey, NullKey> {
        match &self.key {
            TableKey::Rowid(_) => match values {
                [ValueRef::Integer(i)] => Ok(RowKey::Integer(*i)),
                _ => Err(NullKey),
            },
            TableKey::Columns(columns) if columns.len() != values.len() => Err(NullKey),
            TableKey::Columns(columns) => {
                let folded: Vec<_> =
                    columns.iter().zip(values).map(|(n, v)| self.columns[*n].fold(*v)).collect();
                let refs: Vec<_> = folded.iter().map(Value::as_ref).collect();
                encode_tuple(&refs).map(RowKey::Tuple).ok_or(NullKey)
            }
        }
    }

    /// The values of the key columns, in key order; None if the key does not fit this table.
    pub fn key_values(&self, key: &RowKey) -> Option<Vec<Value>> {
        match (&self.key, key) {
            (TableKey::Rowid(_), RowKey::Integer(i)) => Some(vec![Value::Integer(*i)]),
            (TableKey::Columns(columns), RowKey::Tuple(bytes)) => {
                decode_tuple(bytes).ok().filter(|values| values.len() == columns.len())
            }
            _ => None,
        }
    }

    /// Indexes of the columns whose values are kept in documents.
    pub fn document_columns(&self) -> impl Iterator<Item = usize> + '_ {
        let key = self.key_columns();
        self.columns
            .iter()
            .enumerate()
            .filter(move |(n, c)| !c.generated && (!key.contains(n) || self.is_spelled(c)))
            .map(|(n, _)| n)
    }

    fn is_spelled(&self, column: &Column) -> bool {
        !matches!(self.key, TableKey::Rowid(_)) && column.is_spelled_in_document()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(declared_type: &str, collation: Collation) -> Column {
        Column {
            name: "c".into(),
            declared_type: declared_type.into(),
            not_null: false,
            default: Default::None,
            collation,
            generated: false,
            merge: Merge::Register,
        }
    }

    #[test]
    fn a_default_is_what_the_column_makes_of_it() {
        let absent = |declared_type: &str, value: Value| {
            let default = Default::Literal(value);
            Column { default, ..column(declared_type, Collation::Binary) }.absent()
        };
        assert_eq!(absent("INTEGER", Value::Text("5".into())), Value::Integer(5));
        assert_eq!(absent("TEXT", Value::Integer(5)), Value::Text("5".into()));
        assert_eq!(absent("REAL", Value::Integer(5)), Value::Real(5.0));
        assert_eq!(absent("DECIMAL", Value::Real(1.5)), Value::Real(1.5));
        assert_eq!(absent("", Value::Text("5".into())), Value::Text("5".into()));
    }

    #[test]
    fn keys_that_the_table_calls_equal_are_one_key() {
        let nocase = column("TEXT", Collation::NoCase);
        assert_eq!(nocase.fold(ValueRef::Text("Ä Milk")), nocase.fold(ValueRef::Text("Ä mILK")));
        assert_eq!(nocase.fold(ValueRef::RawText(b"A\xff")), nocase.fold(ValueRef::RawText(b"a\xff")));
        let rtrim = column("TEXT", Collation::Rtrim);
        assert_eq!(rtrim.fold(ValueRef::RawText(b"\xff  ")), Value::RawText(b"\xff".into()));
        let untyped = column("", Collation::Binary);
        assert_eq!(untyped.fold(ValueRef::Real(1.0)), untyped.fold(ValueRef::Integer(1)));
        let real = column("REAL", Collation::Binary);
        assert_eq!(real.fold(ValueRef::Real(-0.0)), real.fold(ValueRef::Real(0.0)));
        assert!(nocase.is_spelled_in_document() && untyped.is_spelled_in_document());
        assert!(!real.is_spelled_in_document() && !column("INT", Collation::Binary).is_spelled_in_document());
    }
}
