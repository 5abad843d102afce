//! Relations: how many levels of tables stand above one, and which tables refer to each other in a circle.
//!
//! Tables that others refer to are sent and scanned first, so that children find their parents. Tables in a circle have
//! no such order among themselves: each counts as standing beside the others, and none waits for another.

use super::Replica;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

impl Replica {
    /// Returns how many levels of tables stand above this one: 0 if it refers to none outside its circle.
    pub(crate) fn depth(&self, no: i64) -> u32 {
        if self.containers.parents_of(no).next().is_none() {
            return 0;
        }
        depth(no, |no| self.containers.parents_of(no).collect())
    }

    /// Returns whether a table and others refer to each other.
    pub(crate) fn refers_in_circle(&self, no: i64) -> bool {
        self.containers.parents_of(no).any(|parent| self.is_circle(no, parent))
    }

    /// Returns whether two tables refer to each other, directly or through others.
    pub(crate) fn is_circle(&self, child: i64, parent: i64) -> bool {
        is_above(child, parent, |no| self.containers.parents_of(no).collect())
    }
}

/// Whether `ancestor` is reached from `no` by going from tables to their parents.
fn is_above(ancestor: i64, no: i64, parents: impl Fn(i64) -> Vec<i64>) -> bool {
    let (mut seen, mut rest) = (HashSet::from([no]), vec![no]);
    while let Some(no) = rest.pop() {
        if no == ancestor {
            return true;
        }
        rest.extend(parents(no).into_iter().filter(|parent| seen.insert(*parent)));
    }
    false
}

/// The longest way up from a table, where all tables of a circle count as one (Kosaraju's algorithm over what is above
/// it). Without recursion: a peer may describe tables in a chain of any length.
fn depth(no: i64, parents: impl Fn(i64) -> Vec<i64>) -> u32 {
    let above = parents_of_all(no, parents);
    let mut children: HashMap<i64, Vec<i64>> = HashMap::new();
    for (child, parents) in &above {
        parents.iter().for_each(|parent| children.entry(*parent).or_default().push(*child));
    }
    let (mut circle_of, mut depths) = (HashMap::new(), Vec::new());
    // A circle is complete once a search over children, begun in the order of the finished search over parents reversed,
    // ends. That reaches the tables furthest below first, so depths follow in a second pass, from the top.
    for start in finished_last(no, &above).into_iter().rev() {
        let mut rest = vec![start];
        while let Some(table) = rest.pop() {
            if let Entry::Vacant(free) = circle_of.entry(table) {
                free.insert(depths.len());
                rest.extend(children.get(&table).into_iter().flatten());
            }
        }
        depths.push(0);
    }
    let mut members: Vec<Vec<i64>> = vec![vec![]; depths.len()];
    circle_of.iter().for_each(|(table, circle)| members[*circle].push(*table));
    for circle in (0..depths.len()).rev() {
        let parents = members[circle].iter().flat_map(|table| &above[table]).map(|parent| circle_of[parent]);
        depths[circle] =
            parents.filter(|above| *above != circle).map(|above| depths[above] + 1).max().unwrap_or(0);
    }
    depths[circle_of[&no]]
}

/// The table and all above it, each with its parents.
fn parents_of_all(no: i64, parents: impl Fn(i64) -> Vec<i64>) -> HashMap<i64, Vec<i64>> {
    let (mut above, mut rest) = (HashMap::new(), vec![no]);
    while let Some(no) = rest.pop() {
        if let Entry::Vacant(free) = above.entry(no) {
            rest.extend(free.insert(parents(no)).iter());
        }
    }
    above
}

/// The tables in the order in which a search from `no` over parents is done with them.
fn finished_last(no: i64, above: &HashMap<i64, Vec<i64>>) -> Vec<i64> {
    let (mut finished, mut seen) = (vec![], HashSet::from([no]));
    let mut path = vec![(no, 0)];
    while let Some((table, next)) = path.last_mut() {
        match above[table].get(*next) {
            Some(parent) => {
                *next += 1;
                if seen.insert(*parent) {
                    path.push((*parent, 0));
                }
            }
            None => {
                finished.push(*table);
                path.pop();
            }
        }
    }
    finished
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depths(edges: &[(i64, i64)], tables: i64) -> Vec<u32> {
        let parents =
            |no| edges.iter().filter(|(child, _)| *child == no).map(|(_, parent)| *parent).collect();
        (0..tables).map(|no| depth(no, parents)).collect()
    }

    #[test]
    fn tables_are_as_deep_as_the_longest_way_up() {
        assert_eq!(depths(&[(1, 0), (2, 1), (2, 0), (3, 2)], 5), [0, 1, 2, 3, 0]);
    }

    #[test]
    fn tables_in_a_circle_are_as_deep_as_each_other() {
        // 1 and 2 refer to each other, 1 to 0, 3 to 2, and 4 to 3 and to 1.
        assert_eq!(depths(&[(1, 2), (2, 1), (1, 0), (3, 2), (4, 3), (4, 1)], 5), [0, 1, 1, 2, 3]);
        let parents = |no: i64| match no {
            1 => vec![2, 0],
            2 => vec![1],
            3 => vec![2],
            _ => vec![],
        };
        assert!(is_above(1, 2, parents) && is_above(2, 1, parents));
        assert!(is_above(2, 3, parents) && !is_above(3, 2, parents) && !is_above(1, 0, parents));
    }

    #[test]
    fn a_chain_of_many_tables_and_a_dense_circle_take_no_time() {
        let chain = |no: i64| if no > 0 { vec![no - 1] } else { vec![] };
        assert_eq!(depth(20_000, chain), 20_000);
        let dense = |no: i64| (0..60).filter(|other| *other != no).collect();
        assert_eq!(depth(7, dense), 0);
    }
}
