//! Access: who may look at the status page.
//!
//! A link holds a secret that opens once, within minutes; the browser gets another in its place, in a cookie that scripts
//! cannot read and other sites cannot send. Only hashes of both are kept. Each stands for a peer, and each look asks what that peer
//! administers now: nothing is left of it once the grant or the peer is revoked.

use super::to_hex;
use crate::report::administers_any;
use crate::supervisor::{Supervisor, SupervisorError};
use piecewise_core::grant::Grant;
use piecewise_core::id::{PeerId, Timestamp};
use rusqlite::{OptionalExtension, params};
use sha2::{Digest, Sha256};
use std::sync::Arc;

pub(crate) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS status_access(
  hash BLOB PRIMARY KEY, peer BLOB NOT NULL, is_link INTEGER NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID;
";

/// How long a link waits to be opened.
const LINK_MS: u64 = 5 * 60_000;
/// How long a browser may look.
pub(super) const LOOK_MS: u64 = 12 * 3_600_000;
/// Links and browsers of one peer at once; the oldest goes.
const PER_PEER: i64 = 8;

/// The secret of a link to the status page.
#[derive(Debug, Clone, Copy)]
pub struct StatusLink([u8; 32]);

impl StatusLink {
    /// The link, for a server that devices reach at this address. Browsers send what is behind the # to nobody.
    pub fn url(&self, address: &str) -> String {
        link_url(address, &self.0)
    }
}

/// The link to the status page of a server at an address of WebSockets.
pub fn link_url(address: &str, secret: &[u8; 32]) -> String {
    let base = address.trim_end_matches('/');
    let base = match base.strip_prefix("ws") {
        Some(rest) => format!("http{rest}"),
        None => base.to_owned(),
    };
    format!("{base}/status#{}", to_hex(secret))
}

fn hash(secret: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(b"piecewise status access\0").chain_update(secret).finalize().into()
}

impl Supervisor {
    /// Makes a link for a peer, from a secret that cannot be guessed.
    pub fn status_link(
        &self,
        peer: &PeerId,
        secret: [u8; 32],
        now: Timestamp,
    ) -> Result<StatusLink, SupervisorError> {
        self.allow_status(peer, &secret, true, Timestamp(now.0 + LINK_MS), now)?;
        Ok(StatusLink(secret))
    }

    /// The secret of a link for a peer who asks; None if it administers nothing.
    pub(crate) fn status_link_for(&self, peer: &PeerId) -> Result<Option<[u8; 32]>, SupervisorError> {
        self.look();
        if !administers_any(&self.grants(peer)) {
            return Ok(None);
        }
        Ok(Some(self.status_link(peer, crate::chance(), crate::now())?.0))
    }

    /// Opens a link, which thereby is used up; false if it is none any more. `secret` is good from then on.
    pub(super) fn status_open(
        &self,
        link: &[u8; 32],
        secret: &[u8; 32],
        now: Timestamp,
    ) -> Result<bool, SupervisorError> {
        let sql = "DELETE FROM status_access WHERE hash = ? AND is_link AND expires > ? RETURNING peer";
        let peer = self
            .state()
            .conn
            .query_row(sql, params![hash(link), now.0 as i64], |row| row.get(0).map(PeerId))
            .optional()?;
        let Some(peer) = peer else { return Ok(false) };
        self.allow_status(&peer, secret, false, Timestamp(now.0 + LOOK_MS), now)?;
        Ok(true)
    }

    /// What the holder of a secret administers now.
    pub(super) fn status_grants(
        &self,
        secret: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<Arc<[Grant]>>, SupervisorError> {
        let sql = "SELECT peer FROM status_access WHERE hash = ? AND NOT is_link AND expires > ?";
        let found = |state: &crate::supervisor::State| {
            let mut stmt = state.conn.prepare_cached(sql)?;
            stmt.query_row(params![hash(secret), now.0 as i64], |row| row.get(0).map(PeerId)).optional()
        };
        let peer = found(&self.state())?;
        self.look();
        Ok(peer.map(|peer| self.grants(&peer)).filter(|grants| administers_any(grants)))
    }

    fn allow_status(
        &self,
        peer: &PeerId,
        secret: &[u8; 32],
        is_link: bool,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<(), SupervisorError> {
        let mut state = self.state();
        let tx = state.conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        tx.execute("DELETE FROM status_access WHERE expires <= ?", [now.0 as i64])?;
        tx.execute(
            "DELETE FROM status_access WHERE hash IN (SELECT hash FROM status_access
               WHERE peer = ?1 AND is_link = ?2 ORDER BY expires DESC LIMIT -1 OFFSET ?3)",
            params![peer.0, is_link, PER_PEER - 1],
        )?;
        tx.execute(
            "INSERT INTO status_access VALUES (?, ?, ?, ?)",
            params![hash(secret), peer.0, is_link, expires.0 as i64],
        )?;
        Ok(tx.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn with_admin(grant: &str) -> (tempfile::TempDir, Supervisor, PeerId) {
        let folder = tempfile::tempdir().expect("a folder");
        let supervisor = Supervisor::open(folder.path()).expect("it opens");
        let grants = [grant.parse().expect("a grant")];
        let late = Timestamp(NOW.0 + 10);
        let invite = supervisor.invite(&grants, "ws://x", [1; 32], NOW, late).expect("an invite");
        let peer = PeerId([1; 32]);
        let admitted = supervisor.admit(&peer, "", Some(invite.secret_hash()), NOW).expect("an answer");
        admitted.expect("it is let in");
        (folder, supervisor, peer)
    }

    #[test]
    fn a_link_opens_once_and_not_after_five_minutes() {
        let (_folder, supervisor, peer) = with_admin("shop/*=admin");
        let open = |link: [u8; 32], now| supervisor.status_open(&link, &[9; 32], now).expect("an answer");
        supervisor.status_link(&peer, [2; 32], NOW).expect("a link");
        supervisor.status_link(&peer, [3; 32], NOW).expect("a link");
        assert!(!open([4; 32], NOW));
        assert!(open([2; 32], NOW));
        assert!(!open([2; 32], NOW));
        assert!(!open([3; 32], Timestamp(NOW.0 + LINK_MS)));
    }

    #[test]
    fn whoever_loses_the_grant_sees_nothing_from_then_on() {
        let (_folder, supervisor, peer) = with_admin("shop/*=admin");
        supervisor.status_link(&peer, [2; 32], NOW).expect("a link");
        assert!(supervisor.status_open(&[2; 32], &[9; 32], NOW).expect("an answer"));
        let sees =
            |secret: [u8; 32], now| supervisor.status_grants(&secret, now).expect("an answer").is_some();
        assert!(sees([9; 32], NOW) && !sees([2; 32], NOW) && !sees([8; 32], NOW));
        assert!(!sees([9; 32], Timestamp(NOW.0 + LOOK_MS)));
        supervisor.grant(&peer, &"shop/*=write".parse().expect("a grant"), None, NOW).expect("it is changed");
        assert!(!sees([9; 32], NOW));
        assert_eq!(supervisor.status_link_for(&peer).expect("an answer"), None);
    }

    #[test]
    fn an_address_of_websockets_becomes_one_of_pages() {
        assert!(link_url("ws://127.0.0.1:7171", &[0; 32]).starts_with("http://127.0.0.1:7171/status#0000"));
        assert!(link_url("wss://example.org/", &[0; 32]).starts_with("https://example.org/status#0000"));
    }
}
