use super::*;
use crate::change::{Action, Merge, OWN, Op, TextRun};
use crate::change_codec::encode;
use crate::frame::{OpKind, Template};
use automerge::ReadDoc;
use proptest::prelude::*;

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
fn what_another_row_under_the_key_has_never_shows_in_the_row_that_shows() {
    let mut rows = row();
    let beside = rows.evaluate().insert_beside(&[column("a", 2)], None);
    add(&mut rows, actor(2, 2), beside);
    assert_eq!(rows.evaluate().other_rows().len(), 1);
    assert_eq!(shown(&rows), values(&[("a", 2)]), "no b of the other row");
    let decision = rows.evaluate().decide(&[column("a", 2)]);
    add(&mut rows, actor(3, 2), decision);
    assert!(rows.evaluate().other_rows().is_empty());
    assert_eq!(shown(&rows), values(&[("a", 2)]), "nor once that row has ended");
    let edit = rows.evaluate().edit(&[("b".to_owned(), Merge::Counter, Value::Integer(7))]);
    assert!(!edit.ops.iter().any(|op| matches!(op.action, Action::Increment(_))), "nothing to add to");
    add(&mut rows, actor(4, 1), edit);
    let now = |name: &str, content| (name.to_owned(), content);
    let both = vec![now("a", Content::Value(Value::Integer(2))), now("b", Content::Counter(7))];
    assert_eq!(shown(&rows), Some(both));
}

#[test]
fn a_row_that_is_inserted_anew_has_nothing_of_the_one_that_was_deleted() {
    let mut row = row();
    let delete = row.evaluate().delete();
    add(&mut row, actor(2, 1), delete);
    let anew = row.evaluate().insert(&[column("a", 2)]);
    add(&mut row, actor(3, 1), anew);
    assert_eq!(shown(&row), values(&[("a", 2)]));
}

#[test]
fn edits_of_two_columns_both_stay_and_of_one_the_later_shows() {
    let (mut one, mut two) = (row(), row());
    let edit = one.evaluate().edit(&[column("a", 2)]);
    add(&mut one, actor(2, 1), edit);
    let edit = two.evaluate().edit(&[column("a", 3), column("b", 3)]);
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
    let edit = two.evaluate().edit(&[column("a", 2)]);
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
    let edit = two.evaluate().edit(&[column("b", 3)]);
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
    let edit = whole.evaluate().edit(&[column("a", 2)]);
    let hash = encode(&edit, &actor(2, 1), &mut vec![]).unwrap();
    let mut part = Document::default();
    part.insert(hash, actor(2, 1), edit.clone());
    assert_eq!(part.evaluate().waiting, [hash].into());
    assert_eq!(shown(&part), None);
    whole.insert(hash, actor(2, 1), edit);
    assert_eq!(whole.evaluate().heads, [hash]);
    assert_ne!(first, hash);
}

#[test]
fn changes_that_their_history_proves_wrong_are_void_with_what_builds_on_them() {
    let base = row();
    let good = base.evaluate().edit(&[column("a", 2)]);
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
        view.void[&hash]
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
    let edit = document.evaluate().edit(&[column("a", 2)]);
    add(&mut document, actor(1, 1), edit);
    assert_eq!(*document.evaluate().void.values().next().unwrap(), Void::ActorTwice);
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
    assert_eq!(edit, view.edit(&[column("b", 3), column("new", 4)]));
    add(&mut document, actor(2, 1), edit);
    assert_eq!(shown(&document), values(&[("a", 1), ("b", 3), ("new", 4)]));
}

/// What a document shows, to be compared.
fn all_of(view: &View) -> impl PartialEq + std::fmt::Debug + use<> {
    (view.heads.clone(), view.max_op, view.cells.clone(), view.waiting.clone(), view.void.clone())
}

fn columns(text: &str, n: i64) -> [(String, Merge, Value); 3] {
    [
        ("text".to_owned(), Merge::Text, Value::Text(text.to_owned())),
        ("sum".to_owned(), Merge::Counter, Value::Integer(n)),
        ("mark".to_owned(), Merge::Register, Value::Integer(n)),
    ]
}

/// A step of somebody who edits a row: who, what, and with which text and number.
type Step = (usize, u8, String, i64);

fn step() -> impl Strategy<Value = Step> {
    (0usize..3, 0u8..9, "[abé👨\u{200d}]{0,6}", -9i64..9)
}

/// The changes that three people make to one row, each of whom now and then takes in what another has.
fn changes_of(steps: Vec<Step>) -> Vec<(ChangeHash, Actor, Change)> {
    let mut documents = [Document::default(), Document::default(), Document::default()];
    let mut made = vec![];
    for (n, (who, kind, text, number)) in steps.into_iter().enumerate() {
        if (6..8).contains(&kind) {
            let other = documents[(who + 1) % 3].clone();
            merge(&mut documents[who], &other);
            continue;
        }
        let view = documents[who].evaluate();
        let [body, sum, mark] = columns(&typed_into(&view, &text, number), number);
        let change = match kind {
            _ if !view.is_live() => view.insert(&columns(&text, number)),
            0 if number > 5 => view.delete(),
            0 => view.edit(&[body, sum, mark]),
            1 => view.edit(&[sum]),
            2 => view.edit(&[mark]),
            3 => view.edit(&[("text".to_owned(), Merge::Register, Value::Null)]),
            _ => view.edit(&[body]),
        };
        let by = actor(n as u8 + 1, who as u8);
        made.push((add(&mut documents[who], by, change.clone()), by, change));
    }
    made
}

/// The text of a row with something typed into it, sometimes over what is there.
fn typed_into(view: &View, text: &str, number: i64) -> String {
    let shown = view.shown().and_then(|cells| match &cells.get("text")?.content {
        Content::Text(text) => Some(text.clone()),
        _ => None,
    });
    let before: Vec<char> = shown.unwrap_or_default().chars().collect();
    let (start, rest) = before.split_at(number.unsigned_abs() as usize % (before.len() + 1));
    let over = if number > 4 { rest.len().min(3) } else { 0 };
    start.iter().copied().chain(text.chars()).chain(rest[over..].iter().copied()).collect()
}

/// A change spoilt in one way or another.
fn spoilt(mut change: Change, by: Actor, kind: u8) -> Change {
    let id = |counter| OpId { counter, actor: by };
    match kind {
        0 => change.start_op += 1,
        1 => change.ops[0].action = Action::Live(actor(99, 99)),
        2 => change.ops.iter_mut().for_each(|op| op.preds.clear()),
        3 => change.text.push(TextRun::Delete { object: id(3), first: id(4), count: 2 }),
        _ => change.deps.clear(),
    }
    change
}

/// Puts a list into another order.
fn shuffle<T>(list: &mut [T], mut seed: u64) {
    for n in (1..list.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        list.swap(n, (seed >> 33) as usize % (n + 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn an_evaluation_that_goes_on_shows_what_one_of_all_changes_shows(
        steps in proptest::collection::vec(step(), 1..40),
        wrong in proptest::collection::vec((any::<u16>(), 0u8..5), 0..3),
        lost in proptest::collection::vec(any::<u16>(), 0..3),
        seed: u64,
    ) {
        let mut changes = changes_of(steps);
        let hash_of = |change: &Change, by: &Actor| encode(change, by, &mut vec![]).unwrap();
        for (n, (place, kind)) in wrong.into_iter().enumerate() {
            let Some((_, by, change)) = changes.get(place as usize % changes.len().max(1)).cloned() else { continue };
            let (wrong, by) = (spoilt(change, by, kind), actor(200, n as u8));
            let hash = hash_of(&wrong, &by);
            let life = Op { key: String::new(), action: Action::Dead, preds: vec![] };
            let child = Change { deps: vec![hash], start_op: wrong.start_op + 50, ops: vec![life], text: vec![] };
            changes.push((hash, by, wrong));
            let by = actor(201, n as u8);
            changes.push((hash_of(&child, &by), by, child));
        }
        for place in lost {
            if !changes.is_empty() {
                changes.remove(place as usize % changes.len());
            }
        }
        shuffle(&mut changes, seed);
        let (mut going_on, mut document) = (Evaluation::default(), Document::default());
        for (hash, by, change) in changes {
            going_on.add(hash, by, &change);
            document.insert(hash, by, change);
            prop_assert!(!going_on.needs_all());
            prop_assert_eq!(all_of(going_on.view()), all_of(&document.evaluate()));
            prop_assert_eq!(going_on.len(), document.len());
        }
        let edit = |view: &View| view.is_live().then(|| view.edit(&columns("other text", 77)));
        prop_assert_eq!(edit(going_on.view()), edit(&document.evaluate()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn texts_that_several_people_type_into_read_as_automerge_reads_them(
        steps in proptest::collection::vec(step(), 1..40),
        seed: u64,
    ) {
        let mut changes = changes_of(steps);
        let mut referee = automerge::Automerge::new();
        let chunk = |by: &Actor, change: &Change| {
            let mut chunk = vec![];
            encode(change, by, &mut chunk).unwrap();
            automerge::Change::from_bytes(chunk).unwrap()
        };
        referee.apply_changes(changes.iter().map(|(_, by, change)| chunk(by, change))).unwrap();
        shuffle(&mut changes, seed);
        let mut document = Evaluation::default();
        changes.iter().for_each(|(hash, by, change)| document.add(*hash, *by, change));
        prop_assert!(document.view().void.is_empty());
        let text = |cell: &Cell| if let Content::Text(text) = &cell.content { Some(text.clone()) } else { None };
        let mut ours: Vec<_> = document.view().cells.get("text").into_iter().flatten().filter_map(text).collect();
        let objects = referee.get_all(automerge::ROOT, "text").unwrap();
        let mut theirs: Vec<_> = objects.iter().filter_map(|(_, id)| referee.text(id).ok()).collect();
        ours.sort();
        theirs.sort();
        prop_assert_eq!(ours, theirs);
    }
}

#[test]
fn an_evaluation_that_meets_an_actor_again_needs_all_changes_at_once() {
    let document = row();
    let (hash, by, insert) = document.changes().map(|(h, a, c)| (*h, *a, c.clone())).next().unwrap();
    let mut evaluation = Evaluation::default();
    evaluation.add(hash, by, &insert);
    assert!(!evaluation.needs_all());
    let edit = evaluation.view().edit(&[column("a", 2)]);
    let hash = encode(&edit, &by, &mut vec![]).unwrap();
    evaluation.add(hash, by, &edit);
    assert!(evaluation.needs_all());
    assert_eq!(evaluation.view().void[&hash], Void::ActorTwice);
}

#[test]
fn a_change_beside_many_is_judged_by_its_own_history() {
    let mut evaluation = Evaluation::default();
    let put = |evaluation: &mut Evaluation, by: Actor, change: &Change| {
        evaluation.add(encode(change, &by, &mut vec![]).unwrap(), by, change);
    };
    let insert = evaluation.view().insert(&columns("text", 0));
    put(&mut evaluation, actor(1, 0), &insert);
    let late = evaluation.view().edit(&columns("texts", 5));
    for n in 1..=100u8 {
        let edit = evaluation.view().edit(&columns(&format!("text{n}"), i64::from(n)));
        put(&mut evaluation, actor(2, n), &edit);
    }
    put(&mut evaluation, actor(1, 9), &late);
    let mut unseen = late.clone();
    unseen.ops[2].preds = evaluation.view().cells["mark"].iter().map(|c| c.id).collect();
    put(&mut evaluation, actor(3, 9), &unseen);
    let view = evaluation.view();
    assert_eq!(
        view.void.values().collect::<Vec<_>>(),
        [&Void::Pred],
        "it names as replaced what it has not seen"
    );
    let cells = view.shown().unwrap();
    assert_eq!(cells["sum"].content, Content::Counter(100 + 5));
    assert_eq!(cells["mark"].content, Content::Value(Value::Integer(100)));
    let Content::Text(text) = &cells["text"].content else { panic!("a text") };
    assert!(text.contains("100") && text.contains('s'), "{text}");
}

/// The text of a row after an edit that another may type on, with the change that it took.
fn typed(evaluation: &mut Evaluation, n: u16, text: &str) -> Change {
    let edit = evaluation.view().edit(&[("text".to_owned(), Merge::Text, Value::Text(text.to_owned()))]);
    let mut by = actor(2, 0);
    by.0[20..].copy_from_slice(&n.to_be_bytes());
    evaluation.add(encode(&edit, &by, &mut vec![]).unwrap(), by, &edit);
    let Content::Text(shown) = &evaluation.view().shown().unwrap()["text"].content else { panic!("a text") };
    assert_eq!(shown, text, "edit {n}");
    edit
}

#[test]
fn a_text_edited_thousands_of_times_reads_as_it_was_typed() {
    let mut evaluation = Evaluation::default();
    let insert = evaluation.view().insert(&columns("début", 0));
    evaluation.add(encode(&insert, &actor(1, 0), &mut vec![]).unwrap(), actor(1, 0), &insert);
    let (mut text, mut seed): (Vec<char>, u32) = ("début".chars().collect(), 7);
    let mut below = |n: usize| {
        seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        (seed >> 8) as usize % n
    };
    for n in 0..3000 {
        let at = below(text.len() + 1);
        match n % 3 {
            0 => drop(text.splice(at..(at + 1 + below(9)).min(text.len()), [])),
            _ => drop(text.splice(at..at, "é12ß5".chars().take(1 + below(5)))),
        }
        typed(&mut evaluation, n, &text.iter().collect::<String>());
    }
}

#[test]
fn a_text_of_too_many_pieces_to_delete_one_by_one_is_replaced() {
    for (pieces, replaced) in [(4096, false), (4097, true)] {
        let mut evaluation = Evaluation::default();
        let insert = evaluation.view().insert(&columns("", 0));
        evaluation.add(encode(&insert, &actor(1, 0), &mut vec![]).unwrap(), actor(1, 0), &insert);
        let mut text = String::new();
        for n in 0..pieces {
            text.insert(text.len() / 2, char::from(b'a' + (n % 26) as u8));
            typed(&mut evaluation, n, &text);
        }
        let emptied = typed(&mut evaluation, pieces, "");
        let action = emptied.ops.get(1).map(|op| &op.action);
        assert_eq!(
            (action == Some(&Action::MakeText), emptied.text.is_empty()),
            (replaced, replaced),
            "{pieces}"
        );
    }
}

fn text(name: &str, value: Option<&str>) -> (String, Merge, Value) {
    (name.to_owned(), Merge::Text, value.map_or(Value::Null, |v| Value::Text(v.to_owned())))
}

fn counter(name: &str, value: i64) -> (String, Merge, Value) {
    (name.to_owned(), Merge::Counter, Value::Integer(value))
}

/// What is in conflict, by column, whatever the order in which the changes come.
fn conflicts(document: &Document) -> Vec<(String, Vec<Content>)> {
    let of = |view: &View| -> Vec<_> {
        let contents = |cells: Vec<&Cell>| cells.into_iter().map(|c| c.content.clone()).collect();
        view.conflicts().into_iter().map(|(key, _, others)| (key.to_owned(), contents(others))).collect()
    };
    let expected = of(&document.evaluate());
    for backwards in [false, true] {
        let mut changes: Vec<_> = document.changes().collect();
        changes.sort_by_key(|(_, actor, _)| **actor);
        if backwards {
            changes.reverse();
        }
        let mut evaluation = Evaluation::default();
        changes.into_iter().for_each(|(hash, actor, change)| evaluation.add(*hash, *actor, change));
        assert_eq!(of(evaluation.view()), expected);
        assert_eq!(evaluation.view().is_in_conflict(), !expected.is_empty());
    }
    expected
}

#[test]
fn what_was_written_into_a_text_or_counter_that_another_cleared_is_a_conflict_until_it_is_decided() {
    for edit_first in [false, true] {
        let mut one = Document::default();
        let insert = one.evaluate().insert(&[text("t", Some("hello")), counter("c", 5)]);
        add(&mut one, actor(1, 1), insert);
        let mut two = one.clone();
        let (clear_at, edit_at) = if edit_first { (9, 2) } else { (2, 9) };
        let clear = one.evaluate().edit(&[text("t", None), ("c".into(), Merge::Counter, Value::Null)]);
        add(&mut one, actor(clear_at, 1), clear);
        assert_eq!(conflicts(&one), []);
        let edit = two.evaluate().edit(&[text("t", Some("hello world")), counter("c", 8)]);
        add(&mut two, actor(edit_at, 2), edit);
        let again = two.evaluate().edit(&[text("t", Some("llo world"))]);
        add(&mut two, actor(edit_at + 1, 2), again);
        merge(&mut one, &two);
        let null = Content::Value(Value::Null);
        assert_eq!(shown(&one), Some(vec![("c".into(), null.clone()), ("t".into(), null)]));
        let lost = [
            ("c".to_owned(), vec![Content::Counter(8)]),
            ("t".to_owned(), vec![Content::Text("llo world".into())]),
        ];
        assert_eq!(conflicts(&one), lost);
        // One who does not know of the edit decides nothing; one who does ends it.
        let knows = one.evaluate().edit(&[text("t", Some("hello world"))]);
        add(&mut one, actor(20, 1), knows);
        assert_eq!(conflicts(&one), lost[..1]);
        let knows = one.evaluate().edit(&[counter("c", 8)]);
        add(&mut one, actor(21, 1), knows);
        assert_eq!(conflicts(&one), []);
        assert_eq!(
            shown(&one),
            Some(vec![("c".into(), Content::Counter(8)), ("t".into(), Content::Text("hello world".into()))])
        );
    }
}
