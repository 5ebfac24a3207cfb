//! What is mapped is read, what is not is an answer: both ways to read memory agree.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "maps a page and takes the next one away")]

use aioxide_core::memory::{self, BATCH, Piece, Way, read_all_by};

const PAGE: usize = 4096;

/// A page that can be read, followed by one that cannot.
fn last_page() -> usize {
    // SAFETY: a new mapping of two pages, of which the second is unmapped at once.
    unsafe {
        let start = libc::mmap(
            std::ptr::null_mut(),
            2 * PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(start, libc::MAP_FAILED);
        assert_eq!(libc::munmap(start.byte_add(PAGE), PAGE), 0);
        start.cast::<u8>().write_bytes(7, PAGE);
        start.addr()
    }
}

#[test]
fn each_piece_is_read_or_is_not() {
    let page = last_page();
    let text = *b"read me";
    for way in [Way::Vectors, Way::Pipe] {
        let mut buffers = [[0_u8; 64]; 6];
        let [a, b, c, d, e, f] = &mut buffers;
        let mut pieces = [
            Piece::new(8, a),
            Piece::new(text.as_ptr().addr(), &mut b[..text.len()]),
            Piece::new(page + PAGE - 32, c), // half of it
            Piece::new(page + PAGE - 64, d),
            Piece::new(usize::MAX - 3, e),
            Piece::new(page, &mut f[..0]),
        ];
        read_all_by(way, &mut pieces);
        let whole: Vec<bool> = pieces.iter().map(|piece| piece.whole).collect();
        assert_eq!(whole, [false, true, false, true, false, true], "{way:?}");
        assert_eq!(&buffers[1][..text.len()], &text, "{way:?}");
        assert_eq!(buffers[3], [7; 64], "{way:?}");
    }
}

#[test]
fn there_may_be_more_pieces_than_one_call_takes() {
    let words: Vec<usize> = (0..3 * BATCH + 5).collect();
    for way in [Way::Vectors, Way::Pipe] {
        let mut buffers = vec![[0_u8; size_of::<usize>()]; words.len()];
        let mut pieces: Vec<Piece> = words
            .iter()
            .zip(&mut buffers)
            .map(|(word, buffer)| {
                let unreadable = word % 100 == 99;
                let address = std::ptr::from_ref(word).addr();
                Piece::new(if unreadable { 16 } else { address }, buffer)
            })
            .collect();
        read_all_by(way, &mut pieces);
        for (index, piece) in pieces.iter().enumerate() {
            assert_eq!(piece.whole, index % 100 != 99, "{way:?} {index}");
        }
        for (index, buffer) in buffers.iter().enumerate() {
            if index % 100 != 99 {
                assert_eq!(usize::from_ne_bytes(*buffer), index, "{way:?}");
            }
        }
    }
}

#[test]
fn large_pieces_are_read_whole() {
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    for way in [Way::Vectors, Way::Pipe] {
        let mut copy = vec![0; bytes.len()];
        let mut pieces = [Piece::new(bytes.as_ptr().addr(), &mut copy)];
        read_all_by(way, &mut pieces);
        assert!(pieces[0].whole, "{way:?}");
        assert!(copy == bytes, "{way:?}");
    }
}

#[test]
fn words_and_arrays() {
    let words = [1_usize, 2, 3];
    let address = words.as_ptr().addr();
    assert_eq!(memory::word(address + size_of::<usize>()), Some(2));
    assert_eq!(memory::array::<8>(address), Some(1_u64.to_ne_bytes()));
    assert_eq!(memory::word(0), None);
}
