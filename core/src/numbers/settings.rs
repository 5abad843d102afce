//! Settings: tables that keep their numbers, and references that no schema declares. They are part of the description.

use crate::change::Merge;
use crate::description::{self, Description};
use crate::id::Timestamp;
use crate::key::RowKey;
use crate::replica::{ColumnBinding, Replica, ReplicaError, Scan, TrackOptions};
use crate::store::schema::{self, TrackRefusal};
use crate::store::{StoreError, layout};
use crate::table::{ForeignKey, Table};
use crate::value::Value;
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};

/// The entry of a table whose rows keep their numbers.
const KEEP: &str = "keep-numbers";
/// What an entry of a reference begins with.
const REFERENCE: &str = "ref ";
/// What a line of this file begins with that tells of a foreign key elsewhere. The description has an entry of its own for it.
const FOREIGN: &str = "foreign ";

/// How the rows of a table are numbered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Whether they keep their numbers although other rows have them.
    pub(crate) keeps: bool,
    /// References that no schema declares, as `description::read_reference` reads them.
    pub(crate) references: BTreeSet<String>,
    /// Foreign keys that the description has and the schema here does not, in the same form.
    pub(crate) foreign: BTreeSet<String>,
}

impl Settings {
    /// Those that are asked for when a table is tracked.
    pub(crate) fn of(table: &Table, options: &TrackOptions) -> Result<Self, ReplicaError> {
        let mut settings = Self { keeps: options.keep_numbers, ..Self::default() };
        for reference in &options.references {
            let named = |c: &&crate::table::Column| c.name.eq_ignore_ascii_case(&reference.column);
            let Some(column) = table.columns.iter().find(named) else {
                let what = format!("column {}.{}", table.name, reference.column);
                return Err(ReplicaError::NotFound { what });
            };
            let text = description::reference_text(
                std::slice::from_ref(&column.name),
                &reference.parent,
                std::slice::from_ref(&reference.parent_column),
            );
            settings.references.insert(text);
        }
        Ok(settings)
    }

    /// The references, in the table as it is now. `name` gives a column's name from its key in documents.
    pub(crate) fn foreign_keys(&self, table: &Table, columns: &[ColumnBinding]) -> Vec<ForeignKey> {
        let place = |key: &String| {
            let name = columns.iter().find(|c| c.key == *key).map_or(key, |c| &c.name);
            table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name))
        };
        let foreign = |text: &String| {
            let (columns, parent_table, parent_columns) = description::read_reference(text)?;
            Some(ForeignKey {
                number: 0,
                columns: columns.iter().map(place).collect::<Option<_>>()?,
                parent_table,
                parent_columns,
                on_delete: "NO ACTION".into(),
                on_update: "NO ACTION".into(),
                kept: false,
            })
        };
        let is_declared = |foreign: &ForeignKey| {
            let same = |declared: &ForeignKey| {
                declared.columns == foreign.columns
                    && declared.parent_table.eq_ignore_ascii_case(&foreign.parent_table)
            };
            table.foreign_keys.iter().any(same)
        };
        let all = self.references.iter().chain(&self.foreign).filter_map(foreign);
        all.filter(|foreign| !is_declared(foreign)).collect()
    }

    /// The entries by which the description says so.
    pub(crate) fn entries(&self) -> Vec<(String, Value)> {
        let keep = self.keeps.then(|| KEEP.to_owned());
        let references = self.references.iter().map(|text| format!("{REFERENCE}{text}"));
        keep.into_iter().chain(references).map(|key| (key, Value::Text(String::new()))).collect()
    }
}

/// Reads the settings of all containers.
fn read(conn: &Connection) -> Result<BTreeMap<i64, Settings>, StoreError> {
    let mut stmt = conn.prepare_cached("SELECT container, entry FROM piecewise_numbering")?;
    let mut rows = stmt.query([])?;
    let mut found: BTreeMap<i64, Settings> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let settings = found.entry(row.get(0)?).or_default();
        let entry: String = row.get(1)?;
        match entry.strip_prefix(REFERENCE) {
            Some(text) => drop(settings.references.insert(text.to_owned())),
            None => match entry.strip_prefix(FOREIGN) {
                Some(text) => drop(settings.foreign.insert(text.to_owned())),
                None => settings.keeps |= entry == KEEP,
            },
        }
    }
    Ok(found)
}

impl Replica {
    /// Reads what the file says of numbers.
    pub(crate) fn read_numbers(&mut self) -> Result<(), StoreError> {
        let news = std::mem::take(&mut self.numbers.news);
        self.numbers.taken = crate::store::numbers::with_taken(&self.conn)?.into_iter().collect();
        self.numbers.leased = crate::store::leases::all(&self.conn)?;
        self.numbers.settings = read(&self.conn)?;
        self.numbers.news = news;
        Ok(())
    }

    /// How the rows of a container's table are numbered.
    pub(crate) fn settings_of(&self, no: i64) -> &Settings {
        const NONE: &Settings =
            &Settings { keeps: false, references: BTreeSet::new(), foreign: BTreeSet::new() };
        self.numbers.settings.get(&no).unwrap_or(NONE)
    }

    /// Changes how the rows of a container's table are numbered. Returns whether that is new; the table is to be read
    /// again then. Call it in a transaction.
    pub(crate) fn set_numbering(&mut self, no: i64, settings: Settings) -> Result<bool, ReplicaError> {
        if *self.settings_of(no) == settings {
            return Ok(false);
        }
        self.conn.prepare_cached("DELETE FROM piecewise_numbering WHERE container = ?")?.execute([no])?;
        let foreign = settings.foreign.iter().map(|text| format!("{FOREIGN}{text}"));
        for entry in settings.entries().into_iter().map(|(entry, _)| entry).chain(foreign) {
            let sql = "INSERT INTO piecewise_numbering VALUES (?, ?)";
            self.conn.prepare_cached(sql)?.execute((no, entry))?;
        }
        self.numbers.settings.insert(no, settings);
        Ok(true)
    }

    /// Notes whether rows that differ from the server's get other numbers at first contact. Call it in a transaction.
    pub(crate) fn set_renumber_mine(&mut self, no: i64, renumbers: bool) -> Result<(), StoreError> {
        let name = format!("renumber mine {no}");
        if renumbers {
            layout::set_meta(&self.conn, &name, true)
        } else {
            layout::forget_meta(&self.conn, &name)
        }
    }

    /// Whether they do.
    pub(crate) fn renumbers_mine(&self, no: i64) -> Result<bool, StoreError> {
        Ok(layout::meta(&self.conn, &format!("renumber mine {no}"))?.unwrap_or(false))
    }

    /// Notes which numbers SQLite gives to rows that are inserted after tracking began: this one and greater ones. Call it in a
    /// transaction.
    pub(crate) fn set_first_new_number(&mut self, no: i64, first: i64) -> Result<(), StoreError> {
        layout::set_meta(&self.conn, &format!("first new number {no}"), first)
    }

    /// The first of them; None where it was not noted.
    pub(crate) fn first_new_number(&self, no: i64) -> Result<Option<i64>, StoreError> {
        layout::meta(&self.conn, &format!("first new number {no}"))
    }

    /// Takes from a description how rows are numbered. Call it in a transaction.
    pub(crate) fn take_numbering(&mut self, no: i64, described: &Description) -> Result<(), ReplicaError> {
        let mut settings = Settings {
            keeps: described.keeps_numbers(),
            references: described.references().clone(),
            foreign: described.foreign_references(),
        };
        // What `track` was asked for here is not described yet.
        if matches!(self.containers[&no].scan(), Scan::Meet | Scan::Gather | Scan::Join) {
            let asked = self.settings_of(no);
            settings.keeps |= asked.keeps && !described.says_of_numbers();
            settings.references.extend(asked.references.iter().cloned());
        }
        if self.set_numbering(no, settings)? { self.read_user_table(no) } else { Ok(()) }
    }

    /// Writes into the description of a table whether its rows keep their numbers although other rows have them.
    /// Returns whether that is new.
    pub fn keep_numbers(&mut self, now: Timestamp, table: &str, keeps: bool) -> Result<bool, ReplicaError> {
        let no = self.number(table)?;
        self.transaction(|r| {
            let settings = Settings { keeps, ..r.settings_of(no).clone() };
            if !r.set_numbering(no, settings)? {
                return Ok(false);
            }
            let view = r.history.view(&r.conn, no, &RowKey::Description)?;
            if !view.is_live() {
                return Ok(true); // the first description says so
            }
            r.describe_numbers(no, r.corrected(now))?;
            Ok(true)
        })
    }

    /// Whether rows keep their numbers since `track` was asked so here, and the description says nothing of it.
    pub(crate) fn keeps_numbers_unsaid(&self, no: i64, described: &[(String, Value)]) -> bool {
        self.settings_of(no).keeps && !described.iter().any(|(key, _)| key == KEEP)
    }

    /// Writes into the description whether rows keep their numbers. Call it in a transaction, once there is a description.
    pub(crate) fn describe_numbers(&mut self, no: i64, time: Timestamp) -> Result<(), ReplicaError> {
        let says = Value::Text(if self.settings_of(no).keeps { String::new() } else { "no".into() });
        let view = self.history.view(&self.conn, no, &RowKey::Description)?;
        let change = view.decide(&[(KEEP.to_owned(), Merge::Register, says)]);
        self.write_change(no, &RowKey::Description, &change, time)
    }

    /// Refuses a reference to what no row is known by.
    pub(crate) fn check_reference(&self, parent: &str, column: &str) -> Result<(), ReplicaError> {
        let not_found = |what: String| Err(ReplicaError::NotFound { what });
        let table = match schema::read_known_table(&self.conn, self.kinds()?, parent) {
            Ok(table) => table,
            Err(TrackRefusal::Store(error)) => return Err(error.into()),
            Err(_) => return not_found(format!("table {parent} with a key that rows can be named by")),
        };
        let Some(n) = table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(column)) else {
            return not_found(format!("column {parent}.{column}"));
        };
        match table.key_columns().contains(&n) {
            true => Ok(()),
            false => not_found(format!("column {column} in the primary key of {parent}")),
        }
    }

    /// Writes into the description of a table that some of its columns name rows of another by the key. Returns whether that is
    /// new.
    pub fn add_reference(
        &mut self,
        now: Timestamp,
        table: &str,
        column: &str,
        parent: &str,
        parent_column: &str,
    ) -> Result<bool, ReplicaError> {
        let no = self.number(table)?;
        self.transaction(|r| {
            r.check_reference(parent, parent_column)?;
            let mut settings = r.settings_of(no).clone();
            let state = &r.containers[&no];
            let binding = state.columns.iter().find(|c| c.name.eq_ignore_ascii_case(column));
            let Some(key) = binding.map(|binding| binding.key.clone()) else {
                return Err(ReplicaError::NotFound { what: format!("column {table}.{column}") });
            };
            settings.references.insert(description::reference_text(
                &[key],
                parent,
                &[parent_column.to_owned()],
            ));
            if !r.set_numbering(no, settings)? {
                return Ok(false);
            }
            r.read_user_table(no)?;
            if r.history.view(&r.conn, no, &RowKey::Description)?.is_live() {
                r.describe(no, r.corrected(now))?;
            }
            Ok(true)
        })
    }
}
