//! Known: the containers that the peer knows of. New ones are opened by either side, and a responder may deny them.

use super::attach::has_news;
use super::leaving::CAUSE_LEN_MAX;
use super::{CONTAINERS, DENIED, LIST_MAX, Link, LinkError, NAME_LEN_MAX, OPEN};
use crate::bytes::{DecodeError, Reader, put_bytes, put_uleb};
use crate::container_name::{ContainerName, container_id};
use crate::grant::Access;
use crate::id::ContainerId;
use crate::replica::{ContainerState, Replica, ReplicaError, Scan, StopKind};
use crate::root::RootDigest;
use crate::session::Role;
use std::collections::BTreeSet;

/// A container as one side tells the other of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    name: String,
    integer_keys: bool,
    access: Access,
    root: RootDigest,
}

impl Told {
    pub(super) fn of(state: &ContainerState, access: Access) -> Self {
        Self { name: state.name.clone(), integer_keys: state.integer_keys, access, root: state.feed.digest() }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.name.as_bytes());
        out.push(u8::from(self.integer_keys));
        out.push(match self.access {
            Access::Read => 0,
            Access::Write => 1,
            Access::Admin => 2,
        });
        out.extend_from_slice(&self.root.0);
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = r.text(NAME_LEN_MAX, "a container's name")?.to_owned();
        let integer_keys = r.u8()? == 1;
        let access = match r.u8()? {
            0 => Access::Read,
            1 => Access::Write,
            2 => Access::Admin,
            _ => return Err(DecodeError::Invalid { what: "an access" }),
        };
        Ok(Self { name, integer_keys, access, root: RootDigest(r.array()?) })
    }
}

/// Why a responder does not open a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denial {
    NotGranted = 0,
    Quota = 1,
    IntakeStopped = 2,
    Failed = 3,
}

impl Link {
    /// Containers of this file that the server does not grant to this device.
    pub fn not_granted(&self, replica: &Replica) -> Vec<String> {
        self.denied_for(replica, Denial::NotGranted)
    }

    /// Containers of this file that the server does not make, since this device has as many there as it may.
    pub fn over_quota(&self, replica: &Replica) -> Vec<String> {
        self.denied_for(replica, Denial::Quota)
    }

    pub(super) fn denied_for(&self, replica: &Replica, why: Denial) -> Vec<String> {
        let denied = self.denied.iter();
        let denied = denied.filter(|(no, denial)| **denial == why && !self.in_other_capitals.contains(no));
        denied.filter_map(|(no, _)| Some(replica.containers.get(no)?.name.clone())).collect()
    }

    pub(super) fn knows(&self, no: i64) -> bool {
        (no <= self.known_to && !self.unsure.contains(&no)) || self.known.contains(&no)
    }

    /// Both sides have the same: the peer knows of all that they share, but perhaps not of what does not count in the digest.
    pub(super) fn know_equal(&mut self, replica: &Replica) {
        self.know_shared(replica, has_news);
    }

    /// The peer knows of those that both share and of which this holds.
    pub(super) fn know_shared(&mut self, replica: &Replica, holds: impl Fn(&ContainerState) -> bool) {
        let known: BTreeSet<_> =
            self.shared(replica, &self.access_now()).filter(|c| holds(c)).map(|c| c.no).collect();
        self.known_to = replica.containers.last();
        self.unsure = replica.containers.numbers().filter(|no| !known.contains(no)).collect();
    }

    pub(super) fn hear_of(&mut self, replica: &mut Replica, told: &[Told]) -> Result<(), LinkError> {
        let names: Vec<_> = told.iter().map(|t| (t.name.as_str(), t.integer_keys)).collect();
        let numbers = replica.follow_containers(&names)?;
        let followed: Vec<_> = numbers.into_iter().zip(told).filter_map(|(no, t)| Some((no?, t))).collect();
        let is_read_only = |told: &Told| told.access == Access::Read;
        let rights_differ =
            |(no, told): &(i64, &Told)| replica.containers[no].is_read_only() != is_read_only(told);
        let changed = followed.iter().filter(|one| rights_differ(one));
        let changed: Vec<_> = changed.map(|(no, told)| (*no, is_read_only(told))).collect();
        if !changed.is_empty() {
            replica.transaction(|r| r.set_read_only(&changed))?;
        }
        for (no, told) in followed {
            self.known.insert(no);
            let state = &replica.containers[&no];
            if state.scan() != Scan::No || state.feed.digest() != told.root {
                self.make_ready(replica, vec![no]);
            }
        }
        Ok(())
    }

    /// Announces the containers in `numbers` that the peer does not know, and removes from `numbers` those it may not see.
    pub(super) fn introduce(&mut self, replica: &Replica, numbers: &mut Vec<i64>) {
        if numbers.iter().all(|no| self.knows(*no)) {
            return;
        }
        let (access, mut told) = (self.access_now(), vec![]);
        numbers.retain(|no| {
            if self.knows(*no) {
                return true;
            }
            let Some(state) = replica.containers.get(no) else { return false };
            let followed = self.follow.as_ref().is_none_or(|ids| ids.contains(&state.id));
            let Some(access) = access(&state.name).filter(|_| followed || !self.is_responder()) else {
                return false;
            };
            self.known.insert(*no);
            told.push(Told::of(state, access));
            true
        });
        for list in told.chunks(LIST_MAX) {
            let mut frame = vec![OPEN];
            put_list(list, &mut frame);
            self.outbox.push_back(frame);
        }
    }

    pub(super) fn receive_open(
        &mut self,
        replica: &mut Replica,
        r: &mut Reader<'_>,
    ) -> Result<(), LinkError> {
        let told = read_list(r)?;
        if !self.is_responder() {
            return self.hear_of(replica, &told);
        }
        let binding = replica.binding().ok_or(ReplicaError::NotBound)?.clone();
        let access = self.access_now();
        let mut opened = vec![];
        for told in &told {
            let name = ContainerName::parse(&told.name)
                .map_err(|_| ReplicaError::BadName { name: told.name.clone() })?;
            let id = container_id(&binding.realm, &name);
            let exists = replica.containers.with_id(&id).is_some();
            let denial = match access(&told.name) {
                Some(_) if exists => None,
                Some(access) if access < Access::Write => Some(Denial::NotGranted),
                None => Some(Denial::NotGranted),
                Some(_) if self.lets_pass_new(id) => Some(Denial::IntakeStopped),
                Some(_) if !self.may_create() => Some(Denial::Quota),
                Some(_) => None,
            };
            match (denial, &self.role) {
                (Some(denial), _) => {
                    // The peer goes on about it until it hears that.
                    self.denied.extend(replica.containers.with_id(&id).map(|c| (c.no, denial)));
                    self.deny(&id, denial);
                }
                (None, Role::Responder(authority)) if !exists => {
                    authority.created(&self.peer);
                    opened.push((id, told));
                }
                (None, _) => opened.push((id, told)),
            }
        }
        let names: Vec<_> = opened.iter().map(|(_, t)| (t.name.as_str(), t.integer_keys)).collect();
        let numbers = replica.follow_containers(&names)?;
        for ((id, told), no) in opened.into_iter().zip(numbers) {
            let Some(no) = no else {
                self.deny(&id, Denial::NotGranted);
                self.tell_other_name(replica, &told.name);
                continue;
            };
            self.known.insert(no);
            self.make_ready(replica, vec![no]);
            if let Some(ids) = &mut self.follow {
                ids.insert(id);
            }
            replica.note_changed(no);
        }
        Ok(())
    }

    pub(super) fn receive_denied(
        &mut self,
        replica: &mut Replica,
        r: &mut Reader<'_>,
    ) -> Result<(), LinkError> {
        if r.is_empty() {
            return Err(LinkError::Denied { database: self.database.clone() });
        }
        let id = ContainerId(r.array()?);
        let denial = match r.u8()? {
            0 => Denial::NotGranted,
            1 => Denial::Quota,
            2 => Denial::IntakeStopped,
            3 => Denial::Failed,
            _ => return Err(DecodeError::Invalid { what: "why a container is denied" }.into()),
        };
        let Some(no) = replica.containers.with_id(&id).map(|c| c.no) else { return Ok(()) };
        self.forget_session(no);
        self.denied.insert(no, denial);
        self.in_other_capitals.remove(&no);
        match denial {
            Denial::NotGranted if !r.is_empty() => {
                let other = r.text(NAME_LEN_MAX, "a container's name")?;
                let why = format!(
                    "the server has this table as {other}, and names that differ in capitals alone are one to SQLite"
                );
                self.in_other_capitals.insert(no);
                replica.note_session(no, Some((StopKind::OtherCapitals, &why)))?;
            }
            Denial::NotGranted => {
                replica.note_session(
                    no,
                    Some((StopKind::NotGranted, "the server does not grant it to this device")),
                )?;
            }
            Denial::Quota => {
                let why = "the server makes no more tables for this device";
                replica.note_session(no, Some((StopKind::OverQuota, why)))?;
            }
            Denial::Failed => {
                let why = r.text(CAUSE_LEN_MAX, "a cause")?;
                let why = format!("the server cannot take part with it: {why}");
                replica.note_session(no, Some((StopKind::AtServer, &why)))?;
            }
            Denial::IntakeStopped => {}
        }
        Ok(())
    }

    /// Adds to a denial the name, in other capitals, of the container that has the table, if the peer may know of it.
    fn tell_other_name(&mut self, replica: &Replica, name: &str) {
        let table = ContainerName::parse(name).map(|name| name.table().to_owned()).unwrap_or_default();
        let other = replica.containers.of_table(&table).map(|c| c.name.clone());
        let access = self.access_now();
        let other = other
            .filter(|other| other != name && other.eq_ignore_ascii_case(name) && access(other).is_some());
        if let (Some(other), Some(frame)) = (other, self.outbox.back_mut()) {
            put_bytes(frame, other.as_bytes());
        }
    }

    /// Tells the peer that the session of a container has ended, and why.
    pub(super) fn deny_failed(&mut self, id: &ContainerId, why: &str) {
        self.deny(id, Denial::Failed);
        if let Some(frame) = self.outbox.back_mut() {
            put_bytes(frame, &why.as_bytes()[..why.floor_char_boundary(CAUSE_LEN_MAX)]);
        }
    }

    fn deny(&mut self, id: &ContainerId, denial: Denial) {
        let mut frame = vec![DENIED];
        frame.extend_from_slice(&id.0);
        frame.push(denial as u8);
        self.outbox.push_back(frame);
    }

    fn may_create(&self) -> bool {
        matches!(&self.role, Role::Responder(authority) if authority.may_create(&self.peer))
    }
}

pub(super) fn encode_list(list: &[Told], last: bool) -> Vec<u8> {
    let mut out = vec![CONTAINERS, u8::from(last)];
    put_list(list, &mut out);
    out
}

pub(super) fn put_list(list: &[Told], out: &mut Vec<u8>) {
    put_uleb(out, list.len() as u64);
    list.iter().for_each(|told| told.encode(out));
}

pub(super) fn read_list(r: &mut Reader<'_>) -> Result<Vec<Told>, DecodeError> {
    let n = r.uleb_max(LIST_MAX as u64, "the number of containers")?;
    (0..n).map(|_| Told::decode(r)).collect()
}
