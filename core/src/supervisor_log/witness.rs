//! Witness: a client's side of the log. It keeps the last checkpoint of one server, demands that each next one
//! continues it, and keeps the evidence when one does not.
//!
//! After an alarm data keep syncing, since segments prove themselves; the server stays unverified until its operator
//! declares a new origin, signed by the server's own key.

use super::entry::{Entry, Event};
use super::note::{Cosignature, LogKey, Note};
use super::talk::{LogMessage, Proof, Told, check_statement};
use super::tree::{EMPTY_ROOT, check_consistency, check_inclusion, leaf_hash};
use crate::id::{PeerId, SegmentId, Timestamp};
use crate::identity::Identity;

/// What a client knows of one server's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Witness {
    /// The log's name and key, from the first contact on.
    pub log: Option<LogKey>,
    /// The last checkpoint that continued all before it.
    pub note: Option<Note>,
    /// What did not continue it.
    pub alarm: Option<Alarm>,
}

/// Evidence that a log was rewritten or forked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// When it was noticed.
    pub time: Timestamp,
    /// What is wrong.
    pub reason: String,
    /// The note that was held.
    pub ours: Option<Note>,
    /// The note that was told.
    pub theirs: Option<Note>,
}

/// What a server's word about its log is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The checkpoint continues the last; nothing to do.
    Same,
    /// It continues the last: tell the server so.
    Continues(Cosignature),
    /// The operator declared a new origin; its checkpoint was taken as the first.
    NewOrigin {
        /// The name until now.
        before: String,
        /// The cosignature of its checkpoint, if it has one.
        cosignature: Option<Cosignature>,
    },
    /// The server signs no checkpoint now.
    Silent,
    /// It contradicts what was signed before: send the note held to the server and tell the user.
    Alarm,
}

impl Witness {
    /// What to ask at every connect.
    pub fn ask(&self) -> LogMessage {
        let origin = self.log.as_ref().map_or(String::new(), |log| log.origin.clone());
        let root = self.note.as_ref().map_or(EMPTY_ROOT, |note| note.checkpoint.root);
        LogMessage::Ask { origin, size: self.size(), root }
    }

    /// Leaves of the last good checkpoint.
    pub fn size(&self) -> u64 {
        self.note.as_ref().map_or(0, |note| note.checkpoint.size)
    }

    /// Judges what the server told.
    pub fn receive(&mut self, server: &PeerId, told: Told, own: &Identity, now: Timestamp) -> Verdict {
        if check_statement(server, &told.log, &told.statement).is_err() {
            return self.alarm(now, "the log is not by this server's key", told.note);
        }
        let before = self.log.clone().filter(|log| *log != told.log);
        if let Some(note) = &told.note
            && note.verify(&told.log).is_err()
        {
            return self.alarm(now, "the log's key did not sign its checkpoint", told.note);
        }
        if let Some(before) = before {
            *self = Self { log: Some(told.log), note: told.note, alarm: None };
            let cosignature = self.note.as_ref().map(|note| note.cosign(own, now));
            return Verdict::NewOrigin { before: before.origin, cosignature };
        }
        self.log = Some(told.log);
        let Some(note) = told.note else { return Verdict::Silent };
        if let Some(ours) = &self.note {
            let (old, new) = (&ours.checkpoint, &note.checkpoint);
            if new.size < old.size {
                return self.alarm(now, "the log is shorter than it was", Some(note));
            }
            if !check_consistency(old.size, &old.root, new.size, &new.root, &told.proof) {
                return self.alarm(now, "the log does not continue what it was", Some(note));
            }
            if new.size == old.size {
                return Verdict::Same;
            }
        }
        let cosignature = note.cosign(own, now);
        self.note = Some(note);
        Verdict::Continues(cosignature)
    }

    /// What to say to the server after a verdict, if anything.
    pub fn answer(&self, verdict: &Verdict) -> Option<LogMessage> {
        match verdict {
            Verdict::Continues(cosignature) | Verdict::NewOrigin { cosignature: Some(cosignature), .. } => {
                Some(LogMessage::Cosigned(*cosignature))
            }
            Verdict::Alarm => self.note.clone().map(LogMessage::Alarm),
            _ => None,
        }
    }

    /// Whether a proof shows that the log has a segment, under the last checkpoint; its index and entry.
    pub fn check(&self, segment: &SegmentId, proof: &Proof) -> Option<(u64, Entry)> {
        let checkpoint = &self.note.as_ref()?.checkpoint;
        let leaf = leaf_hash(&proof.entry);
        let holds = proof.size == checkpoint.size
            && check_inclusion(&leaf, proof.index, proof.size, &proof.proof, &checkpoint.root);
        let entry = Entry::decode(&proof.entry).ok()?;
        let is_it = matches!(&entry.event, Event::Accepted { segment: s, .. } if s == segment);
        (holds && is_it).then_some((proof.index, entry))
    }

    /// Compares with a note that another client got from the same server; false: one of the two was shown a fork.
    pub fn agrees(&self, theirs: &Note) -> bool {
        let ours = self.note.as_ref().map(|note| &note.checkpoint);
        ours.is_none_or(|ours| {
            ours.origin != theirs.checkpoint.origin
                || ours.size != theirs.checkpoint.size
                || ours.root == theirs.checkpoint.root
        })
    }

    fn alarm(&mut self, time: Timestamp, reason: &str, theirs: Option<Note>) -> Verdict {
        if self.alarm.is_none() {
            self.alarm = Some(Alarm { time, reason: reason.into(), ours: self.note.clone(), theirs });
        }
        Verdict::Alarm
    }
}

#[cfg(test)]
mod tests {
    use super::super::note::Checkpoint;
    use super::super::talk::sign_statement;
    use super::super::tree::{Edge, Hash, Nodes, consistency, inclusion};
    use super::*;
    use std::collections::HashMap;

    /// A server with its log in memory.
    struct Log {
        server: Identity,
        log: Identity,
        origin: String,
        entries: Vec<Vec<u8>>,
        edge: Edge,
        nodes: HashMap<(u8, u64), Hash>,
    }

    impl Nodes for Log {
        type Error = std::convert::Infallible;

        fn node(&self, level: u8, n: u64) -> Result<Hash, Self::Error> {
            Ok(self.nodes[&(level, n)])
        }
    }

    impl Log {
        fn new(entries: &[&str]) -> Self {
            let (server, log) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
            let origin = "piecewise/x/1".to_owned();
            let mut new =
                Self { server, log, origin, entries: vec![], edge: Edge::default(), nodes: HashMap::new() };
            entries.iter().for_each(|entry| new.add(entry.as_bytes().to_vec()));
            new
        }

        fn add(&mut self, entry: Vec<u8>) {
            for (level, n, hash) in self.edge.append(leaf_hash(&entry)) {
                self.nodes.insert((level, n), hash);
            }
            self.entries.push(entry);
        }

        fn told(&self, witness: &Witness) -> Told {
            let (origin, size) = (self.origin.clone(), self.edge.size());
            let log = LogKey { origin: origin.clone(), key: self.log.peer_id() };
            let note = Checkpoint { origin, size, root: self.edge.root() }.sign(&self.log);
            let asked = witness.size().min(size);
            let proof = consistency(self, asked, size).unwrap();
            Told { statement: sign_statement(&self.server, &log), log, note: Some(note), proof }
        }

        fn tell(&self, witness: &mut Witness) -> Verdict {
            let own = Identity::from_seed([3; 32]);
            let told = self.told(witness);
            let message = LogMessage::Told(told);
            let LogMessage::Told(told) = LogMessage::decode(&message.encode()).unwrap() else {
                unreachable!()
            };
            witness.receive(&self.server.peer_id(), told, &own, Timestamp(5000))
        }
    }

    #[test]
    fn a_log_that_grows_is_cosigned_and_one_that_does_not_is_the_same() {
        let (mut log, mut witness) = (Log::new(&["a", "b", "c"]), Witness::default());
        for n in 0..40 {
            assert!(matches!(log.tell(&mut witness), Verdict::Continues(_)), "{n}");
            assert_eq!(log.tell(&mut witness), Verdict::Same);
            (0..n % 5 + 1).for_each(|m| log.add(vec![n, m]));
        }
        assert_eq!(witness.alarm, None);
    }

    #[test]
    fn a_shorter_or_forked_log_alarms_with_both_notes_until_a_new_origin_is_declared() {
        let mut witness = Witness::default();
        Log::new(&["a", "b", "c"]).tell(&mut witness);
        let held = witness.note.clone();
        for entries in [&["a", "b"][..], &["a", "b", "x"], &["a", "x", "c", "d"], &["x", "b", "c", "d", "e"]]
        {
            let (log, mut witness) = (Log::new(entries), witness.clone());
            assert_eq!(log.tell(&mut witness), Verdict::Alarm, "{entries:?}");
            let alarm = witness.alarm.clone().expect("evidence");
            assert_eq!(alarm.ours, held);
            assert_eq!(alarm.theirs.expect("their note").checkpoint.size, entries.len() as u64);
            assert_eq!(witness.note, held, "the last good note is kept");
            let log = Log { origin: "piecewise/x/2".into(), ..log };
            assert!(matches!(log.tell(&mut witness), Verdict::NewOrigin { .. }));
            assert_eq!(witness.alarm, None);
        }
    }

    #[test]
    fn another_server_or_another_log_key_is_not_believed() {
        let mut witness = Witness::default();
        let mut log = Log::new(&["a"]);
        log.tell(&mut witness);
        let mut told = log.told(&witness);
        told.statement[0] ^= 1;
        let own = Identity::from_seed([3; 32]);
        let server = log.server.peer_id();
        assert_eq!(witness.clone().receive(&server, told, &own, Timestamp(1)), Verdict::Alarm);
        let mut told = log.told(&witness);
        log.log = Identity::from_seed([9; 32]);
        told.note = log.told(&witness).note;
        assert_eq!(witness.receive(&server, told, &own, Timestamp(1)), Verdict::Alarm);
    }

    #[test]
    fn two_clients_that_were_shown_forks_notice_from_each_other_s_notes() {
        let [mut one, mut two] = [Witness::default(), Witness::default()];
        Log::new(&["a", "b"]).tell(&mut one);
        Log::new(&["a", "x"]).tell(&mut two);
        let theirs = two.note.clone().expect("a note");
        assert!(!one.agrees(&theirs));
        // Either of them notices as well when it meets the log that the other was shown.
        assert_eq!(Log::new(&["a", "x", "c"]).tell(&mut one), Verdict::Alarm);
        assert!(matches!(Log::new(&["a", "x", "c"]).tell(&mut two), Verdict::Continues(_)));
    }

    #[test]
    fn a_segment_is_in_the_log_only_where_the_proof_leads_to_the_root() {
        let mut log = Log::new(&["a", "b"]);
        let entries = super::super::entry::tests::entries();
        entries.iter().for_each(|entry| log.add(entry.encode()));
        let mut witness = Witness::default();
        log.tell(&mut witness);
        let (size, index) = (log.edge.size(), 2);
        let proof = inclusion(&log, index, size).unwrap();
        let good = Proof { size, index, entry: entries[0].encode(), proof };
        let segment = SegmentId([4; 32]);
        assert_eq!(witness.check(&segment, &good), Some((2, entries[0].clone())));
        assert_eq!(witness.check(&SegmentId([5; 32]), &good), None);
        let other = Proof { index: 3, ..good.clone() };
        assert_eq!(witness.check(&segment, &other), None);
        // A refusal names the segment as well, and is no acceptance.
        let proof = inclusion(&log, 3, size).unwrap();
        let refused = Proof { size, index: 3, entry: entries[1].encode(), proof };
        assert_eq!(witness.check(&segment, &refused), None);
    }
}
