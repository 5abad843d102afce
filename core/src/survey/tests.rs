//! Two sides and the frames between them.

#![allow(clippy::unwrap_used)] // in a test, a panic is how a fault shows

use super::*;
use proptest::prelude::*;

fn brief(n: u8) -> Brief {
    Brief([n; 16])
}

fn many(count: usize) -> Named {
    (0..count).map(|n| (format!("tenant{n:04}"), brief(n as u8))).collect()
}

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

/// Lets a client that holds `ours` ask a server that holds `theirs`; the client's side, and how many bytes were answered.
fn surveyed(ours: Named, theirs: Named) -> (Surveyor, usize) {
    let mut client = Surveyor::new(vec![pattern("tenant*")], ours);
    let answer = Survey::decode(&client.survey()).unwrap().answer(theirs);
    answer.iter().for_each(|frame| assert!(client.receive(frame).unwrap().is_empty()));
    assert!(client.is_done());
    (client, answer.iter().map(Vec::len).sum())
}

#[test]
fn equal_sides_need_one_byte_of_answer_however_many_databases_there_are() {
    let (client, answered) = surveyed(many(1000), many(1000));
    assert_eq!(answered, 1);
    assert_eq!(client.theirs("tenant0007"), Some(brief(7)));
    assert_eq!(client.named().count(), 0);
}

#[test]
fn one_database_that_differs_costs_its_bucket_alone() {
    let mut theirs = many(1000);
    theirs.insert("tenant0500".into(), brief(99));
    let (client, answered) = surveyed(many(1000), theirs);
    assert!(answered < 1000, "{answered}");
    assert_eq!(client.theirs("tenant0500"), Some(brief(99)));
    assert_eq!(client.theirs("tenant0501"), Some(brief(501usize as u8)));
}

#[test]
fn what_one_side_alone_has_is_told() {
    let (mut ours, mut theirs) = (many(10), many(10));
    ours.insert("tenant-here".into(), brief(1));
    theirs.insert("tenant-there".into(), brief(2));
    let (client, _) = surveyed(ours, theirs);
    assert_eq!(client.theirs("tenant-here"), None);
    assert_eq!(client.theirs("tenant-there"), Some(brief(2)));
    assert!(client.named().any(|name| name == "tenant-there"));
}

#[test]
fn a_database_of_which_the_client_is_not_sure_is_told_if_the_server_has_it() {
    let mut sure = many(100);
    sure.remove("tenant0042");
    let (client, _) = surveyed(sure, many(100));
    assert_eq!(client.theirs("tenant0042"), Some(brief(42)));
}

#[test]
fn news_replaces_what_was_told_before() {
    let (mut client, _) = surveyed(many(3), many(3));
    let news = Named::from([("tenant0001".to_owned(), brief(77)), ("tenant-new".to_owned(), brief(5))]);
    assert_eq!(client.receive(&Word::News(news.clone()).encode()).unwrap(), news);
    assert_eq!(client.theirs("tenant0001"), Some(brief(77)));
    assert_eq!(client.theirs("tenant0002"), Some(brief(2)));
    assert_eq!(client.theirs("tenant-new"), Some(brief(5)));
}

#[test]
fn a_star_stands_for_any_run_and_nothing_else_for_another() {
    for (text, covered, not) in [
        ("tenant*", &["tenant", "tenant1"][..], &["tenan", "xtenant1"][..]),
        ("*", &["a", "tenant"], &[]),
        ("a*b*c", &["abc", "axxbxxbc", "aabbcc"], &["abcd", "acb", "ab"]),
        ("shop", &["shop"], &["shops", "sho", ""]),
        ("*.old", &["x.old", "x.old.old"], &["x.older"]),
    ] {
        let one = pattern(text);
        covered.iter().for_each(|name| assert!(one.covers(name), "{text} covers {name}"));
        not.iter().for_each(|name| assert!(!one.covers(name), "{text} does not cover {name}"));
    }
    for bad in ["", "a/b", "a\nb", &"x".repeat(200)] {
        assert!(bad.parse::<Pattern>().is_err(), "{bad:?}");
    }
}

fn any_named() -> impl Strategy<Value = Named> {
    let one = ("[a-z]{1,12}", any::<[u8; 16]>().prop_map(Brief));
    proptest::collection::btree_map(one.0, one.1, 0..40)
}

proptest! {
    #[test]
    fn a_client_learns_what_the_server_has_whatever_both_hold(ours in any_named(), theirs in any_named()) {
        let (client, _) = surveyed(ours.clone(), theirs.clone());
        for name in ours.keys().chain(theirs.keys()) {
            prop_assert_eq!(client.theirs(name), theirs.get(name).copied());
        }
    }

    #[test]
    fn frames_come_back_and_no_part_of_one_is_another(named in any_named(), n in 0..BUCKETS) {
        for word in [Word::Bucket(n, named.clone()), Word::Surveyed, Word::News(named.clone())] {
            let bytes = word.encode();
            prop_assert_eq!(Word::decode(&bytes), Ok(word));
            (0..bytes.len()).for_each(|n| assert!(Word::decode(&bytes[..n]).is_err()));
        }
        let survey = Surveyor::new(vec![pattern("a*"), pattern("b")], named).survey;
        let bytes = survey.encode();
        prop_assert_eq!(Survey::decode(&bytes), Ok(survey));
        (0..bytes.len()).for_each(|n| assert!(Survey::decode(&bytes[..n]).is_err()));
    }

    #[test]
    fn no_bytes_make_decode_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 30u8..38) {
        let frame = [&[kind, VERSION], &bytes[..]].concat();
        let _ = (Word::decode(&frame), Survey::decode(&frame));
    }
}
