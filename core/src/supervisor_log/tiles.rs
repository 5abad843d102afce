//! Tiles: the files of a log that anyone can host and check (C2SP tlog-tiles, <https://c2sp.org/tlog-tiles>).
//!
//! A tile has the hashes of up to 256 subtrees of one level, a bundle up to 256 entries; the last of each row is
//! partial and says so in its name.

/// Hashes in a full tile, entries in a full bundle.
pub const WIDTH: u64 = 256;

/// The path of a tile: `tile/LEVEL/INDEX`, with `.p/WIDTH` if it is partial.
pub fn tile_path(level: u8, index: u64, width: u64) -> String {
    format!("tile/{level}/{}", numbered(index, width))
}

/// The path of a bundle of entries.
pub fn bundle_path(index: u64, width: u64) -> String {
    format!("tile/entries/{}", numbered(index, width))
}

/// The index in groups of three digits, all but the last with an x: 1234067 is x001/x234/067.
fn numbered(index: u64, width: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    if width < WIDTH { format!("{path}.p/{width}") } else { path }
}

/// The tiles of one row of `count` hashes or entries: index and width.
pub fn row(count: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..count.div_ceil(WIDTH)).map(move |index| (index, (count - index * WIDTH).min(WIDTH)))
}

/// The levels of tiles of a log, each with how many hashes it has.
pub fn levels(size: u64) -> impl Iterator<Item = (u8, u64)> {
    (0u8..8).map(move |level| (level, size >> (8 * u32::from(level)))).take_while(|(_, count)| *count > 0)
}

/// Adds an entry to a bundle: its length as u16, then itself. It must not be longer than that can say.
pub fn put_entry(bundle: &mut Vec<u8>, entry: &[u8]) {
    let len = u16::try_from(entry.len()).expect("entries are short");
    bundle.extend_from_slice(&len.to_be_bytes());
    bundle.extend_from_slice(entry);
}

/// The entries of a bundle; None if it is not one of exactly `width`.
pub fn entries(bundle: &[u8], width: u64) -> Option<Vec<&[u8]>> {
    let (mut rest, mut entries) = (bundle, vec![]);
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        entries.push(entry);
        rest = after;
    }
    (rest.is_empty() && entries.len() as u64 == width).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_format() {
        assert_eq!(tile_path(0, 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(tile_path(1, 0, 17), "tile/1/000.p/17");
        assert_eq!(bundle_path(1000, 256), "tile/entries/x001/000");
        let theirs = tlog_tiles::Tile::new(8, 2, 54_321, 9, false);
        assert_eq!(tile_path(2, 54_321, 9), theirs.path().replacen("tile/8/", "tile/", 1));
        assert_eq!(row(513).collect::<Vec<_>>(), [(0, 256), (1, 256), (2, 1)]);
        assert_eq!(levels(70_000).collect::<Vec<_>>(), [(0, 70_000), (1, 273), (2, 1)]);
        assert_eq!(levels(0).count(), 0);
    }

    #[test]
    fn bundles_come_apart_as_they_were_put_together() {
        let mut bundle = vec![];
        [&b"one"[..], b"", b"three"].iter().for_each(|e| put_entry(&mut bundle, e));
        assert_eq!(entries(&bundle, 3), Some(vec![&b"one"[..], b"", b"three"]));
        assert_eq!(entries(&bundle, 2), None);
        assert_eq!(entries(&bundle[..bundle.len() - 1], 3), None);
    }
}
