//! Blocks of numbers for each device: what devices insert offline seldom clashes, and nothing is given twice.

use piecewise_core::grant::Access;
use piecewise_core::link::{Attach, Incoming, Link};
use piecewise_core::replica::{Follow, TrackOptions};
use piecewise_core::session::Authority;
use piecewise_tests::network::Network;
use piecewise_tests::numbering::{Life, live, number};
use rusqlite::Connection;
use std::sync::Arc;

const SCHEMA: &str = "CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL)";

fn network(seed: u64, clients: usize) -> Network {
    let mut net = Network::new(seed, clients, SCHEMA, &TrackOptions::default());
    net.sync_all();
    net
}

/// Inserts a row as an application does; the number it was told.
fn insert(net: &mut Network, n: usize, name: &str) -> i64 {
    let conn = Connection::open(&net.machines[n].path).expect("the file opens");
    conn.execute("INSERT INTO orders(name) VALUES (?)", [name]).expect("an insert");
    conn.last_insert_rowid()
}

fn leases(net: &mut Network, n: usize) -> Vec<(i64, i64)> {
    let status = net.replica(n).status().expect("a status");
    status.tables.into_iter().find(|t| t.table == "orders").expect("the table").leases
}

fn sequence(net: &mut Network, n: usize) -> u64 {
    number(net, n, "SELECT max(seq) FROM sqlite_sequence WHERE name = 'orders'")
}

/// Both clients have inserted, so that both hold blocks.
fn leased(seed: u64) -> Network {
    let mut net = network(seed, 2);
    for n in [1, 2] {
        insert(&mut net, n, &format!("first of {n}"));
        net.wait(1000);
        net.sync(n);
    }
    net
}

#[test]
fn a_device_has_a_first_block_and_one_that_inserts_has_a_spare_and_no_number_is_in_two() {
    let mut net = network(1, 3);
    assert!((1..=3).all(|n| leases(&mut net, n).len() == 1), "who may insert can do so offline at once");
    for n in [1, 2] {
        insert(&mut net, n, "one");
        net.sync(n);
    }
    let mut all: Vec<_> = (1..=3).flat_map(|n| leases(&mut net, n)).collect();
    assert_eq!((all.len(), leases(&mut net, 3).len()), (5, 1));
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair[0].1 < pair[1].0), "{all:?}");
    let end = all[4].1 as u64;
    // What is inserted on the server lies above all blocks.
    assert_eq!(sequence(&mut net, 0), end);
    assert_eq!(insert(&mut net, 0, "at the server") as u64, end + 1);
}

#[test]
fn who_no_longer_inserts_asks_for_no_more_blocks() {
    let mut net = network(12, 3);
    let given = |net: &mut Network| number(net, 0, "SELECT last FROM piecewise_given");
    insert(&mut net, 2, "one");
    net.sync(2);
    // Each time a number comes that lies above all blocks.
    let mut grown = vec![];
    for round in 0..6 {
        let before = given(&mut net);
        net.run(1, &format!("INSERT INTO orders VALUES ({}, 'high {round}')", before + 1));
        net.sync_all();
        grown.push(given(&mut net) - before);
    }
    let of_others: Vec<_> = grown.iter().map(|grown| grown / 512).collect();
    assert_eq!(of_others[5], 2, "the one that inserts has two, the others none: {of_others:?}");
    assert_eq!([2, 3].map(|n| leases(&mut net, n).len()), [0, 0]);
}

#[test]
fn the_application_is_told_the_number_of_the_block_and_keeps_it() {
    let mut net = leased(2);
    let block = leases(&mut net, 1)[0];
    let moved = |net: &mut Network, n: usize| number(net, n, "SELECT count(*) FROM piecewise_renumbered");
    let before = [1, 2].map(|n| moved(&mut net, n));
    let told: Vec<_> = (0..20).map(|n| insert(&mut net, 1, &format!("offline {n}"))).collect();
    let other: Vec<_> = (0..20).map(|n| insert(&mut net, 2, &format!("offline too {n}"))).collect();
    assert!(told.iter().all(|id| (block.0..=block.1).contains(id)), "{told:?} are in {block:?}");
    net.sync_all();
    assert_eq!([1, 2].map(|n| moved(&mut net, n)), before);
    for n in 0..=2 {
        for (place, id) in told.iter().enumerate() {
            let row = net.query(n, &format!("SELECT name FROM orders WHERE id = {id}"));
            assert_eq!(row, [format!("Text(\"offline {place}\")")]);
        }
        for (place, id) in other.iter().enumerate() {
            let row = net.query(n, &format!("SELECT name FROM orders WHERE id = {id}"));
            assert_eq!(row, [format!("Text(\"offline too {place}\")")]);
        }
    }
}

#[test]
fn a_block_that_a_higher_number_made_useless_gives_way_to_the_spare() {
    let mut net = leased(3);
    let before = leases(&mut net, 1);
    net.run(2, &format!("INSERT INTO orders VALUES ({}, 'high')", before[0].1));
    net.sync(2);
    net.sync(1);
    let after = leases(&mut net, 1);
    assert!(after.len() == 2 && after[0].0 > before[0].1, "{before:?} {after:?}");
    assert_eq!(insert(&mut net, 1, "next"), after[0].0);
}

#[test]
fn a_lease_that_ran_out_offline_goes_on_above_and_rows_move_where_they_must() {
    let mut net = leased(4);
    let end = leases(&mut net, 1)[1].1;
    let many = |who: &str| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
             INSERT INTO orders(name) SELECT '{who} ' || i FROM n"
        )
    };
    net.run(1, &many("a"));
    net.capture(1);
    net.run(2, &many("b"));
    net.capture(2);
    assert!(number(&mut net, 1, "SELECT max(id) FROM orders") as i64 > end);
    net.sync_all();
    for n in 0..=2 {
        assert_eq!(number(&mut net, n, "SELECT count(DISTINCT name) FROM orders"), 6002, "machine {n}");
    }
    assert_eq!(net.replica(0).conflicts(None).expect("a list").len(), 0);
    // The next are larger, as more were used.
    let blocks = leases(&mut net, 1);
    assert!(blocks.iter().all(|(first, last)| last - first > 4_000), "{blocks:?}");
}

#[test]
fn a_server_that_was_restored_gives_no_block_twice_of_which_it_is_told() {
    let mut net = network(5, 3);
    net.capture(0);
    let backup = net.backup(0);
    for n in [1, 2] {
        insert(&mut net, n, "before");
        net.sync(n);
    }
    let (held, others) = (leases(&mut net, 1), leases(&mut net, 2));
    net.restore(0, &backup);
    net.sync(1);
    net.sync(2);
    assert_eq!((leases(&mut net, 1).len(), leases(&mut net, 2).len()), (2, 2));
    insert(&mut net, 3, "after");
    net.sync(3);
    let highest = held.iter().chain(&others).map(|block| block.1).max().expect("blocks");
    let new = leases(&mut net, 3);
    assert!(new.len() == 2 && new[1].0 > highest, "{:?} lies above {highest}", new[1]);
}

/// The answers to frames that a client sends, on a connection of its own.
fn ask(net: &mut Network, client: usize, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let now = net.now;
    let server = net.machines[0].identity.peer_id();
    let peer = net.machines[client].identity.peer_id();
    let mut near = Link::initiator(net.replica(client), server).expect("a link");
    let first = near.next_frame(net.replica(client), now).expect("a frame").expect("it begins");
    let authority: Arc<dyn Authority> = net.grants.clone();
    let attach = Attach::decode(&first).expect("an attach");
    let mut far = Link::responder(net.replica(0), peer, authority, attach).expect("a link");
    let mut answers = vec![];
    for frame in frames {
        far.receive(net.replica(0), Incoming::read(frame).open(), now).expect("it is heard");
        while let Some(answer) = far.next_frame(net.replica(0), now).expect("a frame") {
            if answer.first() == Some(&17) {
                answers.push(answer.to_vec());
            }
        }
    }
    answers
}

/// A question for a block, in bytes: kind, container, how many were used, and a block that is held.
fn question(used: u8, held: Option<(i64, i64, [u8; 64])>) -> Vec<u8> {
    let name = piecewise_core::container_name::ContainerName::parse("shop/orders").expect("a name");
    let id = piecewise_core::container_name::container_id(&piecewise_tests::network::REALM, &name);
    let mut frame = vec![17];
    frame.extend_from_slice(&id.0);
    frame.push(used);
    frame.push(u8::from(held.is_some()));
    if let Some((first, last, signature)) = held {
        frame.extend_from_slice(&first.to_be_bytes());
        frame.extend_from_slice(&last.to_be_bytes());
        frame.extend_from_slice(&signature);
    }
    frame
}

fn is_given(answer: &[u8]) -> bool {
    answer[33] == 1
}

#[test]
fn who_asks_again_and_again_gets_two_blocks_and_who_may_only_read_gets_none() {
    let mut net = network(6, 1);
    let asks: Vec<_> = (0..50).map(|_| question(100, None)).collect();
    let answers = ask(&mut net, 1, &asks);
    assert_eq!((answers.len(), answers.iter().filter(|a| is_given(a)).count()), (50, 2));
    let end = sequence(&mut net, 0);
    assert_eq!(end, 512 + 1024, "its first, and two more");
    net.allow(1, Some(Access::Read));
    let one = question(1, None);
    assert!(ask(&mut net, 1, &[one]).iter().all(|answer| !is_given(answer)));
    net.allow(1, None);
    let one = question(1, None);
    assert!(ask(&mut net, 1, &[one]).iter().all(|answer| !is_given(answer)));
    assert_eq!(sequence(&mut net, 0), end);
}

#[test]
fn a_block_that_the_server_did_not_give_moves_no_numbers() {
    let mut net = leased(7);
    let before = sequence(&mut net, 0);
    let signature =
        net.query(1, "SELECT hex(signature), first, last FROM piecewise_leases ORDER BY last DESC");
    let hex = signature[0].split('"').nth(1).expect("a signature").to_owned();
    let byte = |n: usize| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).expect("hexadecimal");
    let real: [u8; 64] = std::array::from_fn(byte);
    let (first, last) = leases(&mut net, 1)[1];
    let frames = [
        question(0, Some((1 << 40, (1 << 40) + 511, [7; 64]))),
        question(0, Some((first + (1 << 40), last + (1 << 40), real))),
        question(0, Some((i64::MIN, i64::MAX, real))),
    ];
    assert!(ask(&mut net, 1, &frames).is_empty());
    // Another device's block is not its own.
    let stolen = question(0, Some((first, last, real)));
    net.run(0, "UPDATE piecewise_given SET last = 0");
    assert!(ask(&mut net, 2, std::slice::from_ref(&stolen)).is_empty());
    assert_eq!(number(&mut net, 0, "SELECT last FROM piecewise_given"), 0);
    assert!(ask(&mut net, 1, &[stolen]).is_empty());
    assert_eq!(number(&mut net, 0, "SELECT last FROM piecewise_given") as i64, last);
    assert_eq!(sequence(&mut net, 0), before);
}

#[test]
fn near_the_end_of_all_numbers_none_are_given_and_rows_sync() {
    let mut net = network(8, 2);
    net.run(1, "INSERT INTO orders VALUES (9223372036854775000, 'late')");
    insert(&mut net, 1, "next");
    net.sync_all();
    insert(&mut net, 2, "of the other");
    insert(&mut net, 1, "another");
    net.sync_all();
    net.sync_all();
    assert!((1..=2).all(|n| leases(&mut net, n).is_empty()));
    for n in 0..=2 {
        assert_eq!(number(&mut net, n, "SELECT count(DISTINCT name) FROM orders"), 4, "machine {n}");
    }
}

#[test]
fn with_a_server_that_gives_none_all_is_as_before() {
    let mut net = Network::new(9, 2, SCHEMA, &TrackOptions::default());
    net.leases = false;
    net.sync_all();
    for n in [1, 2] {
        insert(&mut net, n, &format!("of {n}"));
        net.wait(1000);
    }
    net.sync_all();
    assert!((1..=2).all(|n| leases(&mut net, n).is_empty()));
    assert_eq!(
        net.query(0, "SELECT id, name FROM orders"),
        ["Integer(1) Text(\"of 1\")", "Integer(2) Text(\"of 2\")"]
    );
}

#[test]
fn a_sequence_that_was_edited_by_hand_is_put_right_or_followed() {
    let mut net = leased(10);
    let block = leases(&mut net, 1)[0];
    net.run(1, "DELETE FROM sqlite_sequence");
    insert(&mut net, 1, "after a deleted sequence");
    net.sync_all();
    let next = insert(&mut net, 1, "in the block again");
    assert!(
        leases(&mut net, 1).iter().any(|(first, last)| (*first..=*last).contains(&next)),
        "{next} {block:?}"
    );
    net.run(1, "UPDATE sqlite_sequence SET seq = 5000000 WHERE name = 'orders'");
    assert_eq!(insert(&mut net, 1, "far up"), 5_000_001);
    net.sync_all();
    let next = insert(&mut net, 1, "in a new block");
    assert!(next > 5_000_001 && leases(&mut net, 1)[0].0 <= next);
    net.run(1, "UPDATE sqlite_sequence SET seq = 'nonsense' WHERE name = 'orders'");
    insert(&mut net, 1, "whatever SQLite makes of it");
    net.sync_all();
    for n in 0..=2 {
        assert_eq!(number(&mut net, n, "SELECT count(DISTINCT name) FROM orders"), 7, "machine {n}");
    }
    assert!(net.replica(0).conflicts(None).expect("a list").is_empty());
}

#[test]
fn a_copy_of_a_file_has_the_same_block_and_its_rows_move() {
    let mut net = leased(11);
    let copy = net.backup(1);
    let third = net.add_machine("", Follow::Tracked);
    net.restore(third, &copy);
    for n in [1, third] {
        insert(&mut net, n, &format!("in the copy {n}"));
        net.wait(1000);
    }
    net.sync_all();
    net.sync_all();
    for n in 0..=third {
        assert_eq!(number(&mut net, n, "SELECT count(DISTINCT name) FROM orders"), 4, "machine {n}");
        assert!(net.replica(n).conflicts(None).expect("a list").is_empty());
    }
}

#[test]
fn with_leases_few_rows_move_and_numbers_stay_small() {
    let life = Life { devices: 5, rounds: 80, offline: 50 };
    let (with, without) = (live(12, life, true), live(12, life, false));
    assert!(with.percent() < 1.0, "{with:?}");
    assert!(without.percent() > 10.0, "{without:?}");
    assert!(with.spread() < 100.0, "{with:?}");
}

#[test]
fn a_copy_of_a_file_gets_blocks_of_its_own() {
    let mut net = leased(14);
    let copy = net.backup(1);
    net.restore(2, &copy);
    net.sync(2);
    net.sync(2);
    let blocks = [1, 2].map(|n| leases(&mut net, n));
    assert!(blocks.iter().all(|blocks| !blocks.is_empty()));
    assert!(blocks[0].iter().all(|block| !blocks[1].contains(block)), "{blocks:?}");
    assert!((blocks[1][0].0..=blocks[1][0].1).contains(&insert(&mut net, 2, "by the copy")));
}
