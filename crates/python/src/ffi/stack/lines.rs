//! `co_linetable`: from an instruction to its line. The format is that of 3.11 to 3.15 (`InternalDocs/code_objects.md`).
//!
//! An entry is for one to eight code units: a byte `1kkkklll` (kind, units - 1), and then, by kind, by how much the
//! line has grown. Numbers have six bits in a byte, the lowest first; bit 6 says that there are more.

/// The kinds of an entry. Below `ONE_LINE`: the line stays, one byte of columns.
const ONE_LINE: u8 = 10;
const NO_COLUMNS: u8 = 13;
const LONG: u8 = 14;
const NO_LINE: u8 = 15;

/// The line of the code unit `index`; that of the nearest before it, if it has none itself.
pub(super) fn line_at(table: &[u8], first_line: i32, index: i64) -> i32 {
    let mut bytes = table.iter().copied();
    let (mut line, mut known, mut next) = (i64::from(first_line), i64::from(first_line), 0);
    while let Some(head) = bytes.next() {
        let kind = (head >> 3) & 15;
        match kind {
            0..ONE_LINE => skip(&mut bytes, 1),
            ONE_LINE..NO_COLUMNS => {
                line += i64::from(kind - ONE_LINE);
                skip(&mut bytes, 2);
            }
            NO_COLUMNS => line += signed(&mut bytes),
            LONG => {
                line += signed(&mut bytes);
                for _ in 0..3 {
                    number(&mut bytes);
                }
            }
            _ => {}
        }
        if kind != NO_LINE {
            known = line;
        }
        next += i64::from(head & 7) + 1;
        if index < next {
            break;
        }
    }
    i32::try_from(known).unwrap_or(first_line)
}

fn skip(bytes: &mut impl Iterator<Item = u8>, count: usize) {
    for _ in 0..count {
        bytes.next();
    }
}

fn number(bytes: &mut impl Iterator<Item = u8>) -> u64 {
    let (mut value, mut shift) = (0, 0);
    for byte in bytes {
        value |= u64::from(byte & 63).checked_shl(shift).unwrap_or(0);
        shift += 6;
        if byte & 64 == 0 {
            break;
        }
    }
    value
}

fn signed(bytes: &mut impl Iterator<Item = u8>) -> i64 {
    let value = number(bytes);
    let magnitude = (value >> 1) as i64;
    if value & 1 == 0 { magnitude } else { -magnitude }
}
