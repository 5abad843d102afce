//! What evaluating costs, counted in steps: whatever a peer sends, it is in proportion to what it sent.

use super::*;
use crate::change::{Action, Merge, OWN, Op, TextRun};
use crate::change_codec::encode;
use proptest::prelude::*;

fn actor(time: u16, n: u16) -> Actor {
    let mut bytes = [0; 22];
    bytes[4..6].copy_from_slice(&time.to_be_bytes());
    bytes[20..].copy_from_slice(&n.to_be_bytes());
    Actor(bytes)
}

fn add(evaluation: &mut Evaluation, by: Actor, change: &Change) -> ChangeHash {
    let hash = encode(change, &by, &mut vec![]).unwrap();
    evaluation.add(hash, by, change);
    hash
}

fn columns(n: i64) -> Vec<(String, Merge, Value)> {
    ["a", "b", "c", "d"].map(|name| (name.to_owned(), Merge::Register, Value::Integer(n))).into()
}

fn life() -> Op {
    Op { key: String::new(), action: Action::Live(OWN), preds: vec![] }
}

#[test]
fn concurrent_inserts_of_one_row_cost_in_proportion() {
    let mut evaluation = Evaluation::default();
    let insert = Evaluation::default().view().insert(&columns(1));
    let mut last = 0;
    for n in 1..=4000 {
        add(&mut evaluation, actor(n, n), &insert);
        if n == 2000 {
            last = evaluation.work();
        }
    }
    assert_eq!(evaluation.view().heads.len(), 4000);
    assert!(evaluation.work() <= 2 * last + 16, "{} after {last}", evaluation.work());
    assert!(evaluation.work() <= 16 * 4000, "{} steps", evaluation.work());
    assert!(evaluation.view().is_in_conflict());
    assert_eq!(evaluation.view().other_rows().len(), 3999);
    // One who has seen them all replaces them at a cost of one step each.
    let before = evaluation.work();
    let edit = evaluation.view().edit(&columns(2));
    add(&mut evaluation, actor(5000, 1), &edit);
    assert_eq!(evaluation.view().heads.len(), 1);
    assert!(evaluation.work() - before <= 8 * 4000, "{} steps", evaluation.work() - before);
}

#[test]
fn edits_by_many_who_know_of_none_but_themselves_cost_in_proportion() {
    let mut evaluation = Evaluation::default();
    let mut own: Vec<Evaluation> = (0..300).map(|_| Evaluation::default()).collect();
    for round in 0..4u16 {
        for (n, mine) in own.iter_mut().enumerate() {
            let change = if round == 0 {
                mine.view().insert(&columns(1))
            } else {
                mine.view().edit(&columns(i64::from(round) + 1))
            };
            let by = actor(round + 1, n as u16 + 1);
            add(mine, by, &change);
            add(&mut evaluation, by, &change);
        }
    }
    assert_eq!(evaluation.view().void.len(), 0);
    assert_eq!(evaluation.view().heads.len(), 300);
    assert!(evaluation.work() <= 40 * 1200, "{} steps", evaluation.work());
}

#[test]
fn what_is_deleted_again_and_again_is_looked_at_once() {
    let mut evaluation = Evaluation::default();
    let text = "x".repeat(20_000);
    let insert = evaluation.view().insert(&[("text".to_owned(), Merge::Text, Value::Text(text))]);
    let first = add(&mut evaluation, actor(1, 1), &insert);
    let id = |counter| OpId { counter, actor: actor(1, 1) };
    let begin = evaluation.work();
    for n in 0..50u16 {
        let delete = TextRun::Delete { object: id(2), first: id(3), count: 20_000 };
        let edit = Change { deps: vec![first], start_op: 20_003, ops: vec![life()], text: vec![delete; 200] };
        add(&mut evaluation, actor(2, n), &edit);
    }
    let view = evaluation.view();
    assert_eq!(view.void.len(), 0, "{:?}", view.void.values().next());
    assert_eq!(view.cells["text"][0].content, Content::Text(String::new()));
    // 200 million deletions, in 10,000 runs.
    assert!(evaluation.work() - begin < 10 * (20_000 / 3 + 10_000), "{} steps", evaluation.work() - begin);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn no_runs_of_edits_in_a_text_cost_more_than_a_few_steps_each(
        runs in proptest::collection::vec((0u64..3000, 0u64..3000, any::<bool>()), 1..300)
    ) {
        let mut evaluation = Evaluation::default();
        let text = "y".repeat(3000);
        let insert = evaluation.view().insert(&[("text".to_owned(), Merge::Text, Value::Text(text))]);
        let first = add(&mut evaluation, actor(1, 1), &insert);
        let id = |counter| OpId { counter, actor: actor(1, 1) };
        let begin = evaluation.work();
        let text = runs.iter().map(|(at, count, insert)| match insert {
            true => TextRun::Insert { object: id(2), after: Some(id(3 + at)), text: "né".into() },
            false => TextRun::Delete { object: id(2), first: id(3 + at), count: (*count).min(3000 - at).max(1) },
        });
        let edit = Change { deps: vec![first], start_op: 3003, ops: vec![life()], text: text.collect() };
        add(&mut evaluation, actor(2, 1), &edit);
        prop_assert_eq!(evaluation.view().void.len(), 0);
        // Each block holds four spans here, and each cut of one renumbers those behind it.
        let spans = 1000 + 2 * runs.len() as u64;
        prop_assert!(evaluation.work() - begin <= runs.len() as u64 * (40 + spans / 2) + 10 * spans);
    }
}
