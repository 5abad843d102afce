//! Admission: lets devices in, or not: who was revoked, whose invite is good.
//!
//! Who joins is written down before it is welcomed, which takes as long as the disk does. So a thread of its own decides:
//! connections wait without holding up others, and all that have come meanwhile share one transaction.

use crate::supervisor::{Supervisor, SupervisorError, append};
use piecewise_core::grant::Grant;
use piecewise_core::handshake::RefuseReason;
use piecewise_core::id::{PeerId, Timestamp};
use piecewise_core::supervisor_log::Event;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

/// Applicants in one transaction.
const AT_ONCE: usize = 256;

/// The answer; None: the decision could not be made, which the log tells of.
type Answer = Option<Result<(), RefuseReason>>;

/// Where connections ask.
#[derive(Debug)]
pub(crate) struct Admission(Sender<Request>);

#[derive(Debug)]
struct Request {
    applicant: Applicant,
    answer: oneshot::Sender<Answer>,
}

impl Admission {
    /// Starts the thread; it ends with this.
    pub(crate) fn of(supervisor: Arc<Supervisor>) -> Self {
        let (requests, inbox) = channel();
        std::thread::spawn(move || decide(&supervisor, &inbox));
        Self(requests)
    }

    /// Decides whether a device is let in; an invite is used up in the same step.
    pub(crate) async fn admit(&self, applicant: Applicant) -> Answer {
        let (answer, decided) = oneshot::channel();
        let _ = self.0.send(Request { applicant, answer });
        decided.await.ok().flatten()
    }
}

fn decide(supervisor: &Supervisor, inbox: &Receiver<Request>) {
    while let Ok(first) = inbox.recv() {
        let more = inbox.try_iter().take(AT_ONCE - 1);
        let requests: Vec<_> = std::iter::once(first).chain(more).collect();
        let (applicants, answers): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|request| (request.applicant, request.answer)).unzip();
        // What is found there is what each may do when it comes in: a later change makes it come again.
        supervisor.look();
        match supervisor.admit_all(&applicants, crate::now()) {
            Ok(decisions) => answers.into_iter().zip(decisions).for_each(|(answer, decision)| {
                let _ = answer.send(Some(decision));
            }),
            // Those who wait for an answer hear that there is none.
            Err(error) => tracing::error!(%error, "nobody can be let in now"),
        }
    }
}

impl Supervisor {
    /// Decides whether a device is let in; an invite is used up in the same step.
    pub fn admit(
        &self,
        peer: &PeerId,
        name: &str,
        invite: Option<[u8; 32]>,
        now: Timestamp,
    ) -> Result<Result<(), RefuseReason>, SupervisorError> {
        let applicant = Applicant { peer: *peer, name: name.to_owned(), invite };
        let decisions = self.admit_all(&[applicant], now)?;
        Ok(decisions.into_iter().next().unwrap_or(Err(RefuseReason::Unknown)))
    }

    /// Decides about several devices, in order and in one transaction.
    pub(crate) fn admit_all(
        &self,
        applicants: &[Applicant],
        now: Timestamp,
    ) -> Result<Vec<Result<(), RefuseReason>>, SupervisorError> {
        let mut state = self.state();
        if applicants.iter().all(|applicant| applicant.invite.is_none()) {
            let decisions = applicants.iter().map(|applicant| is_known(&state.conn, &applicant.peer));
            return Ok(decisions.collect::<Result<_, _>>()?);
        }
        let tx = state.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut decisions, mut joined) = (vec![], vec![]);
        for applicant in applicants {
            let decision = applicant.decide(&tx, now, &mut joined)?;
            decisions.push(decision);
        }
        append(&tx, now, joined)?;
        tx.commit()?;
        for applicant in applicants.iter().filter(|applicant| applicant.invite.is_some()) {
            self.rights.read_of(&state.conn, &applicant.peer)?;
        }
        Ok(decisions)
    }
}

/// A device that wants to be let in.
#[derive(Debug)]
pub(crate) struct Applicant {
    pub(crate) peer: PeerId,
    pub(crate) name: String,
    /// The hash of an invite's secret.
    pub(crate) invite: Option<[u8; 32]>,
}

impl Applicant {
    /// Call it in a transaction, if there is an invite, which is used up.
    fn decide(
        &self,
        tx: &Connection,
        now: Timestamp,
        joined: &mut Vec<Event>,
    ) -> Result<Result<(), RefuseReason>, rusqlite::Error> {
        let known = is_known(tx, &self.peer)?;
        let Some(hash) = self.invite else { return Ok(known) };
        if known == Err(RefuseReason::Revoked) {
            return Ok(known);
        }
        let sql = "UPDATE invites SET used_by = ?1 WHERE hash = ?2 AND used_by IS NULL AND expires > ?3
                   RETURNING grants";
        let mut stmt = tx.prepare_cached(sql)?;
        let used = stmt.query_row(params![self.peer.0, hash, now.0 as i64], |row| row.get::<_, String>(0));
        let Some(grants) = used.optional()? else { return Ok(Err(RefuseReason::BadInvite)) };
        // What people read in lists and logs must not move a terminal's cursor.
        let name: String = self.name.chars().filter(|c| !c.is_control()).collect();
        let sql = "INSERT INTO peers(key, name, joined) VALUES (?1, ?2, ?3)
                   ON CONFLICT(key) DO UPDATE SET name = ?2";
        tx.prepare_cached(sql)?.execute(params![self.peer.0, name, now.0 as i64])?;
        let mut grant_it = tx.prepare_cached("REPLACE INTO grants(key, pattern, access) VALUES (?, ?, ?)")?;
        for grant in grants.lines().filter_map(|grant| grant.parse::<Grant>().ok()) {
            grant_it.execute(params![self.peer.0, grant.pattern.as_str(), grant.access.to_string()])?;
        }
        joined.push(Event::Joined { peer: self.peer, name, secret_hash: hash });
        Ok(Ok(()))
    }
}

fn is_known(conn: &Connection, peer: &PeerId) -> Result<Result<(), RefuseReason>, rusqlite::Error> {
    let mut stmt = conn.prepare_cached("SELECT revoked IS NOT NULL FROM peers WHERE key = ?")?;
    let revoked: Option<bool> = stmt.query_row([peer.0], |row| row.get(0)).optional()?;
    Ok(match revoked {
        None => Err(RefuseReason::Unknown),
        Some(true) => Err(RefuseReason::Revoked),
        Some(false) => Ok(()),
    })
}
