//! "unclosed …": the ResourceWarnings for what nobody has closed.
//!
//! Filters know a warning by the module that it comes from (`ignore::ResourceWarning:asyncio.streams`), so ours come from
//! where asyncio's do: from the `__del__` of its class, which has no frame here.

use crate::ffi::errors::{R, exc};
use crate::ffi::{Obj, python_function};
use crate::imports;

/// Warns, for the sake of `source` (whose memory `tracemalloc` knows), as asyncio's `class` would.
pub(crate) fn warn(class: &Obj, text: &str, source: Option<&Obj>) -> R<()> {
    let (text, none) = (Obj::str(text)?, Obj::none());
    let source = source.unwrap_or(&none);
    let category = exc::resource_warning();
    let del = class.getattr_opt(&Obj::interned("__del__")?)?;
    // (a tool may have put anything in its place)
    let Some(del) = del.filter(python_function::is_one) else {
        let arguments = [&text, category, &Obj::int(1)?, source];
        return imports::WARN.call(&arguments).map(drop);
    };
    let (code, globals) = (del.getattr_str("__code__")?, del.getattr_str("__globals__")?);
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
            &del.getattr_str("__module__")?,
            &registry,
            /* module_globals */ &none,
            source,
        ])
        .map(drop)
}
