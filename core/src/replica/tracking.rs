//! Tracking: a table begins or ends to take part in sync.

use super::registry::ColumnBinding;
use super::{Replica, ReplicaError, Scan};
use crate::change::Merge;
use crate::container_name::ContainerName;
use crate::store::schema::TrackRefusal;
use crate::store::user_table::quote;
use crate::store::{layout, schema};
use crate::table::{Affinity, Table, TableKey};
use rusqlite::{Connection, ErrorCode};
use std::collections::BTreeSet;

/// How a table is to be tracked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackOptions {
    /// Columns whose concurrent edits merge by character.
    pub text: Vec<String>,
    /// Columns whose concurrent changes add up.
    pub counter: Vec<String>,
    /// Where rows here and at the server differ at first contact, show those from here.
    pub prefer_local: bool,
}

impl Replica {
    /// Begins to track a table: adds triggers to it and a few tables of ours beside it.
    ///
    /// Gives warnings about what may surprise. Its rows go out once the server has been met.
    pub fn track(&mut self, table: &str, options: &TrackOptions) -> Result<Vec<String>, ReplicaError> {
        let mut warnings = vec![];
        self.track_all(&[(table.to_owned(), options.clone())], |_, done| done.map(|w| warnings = w))?;
        Ok(warnings)
    }

    /// Begins to track tables: all of them or, after an error, none.
    ///
    /// `tell` hears of each what to be warned of, or why it cannot be tracked; what it returns as an error ends it all.
    pub fn track_all(
        &mut self,
        tables: &[(String, TrackOptions)],
        mut tell: impl FnMut(&str, Result<Vec<String>, ReplicaError>) -> Result<(), ReplicaError>,
    ) -> Result<(), ReplicaError> {
        let database = self.binding.as_ref().ok_or(ReplicaError::NotBound)?.database.clone();
        self.transaction(|r| {
            let mut begun = BTreeSet::new();
            for (table, options) in tables {
                let warnings = match Plan::new(r, &database, table, options) {
                    Ok(plan) => {
                        let (no, warnings) = r.begin_to_track(plan)?;
                        begun.insert(no);
                        Ok(warnings)
                    }
                    Err(refusal) => Err(refusal),
                };
                tell(table, warnings)?;
            }
            r.install_triggers(&begun)
        })
    }

    /// Its triggers are still to be made.
    fn begin_to_track(&mut self, plan: Plan) -> Result<(i64, Vec<String>), ReplicaError> {
        let Plan { table, name, columns, prefer_local } = plan;
        // What came for it before it had a table comes again, and meets the rows that are here.
        if let Some(no) = self.containers.of_table(&table.name).map(|c| c.no) {
            self.forget_containers(&[no].into())?;
        }
        let integer_keys = matches!(table.key, TableKey::Rowid(_));
        let no = self.add_container(&name, integer_keys, columns, Scan::Meet)?;
        self.set_prefer_local(no, prefer_local)?;
        self.read_user_table(no)?;
        let mut warnings = schema::warnings(&self.conn, &table)?;
        warnings.extend(self.find_unkept(no)?);
        self.exempt_children(no)?;
        Ok((no, warnings))
    }

    /// Ends tracking tables: their rows stay, all that was added for them goes.
    pub fn untrack(&mut self, tables: &[String]) -> Result<(), ReplicaError> {
        let numbers = tables.iter().map(|table| self.number(table)).collect::<Result<_, _>>()?;
        self.transaction(|r| r.remove_containers(&numbers))
    }

    /// Whether the file has our tables.
    pub fn is_prepared(&self) -> Result<bool, ReplicaError> {
        Ok(layout::exists(&self.conn)?)
    }
}

/// A table that can be tracked, and how.
struct Plan {
    table: Table,
    name: ContainerName,
    columns: Vec<ColumnBinding>,
    prefer_local: bool,
}

impl Plan {
    fn new(
        replica: &Replica,
        database: &str,
        table: &str,
        options: &TrackOptions,
    ) -> Result<Self, ReplicaError> {
        let table = schema::read_known_table(&replica.conn, replica.kinds()?, table)?;
        if replica.containers.of_table(&table.name).is_some_and(|c| c.has_table()) {
            return Err(ReplicaError::AlreadyTracked { table: table.name });
        }
        check_writable(&replica.conn, &table)?;
        let columns = bindings(&table, options)?;
        let name = format!("{database}/{}", table.name);
        let name = ContainerName::parse(&name).map_err(|_| ReplicaError::BadName { name })?;
        Ok(Self { table, name, columns, prefer_local: options.prefer_local })
    }
}

/// Refuses a table that this program cannot write, such as one with a function in a CHECK that its application made.
fn check_writable(conn: &Connection, table: &Table) -> Result<(), TrackRefusal> {
    let name = quote(&table.name);
    let column = quote(&table.columns[table.key_columns()[0]].name);
    for sql in [
        format!("INSERT INTO {name}({column}) VALUES (?)"),
        format!("UPDATE {name} SET {column} = ?"),
        format!("DELETE FROM {name}"),
    ] {
        match conn.prepare(&sql) {
            Err(rusqlite::Error::SqlInputError { msg: reason, .. }) => {
                return Err(TrackRefusal::NotWritable { table: table.name.clone(), reason });
            }
            Err(rusqlite::Error::SqliteFailure(e, reason)) if e.code == ErrorCode::Unknown => {
                let reason = reason.unwrap_or_else(|| e.to_string());
                return Err(TrackRefusal::NotWritable { table: table.name.clone(), reason });
            }
            prepared => drop(prepared?),
        }
    }
    Ok(())
}

fn bindings(table: &Table, options: &TrackOptions) -> Result<Vec<ColumnBinding>, ReplicaError> {
    let key_columns = match &table.key {
        TableKey::Rowid(n) => vec![*n],
        TableKey::Columns(columns) => columns.clone(),
    };
    let bad = |column: &str, kind, why| ReplicaError::BadMerge {
        table: table.name.clone(),
        column: column.to_owned(),
        kind,
        why,
    };
    let mut bindings: Vec<_> = table
        .columns
        .iter()
        .map(|c| ColumnBinding {
            name: c.name.clone(),
            key: c.name.clone(),
            merge: Merge::Register,
            is_new: false,
        })
        .collect();
    let wanted = options.text.iter().map(|c| (c, Merge::Text, "text"));
    let wanted = wanted.chain(options.counter.iter().map(|c| (c, Merge::Counter, "counter")));
    for (name, merge, kind) in wanted {
        let place = table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
        let place = place.ok_or_else(|| bad(name, kind, "there is no such column"))?;
        if key_columns.contains(&place) {
            return Err(bad(name, kind, "it is part of the primary key"));
        }
        if table.columns[place].generated {
            return Err(bad(name, kind, "it is a generated column"));
        }
        if table.unique.iter().any(|u| u.columns.iter().any(|t| t.column == Some(place))) {
            return Err(bad(name, kind, "it is part of a UNIQUE index"));
        }
        let affinity = table.columns[place].affinity();
        match merge {
            Merge::Text if !matches!(affinity, Affinity::Text | Affinity::Blob) => {
                return Err(bad(name, kind, "it is not declared TEXT"));
            }
            Merge::Counter if !matches!(affinity, Affinity::Integer | Affinity::Numeric | Affinity::Blob) => {
                return Err(bad(name, kind, "it is not declared INTEGER"));
            }
            _ => bindings[place].merge = merge,
        }
    }
    Ok(bindings)
}
