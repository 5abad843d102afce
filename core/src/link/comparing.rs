//! Comparing: a link that looks at the rows of both sides instead of syncing them, see `compare`.
//!
//! The initiator asks for one table after another, a part at a time; the responder answers for those that are granted.

use super::{ASK, Link, LinkError, ROWS};
use crate::bytes::Reader;
use crate::compare::{Ask, Comparison, Rows};
use crate::id::PeerId;
use crate::key::RowKey;
use crate::replica::Replica;
use std::collections::VecDeque;

/// Tables that are compared: which are still to do, and what was found.
#[derive(Debug, Default)]
pub(super) struct Comparing {
    tables: VecDeque<i64>,
    asked: bool,
    after: Option<RowKey>,
    found: Vec<Comparison>,
}

impl Link {
    /// An initiator that compares tables (none named: all) with those of the server, and changes nothing.
    pub fn comparer(replica: &mut Replica, peer: PeerId, tables: &[String]) -> Result<Self, LinkError> {
        let mut link = Self::initiator(replica, peer)?;
        let tables = match tables {
            [] => replica.containers.numbers().collect(),
            names => names.iter().map(|t| replica.number(t)).collect::<Result<_, _>>()?,
        };
        link.comparing = Some(Comparing { tables, ..Comparing::default() });
        Ok(link)
    }

    /// What a comparer has found, once it is done.
    pub fn comparison(&self) -> Option<&[Comparison]> {
        self.comparing.as_ref().filter(|c| self.attached && c.tables.is_empty()).map(|c| &c.found[..])
    }

    /// Rows of this side that a comparer has looked at so far.
    pub fn compared(&self) -> u64 {
        let of = |c: &Comparison| c.matched + (c.different.len() + c.extra.len()) as u64;
        self.comparing.as_ref().map_or(0, |comparing| comparing.found.iter().map(of).sum())
    }

    pub(super) fn receive_ask(&mut self, replica: &Replica, r: &mut Reader<'_>) -> Result<(), LinkError> {
        let ask = Ask::decode(r)?;
        let container = ask.container;
        let state = replica.containers.with_id(&container);
        let granted = state.is_some_and(|c| self.access(&c.name).is_some());
        let rows = match granted {
            true => replica.answer(&ask)?,
            false => Rows { container, last: true, rows: vec![] },
        };
        let mut frame = vec![ROWS];
        rows.encode(&mut frame);
        self.outbox.push_back(frame);
        Ok(())
    }

    pub(super) fn receive_rows(&mut self, replica: &Replica, r: &mut Reader<'_>) -> Result<(), LinkError> {
        let rows = Rows::decode(r)?;
        let unasked = LinkError::Protocol { what: "rows that nobody asked for" };
        let Some(comparing) = self.comparing.as_mut().filter(|c| c.asked) else { return Err(unasked) };
        let Some(no) = comparing.tables.front().copied() else { return Err(unasked) };
        if comparing.after.is_none() {
            let table = replica.containers[&no].table.clone();
            comparing.found.push(Comparison { table, ..Comparison::default() });
        }
        let Some(found) = comparing.found.last_mut() else { return Err(unasked) };
        let after = comparing.after.take();
        comparing.after = replica.compare(no, after, rows, found)?;
        comparing.asked = false;
        if comparing.after.is_none() {
            comparing.tables.pop_front();
        }
        Ok(())
    }
}

impl Comparing {
    pub(super) fn next_ask(&mut self, replica: &Replica) -> Result<Option<Vec<u8>>, LinkError> {
        while !self.asked {
            let Some(no) = self.tables.front().copied() else { break };
            let Some(ask) = replica.ask(no, self.after.clone())? else {
                self.tables.pop_front();
                continue;
            };
            self.asked = true;
            let mut frame = vec![ASK];
            ask.encode(&mut frame);
            return Ok(Some(frame));
        }
        Ok(None)
    }
}
