//! Whatever is done to it, a buffer behaves as a `Vec` whose front is cut off; and a search that goes on finds what a
//! search of all the bytes finds.

use aioxide_core::{Buffer, Search, Verdict};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Push(Vec<u8>),
    Extend(Vec<u8>),
    Put(Vec<u8>),
    Consume(usize),
    TakePiece,
    Clear,
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..8),
        1 => prop::collection::vec(any::<u8>(), 5000..9000),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => bytes().prop_map(Op::Push),
        2 => bytes().prop_map(Op::Extend),
        2 => bytes().prop_map(Op::Put),
        6 => prop_oneof![4 => 0..8_usize, 1 => 3000..9000_usize].prop_map(Op::Consume),
        1 => Just(Op::TakePiece),
        1 => Just(Op::Clear),
    ]
}

proptest! {
    #[test]
    fn buffer_is_a_row_of_bytes(ops in prop::collection::vec(op(), 0..60)) {
        let mut buffer: Buffer<Vec<u8>> = Buffer::default();
        let mut model: Vec<u8> = Vec::new();
        for op in ops {
            match op {
                Op::Push(bytes) => {
                    model.extend(&bytes);
                    buffer.push(bytes);
                }
                Op::Extend(bytes) => {
                    model.extend(&bytes);
                    buffer.extend(&bytes);
                }
                Op::Put(bytes) => {
                    model.extend(&bytes);
                    let end = buffer.end(bytes.len());
                    prop_assert!(end.capacity() - end.len() >= bytes.len());
                    end.extend(&bytes);
                }
                Op::Consume(count) => {
                    let count = count.min(model.len());
                    model.drain(..count);
                    buffer.consume(count);
                }
                Op::TakePiece => {
                    if let Some(piece) = buffer.take_piece() {
                        prop_assert_eq!(&piece, &model);
                        model.clear();
                    }
                }
                Op::Clear => {
                    model.clear();
                    buffer.clear();
                }
            }
            prop_assert_eq!(buffer.as_slice(), model.as_slice());
            prop_assert_eq!(buffer.len(), model.len());
            prop_assert_eq!(buffer.is_empty(), model.is_empty());
        }
    }

    #[test]
    fn a_search_that_goes_on_finds_what_one_of_everything_finds(
        text in prop::collection::vec(0..3_u8, 0..40),
        mut separators in prop::collection::vec(prop::collection::vec(0..3_u8, 1..4), 1..4),
        cuts in prop::collection::vec(0..40_usize, 0..6),
        limit in 0..50_usize,
    ) {
        separators.sort_by_key(Vec::len);
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
        cuts.push(text.len());
        cuts.sort_unstable();
        let mut search = Search::default();
        for cut in cuts {
            let there = &text[..cut];
            // the first end of any separator, and of those that end there the last begin
            let found = (0..=cut).find_map(|end| {
                let begins = separators.iter().filter(|separator| there[..end].ends_with(separator));
                begins.map(|separator| (end - separator.len(), end)).max()
            });
            match search.look(there, &separators, limit) {
                Verdict::Found { start, end } => {
                    prop_assert_eq!(found, Some((start, end)));
                    prop_assert!(start <= limit);
                    return Ok(());
                }
                Verdict::TooLong { start } => {
                    prop_assert_eq!(found.map(|(start, _)| start), Some(start));
                    prop_assert!(start > limit);
                    return Ok(());
                }
                Verdict::Overrun { consumed } => {
                    prop_assert_eq!(found, None);
                    prop_assert!(consumed > limit && consumed <= cut);
                    return Ok(());
                }
                Verdict::NotYet => prop_assert_eq!(found, None),
            }
        }
    }
}

#[test]
fn what_came_whole_is_taken_whole() {
    let mut buffer = Buffer::default();
    let piece = vec![7; 100];
    let at = piece.as_ptr();
    buffer.push(piece);
    assert_eq!(buffer.take_piece().map(|piece| piece.as_ptr()), Some(at));
    assert!(buffer.is_empty());
    buffer.push(vec![7; 100]);
    buffer.consume(1);
    assert_eq!(buffer.take_piece(), None);
    assert_eq!(buffer.len(), 99);
}
