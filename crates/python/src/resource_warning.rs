//! "unclosed …": ResourceWarnings that come from where asyncio's do.
//!
//! Filters know a warning by the module that it comes from (`ignore::ResourceWarning:asyncio.streams`): the innermost
//! Python function, which is asyncio's there. Here it would be whoever lets go of the last reference.

use crate::ffi::errors::{R, exc};
use crate::ffi::{Obj, python_function};
use crate::imports;

/// Warns, for the sake of `source` (whose memory `tracemalloc` knows), as the method of asyncio's `class` would.
pub(crate) fn warn(class: &Obj, method: &str, text: &str, source: Option<&Obj>) -> R<()> {
    let (text, none) = (Obj::str(text)?, Obj::none());
    let source = source.unwrap_or(&none);
    let category = exc::resource_warning();
    let function = class.getattr_opt(&Obj::interned(method)?)?;
    // (a tool may have put anything in its place)
    let Some((code, globals)) = function.as_ref().and_then(python_function::code_and_globals) else {
        let arguments = [&text, category, &Obj::int(1)?, source];
        return imports::WARN.call(&arguments).map(drop);
    };
    let module = globals
        .dict_get(&Obj::interned("__name__")?)?
        .unwrap_or_else(Obj::none);
    let registry = globals.call_method_str(
        "setdefault",
        &[&Obj::interned("__warningregistry__")?, &Obj::dict()?],
    )?;
    imports::WARN_EXPLICIT
        .call(&[
            &text,
            category,
            &code.getattr_str("co_filename")?,
            &code.getattr_str("co_firstlineno")?,
            &module,
            &registry,
            /* module_globals */ &none,
            source,
        ])
        .map(drop)
}
