//! Schema: reads what a user's table is like, and says why one cannot be tracked.

use super::user_table::quote;
use super::{StoreError, index_terms, triggers};
use crate::change::Merge;
use crate::table::{Collation, Column, Default, ForeignKey, Now, Table, TableKey, Unique, UniqueTerm};
use crate::value::Value;
use rusqlite::{Connection, OptionalExtension, Row};
use sha2::{Digest, Sha256};
use std::cell::OnceCell;
use std::collections::HashMap;

/// Most columns of a tracked table.
const COLUMNS_MAX: usize = 500;

/// Why a table cannot be tracked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrackRefusal {
    /// There is no such table.
    #[error("there is no table {table}")]
    NoTable {
        /// The name looked for.
        table: String,
        /// A table with a name like it.
        similar: Option<String>,
    },
    /// It is a view.
    #[error("{table} is a view, which has no rows of its own")]
    View {
        /// Its name.
        table: String,
    },
    /// It is a virtual table, or part of one.
    #[error("{table} is a virtual table or part of one; its module, not SQLite, keeps its rows")]
    Virtual {
        /// Its name.
        table: String,
    },
    /// It is SQLite's or ours.
    #[error("{table} is an internal table")]
    Internal {
        /// Its name.
        table: String,
    },
    /// It has no primary key.
    #[error("table {table} has no primary key, so its rows cannot be told apart on two machines")]
    NoPrimaryKey {
        /// Its name.
        table: String,
    },
    /// It has more columns than can be tracked.
    #[error("table {table} has {columns} columns; the limit is {COLUMNS_MAX}")]
    TooManyColumns {
        /// Its name.
        table: String,
        /// How many it has.
        columns: usize,
    },
    /// A key or UNIQUE index uses a collation that only the application knows.
    #[error("table {table} uses the collation {collation}, which only its application knows")]
    UnknownCollation {
        /// Its name.
        table: String,
        /// The collation.
        collation: String,
    },
    /// Its rows can be written by its application alone.
    #[error("table {table} cannot be written here: {reason}")]
    NotWritable {
        /// Its name.
        table: String,
        /// What SQLite says.
        reason: String,
    },
    /// SQLite cannot number its rows by `sqlite_sequence`.
    #[error("table {table} cannot have AUTOINCREMENT: {reason}")]
    NoAutoincrement {
        /// Its name.
        table: String,
        /// Why.
        reason: &'static str,
    },
    /// Its rows cannot get other numbers: the server has rows already that refer to them.
    #[error(
        "rows of {child} that refer to {table} are at the server already, and would not follow rows of {table} that get other numbers"
    )]
    ReferencesSent {
        /// Its name.
        table: String,
        /// The table that refers to it.
        child: String,
    },
    /// A name that cannot travel.
    #[error(
        "table {table} has a name, or a column, with a control character or of more than 128 bytes, or a name with a slash"
    )]
    BadName {
        /// Its name.
        table: String,
    },
    /// The file.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for TrackRefusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Something about a table that may surprise its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackNote {
    /// What it is about.
    pub kind: NoteKind,
    /// In words.
    pub text: String,
}

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoteKind {
    /// Two machines may give out one number.
    IntegerKey,
    /// The same, and rows keep their numbers.
    KeptNumbers,
    /// Rows that are here may have numbers of other rows at the server.
    FirstContact,
    /// Rows refer to parents that do not exist.
    Orphans,
    /// An index that others do not have.
    LocalIndex,
    /// A foreign key to a table that is not in the file.
    NoParent,
    /// A foreign key on a generated column.
    GeneratedReference,
    /// Rows that cannot sync.
    NullKeys,
}

impl TrackRefusal {
    /// What tables that are refused for this have in common, where nothing else is to be said of each.
    pub fn common(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoPrimaryKey { .. } => {
                "without a primary key, so that their rows cannot be told apart on two machines"
            }
            Self::Virtual { .. } => "virtual or part of a virtual table, whose module keeps its rows",
            Self::View { .. } => "a view, which has no rows of its own",
            Self::Internal { .. } => "internal",
            _ => return None,
        })
    }

    /// A way out.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoTable { similar: Some(similar), .. } => format!("did you mean {similar}?"),
            Self::NoTable { .. } => "`sqlite3 FILE .tables` lists the tables".into(),
            Self::View { .. } => "track the tables that it reads".into(),
            Self::Virtual { .. } => "track the table it is built from, and rebuild it by triggers".into(),
            Self::NoPrimaryKey { table } => format!(
                "make a new table with `id TEXT PRIMARY KEY DEFAULT (lower(hex(randomblob(16))))`, copy the rows of {table}, and rename it"
            ),
            Self::UnknownCollation { .. } => "use BINARY, NOCASE or RTRIM in keys and UNIQUE indexes".into(),
            Self::NotWritable { .. } => {
                "its CHECKs, indexes, generated columns and triggers may use SQLite's own functions only, and tables that are there"
                    .into()
            }
            Self::ReferencesSent { .. } => {
                "track it without `--renumber-mine`; afterwards `piecewise conflicts choose … --as-new-row --with-references` gives one row of a conflict another number"
                    .into()
            }
            Self::Store(error) => return error.hint(),
            _ => return None,
        })
    }
}

/// Changes whenever anybody changes the schema.
pub fn schema_version(conn: &Connection) -> Result<i64, StoreError> {
    Ok(conn.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))?)
}

/// Whether there is a table or view of this name.
pub fn table_exists(conn: &Connection, name: &str) -> Result<bool, StoreError> {
    // Asks SQLite's own index of names: to look through the schema takes long in a file with many tables.
    Ok(conn.prepare_cached("SELECT 1 FROM pragma_table_xinfo(?) LIMIT 1")?.exists([name])?)
}

/// Whether nothing in the schema has this name.
pub(crate) fn is_free_name(conn: &Connection, name: &str) -> Result<bool, StoreError> {
    let is_index = "SELECT 1 FROM pragma_index_info(?) LIMIT 1";
    Ok(!table_exists(conn, name)? && !conn.prepare_cached(is_index)?.exists([name])?)
}

/// What there is of this name: a table, a view, or a virtual table; None if nothing.
pub(crate) fn kind_of(conn: &Connection, name: &str) -> Result<Option<&'static str>, StoreError> {
    if !table_exists(conn, name)? {
        return Ok(None);
    }
    let sql = "SELECT type FROM pragma_table_list(?) WHERE schema = 'main'";
    let kind: Option<String> = conn.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?;
    Ok(Some(match kind.as_deref() {
        Some("view") => "view",
        Some("virtual" | "shadow") => "virtual table",
        _ => "table",
    }))
}

/// What the schema says of each table, read in one pass: a file may have ten thousand.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    tables: HashMap<String, Seen>,
    nothing: Seen,
}

/// What the schema says of one table.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Differs once its table, its indexes or its triggers are others; 0: there is none of them.
    pub(crate) fingerprint: i64,
    /// Whether the application has triggers on it.
    pub(crate) app_triggers: bool,
    /// Whether one of them runs before ours, and so may end a statement whose write they have not noted.
    pub(crate) overtaken: bool,
    /// Fingerprints of our triggers on it.
    pub(crate) triggers: Vec<i64>,
}

impl Catalogue {
    /// Reads the schema.
    pub(crate) fn read(conn: &Connection) -> Result<Self, StoreError> {
        Self::read_of(conn, |_| true)
    }

    /// Reads what it says of some tables, whose names are given in small letters.
    pub(crate) fn read_of(conn: &Connection, wanted: impl Fn(&str) -> bool) -> Result<Self, StoreError> {
        let mut catalogue = Self::default();
        let sql = "SELECT type, name, lower(tbl_name), coalesce(sql, '') FROM sqlite_master ORDER BY rowid";
        let mut stmt = conn.prepare(sql)?;
        let mut rows = stmt.query([])?;
        while let Some(row) = rows.next()? {
            if !row.get_ref(2)?.as_str().is_ok_and(&wanted) {
                continue;
            }
            let (kind, name, sql) =
                (row.get_ref(0)?.as_str(), row.get_ref(1)?.as_str(), row.get_ref(3)?.as_str());
            let (Ok(kind), Ok(name), Ok(sql)) = (kind, name, sql) else { continue };
            let seen = catalogue.tables.entry(row.get(2)?).or_default();
            // A sum, since the order in which they stand does not matter.
            let part = fingerprint(name, sql);
            seen.fingerprint = seen.fingerprint.wrapping_add(part);
            if kind == "trigger" {
                match name.starts_with("piecewise_") {
                    true => seen.triggers.push(part),
                    false => {
                        seen.app_triggers = true;
                        // SQLite runs the newest first.
                        seen.overtaken |= !seen.triggers.is_empty();
                    }
                }
            }
        }
        Ok(catalogue)
    }

    /// What it says of a table.
    pub(crate) fn of(&self, table: &str) -> &Seen {
        self.tables.get(&table.to_ascii_lowercase()).unwrap_or(&self.nothing)
    }
}

/// A table, view or trigger with its text.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) sql: String,
}

/// Texts by the table that they belong to, in small letters; those of views apart, with the names that they mention.
#[derive(Debug, Default)]
struct Texts {
    of_tables: HashMap<String, Vec<Text>>,
    views: Vec<(String, Vec<String>)>,
}

impl Texts {
    fn read(conn: &Connection) -> Result<Self, StoreError> {
        let sql = "SELECT type, name, lower(tbl_name), sql FROM sqlite_master
                   WHERE type IN ('table', 'view', 'trigger') AND sql IS NOT NULL AND name NOT GLOB 'piecewise_*' ORDER BY name";
        let mut stmt = conn.prepare_cached(sql)?;
        let mut rows = stmt.query([])?;
        let mut texts = Self::default();
        while let Some(row) = rows.next()? {
            let (table, text): (String, _) =
                (row.get(2)?, Text { kind: row.get(0)?, name: row.get(1)?, sql: row.get(3)? });
            match text.kind.as_str() {
                "view" => texts.views.push((text.name, index_terms::names(&text.sql))),
                _ => texts.of_tables.entry(table).or_default().push(text),
            }
        }
        Ok(texts)
    }
}

/// Stands for a thing of the schema by its name and text.
pub(crate) fn fingerprint(name: &str, sql: &str) -> i64 {
    let hash = Sha256::new().chain_update(name).chain_update([0]).chain_update(sql).finalize();
    i64::from_le_bytes(std::array::from_fn(|n| hash[n]))
}

/// What kind of table each is, read in one pass: SQLite looks through all of them even when it is asked for one.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    kinds: HashMap<String, Kind>,
    /// Read once they are asked for.
    texts: OnceCell<Texts>,
}

#[derive(Debug)]
struct Kind {
    name: String,
    kind: String,
    without_rowid: bool,
    strict: bool,
}

impl Kinds {
    /// Reads those of all tables and views.
    pub(crate) fn read(conn: &Connection) -> Result<Self, StoreError> {
        let mut stmt = conn
            .prepare_cached("SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main'")?;
        let read = |row: &Row<'_>| {
            let name: String = row.get(0)?;
            let (kind, without_rowid, strict) = (row.get(1)?, row.get(2)?, row.get(3)?);
            Ok((name.to_ascii_lowercase(), Kind { name, kind, without_rowid, strict }))
        };
        let kinds = stmt.query_map([], read)?;
        Ok(Self { kinds: kinds.collect::<Result<_, _>>()?, texts: OnceCell::new() })
    }

    /// The texts of a table and of its triggers but ours, and the names of the views that mention it.
    pub(crate) fn texts(&self, conn: &Connection, table: &str) -> Result<(&[Text], Vec<&str>), StoreError> {
        let texts = match self.texts.get() {
            Some(texts) => texts,
            None => {
                let texts = Texts::read(conn)?;
                self.texts.get_or_init(|| texts)
            }
        };
        let lower = table.to_ascii_lowercase();
        let views = texts.views.iter().filter(|(_, names)| names.contains(&lower));
        let views = views.map(|(name, _)| name.as_str()).collect();
        Ok((texts.of_tables.get(&lower).map_or(&[], Vec::as_slice), views))
    }

    /// Whether a table is WITHOUT ROWID; None: there is no table of this name whose rows SQLite itself keeps.
    pub(super) fn without_rowid(&self, table: &str) -> Option<bool> {
        let kind = self.kinds.get(&table.to_ascii_lowercase())?;
        (kind.kind == "table").then_some(kind.without_rowid)
    }

    /// Whether there is a table or view of this name.
    pub(crate) fn has(&self, table: &str) -> bool {
        self.kinds.contains_key(&table.to_ascii_lowercase())
    }

    fn of(&self, conn: &Connection, table: &str) -> Result<&Kind, TrackRefusal> {
        if let Some(kind) = self.kinds.get(&table.to_ascii_lowercase()) {
            return Ok(kind);
        }
        let similar = user_tables(conn)?.into_iter().find(|t| is_similar(t, table));
        Err(TrackRefusal::NoTable { table: table.to_owned(), similar })
    }
}

/// The user's tables that could be tracked by their kind.
pub fn user_tables(conn: &Connection) -> Result<Vec<String>, StoreError> {
    let mut stmt = conn.prepare(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
         AND name NOT LIKE 'piecewise\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let names = stmt.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

/// Reads a table's shape; refuses one that cannot be tracked.
pub fn read_table(conn: &Connection, name: &str) -> Result<Table, TrackRefusal> {
    read_known_table(conn, &Kinds::read(conn)?, name)
}

/// The same, where the kinds of all tables are known.
pub(crate) fn read_known_table(conn: &Connection, kinds: &Kinds, name: &str) -> Result<Table, TrackRefusal> {
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("sqlite_") || lower.starts_with("piecewise_") {
        return Err(TrackRefusal::Internal { table: name.to_owned() });
    }
    let Kind { name, kind, without_rowid, strict } = kinds.of(conn, name)?;
    let (name, without_rowid, strict) = (name.clone(), *without_rowid, *strict);
    match kind.as_str() {
        "view" => return Err(TrackRefusal::View { table: name }),
        "virtual" | "shadow" => return Err(TrackRefusal::Virtual { table: name }),
        _ => {}
    }
    let (columns, key_columns) = read_columns(conn, &name)?;
    for n in &key_columns {
        let collation = collation_of(conn, &name, &columns[*n].name)?;
        if Collation::from_name(&collation).is_none() {
            return Err(TrackRefusal::UnknownCollation { table: name, collation });
        }
    }
    let bad = |n: &str| n.is_empty() || n.len() > 128 || n.chars().any(char::is_control);
    if bad(&name) || columns.iter().any(|c| bad(&c.name)) {
        return Err(TrackRefusal::BadName { table: name });
    }
    if columns.len() > COLUMNS_MAX {
        return Err(TrackRefusal::TooManyColumns { table: name, columns: columns.len() });
    }
    if key_columns.is_empty() {
        return Err(TrackRefusal::NoPrimaryKey { table: name });
    }
    let (unique, has_key_index) = read_unique(conn, &name, &columns)?;
    let rowid = !without_rowid
        && !has_key_index
        && key_columns.len() == 1
        && columns[key_columns[0]].declared_type.eq_ignore_ascii_case("INTEGER");
    let key = if rowid { TableKey::Rowid(key_columns[0]) } else { TableKey::Columns(key_columns) };
    let foreign_keys = read_foreign_keys(conn, &name, &columns)?;
    Ok(Table { name, columns, key, without_rowid, strict, unique, foreign_keys })
}

/// What becomes of rows whose numbers other rows have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// They get others.
    Moves,
    /// They keep them.
    Keeps,
    /// The same, since their table and others refer to each other.
    Circle,
}

fn first_contact(table: &str, numbering: Numbering) -> String {
    let otherwise = match numbering {
        Numbering::Moves => {
            "`--renumber-mine` gives it another number, with all that refers to it; with `--prefer local` it shows"
        }
        Numbering::Keeps | Numbering::Circle => "With `--prefer local` it shows",
    };
    format!(
        "{table} has rows: one whose number another row has at the server is kept beside that as a conflict, and the server's \
         shows. {otherwise}"
    )
}

/// What may surprise a user of this table.
pub(crate) fn notes(
    conn: &Connection,
    table: &Table,
    numbering: Numbering,
) -> Result<Vec<TrackNote>, StoreError> {
    let mut notes = vec![];
    let mut note = |kind, text| notes.push(TrackNote { kind, text });
    if let TableKey::Rowid(n) = table.key {
        let (kind, clash) = match numbering {
            Numbering::Moves => (
                NoteKind::IntegerKey,
                "the later row gets another, and declared references to it follow. `--ref` names others; numbers in JSON or URLs \
                 do not follow",
            ),
            Numbering::Keeps => (
                NoteKind::KeptNumbers,
                "one row shows and the other is kept beside it as a conflict; references by that number mean the one that shows",
            ),
            Numbering::Circle => (
                NoteKind::KeptNumbers,
                "one row shows and the other is kept beside it as a conflict, for it and other tables refer to each other in a \
                 circle; references by that number mean the one that shows",
            ),
        };
        let text = format!(
            "{}.{} is an INTEGER PRIMARY KEY: where two machines give out one number offline, {clash}",
            table.name, table.columns[n].name
        );
        note(kind, text);
        let sql = format!("SELECT 1 FROM {} LIMIT 1", quote(&table.name));
        if conn.prepare(&sql)?.exists([])? {
            note(NoteKind::FirstContact, first_contact(&table.name, numbering));
        }
    }
    match null_keys(conn, table)? {
        0 => {}
        1 => note(
            NoteKind::NullKeys,
            format!("{}: 1 row has NULL in its primary key and does not sync", table.name),
        ),
        n => note(
            NoteKind::NullKeys,
            format!("{}: {n} rows have NULL in their primary key and do not sync", table.name),
        ),
    }
    for unique in table.unique.iter().filter(|u| u.partial.is_some()) {
        let mut text = format!(
            "the UNIQUE index {} is partial, or over expressions or generated columns: it is enforced on this machine alone",
            unique.index
        );
        if triggers::is_never_used(conn, table, unique)? {
            text += ". SQLite cannot use it as its WHERE is written, so that each insert into the tracked table reads the whole \
                     table: write constants on the right (`deleted = 0`, not `0 = deleted`)";
        }
        note(NoteKind::LocalIndex, text);
    }
    for foreign in &table.foreign_keys {
        if !table_exists(conn, &foreign.parent_table)? {
            let text = format!(
                "{} refers to {}, which is not in this file: that is not checked",
                table.name, foreign.parent_table
            );
            note(NoteKind::NoParent, text);
        }
        for column in foreign.columns.iter().map(|n| &table.columns[*n]).filter(|c| c.generated) {
            let (table, name, parent) = (&table.name, &column.name, &foreign.parent_table);
            let text = format!(
                "{table}.{name} refers to {parent} and is generated: it cannot follow a row of {parent} that gets another \
                 number, and {parent} stops then until no row written here refers to such a row by it"
            );
            note(NoteKind::GeneratedReference, text);
        }
    }
    Ok(notes)
}

/// How many rows have NULL in their primary key, which SQLite allows in most tables. They name no row on another machine.
pub(crate) fn null_keys(conn: &Connection, table: &Table) -> Result<u64, StoreError> {
    if table.without_rowid || matches!(table.key, TableKey::Rowid(_)) {
        return Ok(0);
    }
    let nullable = table.key_columns().into_iter().filter(|n| !table.columns[*n].not_null);
    let terms: Vec<_> = nullable.map(|n| format!("{} IS NULL", quote(&table.columns[n].name))).collect();
    if terms.is_empty() {
        return Ok(0);
    }
    let sql = format!("SELECT count(*) FROM {} WHERE {}", quote(&table.name), terms.join(" OR "));
    Ok(conn.query_row(&sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

fn is_similar(a: &str, b: &str) -> bool {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let shared = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    let tail = a.chars().rev().zip(b.chars().rev()).take_while(|(x, y)| x == y).count();
    (shared + tail) * 3 >= a.len().max(b.len()) * 2
}

/// The columns of a table, and the places of those of its primary key.
pub(super) fn read_columns(conn: &Connection, table: &str) -> Result<(Vec<Column>, Vec<usize>), StoreError> {
    let sql =
        "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid";
    let mut stmt = conn.prepare_cached(sql)?;
    let mut rows = stmt.query([table])?;
    let (mut columns, mut key) = (vec![], vec![]);
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let default: Option<String> = row.get(3)?;
        let place: i64 = row.get(4)?;
        if place > 0 {
            key.push((place, columns.len()));
        }
        let collation = collation_of(conn, table, &name)?;
        columns.push(Column {
            collation: Collation::from_name(&collation).unwrap_or(Collation::Binary),
            declared_type: row.get(1)?,
            not_null: row.get(2)?,
            default: default.map_or(Default::None, |text| read_default(&text)),
            generated: row.get::<_, i64>(5)? > 1,
            merge: Merge::Register,
            name,
        });
    }
    key.sort_unstable();
    Ok((columns, key.into_iter().map(|(_, n)| n).collect()))
}

fn collation_of(conn: &Connection, table: &str, column: &str) -> Result<String, StoreError> {
    let meta = conn.column_metadata(Some("main"), table, column);
    let name =
        meta.ok().and_then(|(_, collation, _, _, _)| collation.map(|c| c.to_string_lossy().into_owned()));
    Ok(name.unwrap_or_else(|| "BINARY".to_owned()))
}

/// The UNIQUE indexes, and whether the primary key has an index. The primary key's own is among them only where it
/// calls more texts equal than its columns do.
fn read_unique(
    conn: &Connection,
    table: &str,
    columns: &[Column],
) -> Result<(Vec<Unique>, bool), TrackRefusal> {
    let sql = "SELECT name, origin, partial FROM pragma_index_list(?) WHERE \"unique\" ORDER BY name";
    let mut stmt = conn.prepare_cached(sql)?;
    let mut rows = stmt.query([table])?;
    let (mut unique, mut has_key_index) = (vec![], false);
    while let Some(row) = rows.next()? {
        let (index, origin, partial): (String, String, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let mut terms = vec![];
        let mut stmt =
            conn.prepare_cached("SELECT cid, coll FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno")?;
        let mut rows = stmt.query([&index])?;
        while let Some(term) = rows.next()? {
            let (place, collation): (i64, String) = (term.get(0)?, term.get(1)?);
            if Collation::from_name(&collation).is_none() {
                return Err(TrackRefusal::UnknownCollation { table: table.to_owned(), collation });
            }
            terms.push(UniqueTerm { column: usize::try_from(place).ok(), collation });
        }
        let column = |term: &UniqueTerm| term.column.and_then(|n| columns.get(n));
        let as_column =
            |t: &UniqueTerm| column(t).is_some_and(|c| c.collation.name().eq_ignore_ascii_case(&t.collation));
        if origin == "pk" {
            has_key_index = true;
            if terms.iter().all(as_column) {
                continue;
            }
        }
        // Only this replica has generated columns.
        let local = partial || terms.iter().any(|t| column(t).is_none_or(|c| c.generated));
        let partial = match local {
            true => Some(index_sql(conn, &index)?),
            false => None,
        };
        unique.push(Unique { index, columns: terms, constraint: origin != "c", partial });
    }
    Ok((unique, has_key_index))
}

fn index_sql(conn: &Connection, index: &str) -> Result<String, StoreError> {
    let sql = "SELECT sql FROM sqlite_master WHERE type = 'index' AND name = ?";
    let text = conn.query_row(sql, [index], |row| row.get::<_, Option<String>>(0)).optional()?;
    Ok(text.flatten().unwrap_or_default())
}

/// The foreign keys of a table that say, or whose parents say, to which columns they are.
pub(super) fn read_foreign_keys(
    conn: &Connection,
    table: &str,
    columns: &[Column],
) -> Result<Vec<ForeignKey>, StoreError> {
    let sql = "SELECT id, \"table\", \"from\", \"to\", on_delete, on_update FROM pragma_foreign_key_list(?) ORDER BY id, seq";
    let mut stmt = conn.prepare_cached(sql)?;
    let mut rows = stmt.query([table])?;
    let mut found: Vec<(i64, ForeignKey)> = vec![];
    while let Some(row) = rows.next()? {
        let (id, parent, from, to): (i64, String, String, Option<String>) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        if found.last().is_none_or(|(last, _)| *last != id) {
            let foreign = ForeignKey {
                columns: vec![],
                number: usize::try_from(id).unwrap_or_default(),
                parent_table: parent.clone(),
                parent_columns: vec![],
                on_delete: row.get(4)?,
                on_update: row.get(5)?,
                kept: true,
            };
            found.push((id, foreign));
        }
        let Some((_, foreign)) = found.last_mut() else { continue };
        foreign.columns.extend(columns.iter().position(|c| c.name.eq_ignore_ascii_case(&from)));
        foreign.parent_columns.extend(to);
    }
    for (_, foreign) in &mut found {
        if foreign.parent_columns.is_empty() {
            let sql = "SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk";
            let mut stmt = conn.prepare_cached(sql)?;
            let names = stmt.query_map([&foreign.parent_table], |row| row.get(0))?;
            foreign.parent_columns = names.collect::<Result<_, _>>()?;
        }
    }
    // A foreign key that does not say to which columns, of a table that is not there, cannot be checked.
    let whole = |f: &ForeignKey| !f.columns.is_empty() && f.columns.len() == f.parent_columns.len();
    Ok(found.into_iter().map(|(_, f)| f).filter(whole).collect())
}

/// A default as the schema spells it.
fn read_default(text: &str) -> Default {
    let text = text.trim();
    match (Now::from_name(text), read_literal(text)) {
        (Some(now), _) => Default::Now(now),
        (None, Some(value)) => Default::Literal(value),
        // SQLite takes a name for a text here, with quotes or without.
        (None, None) => index_terms::single_name(text)
            .map_or(Default::Expression, |name| Default::Literal(Value::Text(name))),
    }
}

/// A literal: NULL, TRUE, FALSE, a number, 'text' or x'blob'.
pub(crate) fn read_literal(text: &str) -> Option<Value> {
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "NULL" => return Some(Value::Null),
        "TRUE" => return Some(Value::Integer(1)),
        "FALSE" => return Some(Value::Integer(0)),
        _ => {}
    }
    if let Some(hex) = upper.strip_prefix("X'").and_then(|t| t.strip_suffix('\'')) {
        let digits = hex.as_bytes();
        let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok();
        let even = digits.len().is_multiple_of(2);
        return even.then(|| digits.chunks(2).map(pair).collect::<Option<_>>())?.map(Value::Blob);
    }
    if let Some(inner) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
        let plain = inner.replace("''", "\u{0}");
        return (!plain.contains('\'')).then(|| Value::Text(plain.replace('\u{0}', "'")));
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    if !numeric {
        return None;
    }
    let number = text.strip_prefix('+').unwrap_or(text);
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest.trim_start()));
    let number = format!("{sign}{digits}");
    if let Some(hex) = upper_prefix(digits, "0X") {
        // Sixty-four bits, as SQLite reads them.
        let bits = u64::from_str_radix(hex, 16).ok()? as i64;
        return Some(Value::Integer(if sign.is_empty() { bits } else { bits.checked_neg()? }));
    }
    if let Ok(i) = number.parse::<i64>() {
        return Some(Value::Integer(i));
    }
    number.parse::<f64>().ok().filter(|f| f.is_finite()).map(Value::Real)
}

/// What follows a prefix, whatever the case of its letters.
fn upper_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// A literal as SQL spells it.
pub(crate) fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Integer(i) => i.to_string(),
        Value::Real(f) => format!("{f:?}"),
        Value::Text(s) => format!("'{}'", s.replace('\'', "''")),
        Value::Blob(b) | Value::RawText(b) => {
            format!("x'{}'", b.iter().map(|b| format!("{b:02x}")).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sql: &str, name: &str) -> Result<Table, TrackRefusal> {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(sql).unwrap();
        read_table(&conn, name)
    }

    #[test]
    fn only_an_integer_primary_key_is_the_rowid() {
        let key = |sql| read(sql, "t").unwrap().key;
        assert_eq!(key("CREATE TABLE t(a, id INTEGER PRIMARY KEY)"), TableKey::Rowid(1));
        assert_eq!(key("CREATE TABLE t(id INT PRIMARY KEY)"), TableKey::Columns(vec![0]));
        assert_eq!(key("CREATE TABLE t(id INTEGER PRIMARY KEY DESC)"), TableKey::Columns(vec![0]));
        assert_eq!(key("CREATE TABLE t(a, b, PRIMARY KEY (b, a))"), TableKey::Columns(vec![1, 0]));
        assert_eq!(key("CREATE TABLE t(id INTEGER PRIMARY KEY) WITHOUT ROWID"), TableKey::Columns(vec![0]));
    }

    #[test]
    fn defaults_are_literals_or_expressions() {
        let table = read(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, a DEFAULT -1, b DEFAULT 'it''s', c DEFAULT x'00ff',
             d DEFAULT 1.5, e DEFAULT CURRENT_TIMESTAMP, f DEFAULT (1 + 1), g DEFAULT TRUE, h,
             i DEFAULT \"double\", j DEFAULT bare, k DEFAULT '', l DEFAULT \"\", m DEFAULT - 0x10, n DEFAULT ('in'))",
            "t",
        )
        .unwrap();
        let defaults: Vec<_> = table.columns[1..].iter().map(|c| c.default.clone()).collect();
        let literal = Default::Literal;
        assert_eq!(
            defaults,
            [
                literal(Value::Integer(-1)),
                literal(Value::Text("it's".into())),
                literal(Value::Blob(vec![0, 255])),
                literal(Value::Real(1.5)),
                Default::Now(Now::Timestamp),
                Default::Expression,
                literal(Value::Integer(1)),
                Default::None,
                literal(Value::Text("double".into())),
                literal(Value::Text("bare".into())),
                literal(Value::Text(String::new())),
                literal(Value::Text(String::new())),
                literal(Value::Integer(-16)),
                literal(Value::Text("in".into()))
            ]
        );
    }

    #[test]
    fn generated_columns_collations_and_foreign_keys_are_seen() {
        let table = read(
            "CREATE TABLE p(id INTEGER PRIMARY KEY);
             CREATE TABLE t(id TEXT COLLATE NOCASE PRIMARY KEY, a INT, b AS (a + 1), c AS (a) STORED,
               p REFERENCES p ON DELETE CASCADE, UNIQUE (a, p)) STRICT, WITHOUT ROWID;"
                .replace("STRICT, ", "")
                .as_str(),
            "T",
        )
        .unwrap();
        assert_eq!(table.columns[0].collation, Collation::NoCase);
        let generated: Vec<_> = table.columns.iter().map(|c| c.generated).collect();
        assert_eq!(generated, [false, false, true, true, false]);
        assert_eq!(table.foreign_keys[0].parent_columns, ["id"]);
        assert_eq!(table.foreign_keys[0].on_delete, "CASCADE");
        assert_eq!(table.unique.len(), 1);
        assert!(table.without_rowid);
    }

    #[test]
    fn the_catalogue_tells_tables_apart_as_sqlite_does() {
        let conn = Connection::open_in_memory().unwrap();
        let sql =
            "CREATE TABLE Ärzte(id INTEGER PRIMARY KEY); CREATE TABLE ärzte(a, b); CREATE TABLE Other(a);
                   CREATE TRIGGER mine AFTER INSERT ON Ärzte BEGIN SELECT 1; END";
        conn.execute_batch(sql).unwrap();
        let all = Catalogue::read(&conn).unwrap();
        let known = [all.of("Ärzte"), all.of("ärzte"), all.of("oTHER")].map(|seen| seen.fingerprint);
        assert!(!known.contains(&0) && known[0] != known[1]);
        assert!(all.of("Ärzte").app_triggers && !all.of("ärzte").app_triggers);
        let one = Catalogue::read_of(&conn, |table| table == "other").unwrap();
        assert_eq!([one.of("Other").fingerprint, one.of("Ärzte").fingerprint], [known[2], 0]);
    }

    #[test]
    fn what_cannot_be_tracked_is_refused_with_a_way_out() {
        let schema =
            "CREATE TABLE orders(a); CREATE VIEW v AS SELECT 1; CREATE VIRTUAL TABLE f USING fts5(a);";
        let refusal = |name| read(schema, name).unwrap_err();
        assert!(matches!(refusal("orders"), TrackRefusal::NoPrimaryKey { .. }));
        assert!(matches!(refusal("v"), TrackRefusal::View { .. }));
        assert!(matches!(refusal("f"), TrackRefusal::Virtual { .. }));
        assert!(matches!(refusal("f_data"), TrackRefusal::Virtual { .. }));
        assert!(matches!(refusal("sqlite_master"), TrackRefusal::Internal { .. }));
        assert_eq!(refusal("order").hint().unwrap(), "did you mean orders?");
        assert!(refusal("orders").hint().unwrap().contains("PRIMARY KEY"));
    }
}
