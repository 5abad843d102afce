//! Known: what a file of a folder held when it was closed, told without opening it again.
//!
//! It is kept in the home folder, and believed only while the file looks from outside as it did then: any commit changes
//! that. Lost or outdated, it costs opening the file.

use crate::home::Home;
use piecewise_core::survey::Brief;
use piecewise_server::commits::FileState;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// How it looked.
    pub(super) state: FileState,
    /// What it held; None: it takes no part in sync.
    pub(super) part: Option<Part>,
}

/// A file's part in sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) database: String,
    pub(super) realm: [u8; 16],
    /// What stands for all it held; None: nothing.
    pub(super) held: Option<[u8; 16]>,
    /// Whether the server had everything of it, and it everything of the server, when they talked last.
    pub(super) level: bool,
    /// The server's digest at that time, if it differed from ours because the file follows only some tables.
    pub(super) met: Option<[u8; 16]>,
}

impl Part {
    pub(super) fn brief(&self) -> Option<Brief> {
        self.held.map(Brief)
    }

    /// Whether there is nothing to talk of with a server that holds this.
    pub(super) fn is_in_step(&self, theirs: Option<Brief>) -> bool {
        let same = theirs == self.brief() || (theirs.is_some() && theirs == self.met.map(Brief));
        self.level && same
    }
}

/// Where the notes about a folder are kept.
pub(super) fn path(home: &Home, folder: &Path) -> PathBuf {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let hash = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    let name: String = hash[..8].iter().map(|b| format!("{b:02x}")).collect();
    home.folder().join(format!("folder-{name}.json"))
}

/// What was noted; nothing if it cannot be read.
pub(super) fn load(path: &Path) -> BTreeMap<String, Known> {
    let text = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Notes what is known. If that fails, files will be opened to see.
pub(super) fn save(path: &Path, known: &BTreeMap<&str, &Known>) {
    let fresh = path.with_extension("new");
    if let Ok(text) = serde_json::to_vec(known)
        && std::fs::write(&fresh, text).is_ok()
    {
        let _ = std::fs::rename(&fresh, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_in_step_with_what_it_holds_or_what_it_met_and_only_if_it_was_level() {
        let brief = |n: u8| Brief([n; 16]);
        let part = |level| Part {
            database: "d".into(),
            realm: [0; 16],
            held: Some([1; 16]),
            level,
            met: Some([2; 16]),
        };
        assert!(part(true).is_in_step(Some(brief(1))) && part(true).is_in_step(Some(brief(2))));
        assert!(!part(true).is_in_step(Some(brief(3))) && !part(true).is_in_step(None));
        assert!(!part(false).is_in_step(Some(brief(1))));
        let empty = Part { held: None, met: None, ..part(true) };
        assert!(empty.is_in_step(None) && !empty.is_in_step(Some(brief(1))));
    }
}
