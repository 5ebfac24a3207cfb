//! `__doc__`: what our classes and functions are for, how they fail, in which unit and from which thread they
//! are called. And `__annotations__`: what they take and give is what the running version says.
//!
//! The texts lie beside this file, one after the other: `[Class.method]`, and then what it says, as
//! reStructuredText; docs/ makes its reference of them. What has none here gets that of its namesake in the
//! running Python's asyncio. So do annotations, always.

use crate::ffi::{Obj, R, function};
use crate::imports::names;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Text by name: `"Lock.acquire"`.
static TEXTS: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    [
        include_str!("event_loop.txt"),
        include_str!("futures.txt"),
        include_str!("locks.txt"),
        include_str!("queues.txt"),
        include_str!("runners.txt"),
        include_str!("streams.txt"),
        include_str!("subprocesses.txt"),
        include_str!("tasks.txt"),
    ]
    .iter()
    .flat_map(|file| file.trim_start_matches('[').split("\n\n["))
    .filter_map(|section| section.split_once("]\n"))
    .map(|(name, text)| (name, text.trim_end()))
    .collect()
});

/// The text of a member of a class of ours.
pub(crate) fn of_member(class: &str, member: &str) -> Option<&'static str> {
    TEXTS.get(format!("{class}.{member}").as_str()).copied()
}

/// Gives everything public in `module` its text, and so for methods.
pub(crate) fn copy(module: &Obj) -> R<()> {
    for (name, text) in TEXTS.iter() {
        let (owner, member) = match name.split_once('.') {
            Some((class, member)) => (module.getattr_opt(&Obj::interned(class)?)?, member),
            None => (Some(module.clone()), *name),
        };
        let Some(owner) = owner else { continue };
        let members = owner.getattr_str("__dict__")?;
        let described = members.call_method_str("get", &[&Obj::interned(member)?])?;
        // a descriptor in C has its text since it was made
        if !described.is_none() && described.getattr(&names::DOC)?.is_none() {
            described.setattr(&names::DOC, &Obj::str(text)?)?;
        }
    }
    copy_from_asyncio(module)
}

fn copy_from_asyncio(module: &Obj) -> R<()> {
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
