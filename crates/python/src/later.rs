//! What later versions bring: the names are there, using them says what is missing.
//!
//! Streams and subprocesses. Nothing here falls back to asyncio. `install()` leaves asyncio's
//! own in place, which work on a loop of ours.

use crate::ffi::errors::not_implemented;
use crate::ffi::function::Kind::Async;
use crate::ffi::pyclass::Body;
use crate::ffi::{Args, Coroutine, Obj, R, Step};
use crate::module::export;

macro_rules! later {
    (functions: $($home:literal . $name:literal $params:literal,)* classes: $($where:literal . $class:literal,)*) => {
        const NAMES: &[&str] = &[$($name,)* $($class,)*];

        /// Exports them.
        pub(crate) fn register(module: &Obj) -> R<()> {
            export(module, &[$((
                $home,
                concat!($name, $params),
                |_: &Args| {
                    Coroutine::stepping($name, |_, _| {
                        Step::Raise(not_implemented(concat!("aioxide does not implement ", $name, "() yet")))
                    })
                    .alloc()
                },
                Async,
            ),)*])?;
            $({
                let mut body = Body::new($where, $class, &[])?;
                body.new_method("__new__(cls, *args, **kwargs)", |_: &Args| {
                    Err(not_implemented(concat!("aioxide does not implement ", $class, " yet")))
                })?;
                let original = Obj::import($where)?.getattr_str($class)?;
                module.setattr_str($class, &body.build(&[&original])?)?;
            })*
            Ok(())
        }
    };
}

later! {
    functions:
    "asyncio.subprocess"."create_subprocess_shell" "(cmd, stdin=None, stdout=None, stderr=None, limit=65536, **kwds)",
    "asyncio.subprocess"."create_subprocess_exec" "(program, *args, stdin=None, stdout=None, stderr=None, limit=65536, **kwds)",
    classes:
    "asyncio.subprocess"."Process",
}

/// Is it one of these names?
pub(crate) fn is_missing(name: &str) -> bool {
    NAMES.contains(&name)
}
