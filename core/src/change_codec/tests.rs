//! Automerge is the referee: what it makes of the same operations has the same bytes.

use super::*;
use crate::change::{Change, Merge, Op};
use crate::document::Document;
use crate::value::Value;
use automerge::transaction::Transactable;
use automerge::{ActorId, Automerge, ObjType, ROOT, ReadDoc, ScalarValue};
use proptest::prelude::*;

fn actor(n: u8) -> Actor {
    let mut bytes = [n; 22];
    bytes[5] = n.wrapping_mul(37);
    Actor(bytes)
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        (-100i64..100).prop_map(Value::Integer),
        (-1e300f64..1e300).prop_map(Value::Real),
        ".{0,20}".prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..9).prop_map(Value::Blob),
        Just(Value::RawText(vec![0xff, 1])),
    ]
}

fn scalar(value: &Value) -> ScalarValue {
    match value {
        Value::Null => ScalarValue::Null,
        Value::Integer(i) => ScalarValue::Int(*i),
        Value::Real(f) => ScalarValue::F64(*f),
        Value::Text(s) => ScalarValue::Str(s.as_str().into()),
        Value::Blob(b) => ScalarValue::Bytes(b.clone()),
        Value::RawText(b) => ScalarValue::Unknown { type_code: 10, bytes: b.clone() },
    }
}

/// The same row kept by us and by Automerge; every change is made by both and compared.
struct Both {
    document: Document,
    automerge: Automerge,
}

impl Both {
    fn new() -> Self {
        Self { document: Document::default(), automerge: Automerge::new() }
    }

    fn make(&mut self, by: Actor, work: impl FnOnce(&crate::document::View) -> Change) {
        let view = self.document.evaluate();
        assert_eq!((view.void.len(), view.waiting.len()), (0, 0), "{:?}", view.void);
        let change = work(&view);
        let mut chunk = vec![];
        let hash = encode(&change, &by, &mut chunk).unwrap();
        let theirs = by_automerge(&self.automerge, by, &change);
        assert_eq!(chunk, theirs.raw_bytes().to_vec(), "{change:?}");
        assert_eq!(hash.0, theirs.hash().0);
        self.automerge.apply_changes([theirs]).unwrap();
        self.document.insert(hash, by, change);
    }
}

/// The change that Automerge's own transaction makes of the same operations.
fn by_automerge(before: &Automerge, by: Actor, change: &Change) -> automerge::Change {
    let id = ActorId::from(&by.0[..]);
    let mut fork = before.clone().with_actor(id.clone());
    let mut tx = fork.transaction();
    let mut made = std::collections::HashMap::new();
    for (n, op) in change.ops.iter().enumerate() {
        let key = op.key.as_str();
        match &op.action {
            Action::Live(a) => {
                let incarnation = if *a == OWN { by } else { *a };
                tx.put(ROOT, key, ScalarValue::Bytes([incarnation.0, by.0].concat())).unwrap();
            }
            Action::Dead => tx.put(ROOT, key, false).unwrap(),
            Action::Put(value) => tx.put(ROOT, key, scalar(value)).unwrap(),
            Action::Counter(n) => tx.put(ROOT, key, ScalarValue::counter(*n)).unwrap(),
            Action::Increment(n) => tx.increment(ROOT, key, *n).unwrap(),
            Action::MakeText => {
                let object = tx.put_object(ROOT, key, ObjType::Text).unwrap();
                made.insert(change.start_op + n as u64, object);
            }
        }
    }
    for run in &change.text {
        let (TextRun::Insert { object, .. } | TextRun::Delete { object, .. }) = run;
        let found = made.get(&object.counter).filter(|_| object.actor == OWN).cloned();
        let object = found.unwrap_or_else(|| {
            let keys: Vec<_> = tx.keys(ROOT).collect();
            let all = keys.iter().flat_map(|k| tx.get_all(ROOT, k.as_str()).unwrap());
            let wanted = |o: &automerge::ObjId| match o {
                automerge::ObjId::Id(counter, a, _) => {
                    *counter == object.counter && a.to_bytes() == object.actor.0
                }
                _ => false,
            };
            all.map(|(_, o)| o).find(wanted).unwrap()
        });
        match run {
            TextRun::Insert { after, text, .. } => {
                let at = after.as_ref().map_or(0, |id| element(&tx, &object, id, by).unwrap() + 1);
                tx.splice_text(&object, at, 0, text).unwrap();
            }
            TextRun::Delete { first, count, .. } => {
                for n in 0..*count {
                    let at =
                        element(&tx, &object, &OpId { counter: first.counter + n, actor: first.actor }, by)
                            .unwrap();
                    tx.splice_text(&object, at, 1, "").unwrap();
                }
            }
        }
    }
    tx.commit_with(automerge::transaction::CommitOptions::default().with_time(0));
    fork.get_last_local_change().unwrap()
}

/// The place of an element of a text, deleted ones not counted.
fn element(tx: &impl ReadDoc, object: &automerge::ObjId, id: &OpId, by: Actor) -> Option<usize> {
    let wanted = if id.actor == OWN { by } else { id.actor };
    (0..tx.length(object)).find(|n| match tx.get(object, *n).unwrap().unwrap().1 {
        automerge::ObjId::Id(counter, who, _) => counter == id.counter && who.to_bytes() == wanted.0,
        _ => false,
    })
}

fn column(n: u8, merge: Merge, value: Value) -> (String, Merge, Value) {
    (format!("column {n}"), merge, value)
}

/// Columns that differ from what shows, as capture gives them; Automerge leaves out puts of equal values.
fn differing(
    view: &crate::document::View,
    columns: Vec<(String, Merge, Value)>,
) -> Vec<(String, Merge, Value)> {
    use crate::document::Content;
    let shown = view.shown().unwrap();
    let same = |key: &str, value: &Value| match &shown[key].content {
        Content::Value(v) => v == value,
        Content::Counter(n) => *value == Value::Integer(*n),
        Content::Text(t) => *value == Value::Text(t.clone()),
        _ => false,
    };
    columns.into_iter().filter(|(key, _, value)| !same(key, value)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_fresh_row_has_automerges_bytes(values in proptest::collection::vec(value(), 0..12)) {
        let columns: Vec<_> =
            values.iter().enumerate().map(|(n, v)| column(n as u8, Merge::Register, v.clone())).collect();
        let mut both = Both::new();
        both.make(actor(9), |view| view.insert(&columns));
        let names: Vec<_> = columns.iter().map(|(name, _, _)| (name.as_str(), false)).collect();
        let refs: Vec<_> = values.iter().map(Value::as_ref).collect();
        let hash = FreshEncoder::new(&names).hash(&actor(9), &refs);
        prop_assert_eq!(hash.0, both.automerge.get_heads()[0].0);
    }

    #[test]
    fn a_history_of_edits_deletes_counters_and_texts_has_automerges_bytes(
        steps in proptest::collection::vec((0u8..5, 0u8..3, value(), "[a-zé]{0,6}", -9i64..9), 1..12)
    ) {
        let mut both = Both::new();
        let all = |text: &str, n: i64| vec![
            column(0, Merge::Register, Value::Integer(n)),
            column(1, Merge::Counter, Value::Integer(n)),
            column(2, Merge::Text, Value::Text(text.to_owned())),
        ];
        both.make(actor(1), |view| view.insert(&all("start", 0)));
        for (n, (kind, _, value, text, number)) in steps.into_iter().enumerate() {
            let by = actor(n as u8 + 2);
            both.make(by, |view| {
                if !view.is_live() {
                    return view.insert(&all(&text, 1000 + n as i64));
                }
                let edits = match kind {
                    0 => return view.delete(),
                    1 => vec![column(0, Merge::Register, value)],
                    2 => vec![column(1, Merge::Counter, Value::Integer(number))],
                    3 => vec![column(2, Merge::Text, Value::Text(text))],
                    _ => all(&text, number),
                };
                view.edit(&differing(view, edits))
            });
        }
    }

    #[test]
    fn concurrent_histories_show_what_automerge_shows_in_any_order(
        steps in proptest::collection::vec((0usize..3, 0u8..6, -9i64..9, "[a-z]{0,5}"), 1..20),
        seed: u64,
    ) {
        // Three replicas edit one row; kind 5 merges another's changes first.
        let mut documents = [Document::default(), Document::default(), Document::default()];
        let mut referee = Automerge::new();
        let all = |text: &str, n: i64| vec![
            column(0, Merge::Register, Value::Integer(n)),
            column(1, Merge::Counter, Value::Integer(n)),
            column(2, Merge::Text, Value::Text(text.to_owned())),
        ];
        for (n, (who, kind, number, text)) in steps.into_iter().enumerate() {
            if kind == 5 {
                let other = documents[(who + 1) % 3].clone();
                for (hash, by, change) in other.changes() {
                    documents[who].insert(*hash, *by, change.clone());
                }
                continue;
            }
            let view = documents[who].evaluate();
            let change = match kind {
                _ if !view.is_live() => view.insert(&all(&text, number)),
                0 => view.delete(),
                1 => view.edit(&[column(0, Merge::Register, Value::Integer(number))]),
                2 => view.edit(&[column(1, Merge::Counter, Value::Integer(number))]),
                _ => view.edit(&[column(2, Merge::Text, Value::Text(text))]),
            };
            let by = actor(n as u8 + 1);
            let mut chunk = vec![];
            let hash = encode(&change, &by, &mut chunk).unwrap();
            referee.apply_changes([automerge::Change::from_bytes(chunk).unwrap()]).unwrap();
            documents[who].insert(hash, by, change);
        }
        let mut merged = Document::default();
        let mut changes: Vec<_> = documents
            .iter()
            .flat_map(|d| d.changes().map(|(h, a, c)| (*h, *a, c.clone())).collect::<Vec<_>>())
            .collect();
        let len = changes.len();
        if len > 0 {
            changes.rotate_left((seed % len as u64) as usize);
        }
        changes.into_iter().for_each(|(h, a, c)| merged.insert(h, a, c));
        let view = merged.evaluate();
        prop_assert!(view.void.is_empty() && view.waiting.is_empty());
        for key in ["", "column 0", "column 1", "column 2"] {
            let mut theirs: Vec<String> = referee.get_all(ROOT, key).unwrap().iter().map(|(value, id)| {
                match value {
                    automerge::Value::Object(_) => format!("text {}", referee.text(id).unwrap()),
                    automerge::Value::Scalar(s) => match s.as_ref() {
                        ScalarValue::Counter(c) => format!("counter {}", i64::from(c)),
                        ScalarValue::Bytes(b) => format!("live {:?}", Actor::try_from(&b[..22]).unwrap()),
                        ScalarValue::Boolean(_) => "dead".into(),
                        ScalarValue::Int(i) => format!("int {i}"),
                        other => format!("{other:?}"),
                    },
                }
            }).collect();
            let mut ours: Vec<String> = view.cells.get(key).into_iter().flatten().map(|cell| {
                use crate::document::Content;
                match &cell.content {
                    Content::Text(t) => format!("text {t}"),
                    Content::Counter(n) => format!("counter {n}"),
                    Content::Live(a) => format!("live {a:?}"),
                    Content::Dead => "dead".into(),
                    Content::Value(v) => format!("int {v}"),
                }
            }).collect();
            theirs.sort();
            ours.sort();
            prop_assert_eq!(ours, theirs, "{}", key);
        }
        // What Automerge got can be saved and loaded: no change poisoned it.
        prop_assert!(Automerge::load(&referee.save()).is_ok());
    }
}

/// The runs of all columns: what it costs to write a change, whatever the counts in it.
fn runs(columns: &Columns) -> usize {
    let numbers = [
        &columns.object_actor,
        &columns.object_counter,
        &columns.key_actor,
        &columns.action,
        &columns.value_meta,
        &columns.pred_group,
        &columns.pred_actor,
    ];
    let numbers: usize = numbers.iter().map(|column| column.len()).sum();
    numbers
        + columns.key_counter.len()
        + columns.pred_counter.len()
        + columns.key_string.len()
        + columns.insert.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_run_of_deletions_costs_the_same_however_many_elements_it_names(
        counts in proptest::collection::vec((1u64..1 << 20, any::<u8>()), 1..200)
    ) {
        let id = |counter, n: u8| OpId { counter, actor: actor(n % 5 + 1) };
        let delete = |(n, (count, by)): (usize, &(u64, u8))| {
            TextRun::Delete { object: id(3, 1), first: id(n as u64 * (1 << 20), *by), count: *count }
        };
        let life = Op { key: String::new(), action: Action::Live(OWN), preds: vec![] };
        let text = counts.iter().enumerate().map(delete).collect();
        let change = Change { deps: vec![], start_op: 1, ops: vec![life], text };
        let mut columns = Columns::new(&change, &actor(9));
        prop_assert!(columns.fill(&change).is_ok());
        prop_assert!(runs(&columns) <= 24 * (counts.len() + 1), "{} runs", runs(&columns));
    }

    #[test]
    fn counters_beyond_the_limit_are_refused_before_anything_is_written(start_op in 1u64.., count in 1u64..) {
        let text = vec![TextRun::Delete { object: OpId { counter: 1, actor: OWN }, first: OpId { counter: 1, actor: OWN }, count }];
        let life = Op { key: String::new(), action: Action::Live(OWN), preds: vec![] };
        let change = Change { deps: vec![], start_op, ops: vec![life], text };
        let mut columns = Columns::new(&change, &actor(9));
        let fits = start_op.checked_add(count).and_then(|n| n.checked_add(1)).is_some_and(|end| end <= COUNTER_MAX);
        prop_assert_eq!(columns.fill(&change).is_ok(), fits);
        prop_assert!(fits || runs(&columns) == 0);
    }
}
