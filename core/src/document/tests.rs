use super::*;
use crate::change::{Action, Merge, OWN, Op, TextRun};
use crate::change_codec::encode;
use crate::frame::{OpKind, Template};

fn actor(time: u8, n: u8) -> Actor {
    let mut bytes = [n; 22];
    bytes[..6].copy_from_slice(&[0, 0, 0, 0, 0, time]);
    Actor(bytes)
}

fn column(name: &str, value: i64) -> (String, Merge, Value) {
    (name.to_owned(), Merge::Register, Value::Integer(value))
}

fn add(document: &mut Document, by: Actor, change: Change) -> ChangeHash {
    let hash = encode(&change, &by, &mut vec![]).unwrap();
    document.insert(hash, by, change);
    hash
}

fn shown(document: &Document) -> Option<Vec<(String, Content)>> {
    let view = document.evaluate();
    let shown = view.shown()?;
    Some(shown.into_iter().map(|(k, c)| (k.to_owned(), c.content.clone())).collect())
}

fn values(pairs: &[(&str, i64)]) -> Option<Vec<(String, Content)>> {
    Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), Content::Value(Value::Integer(*v)))).collect())
}

/// A row, and a copy of it to edit apart.
fn row() -> Document {
    let mut document = Document::default();
    let change = document.evaluate().insert(&[column("a", 1), column("b", 1)]);
    add(&mut document, actor(1, 1), change);
    document
}

fn merge(into: &mut Document, other: &Document) {
    for (hash, by, change) in other.changes() {
        into.insert(*hash, *by, change.clone());
    }
}

#[test]
fn edits_of_two_columns_both_stay_and_of_one_the_later_shows() {
    let (mut one, mut two) = (row(), row());
    let edit = one.evaluate().edit(&[column("a", 2)], OWN);
    add(&mut one, actor(2, 1), edit);
    let edit = two.evaluate().edit(&[column("a", 3), column("b", 3)], OWN);
    add(&mut two, actor(3, 2), edit);
    merge(&mut one, &two);
    assert_eq!(shown(&one), values(&[("a", 3), ("b", 3)]));
    let view = one.evaluate();
    let conflicts = view.conflicts();
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].2[0].content, Content::Value(Value::Integer(2)));
}

#[test]
fn an_edit_concurrent_with_a_delete_keeps_the_row() {
    let (mut one, mut two) = (row(), row());
    let delete = one.evaluate().delete();
    add(&mut one, actor(9, 1), delete);
    assert_eq!(shown(&one), None);
    let edit = two.evaluate().edit(&[column("a", 2)], OWN);
    add(&mut two, actor(2, 2), edit);
    merge(&mut one, &two);
    assert_eq!(shown(&one), values(&[("a", 2), ("b", 1)]));
}

#[test]
fn two_inserts_under_one_key_are_never_mixed() {
    let mut one = Document::default();
    let insert = one.evaluate().insert(&[column("a", 1), column("b", 1)]);
    add(&mut one, actor(5, 1), insert);
    let mut two = Document::default();
    let insert = two.evaluate().insert(&[column("a", 2), column("b", 2)]);
    add(&mut two, actor(4, 2), insert);
    let edit = two.evaluate().edit(&[column("b", 3)], OWN);
    add(&mut two, actor(6, 2), edit);
    merge(&mut one, &two);
    assert_eq!(shown(&one), values(&[("a", 1), ("b", 1)]));
    let view = one.evaluate();
    let others = view.other_rows();
    assert_eq!(others.len(), 1);
    let other: Vec<_> = others[0].1.values().map(|c| c.content.clone()).collect();
    assert_eq!(other, [Content::Value(Value::Integer(2)), Content::Value(Value::Integer(3))]);
    assert!(view.conflicts().is_empty());
}

#[test]
fn a_change_waits_for_what_it_builds_on() {
    let mut whole = row();
    let first = *whole.changes().next().unwrap().0;
    let edit = whole.evaluate().edit(&[column("a", 2)], OWN);
    let hash = encode(&edit, &actor(2, 1), &mut vec![]).unwrap();
    let mut part = Document::default();
    part.insert(hash, actor(2, 1), edit.clone());
    assert_eq!(part.evaluate().waiting, [hash]);
    assert_eq!(shown(&part), None);
    whole.insert(hash, actor(2, 1), edit);
    assert_eq!(whole.evaluate().heads, [hash]);
    assert_ne!(first, hash);
}

#[test]
fn changes_that_their_history_proves_wrong_are_void_with_what_builds_on_them() {
    let base = row();
    let good = base.evaluate().edit(&[column("a", 2)], OWN);
    let wrong = |work: &dyn Fn(&mut Change)| {
        let mut change = good.clone();
        work(&mut change);
        let mut document = base.clone();
        let hash = add(&mut document, actor(2, 1), change);
        let mut child = good.clone();
        child.deps = vec![hash];
        add(&mut document, actor(3, 1), child);
        let view = document.evaluate();
        assert_eq!(shown(&document), values(&[("a", 1), ("b", 1)]));
        assert_eq!(view.void.len(), 2);
        view.void.iter().find(|(h, _)| *h == hash).unwrap().1
    };
    let stranger = OpId { counter: 2, actor: actor(7, 7) };
    assert_eq!(wrong(&|c| c.start_op = 100), Void::StartOp);
    assert_eq!(wrong(&|c| c.start_op = crate::change_codec::COUNTER_MAX - 9), Void::StartOp);
    assert_eq!(wrong(&|c| c.ops[1].preds = vec![stranger]), Void::Pred);
    assert_eq!(wrong(&|c| c.ops[1].key = "b".into()), Void::Pred);
    assert_eq!(wrong(&|c| c.ops[1].action = Action::Increment(1)), Void::Pred);
    assert_eq!(wrong(&|c| c.ops[0].action = Action::Live(actor(7, 7))), Void::Life);
    assert_eq!(wrong(&|c| c.ops.remove(0).preds.clear()), Void::Life);
    assert_eq!(wrong(&|c| c.ops.push(Op { preds: vec![], ..c.ops[1].clone() })), Void::Life);
    let run = TextRun::Insert { object: stranger, after: None, text: "x".into() };
    assert_eq!(wrong(&|c| c.text.push(run.clone())), Void::Text);
    let own = OpId { counter: good.start_op + 1, actor: OWN };
    let run = TextRun::Delete { object: own, first: own, count: 1 << 19 };
    assert_eq!(wrong(&|c| c.text.push(run.clone())), Void::Text);
}

#[test]
fn one_actor_counts_once() {
    let mut document = row();
    let edit = document.evaluate().edit(&[column("a", 2)], OWN);
    add(&mut document, actor(1, 1), edit);
    assert_eq!(document.evaluate().void[0].1, Void::ActorTwice);
}

#[test]
fn an_edit_of_a_plain_insert_is_what_its_evaluation_gives() {
    let mut document = Document::default();
    let insert = document.evaluate().insert(&[column("a", 1), column("b", 2)]);
    let hash = add(&mut document, actor(1, 1), insert);
    let put = |name: &str| (name.to_owned(), OpKind::Put);
    let template = Template::fresh_insert(vec![put("a"), put("b")]);
    let plain = Plain { template: &template, actor: actor(1, 1), hash };
    let view = document.evaluate();
    assert_eq!(plain.delete(), view.delete());
    let edit = plain.edit(vec![("b".into(), Value::Integer(3)), ("new".into(), Value::Integer(4))]);
    assert_eq!(edit, view.edit(&[column("b", 3), column("new", 4)], OWN));
    assert!(plain.is_edited_by(&actor(2, 1), &edit));
    add(&mut document, actor(2, 1), edit.clone());
    assert_eq!(shown(&document), values(&[("a", 1), ("b", 3), ("new", 4)]));
    let others: [fn(&mut Change); 6] = [
        |c| c.deps.clear(),
        |c| c.start_op += 1,
        |c| c.ops[0].preds.clear(),
        |c| c.ops[1].preds.clear(),
        |c| c.ops[0].action = Action::Dead,
        |c| c.ops[2].action = Action::Counter(1),
    ];
    for make in others {
        let mut change = edit.clone();
        make(&mut change);
        assert!(!plain.is_edited_by(&actor(2, 1), &change), "{change:?}");
    }
    assert!(!plain.is_edited_by(&actor(1, 1), &edit), "one actor writes a row once");
}
