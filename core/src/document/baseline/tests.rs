use super::*;
use crate::change::Merge;
use crate::change_codec::encode;
use crate::document::Document;
use proptest::prelude::*;
use std::convert::Infallible;

/// A step of somebody who edits a row: who, what, and with which number.
type Step = (usize, u8, i64);

type Made = (ChangeHash, Actor, Change);

fn actor(time: u8, n: u8) -> Actor {
    let mut bytes = [n; 22];
    bytes[..6].copy_from_slice(&[0, 0, 0, 0, 0, time]);
    Actor(bytes)
}

fn columns(n: i64) -> Vec<(String, Merge, Value)> {
    let mark = match n % 4 {
        0 => Value::Text("long ".repeat(60) + &n.to_string()),
        1 => Value::Null,
        2 => Value::Blob(vec![n as u8; 300]),
        _ => Value::Real(n as f64 / 2.0),
    };
    let sum = if n == 7 { Value::Null } else { Value::Integer(n) };
    vec![
        ("mark".to_owned(), Merge::Register, mark),
        ("other".to_owned(), Merge::Register, Value::Integer(n)),
        ("sum".to_owned(), Merge::Counter, sum),
        ("text".to_owned(), Merge::Text, if n == 8 { Value::Text("typed".into()) } else { Value::Null }),
    ]
}

/// The changes that three people make to one row, each of whom now and then takes in what another has.
fn changes_of(steps: Vec<Step>) -> Vec<Made> {
    let mut documents = [Document::default(), Document::default(), Document::default()];
    let mut made = vec![];
    for (n, (who, kind, number)) in steps.into_iter().enumerate() {
        if kind > 5 {
            let other = documents[(who + 1) % 3].clone();
            other.changes().for_each(|(h, a, c)| documents[who].insert(*h, *a, c.clone()));
            continue;
        }
        let view = documents[who].evaluate();
        let all = columns(number);
        let change = match kind {
            _ if !view.is_live() => view.insert(&all),
            0 if number > 5 => view.delete(),
            0 => view.edit(&all),
            kind => view.edit(&all[usize::from(kind) % 4..][..1]),
        };
        let by = actor(n as u8 + 1, who as u8);
        let hash = encode(&change, &by, &mut vec![]).unwrap();
        documents[who].insert(hash, by, change.clone());
        made.push((hash, by, change));
    }
    made
}

fn spoilt(mut change: Change, kind: u8) -> Change {
    match kind {
        0 => change.start_op += 1,
        1 => change.ops[0].action = Action::Live(actor(99, 99)),
        2 => change.ops.iter_mut().for_each(|op| op.preds.clear()),
        3 => change.ops.reverse(),
        _ => change.deps.clear(),
    }
    change
}

fn shuffle<T>(list: &mut [T], mut seed: u64) {
    for n in (1..list.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        list.swap(n, (seed >> 33) as usize % (n + 1));
    }
}

/// Changes as a replica has them: by place, in order of arrival.
#[derive(Default)]
struct Arrived {
    changes: Vec<Made>,
    document: Document,
    baseline: Option<Baseline>,
    taken: usize,
}

impl Arrived {
    fn place(&self, by: &Actor) -> Result<At, Infallible> {
        let n = self.changes.iter().position(|(_, actor, _)| actor == by).unwrap();
        Ok(At::new(1, n))
    }

    fn of_view(&self, view: &View) -> Option<Baseline> {
        let last = At::new(1, self.changes.len() - 1);
        Baseline::of_view(view, last, |by| self.place(by)).unwrap()
    }

    fn view(&self, baseline: &Baseline) -> View {
        let value = |cell: &BaseCell| {
            let (at, counter) = cell.place();
            let change = &self.changes[at.index()].2;
            let Action::Put(value) = &change.ops[(counter - change.start_op) as usize].action else {
                panic!("only registers are large")
            };
            Ok::<_, Infallible>(value.clone())
        };
        baseline.view(value).unwrap()
    }

    fn add(&mut self, (hash, by, change): Made) {
        let at = At::new(1, self.changes.len());
        self.document.insert(hash, by, change.clone());
        self.changes.push((hash, by, change.clone()));
        if let Some(baseline) = &mut self.baseline {
            if baseline.take(hash, by, &change, at) {
                self.taken += 1;
            } else {
                self.baseline = None;
            }
        }
        let view = self.document.evaluate();
        let full = self.of_view(&view);
        let Some(baseline) = self.baseline.take().or_else(|| full.clone()) else { return };
        let full = full.expect("what took a change in may have a baseline");
        assert!(baseline.agrees_with(&full), "{baseline:?}\n{full:?}");
        let stored = Baseline::decode(&baseline.encode()).unwrap();
        assert!(stored.agrees_with(&full), "{stored:?}\n{full:?}");
        let shown = self.view(&stored);
        assert_eq!((&shown.heads, shown.max_op, &shown.cells), (&view.heads, view.max_op, &view.cells));
        assert_eq!(shown.is_in_conflict(), view.is_in_conflict());
        assert_eq!(format!("{:?}", shown.conflicts()), format!("{:?}", view.conflicts()));
        assert_eq!(format!("{:?}", shown.other_rows()), format!("{:?}", view.other_rows()));
        let next = columns(21);
        assert_eq!(shown.edit(&next), view.edit(&next));
        assert_eq!((shown.insert(&next), shown.delete()), (view.insert(&next), view.delete()));
        if view.is_live() {
            assert_eq!((stored.delete(), stored.incarnation()), (view.delete(), view.incarnation()));
            let put = |n: i64| vec![("other".to_owned(), Action::Put(Value::Integer(n)))];
            assert_eq!(stored.edit(put(21)), view.edit(&next[1..2]));
            let cells = view.shown().unwrap();
            for (key, cell) in cells {
                let incarnation = view.incarnation().unwrap();
                assert_eq!(stored.shown(key, &incarnation).unwrap().id, cell.id);
            }
        }
        self.baseline = Some(stored);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_baseline_that_takes_changes_in_shows_what_the_evaluation_of_all_shows(
        steps in proptest::collection::vec((0usize..3, 0u8..9, -9i64..9), 1..40),
        wrong in proptest::collection::vec((any::<u16>(), 0u8..5), 0..2),
        lost in proptest::collection::vec(any::<u16>(), 0..2),
        swapped in proptest::collection::vec(any::<u16>(), 0..4),
        seed in proptest::option::of(any::<u64>()),
    ) {
        let mut changes = changes_of(steps);
        for (n, (place, kind)) in wrong.into_iter().enumerate() {
            let Some((_, _, change)) = changes.get(place as usize % changes.len().max(1)).cloned() else { continue };
            let (by, wrong) = (actor(200, n as u8), spoilt(change, kind));
            changes.push((encode(&wrong, &by, &mut vec![]).unwrap(), by, wrong));
        }
        for place in lost {
            if !changes.is_empty() {
                changes.remove(place as usize % changes.len());
            }
        }
        // Mostly as they were made, which is when baselines are used; sometimes in any order.
        for place in swapped {
            let n = place as usize % changes.len().max(1);
            if n + 1 < changes.len() {
                changes.swap(n, n + 1);
            }
        }
        if let Some(seed) = seed.filter(|seed| seed % 3 == 0) {
            shuffle(&mut changes, seed);
        }
        let mut arrived = Arrived::default();
        changes.into_iter().for_each(|made| arrived.add(made));
    }

    #[test]
    fn no_bytes_are_a_baseline_by_chance_and_none_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = bytes;
        prop_assert!(Baseline::decode(&bytes).is_err() || bytes.len() > 4);
        if let Some(first) = bytes.first_mut() {
            *first = 1;
        }
        let _ = Baseline::decode(&bytes);
    }
}

#[test]
fn edits_one_after_another_never_need_all_changes() {
    let mut arrived = Arrived::default();
    let insert = View::default().insert(&columns(3));
    arrived.add((encode(&insert, &actor(1, 1), &mut vec![]).unwrap(), actor(1, 1), insert));
    for n in 2..100u8 {
        let view = arrived.document.evaluate();
        let change = match n % 10 {
            4 => view.delete(),
            5 => view.insert(&columns(3)),
            _ => view.edit(&columns(i64::from(n % 3) + 9)[..3]),
        };
        arrived.add((encode(&change, &actor(n, 1), &mut vec![]).unwrap(), actor(n, 1), change));
    }
    assert_eq!(arrived.taken, 98);
}

#[test]
fn an_edit_of_a_plain_insert_is_taken_in_and_values_are_filled_in_later() {
    let template = Template::fresh_insert(vec![("b".into(), OpKind::Put), ("a".into(), OpKind::Put)]);
    let values = [ValueRef::Integer(1), ValueRef::Text("x")];
    let (by, at) = (actor(1, 1), At::new(1, 0));
    let all: Vec<_> = [("b", Value::Integer(1)), ("a", Value::Text("x".into()))]
        .map(|(key, value)| (key.to_owned(), Merge::Register, value))
        .into();
    let mut arrived = Arrived::default();
    let insert = View::default().insert(&all);
    let hash = encode(&insert, &by, &mut vec![]).unwrap();
    let start = PlainStart { template: &template, actor: by, hash, at };
    let mut unread = Baseline::of_plain(&start, None).unwrap();
    let mut read = Baseline::of_plain(&start, Some(&values)).unwrap();
    arrived.add((hash, by, insert));
    assert!(read.agrees_with(arrived.baseline.as_ref().unwrap()));
    let edit = arrived.document.evaluate().edit(&[("a".to_owned(), Merge::Register, Value::Null)]);
    let made = (encode(&edit, &actor(2, 1), &mut vec![]).unwrap(), actor(2, 1), edit);
    for baseline in [&mut unread, &mut read] {
        assert!(baseline.take(made.0, made.1, &made.2, At::new(1, 1)));
    }
    arrived.add(made);
    let full = arrived.of_view(&arrived.document.evaluate()).unwrap();
    assert!(unread.agrees_with(&full) && read.agrees_with(&full));
    let mut unread = Baseline::decode(&unread.encode()).unwrap();
    assert_eq!(unread.unread(), Some(at));
    unread.fill_in(at, &values);
    assert_eq!(unread.unread(), None);
    assert!(unread.agrees_with(&full));
}
