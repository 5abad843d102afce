//! Rights: what each device may do, as this process has read it, and who is told when that changes.
//!
//! They stand in `supervisor.db`, which commands write too; `Supervisor::look` notices that. Connections ask here, or are
//! told; none of them looks into the file.

use piecewise_core::grant::Grant;
use piecewise_core::id::PeerId;
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// Grants of devices that are not revoked.
type ByPeer = HashMap<PeerId, Arc<[Grant]>>;

const SELECT: &str = "SELECT g.key, g.pattern || '=' || g.access FROM grants g JOIN peers p USING (key)
                      WHERE p.revoked IS NULL";

/// What each device may do.
#[derive(Debug)]
pub(crate) struct Rights {
    grants: RwLock<ByPeer>,
    changes: watch::Sender<()>,
}

impl Default for Rights {
    fn default() -> Self {
        Self { grants: RwLock::default(), changes: watch::Sender::new(()) }
    }
}

impl Rights {
    /// What a device may do; nothing if it is unknown or revoked.
    pub(crate) fn of(&self, peer: &PeerId) -> Arc<[Grant]> {
        self.grants.read().unwrap_or_else(PoisonError::into_inner).get(peer).cloned().unwrap_or_default()
    }

    /// Hears whenever the rights of a device that had some have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Reads those of all devices.
    pub(crate) fn read(&self, conn: &Connection) -> Result<(), rusqlite::Error> {
        let mut stmt = conn.prepare_cached(SELECT)?;
        let mut rows = stmt.query([])?;
        let mut grants: HashMap<PeerId, Vec<Grant>> = HashMap::new();
        while let Some(row) = rows.next()? {
            if let Ok(grant) = row.get_ref(1)?.as_str()?.parse() {
                grants.entry(PeerId(row.get(0)?)).or_default().push(grant);
            }
        }
        let grants = grants.into_iter().map(|(peer, grants)| (peer, grants.into())).collect();
        self.change(|all| {
            let before = std::mem::replace(all, grants);
            before.iter().any(|(peer, grants)| all.get(peer) != Some(grants))
        });
        Ok(())
    }

    /// Reads those of one device.
    pub(crate) fn read_of(&self, conn: &Connection, peer: &PeerId) -> Result<(), rusqlite::Error> {
        let mut stmt = conn.prepare_cached(&format!("{SELECT} AND g.key = ?"))?;
        let texts: Vec<String> =
            stmt.query_map([peer.0], |row| row.get(1))?.collect::<Result<_, rusqlite::Error>>()?;
        let grants: Arc<[Grant]> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        self.change(|all| match grants.is_empty() {
            true => all.remove(peer).is_some(),
            false => all.insert(*peer, grants.clone()).is_some_and(|before| before != grants),
        });
        Ok(())
    }

    /// Since they cannot be read, nobody may do anything.
    pub(crate) fn clear(&self) {
        self.change(|all| !std::mem::take(all).is_empty());
    }

    fn change(&self, change: impl FnOnce(&mut ByPeer) -> bool) {
        if change(&mut self.grants.write().unwrap_or_else(PoisonError::into_inner)) {
            self.changes.send_replace(());
        }
    }
}
