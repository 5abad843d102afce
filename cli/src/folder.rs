//! Folder: one SQLite file for each database, all of one server.
//!
//! `piecewise.toml` in it says which databases it follows; without that file it is a set of files that were tracked.
//! `known` remembers what each file held, `talk` is one file that is open, `fleet` all of them; `voyage` brings them and one
//! connection together.

pub(crate) mod fleet;
mod known;
mod opening;
mod talk;
pub(crate) mod voyage;
pub(crate) mod writes;

use crate::home::{Home, KnownServer};
use crate::report::{Failure, code};
use piecewise_core::survey::Pattern;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const SETTINGS: &str = "piecewise.toml";
/// What the names of SQLite files end with; the first is that of files made here.
const ENDINGS: [&str; 3] = [".db", ".sqlite", ".sqlite3"];

/// A folder of databases.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    settings: Settings,
}

/// What stands in `piecewise.toml`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Settings {
    /// Databases of the server that shall have a file here: names, in which * stands for any run of characters.
    #[serde(default)]
    follow: Vec<String>,
    /// The server's realm, in hexadecimal.
    realm: Option<String>,
}

impl Folder {
    /// A folder that exists.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file = path.join(SETTINGS);
        let settings = match std::fs::read_to_string(&file) {
            Ok(text) => toml::from_str(&text).map_err(|e| {
                Failure::new(format!("{} cannot be read: {}", file.display(), e.message()))
                    .hint("it says which databases the folder follows: follow = [\"tenant*\"]")
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Settings::default(),
            Err(error) => return Err(io_failure(&file, &error)),
        };
        let folder = Self { path: path.to_owned(), settings };
        folder.patterns()?;
        Ok(folder)
    }

    /// Follows databases from now on; makes the folder if need be.
    pub(crate) fn follow(path: &Path, pattern: &Pattern, server: &KnownServer) -> Result<Self, Failure> {
        std::fs::create_dir_all(path).map_err(|e| io_failure(path, &e))?;
        let mut folder = Self::open(path)?;
        let realm = server.realm().to_string();
        if folder.settings.realm.as_ref().is_some_and(|before| *before != realm) {
            return Err(Failure::new(format!("{} belongs to another server", path.display()))
                .hint("use a new folder")
                .code(code::WRONG_SERVER));
        }
        folder.settings.realm = Some(realm);
        if !folder.settings.follow.iter().any(|known| known == pattern.as_str()) {
            folder.settings.follow.push(pattern.to_string());
        }
        folder.patterns()?;
        let text = toml::to_string(&folder.settings).map_err(|e| Failure::new(e.to_string()))?;
        let (file, fresh) = (path.join(SETTINGS), path.join("piecewise.toml.new"));
        let written = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, &file));
        written.map_err(|e| io_failure(&file, &e))?;
        Ok(folder)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The databases that shall have a file here.
    pub(crate) fn patterns(&self) -> Result<Vec<Pattern>, Failure> {
        let most = piecewise_core::survey::PATTERNS_MAX - 1;
        if self.settings.follow.len() > most {
            let file = self.path.join(SETTINGS);
            return Err(Failure::new(format!("{}: at most {most} patterns", file.display())));
        }
        let pattern = |text: &String| text.parse::<Pattern>().map_err(|e| Failure::new(e.to_string()));
        self.settings.follow.iter().map(pattern).collect()
    }

    /// The server that the folder belongs to, if that is settled.
    pub(crate) fn server<'h>(&self, home: &'h Home) -> Result<Option<&'h KnownServer>, Failure> {
        self.settings.realm.as_ref().map(|realm| home.of_realm_named(realm)).transpose()
    }

    /// The names of the SQLite files in it, in order.
    pub(crate) fn files(&self) -> Result<Vec<String>, Failure> {
        let entries = std::fs::read_dir(&self.path).map_err(|e| io_failure(&self.path, &e))?;
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().ok();
        let mut names: Vec<_> = entries.flatten().filter_map(name).filter(|name| is_sqlite(name)).collect();
        names.sort();
        Ok(names)
    }

    /// Whether there is a file for a database that a pattern means.
    pub(crate) fn has_file_of(&self, pattern: &Pattern) -> Result<bool, Failure> {
        Ok(self.files()?.iter().any(|file| pattern.covers(stem(file))))
    }

    /// Where a file of it is.
    pub(crate) fn path_of(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }
}

/// Whether a file of this name counts.
fn is_sqlite(name: &str) -> bool {
    !name.starts_with('.') && ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// The name of the file of a database that comes from the server; None: it cannot be one's.
fn file_for(database: &str) -> Option<String> {
    piecewise_server::databases::is_database_name(database).then(|| format!("{database}{}", ENDINGS[0]))
}

/// The database that a file is of, as its name suggests.
fn stem(file: &str) -> &str {
    ENDINGS.iter().find_map(|ending| file.strip_suffix(ending)).unwrap_or(file)
}

/// The SQLite file that this one is, or whose WAL or journal it is.
fn file_of(written: &str) -> Option<&str> {
    let file = written.strip_suffix("-wal").or(written.strip_suffix("-journal")).unwrap_or(written);
    is_sqlite(file).then_some(file)
}

fn io_failure(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{} cannot be used: {error}", path.display())).code(code::FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_to_a_wal_or_a_journal_are_writes_to_its_file() {
        for written in ["a.db", "a.db-wal", "a.db-journal"] {
            assert_eq!(file_of(written), Some("a.db"));
        }
        for other in ["a.db-shm", "piecewise.toml", ".a.db", "a.txt-wal"] {
            assert_eq!(file_of(other), None, "{other}");
        }
        assert_eq!((stem("shop.sqlite3"), file_for("shop").as_deref()), ("shop", Some("shop.db")));
        assert_eq!(file_for("../shop"), None);
    }
}
