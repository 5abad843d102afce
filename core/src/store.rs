//! Store: all SQL. What it reads and writes in the user's file, and nothing else of the disk.
//!
//! `layout`, `upgrade`, `segments`, `documents`, `baselines`, `holds`, `log`, `checks` and `pieces` keep what is ours; `schema`, `extras`,
//! `schema_rows`, `index_terms`, `triggers`, `key_text`, `clauses`, `guard` and `user_table` deal with what is the user's;
//! `busy` waits for other programs' locks.

pub(crate) mod authors;
pub(crate) mod baselines;
pub(crate) mod busy;
pub(crate) mod checks;
pub(crate) mod clauses;
pub(crate) mod documents;
pub(crate) mod extras;
pub(crate) mod guard;
pub(crate) mod holds;
pub(crate) mod index_terms;
pub(crate) mod key_text;
pub(crate) mod layout;
pub(crate) mod leases;
pub(crate) mod log;
pub(crate) mod numbers;
pub(crate) mod other_tables;
pub(crate) mod outbox;
pub(crate) mod pieces;
pub mod schema;
pub(crate) mod schema_rows;
pub(crate) mod segments;
pub(crate) mod triggers;
pub(crate) mod upgrade;
pub(crate) mod user_table;

use crate::bytes::DecodeError;
use crate::id::SegmentId;
use crate::segment::SegmentError;
use rusqlite::ErrorCode;

/// Why the file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite.
    #[error("{}", sqlite_message(.0))]
    Sqlite(#[source] rusqlite::Error),
    /// Our tables were made by a later version.
    #[error("this file was prepared by another version of piecewise (format {found})")]
    UnknownFormat {
        /// The format found.
        found: i64,
    },
    /// Our tables hold something that we never write.
    #[error("the sync data in this file is damaged: {what}")]
    Damaged {
        /// What is damaged.
        what: &'static str,
    },
    /// A segment's frame cannot be read.
    #[error("a segment cannot be read")]
    Decode(#[from] DecodeError),
    /// A segment is not what it should be.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A change in a segment cannot be one of Automerge's.
    #[error("segment {segment} holds an invalid change")]
    BadChange {
        /// The segment.
        segment: SegmentId,
    },
    /// A segment's keys are of another kind than its table's.
    #[error(
        "the table has an INTEGER PRIMARY KEY on one side and a primary key of another kind on the other"
    )]
    WrongKey,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn sqlite_message(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "the file is locked by another program".into()
        }
        Some(ErrorCode::ReadOnly) => "the file cannot be written".into(),
        Some(ErrorCode::DiskFull) => "the disk is full".into(),
        Some(ErrorCode::NotADatabase) => "the file is not a SQLite database".into(),
        Some(ErrorCode::DatabaseCorrupt) => "the file is damaged".into(),
        Some(ErrorCode::CannotOpen) => "the file cannot be opened".into(),
        _ => error.to_string(),
    }
}

impl StoreError {
    /// Whether it may be gone by itself later: a lock, a full disk.
    pub fn may_pass(&self) -> bool {
        use ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure};
        let Self::Sqlite(error) = self else { return false };
        let passing = [DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure];
        error.sqlite_error_code().is_some_and(|code| passing.contains(&code))
    }

    /// Whether it may be gone by itself later if the file was in use before: it is being moved, copied or replaced.
    pub fn may_return(&self) -> bool {
        use ErrorCode::{CannotOpen, NotADatabase, ReadOnly};
        let Self::Sqlite(error) = self else { return false };
        error.sqlite_error_code().is_some_and(|code| [CannotOpen, NotADatabase, ReadOnly].contains(&code))
    }

    /// Whether it is about the whole file, and not about one table in it.
    pub(crate) fn is_of_file(&self) -> bool {
        use ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, FileLockingProtocolFailed,
            NotADatabase, OperationInterrupted, OutOfMemory, PermissionDenied, ReadOnly, SystemIoFailure,
        };
        match self {
            Self::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    CannotOpen
                        | DatabaseBusy
                        | DatabaseCorrupt
                        | DatabaseLocked
                        | DiskFull
                        | FileLockingProtocolFailed
                        | NotADatabase
                        | OperationInterrupted
                        | OutOfMemory
                        | PermissionDenied
                        | ReadOnly
                        | SystemIoFailure
                )
            ),
            Self::UnknownFormat { .. } => true,
            _ => false,
        }
    }

    /// Whether a segment itself is what cannot be stored.
    pub(crate) fn is_poison(&self) -> bool {
        matches!(self, Self::Decode(_) | Self::Segment(_) | Self::BadChange { .. } | Self::WrongKey)
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Sqlite(error) => match error.sqlite_error_code()? {
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                    "end the other program's transaction and try again; nothing was changed"
                }
                ErrorCode::ReadOnly => "give yourself the right to write the file and its folder",
                ErrorCode::DiskFull => "free some space and try again; nothing was changed",
                ErrorCode::NotADatabase => "name a SQLite database file",
                ErrorCode::DatabaseCorrupt => {
                    "keep a copy, then try `sqlite3 FILE .recover`, or clone it anew with `piecewise clone`"
                }
                ErrorCode::CannotOpen => "check that the path exists and may be read",
                _ => return None,
            },
            Self::UnknownFormat { .. } => "use the version of piecewise that prepared it, or a newer one",
            Self::Damaged { .. } => "clone the database anew with `piecewise clone`, and keep this file",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
