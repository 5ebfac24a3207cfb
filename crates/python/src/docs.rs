//! `__doc__`: what our classes and functions are for is what asyncio's are for, in asyncio's words.
//!
//! The text is taken from the running Python, when the extension is made.

use crate::ffi::{Obj, R};
use crate::imports::names;

/// Gives everything public in `module` the text of its namesake in asyncio, and so for methods.
pub(crate) fn copy(module: &Obj) -> R<()> {
    let theirs = namesakes()?;
    for (name, ours) in members(module)? {
        if let Some(original) = theirs.dict_get(&name)?.filter(|original| !original.is(&ours)) {
            describe(&ours, &original)?;
            if ours.hasattr("__mro__")? {
                methods(&ours, &original)?;
            }
        }
    }
    Ok(())
}

fn namesakes() -> R<Obj> {
    Obj::import("asyncio")?.getattr_str("__dict__")
}

fn methods(ours: &Obj, original: &Obj) -> R<()> {
    for (name, method) in members(ours)? {
        let public = !name.to_string()?.starts_with('_');
        if let Some(namesake) = original
            .getattr_opt(&name)?
            .filter(|_| public && method.callable())
        {
            describe(&method, &namesake)?;
        }
    }
    Ok(())
}

/// `ours.__doc__ = original.__doc__`, unless it has one or there is none.
fn describe(ours: &Obj, original: &Obj) -> R<()> {
    if !ours.getattr(&names::DOC)?.is_none() {
        return Ok(());
    }
    let text = original.getattr(&names::DOC)?;
    if text.is_none() {
        Ok(())
    } else {
        ours.setattr(&names::DOC, &text)
    }
}

/// `vars(object).items()`
fn members(object: &Obj) -> R<Vec<(Obj, Obj)>> {
    let items = object.getattr_str("__dict__")?.call_method_str("items", &[])?;
    let mut members = Vec::new();
    for item in items.to_vec()? {
        if let [name, value] = item.tuple_items() {
            members.push((name.clone(), value.clone()));
        }
    }
    Ok(members)
}
