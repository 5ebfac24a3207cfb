//! Answers: JSON, in ASCII.
//!
//! Must never let anything out as it is that a program has chosen: whatever is not a plain ASCII character is escaped, so
//! that neither a terminal nor a parser finds more in it than text.

use std::fmt::Write as _;

/// The longest text, in characters; the rest is cut off.
const LONGEST: usize = 400;

/// One JSON value in the making. Keys and elements come in order; commas are put where they belong.
pub(super) struct Json<'a> {
    out: &'a mut Vec<u8>,
    /// Something stands before in the object or list that is open.
    begun: bool,
}

impl<'a> Json<'a> {
    /// At the end of `out`.
    pub(super) fn new(out: &'a mut Vec<u8>) -> Json<'a> {
        Json { out, begun: false }
    }

    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn comma(&mut self) {
        if self.begun {
            self.out.push(b',');
        }
        self.begun = true;
    }

    fn key(&mut self, key: &str) {
        self.comma();
        self.quote(key);
        self.out.push(b':');
    }

    fn quote(&mut self, text: &str) {
        self.out.push(b'"');
        let mut characters = text.chars();
        for character in characters.by_ref().take(LONGEST) {
            match character {
                '"' | '\\' => self.out.extend_from_slice(&[b'\\', character as u8]),
                ' '..='~' => self.out.push(character as u8),
                _ => {
                    let mut units = [0; 2];
                    for unit in character.encode_utf16(&mut units) {
                        // (a Vec takes all that it is given)
                        let _ = write!(Ascii(self.out), "\\u{unit:04x}");
                    }
                }
            }
        }
        if characters.next().is_some() {
            self.raw("\\u2026");
        }
        self.out.push(b'"');
    }

    fn nested(&mut self, open: u8, close: u8, fill: impl FnOnce(&mut Json)) {
        self.out.push(open);
        fill(&mut Json::new(self.out));
        self.out.push(close);
    }

    /// The value itself: an object.
    pub(super) fn object(&mut self, fill: impl FnOnce(&mut Json)) {
        self.comma();
        self.nested(b'{', b'}', fill);
    }

    /// An element: a list.
    pub(super) fn list(&mut self, fill: impl FnOnce(&mut Json)) {
        self.comma();
        self.nested(b'[', b']', fill);
    }

    /// `"key": […]`
    pub(super) fn list_at(&mut self, key: &str, fill: impl FnOnce(&mut Json)) {
        self.key(key);
        self.nested(b'[', b']', fill);
    }

    /// An element: a text.
    pub(super) fn text(&mut self, text: &str) {
        self.comma();
        self.quote(text);
    }

    /// `"key": "text"`
    pub(super) fn text_at(&mut self, key: &str, text: &str) {
        self.key(key);
        self.quote(text);
    }

    /// An element: a whole number.
    pub(super) fn integer(&mut self, value: i64) {
        self.comma();
        self.raw(&value.to_string());
    }

    /// `"key": 1`
    pub(super) fn integer_at(&mut self, key: &str, value: u64) {
        self.key(key);
        self.raw(&value.to_string());
    }

    /// `"key": 1.5`; what JSON has no number for is null.
    pub(super) fn float_at(&mut self, key: &str, value: f64) {
        self.key(key);
        if value.is_finite() {
            self.raw(&format!("{value:.6}"));
        } else {
            self.raw("null");
        }
    }

    /// `"key": true`
    pub(super) fn boolean_at(&mut self, key: &str, value: bool) {
        self.key(key);
        self.raw(if value { "true" } else { "false" });
    }

    /// `"key": null`
    pub(super) fn null_at(&mut self, key: &str) {
        self.key(key);
        self.raw("null");
    }
}

/// Formats into bytes.
struct Ascii<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Ascii<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
