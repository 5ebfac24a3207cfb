//! Tuples of keyword names for vectorcalls: `f(x, context=c)` passes the tuple `("context",)`.

use crate::ffi::R;
use crate::ffi::object::{Obj, Static};

/// `context=`
pub(crate) static CONTEXT: Static = Static::new();
/// `msg=`
pub(crate) static MSG: Static = Static::new();
/// `loop=`
pub(crate) static LOOP: Static = Static::new();
/// `debug=`
pub(crate) static DEBUG: Static = Static::new();
/// `name=`
pub(crate) static NAME: Static = Static::new();
/// `loop=, name=, context=`
pub(crate) static NAME_CONTEXT: Static = Static::new();

/// `family=, type=, proto=, flags=`
pub(crate) static HINTS: Static = Static::new();

/// Makes them.
pub(crate) fn init() -> R<()> {
    let name = |text| Obj::interned(text);
    CONTEXT.fill(Obj::tuple(&[&name("context")?])?);
    MSG.fill(Obj::tuple(&[&name("msg")?])?);
    LOOP.fill(Obj::tuple(&[&name("loop")?])?);
    DEBUG.fill(Obj::tuple(&[&name("debug")?])?);
    NAME.fill(Obj::tuple(&[&name("name")?])?);
    NAME_CONTEXT.fill(Obj::tuple(&[&name("name")?, &name("context")?])?);
    HINTS.fill(Obj::tuple(&[
        &name("family")?,
        &name("type")?,
        &name("proto")?,
        &name("flags")?,
    ])?);
    Ok(())
}
