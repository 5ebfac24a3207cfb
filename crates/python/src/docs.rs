//! `__doc__`: what our classes and functions are for is what asyncio's are for, in asyncio's words. And
//! `__annotations__`: what they take and give is what the running version says.
//!
//! Both are taken from the running Python, when the extension is made.

use crate::ffi::{Obj, R, function};
use crate::imports::names;

/// Gives everything public in `module` the text of its namesake in asyncio, and so for methods.
pub(crate) fn copy(module: &Obj) -> R<()> {
    let theirs = namesakes()?;
    for (name, ours) in members(module)? {
        if let Some(original) = theirs.dict_get(&name)?.filter(|original| !original.is(&ours)) {
            describe(&ours, &original)?;
            if ours.hasattr("__mro__")? {
                methods(module, &ours, &original)?;
            } else {
                annotate(module, &ours, &original)?;
            }
        }
    }
    Ok(())
}

fn namesakes() -> R<Obj> {
    Obj::import("asyncio")?.getattr_str("__dict__")
}

fn methods(module: &Obj, ours: &Obj, original: &Obj) -> R<()> {
    for (name, method) in members(ours)? {
        let Some(namesake) = original.getattr_opt(&name)?.filter(|_| method.callable()) else {
            continue;
        };
        if !name.to_string()?.starts_with('_') {
            describe(&method, &namesake)?;
        }
        annotate(module, &method, &namesake)?;
    }
    Ok(())
}

/// `ours.__annotations__ = original.__annotations__`, where a class of asyncio's is ours of the same name.
fn annotate(module: &Obj, ours: &Obj, original: &Obj) -> R<()> {
    let Some(theirs) = annotations(original)?.filter(|_| function::is_ours(ours)) else {
        return Ok(());
    };
    let copy = Obj::dict()?;
    for name in theirs.to_vec()? {
        let Some(mut value) = theirs.dict_get(&name)? else {
            continue;
        };
        if value.hasattr("__mro__")? {
            let class = value.getattr(&names::NAME_ATTR)?;
            let named = namesakes()?
                .dict_get(&class)?
                .is_some_and(|named| named.is(&value));
            if let Some(class) = module.getattr_opt(&class)?.filter(|_| named) {
                value = class;
            }
        }
        copy.dict_set(&name, &value)?;
    }
    ours.setattr_str(ANNOTATIONS, &copy)
}

const ANNOTATIONS: &str = "__annotations__";

/// What a function says of its parameters, if it says anything.
fn annotations(function: &Obj) -> R<Option<Obj>> {
    match function.getattr_opt(&Obj::interned(ANNOTATIONS)?)? {
        Some(annotations) if annotations.truth()? => Ok(Some(annotations)),
        _ => Ok(None),
    }
}

/// A function's signature, as its text has it, with its annotations.
pub(crate) fn annotated(function: &Obj, signature: Obj) -> R<Obj> {
    let Some(annotations) = annotations(function)? else {
        return Ok(signature);
    };
    let replace = |thing: &Obj, changes: &[(&str, &Obj)]| {
        let kwargs = Obj::dict()?;
        for (name, value) in changes {
            kwargs.dict_set(&Obj::interned(name)?, value)?;
        }
        thing
            .getattr_str("replace")?
            .call_with(&Obj::empty_tuple(), Some(&kwargs))
    };
    let mut parameters = Vec::new();
    for parameter in signature
        .getattr_str("parameters")?
        .call_method_str("values", &[])?
        .to_vec()?
    {
        parameters.push(match annotations.dict_get(&parameter.getattr(&names::NAME)?)? {
            Some(annotation) => replace(&parameter, &[("annotation", &annotation)])?,
            None => parameter,
        });
    }
    let returned = match annotations.dict_get(&Obj::interned("return")?)? {
        Some(returned) => returned,
        None => signature.getattr_str("return_annotation")?,
    };
    let parameters = Obj::list(&parameters)?;
    replace(
        &signature,
        &[("parameters", &parameters), ("return_annotation", &returned)],
    )
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
