//! Grants: which containers a key may read, write or administer.
//!
//! A grant is `pattern=access`, such as `shop/*=write`. In a pattern `*` stands for any run of characters
//! except `/`, `**` for any run at all; every other character for itself.

use std::fmt;
use std::str::FromStr;

/// What may be done with a container. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// See its rows and their whole history, deleted ones too.
    Read,
    /// Change rows, create the container, add columns.
    Write,
    /// Change its description, see the server's status.
    Admin,
}

/// Which containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

/// Some containers and what may be done with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Which containers.
    pub pattern: Pattern,
    /// What may be done with them.
    pub access: Access,
}

/// A text is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no grant; write `database/table=access`, where access is read, write or admin")]
pub struct BadGrant {
    /// The text.
    pub text: String,
}

impl Pattern {
    /// Whether it covers a container's name.
    pub fn covers(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.as_bytes())
    }

    /// Whether it may cover a container of this database.
    pub fn covers_database(&self, database: &str) -> bool {
        self.0.starts_with("**")
            || self.0.split_once('/').is_some_and(|(first, _)| {
                first.contains("**") || matches(first.as_bytes(), database.as_bytes())
            })
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a pattern matches a name: up to the first star by comparing, from there by all places in the pattern at once that
/// the name so far may have led to. That costs at most the product of both lengths, whatever the pattern.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let plain = pattern.iter().position(|c| *c == b'*').unwrap_or(pattern.len());
    let (start, stars) = pattern.split_at(plain);
    let Some(name) = name.strip_prefix(start) else { return false };
    match stars {
        b"" => return name.is_empty(),
        b"**" => return true,
        b"*" => return !name.contains(&b'/'),
        _ => {}
    }
    let parts = parts(stars);
    let mut places = vec![false; parts.len() + 1];
    places[0] = true;
    pass_stars(&parts, &mut places);
    for c in name {
        let mut next = vec![false; places.len()];
        for (n, part) in parts.iter().enumerate().filter(|(n, _)| places[*n]) {
            match part {
                Part::Character(expected) => next[n + 1] |= expected == c,
                Part::Star => next[n] |= *c != b'/',
                Part::TwoStars => next[n] = true,
            }
        }
        pass_stars(&parts, &mut next);
        places = next;
    }
    places[parts.len()]
}

enum Part {
    Character(u8),
    Star,
    TwoStars,
}

fn parts(mut pattern: &[u8]) -> Vec<Part> {
    let mut parts = vec![];
    while let Some((first, rest)) = pattern.split_first() {
        pattern = rest;
        parts.push(match (first, rest.strip_prefix(b"*")) {
            (b'*', Some(rest)) => {
                pattern = rest;
                Part::TwoStars
            }
            (b'*', None) => Part::Star,
            (c, _) => Part::Character(*c),
        });
    }
    parts
}

/// A star also stands for nothing.
fn pass_stars(parts: &[Part], places: &mut [bool]) {
    for (n, part) in parts.iter().enumerate() {
        places[n + 1] |= places[n] && !matches!(part, Part::Character(_));
    }
}

impl FromStr for Grant {
    type Err = BadGrant;

    fn from_str(text: &str) -> Result<Self, BadGrant> {
        let bad = || BadGrant { text: text.to_owned() };
        let (pattern, access) = text.rsplit_once('=').ok_or_else(bad)?;
        let access = access.parse().map_err(|()| bad())?;
        let stars = pattern.matches('*').count();
        let path = pattern == "**" || pattern.contains('/');
        if !path || pattern.len() > 512 || stars > 8 || pattern.chars().any(char::is_control) {
            return Err(bad());
        }
        Ok(Self { pattern: Pattern(pattern.to_owned()), access })
    }
}

impl FromStr for Access {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern.0, self.access)
    }
}

/// The most that any of these grants allows with a container; None: not even to know of it.
pub fn access(grants: &[Grant], name: &str) -> Option<Access> {
    grants.iter().filter(|g| g.pattern.covers(name)).map(|g| g.access).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, name: &str) -> bool {
        format!("{pattern}=read").parse::<Grant>().unwrap().pattern.covers(name)
    }

    #[test]
    fn a_star_stays_within_a_part_and_two_stars_do_not() {
        assert!(covers("shop/*", "shop/orders"));
        assert!(covers("shop/o*s", "shop/orders"));
        assert!(covers("**", "shop/orders"));
        assert!(covers("*/orders", "shop/orders"));
        assert!(!covers("shop/*", "shop2/orders"));
        assert!(!covers("s*/x", "shop/orders/x"));
        assert!(!covers("shop/order", "shop/orders"));
    }

    #[test]
    fn a_pattern_of_many_stars_costs_no_more_than_its_length_times_the_name_s() {
        let name = format!("{}/{}", "-".repeat(128), "-".repeat(128));
        // By trying every length for every star this takes longer than anybody waits.
        assert!(!covers("*-*-*-*/*-*-*-*x", &name));
        assert!(covers("*-*-*-*/*-*-*-*", &name));
        assert!(
            covers("a/**c", "a/b/c") && !covers("a**c/*d", "a/b/c/d/e") && covers("a**c/*e", "a/b/c/d/c/e")
        );
    }

    #[test]
    fn the_widest_of_several_grants_counts() {
        let grants: Vec<Grant> = ["shop/*=read", "shop/cart=write"].map(|g| g.parse().unwrap()).into();
        assert_eq!(access(&grants, "shop/cart"), Some(Access::Write));
        assert_eq!(access(&grants, "shop/prices"), Some(Access::Read));
        assert_eq!(access(&grants, "wages/all"), None);
        assert!(grants[0].pattern.covers_database("shop") && !grants[0].pattern.covers_database("wages"));
    }

    #[test]
    fn what_is_no_grant_is_refused_and_what_is_one_prints_as_it_was() {
        for bad in ["", "shop", "shop/*", "shop/*=", "shop/*=all", "shop=write", "*=read"] {
            assert!(bad.parse::<Grant>().is_err(), "{bad}");
        }
        assert_eq!("a/b=c=admin".parse::<Grant>().unwrap().to_string(), "a/b=c=admin");
    }
}
