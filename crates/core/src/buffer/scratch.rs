//! The memory that everything is read into.

/// glibc's limit for what it keeps is twice the size of the largest block that it has seen freed.
const LESSON: usize = 1 << 20;

/// A buffer to read into, made once for many reads.
///
/// Pieces of a message are freed as soon as it is dealt with, and glibc gives free memory at the end of its heap back to
/// the kernel: at first whenever that is more than 128 KiB, to take it again page by page. That was two thirds of the time
/// of a 100 KiB message. It learns from what is freed how much a program needs; asyncio teaches it by reading into a
/// quarter of a megabyte each time, and this does it once.
#[must_use]
pub fn scratch(size: usize) -> Box<[u8]> {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LESSON)));
    vec![0; size].into_boxed_slice()
}
