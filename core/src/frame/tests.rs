use super::*;
use crate::change::{OWN, Op, OpId, TextRun};
use crate::id::{Actor, ChangeHash};
use crate::key::{RowKey, encode_tuple};
use crate::value::{Value, ValueRef};
use proptest::prelude::*;

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        (-1e300f64..1e300).prop_map(Value::Real),
        ".{0,12}".prop_map(Value::Text),
        proptest::collection::vec(any::<u8>(), 0..9).prop_map(Value::Blob),
        Just(Value::RawText(vec![0xff, 1])),
    ]
}

fn op_id() -> impl Strategy<Value = OpId> {
    (1u64..1000, 0u8..4).prop_map(|(counter, a)| OpId { counter, actor: Actor([a; 22]) })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => value().prop_map(Action::Put),
        1 => any::<i64>().prop_map(Action::Counter),
        1 => any::<i64>().prop_map(Action::Increment),
        1 => Just(Action::MakeText),
    ]
}

fn text_run() -> impl Strategy<Value = TextRun> {
    prop_oneof![
        (op_id(), proptest::option::of(op_id()), ".{1,9}")
            .prop_map(|(object, after, text)| TextRun::Insert { object, after, text }),
        (op_id(), op_id(), 1u64..50).prop_map(|(object, first, count)| TextRun::Delete {
            object,
            first,
            count
        }),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let life = prop_oneof![
        3 => Just(Action::Live(OWN)),
        1 => (1u8..4).prop_map(|a| Action::Live(Actor([a; 22]))),
        1 => Just(Action::Dead)
    ];
    let op = (0u8..4, action(), proptest::collection::vec(op_id(), 0..3));
    (
        life,
        proptest::collection::vec(op, 0..4),
        proptest::collection::btree_set(any::<[u8; 32]>(), 0..3),
        1u64..99,
        proptest::collection::vec(text_run(), 0..3),
    )
        .prop_map(|(life, ops, deps, start_op, text)| {
            let mut all = vec![Op { key: String::new(), action: life, preds: vec![] }];
            for (name, action, preds) in ops {
                let key = format!("c{name}");
                if !all.iter().any(|op| op.key == key) {
                    all.push(Op { key, action, preds });
                }
            }
            Change { deps: deps.into_iter().map(ChangeHash).collect(), start_op, ops: all, text }
        })
        .prop_filter("a fresh increment makes no sense", |c| {
            !Template::of(c).fresh || c.ops.iter().all(|o| !matches!(o.action, Action::Increment(_)))
        })
}

fn read_all(bytes: &[u8], count: usize) -> Result<Vec<(RowKey, Change)>, crate::bytes::DecodeError> {
    let mut reader = FrameReader::new(bytes, count)?;
    let mut rows = vec![];
    while let Some(row) = reader.next_change()? {
        rows.push((row.key.into(), row.into_change()));
    }
    Ok(rows)
}

fn write_all(rows: &[(RowKey, Change)]) -> Vec<u8> {
    let mut w = FrameWriter::default();
    rows.iter().for_each(|(key, change)| w.push(key.into(), change));
    w.finish()
}

proptest! {
    #[test]
    fn changes_come_back_from_a_frame_as_they_went_in(
        changes in proptest::collection::vec(change(), 1..8),
        tuple: bool,
        seed: i64,
    ) {
        let rows: Vec<_> = changes.into_iter().enumerate().map(|(n, change)| {
            let key = if tuple {
                RowKey::Tuple(encode_tuple(&[ValueRef::Integer(n as i64)]).unwrap())
            } else {
                RowKey::Integer((seed >> 1) + n as i64 * 1000)
            };
            (key, change)
        }).collect();
        let bytes = write_all(&rows);
        prop_assert_eq!(read_all(&bytes, rows.len()).unwrap(), rows.clone());
        prop_assert!(read_all(&bytes, rows.len() + 1).is_err());
        for n in 0..bytes.len() {
            prop_assert!(read_all(&bytes[..n], rows.len()).is_err());
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        change in change(), flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4)
    ) {
        let mut bytes = write_all(&[(RowKey::Integer(7), change)]);
        for (at, with) in flips {
            let n = bytes.len();
            bytes[usize::from(at) % n] ^= with;
        }
        let _ = read_all(&bytes, 1);
    }
}

#[test]
fn a_run_that_claims_more_rows_than_the_segment_is_refused() {
    let mut bytes = vec![0, 0, 1, 1, 1, 1, b'a', 0, 0];
    crate::bytes::put_uleb(&mut bytes, 1 << 40);
    assert!(FrameReader::new(&bytes, 2).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_values_of_plain_inserts_are_found_in_any_order(
        rows in proptest::collection::vec((value(), value()), 1..40),
        places in proptest::collection::vec(any::<proptest::sample::Index>(), 1..40)
    ) {
        let mut w = FrameWriter::default();
        let put = |name: &str| (name.to_owned(), OpKind::Put);
        let template = w.template(Template::fresh_insert(vec![put("a"), put("b")]));
        for (n, (a, b)) in rows.iter().enumerate() {
            w.push_fresh(KeyRef::Integer(n as i64), template, [a.as_ref(), b.as_ref()].into_iter());
        }
        let plain = w.finish();
        let mut columns = Columns::new(&plain, rows.len()).unwrap();
        for place in places {
            let n = place.index(rows.len());
            let (a, b) = &rows[n];
            prop_assert_eq!(columns.row(&plain, n).unwrap(), [a.as_ref(), b.as_ref()]);
        }
        prop_assert!(columns.row(&plain, rows.len()).is_err());
    }
}
