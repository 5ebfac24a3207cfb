//! Functions of ours that are Python's own, because programs look into them: anyio compares the `__code__` of task
//! factories and reads their `__closure__`, ddtrace replaces that code, playwright looks for `Handle._run` in stacks.
//!
//! Everything else is a [`function`](super::function), which is faster and has neither.

use super::errors::R;
use super::object::{Obj, Static};
use pyo3::ffi as c;

/// What `source` defines, as if it stood in `module`. `given` are further names that it may use.
pub(crate) fn define(source: &str, module: &str, given: &[(&str, &Obj)]) -> R<Obj> {
    let builtins = Obj::import("builtins")?;
    let namespace = Obj::dict()?;
    namespace.dict_set(&Obj::interned("__name__")?, &Obj::str(module)?)?;
    for (name, value) in given {
        namespace.dict_set(&Obj::interned(name)?, value)?;
    }
    let file = format!("<aioxide>/{}.py", module.replace('.', "/"));
    let code = builtins.call_method_str(
        "compile",
        &[&Obj::str(source)?, &Obj::str(&file)?, &Obj::str("exec")?],
    )?;
    builtins.call_method_str("exec", &[&code, &namespace])?;
    Ok(namespace)
}

/// A frame of asyncio's around a call that may block: blockbuster looks up the stack for the function of asyncio's that
/// may do so, by its name and the end of its file's.
pub(crate) struct SeenAs {
    module: &'static str,
    name: &'static str,
    function: Static,
}

impl SeenAs {
    /// `module.name`
    pub(crate) const fn new(module: &'static str, name: &'static str) -> SeenAs {
        SeenAs {
            module,
            name,
            function: Static::new(),
        }
    }

    /// `callable(*args, **kwargs)`
    pub(crate) fn call(&'static self, callable: &Obj, args: &[&Obj], kwargs: Option<&Obj>) -> R<Obj> {
        if !self.function.filled() {
            let source = format!(
                "def {}(call, args, kwargs):\n    return call(*args, **kwargs)\n",
                self.name
            );
            let defined = define(&source, self.module, &[])?;
            self.function
                .fill(defined.call_method_str("pop", &[&Obj::interned(self.name)?])?);
        }
        let kwargs = kwargs.cloned().map_or_else(Obj::dict, Ok)?;
        self.function.get().call(&[callable, &Obj::tuple(args)?, &kwargs])
    }
}

/// Of a Python function, without the audit events of its attributes. `None`: it is none.
pub(crate) fn code_and_globals(function: &Obj) -> Option<(Obj, Obj)> {
    // SAFETY: alive, and a Python function, which has both.
    is_one(function).then(|| unsafe {
        (
            Obj::borrowed_unchecked(c::PyFunction_GetCode(function.as_ptr())),
            Obj::borrowed_unchecked(c::PyFunction_GetGlobals(function.as_ptr())),
        )
    })
}

/// Is it a Python function?
fn is_one(function: &Obj) -> bool {
    // SAFETY: alive.
    unsafe { c::PyFunction_Check(function.as_ptr()) != 0 }
}

/// Is it a Python function that runs this code?
#[inline]
pub(crate) fn runs(function: &Obj, code: &Obj) -> bool {
    // SAFETY: alive, and a Python function.
    is_one(function) && unsafe { c::PyFunction_GetCode(function.as_ptr()) == code.as_ptr() }
}

/// Is it a Python function, and are its globals this namespace?
pub(crate) fn is_defined_in(function: &Obj, namespace: &Obj) -> bool {
    // SAFETY: alive, and a Python function.
    is_one(function) && unsafe { c::PyFunction_GetGlobals(function.as_ptr()) == namespace.as_ptr() }
}

/// What a Python function consists of, as far as a program can change it: itself, its code and its defaults. `None`: it is
/// none.
pub(crate) fn parts(function: &Obj) -> R<Option<Obj>> {
    if !is_one(function) {
        return Ok(None);
    }
    let [code, defaults, named] =
        ["__code__", "__defaults__", "__kwdefaults__"].map(|name| function.getattr_str(name));
    Obj::tuple(&[function, &code?, &defaults?, &named?]).map(Some)
}

/// Are these still its [`parts`]?
pub(crate) fn consists_of(function: &Obj, parts: &Obj) -> bool {
    let [known, code, defaults, named] = (if parts.is_tuple() {
        parts.tuple_items()
    } else {
        &[]
    }) else {
        return false;
    };
    // (a function without defaults has a null pointer there)
    let is = |found: *mut c::PyObject, known: &Obj| {
        found == known.as_ptr() || (found.is_null() && known.is_none())
    };
    // SAFETY: alive, and a Python function, as `known` is one.
    function.is(known)
        && unsafe {
            is(c::PyFunction_GetCode(function.as_ptr()), code)
                && is(PyFunction_GetDefaults(function.as_ptr()), defaults)
                && is(PyFunction_GetKwDefaults(function.as_ptr()), named)
        }
}

unsafe extern "C" {
    fn PyFunction_GetDefaults(function: *mut c::PyObject) -> *mut c::PyObject;
    fn PyFunction_GetKwDefaults(function: *mut c::PyObject) -> *mut c::PyObject;
}
