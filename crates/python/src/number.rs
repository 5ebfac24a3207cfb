//! `Number`: a counter or a bound that a program gave us.
//!
//! asyncio does arithmetic on whatever it got: `Semaphore(float("inf"))` never blocks, and
//! `queue._maxsize = 5` takes effect. A float holds every value that such a counter can have; a number
//! that came as an int is shown as one.

use crate::ffi::errors::attribute_error;
use crate::ffi::object::exact_number;
use crate::ffi::{Obj, R};
use std::cell::Cell;

/// See the module.
#[derive(Default)]
pub(crate) struct Number {
    value: Cell<f64>,
    is_float: Cell<bool>,
}

impl Number {
    /// The value.
    #[inline(always)]
    pub(crate) fn get(&self) -> f64 {
        self.value.get()
    }

    /// Puts a whole number.
    #[inline(always)]
    pub(crate) fn set(&self, value: f64) {
        self.value.set(value);
    }

    /// `self += difference`
    #[inline(always)]
    pub(crate) fn add(&self, difference: f64) {
        self.value.set(self.value.get() + difference);
    }

    /// Takes the value of any number.
    pub(crate) fn read(&self, object: &Obj) -> R<()> {
        let value = match exact_number(object) {
            Some(value) => value,
            None => object.to_f64()?,
        };
        self.value.set(value);
        self.is_float
            .set(value.fract() != 0.0 || !value.is_finite() || crate::ffi::object::is_float(object));
        Ok(())
    }

    /// `setattr`; `None`: `delattr`, which these attributes do not take.
    pub(crate) fn assign(&self, object: Option<&Obj>) -> R<()> {
        match object {
            Some(object) => self.read(object),
            None => Err(attribute_error("cannot delete attribute")),
        }
    }

    /// As an object.
    pub(crate) fn object(&self) -> R<Obj> {
        if self.is_float.get() {
            Obj::float(self.value.get())
        } else {
            Obj::int(self.value.get() as i64)
        }
    }
}
