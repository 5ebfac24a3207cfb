//! What is not built yet: methods of asyncio's signature that say so. Nothing here falls back to asyncio.
//!
//! The signatures are those of the newest Python: what they have more than an older one's is keywords.
//! As with asyncio's, wrong arguments are an error of the call, all else of the `await`.

use crate::ffi::errors::not_implemented;
use crate::ffi::pyclass::Body;
use crate::ffi::{Args, Coroutine, R, Step};

macro_rules! missing {
    ($($class:literal . $name:literal $params:literal,)*) => {
        /// Adds a method for each that raises NotImplementedError when it is awaited.
        pub(super) fn add(body: &mut Body) -> R<()> {
            $(
                body.async_method(concat!($name, $params), |_: &Args| {
                    Coroutine::stepping(concat!($class, ".", $name), |_, _| {
                        Step::Raise(not_implemented(concat!("aioxide does not implement loop.", $name, "() yet")))
                    })
                    .alloc()
                })?;
            )*
            Ok(())
        }
    };
}

missing! {
    "BaseEventLoop"."subprocess_shell"
        "(self, protocol_factory, cmd, *, stdin=-1, stdout=-1, stderr=-1, universal_newlines=False, shell=True, \
          bufsize=0, encoding=None, errors=None, text=None, **kwargs)",
    "BaseEventLoop"."subprocess_exec"
        "(self, protocol_factory, program, *args, stdin=-1, stdout=-1, stderr=-1, universal_newlines=False, \
          shell=False, bufsize=0, encoding=None, errors=None, text=None, **kwargs)",
}
