//! Recent: what was used lately, in a bounded room; what was not used for longest goes first.

use std::collections::HashMap;
use std::hash::Hash;

/// Values by key, of which all together take a number of bytes at most; or one that takes more by itself.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    values: HashMap<K, Used<V>>,
    clock: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Used<V> {
    at: u64,
    size: usize,
    value: V,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// Room for so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { values: HashMap::new(), clock: 0, bytes: 0, bytes_max }
    }

    /// The value of a key, which is used now.
    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        let used = self.values.get_mut(key)?;
        self.clock += 1;
        used.at = self.clock;
        Some(&used.value)
    }

    /// Takes a value out.
    pub(super) fn take(&mut self, key: &K) -> Option<V> {
        let used = self.values.remove(key)?;
        self.bytes -= used.size;
        Some(used.value)
    }

    /// Puts in a value of this size, of a key that has none.
    pub(super) fn put(&mut self, key: K, value: V, size: usize) {
        if self.bytes + size > self.bytes_max {
            self.make_room(size);
        }
        self.clock += 1;
        self.bytes += size;
        self.values.insert(key, Used { at: self.clock, size, value });
    }

    /// Evicts least recently used entries until `size` fits, but at least an eighth of the capacity, so that eviction is
    /// amortised O(1).
    fn make_room(&mut self, size: usize) {
        let wanted = (self.bytes + size).saturating_sub(self.bytes_max).max(self.bytes_max / 8);
        let mut ages: Vec<_> = self.values.values().map(|used| (used.at, used.size)).collect();
        ages.sort_unstable();
        let (mut freed, mut newest) = (0, 0);
        for (at, size) in ages {
            if freed >= wanted {
                break;
            }
            freed += size;
            newest = at;
        }
        self.values.retain(|_, used| used.at > newest);
        self.bytes -= freed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_lately_stays_within_the_room() {
        let mut recent = Recent::new(100);
        for n in 0..1000 {
            recent.put(n, n, 10);
            assert_eq!(recent.get(&0), Some(&0));
            assert!(recent.bytes <= 100 && recent.bytes == 10 * recent.values.len());
        }
        assert_eq!(recent.get(&1), None);
        assert_eq!(recent.get(&999), Some(&999));
    }

    #[test]
    fn a_large_one_in_use_outlives_small_ones_that_are_not() {
        let mut recent = Recent::new(100);
        recent.put(0, 0, 60);
        for n in 1..1000 {
            recent.put(n, n, 5);
            assert_eq!(recent.take(&0), Some(0));
            recent.put(0, 0, 60);
            assert!(recent.bytes <= 100);
        }
    }

    #[test]
    fn one_that_is_larger_than_the_room_is_kept_alone() {
        let mut recent = Recent::new(100);
        recent.put(1, "small", 10);
        recent.put(2, "large", 1000);
        assert_eq!(recent.get(&1), None);
        assert_eq!(recent.get(&2), Some(&"large"));
        recent.put(3, "small", 10);
        assert_eq!((recent.take(&2), recent.take(&3)), (None, Some("small")));
        assert_eq!(recent.bytes, 0);
    }
}
