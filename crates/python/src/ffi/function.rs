//! `function`: what our functions and methods are to Python.
//!
//! asyncio's functions are Python functions, and programs treat them so: they bind as methods, have
//! a signature, take keywords with Python's error texts, and `async def`s answer to
//! `iscoroutinefunction` (which is how `mock.patch("asyncio.sleep")` finds out that it needs an
//! `AsyncMock`). A C builtin does none of that, so this is a small callable type of our own with a
//! vectorcall. One text, `"sleep(delay, result=None)"`, is both the binder's table and what
//! `inspect.signature` shows.

use super::bound;
use super::class::{Class, Own, guard};
use super::errors::{R, Raised, attribute_error, exc, to_c, type_error};
use super::object::{Obj, Static};
use super::python_function;
use crate::imports;
use crate::tasks::Task;
use pyo3::ffi as c;
use std::cell::OnceCell;
use std::ffi::{c_int, c_void};

/// How many parameters a function of ours may have.
pub(crate) const MAX_PARAMS: usize = 18;

/// The body of a function.
pub(crate) type Imp = fn(&Args) -> R<Obj>;

/// What the caller's `def` was.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// `def`
    Plain,
    /// `async def`
    Async,
}

/// The bound arguments of one call, in the order of the signature.
pub(crate) struct Args<'a> {
    bound: &'a [*mut c::PyObject],
    rest: &'a [*mut c::PyObject],
    kwargs: Option<Obj>,
}

impl Args<'_> {
    /// Parameter `index`, if it was given.
    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> Option<&Obj> {
        let place = self.bound.get(index)?;
        if place.is_null() {
            return None;
        }
        // SAFETY: not null (that means: not given), and the caller's argument vector keeps it alive for the call.
        Some(unsafe { Obj::view(place) })
    }
    /// Parameter `index`, if it was given and is not `None`.
    pub(crate) fn opt(&self, index: usize) -> Option<&Obj> {
        self.get(index).and_then(Obj::non_none)
    }
    /// A required parameter (the binder has made sure that it is there).
    #[inline(always)]
    pub(crate) fn req(&self, index: usize) -> R<&Obj> {
        self.get(index).ok_or_else(|| type_error("missing argument"))
    }
    /// `self`, as an instance of `T`.
    #[inline(always)]
    pub(crate) fn this<T: Class>(&self) -> R<&Own<T>> {
        let this = self.req(0)?;
        match T::class().exact(this) {
            Some(this) => Ok(this),
            None => T::class().instance(this).ok_or_else(|| wrong_self::<T>(this)),
        }
    }
    /// Calls `imp` with these arguments, but another `self`.
    pub(crate) fn with_self(&self, this: &Obj, imp: Imp) -> R<Obj> {
        let mut bound = self.bound.to_vec();
        if let Some(place) = bound.first_mut() {
            *place = this.as_ptr();
        }
        imp(&Args {
            bound: &bound,
            rest: self.rest,
            kwargs: self.kwargs.clone(),
        })
    }
    /// `*args`
    #[inline(always)]
    pub(crate) fn rest(&self) -> &[Obj] {
        // SAFETY: live borrowed references in a row; `Obj` is one pointer, and a `&[Obj]` drops nothing.
        unsafe { &*(std::ptr::from_ref(self.rest) as *const [Obj]) }
    }
    /// `**kwargs`: a dict, if any were given.
    pub(crate) fn kwargs(&self) -> Option<&Obj> {
        self.kwargs.as_ref()
    }
}

#[cold]
fn wrong_self<T: Class>(this: &Obj) -> super::Raised {
    let name = T::NAME.to_string_lossy();
    let name = name.rsplit('.').next().unwrap_or_default();
    type_error(&format!(
        "descriptor requires a '{name}' object but received a '{}'",
        this.class_name()
    ))
}

struct Param {
    name: Obj,
    required: bool,
}

/// A function's parameters, read once from its text.
struct Signature {
    params: Vec<Param>,
    positional_only: usize,
    positional: usize,
    /// A call without keywords needs at least this many arguments; `usize::MAX` if it needs keywords.
    least: usize,
    /// A call without keywords takes at most this many.
    most: usize,
    varargs: bool,
    varkw: bool,
}

impl Signature {
    fn parse(text: &str) -> R<Signature> {
        let inner = text
            .split_once('(')
            .map_or("", |(_, rest)| rest)
            .trim_end_matches(')');
        let mut sig = Signature {
            params: Vec::new(),
            positional_only: 0,
            positional: 0,
            least: 0,
            most: 0,
            varargs: false,
            varkw: false,
        };
        let mut keyword_only = false;
        for part in split_params(inner) {
            if part == "/" {
                sig.positional_only = sig.params.len();
            } else if part == "*" {
                keyword_only = true;
            } else if part.starts_with("**") {
                sig.varkw = true;
            } else if part.starts_with('*') {
                sig.varargs = true;
                keyword_only = true;
            } else {
                let (name, required) = part
                    .split_once('=')
                    .map_or((part, true), |(name, _)| (name, false));
                sig.params.push(Param {
                    name: Obj::interned(name.trim())?,
                    required,
                });
                if !keyword_only {
                    sig.positional += 1;
                }
            }
        }
        debug_assert!(sig.params.len() <= MAX_PARAMS);
        let (positional, keyword_only) = sig.params.split_at(sig.positional);
        sig.least = positional.iter().filter(|param| param.required).count();
        if keyword_only.iter().any(|param| param.required) {
            sig.least = usize::MAX;
        }
        sig.most = if sig.varargs { usize::MAX } else { sig.positional };
        Ok(sig)
    }
}

/// Splits at commas that are not inside brackets or quotes.
fn split_params(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut quoted, mut start) = (Vec::new(), 0, false, 0);
    for (index, ch) in text.char_indices() {
        match ch {
            '\'' => quoted = !quoted,
            '(' | '[' if !quoted => depth += 1,
            ')' | ']' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(text[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

/// The object. Not made through `Class`: it needs a vectorcall and is never derived from.
#[repr(C)]
struct FunctionObject {
    head: c::PyObject,
    vectorcall: c::vectorcallfunc,
    dict: *mut c::PyObject,
    weakrefs: *mut c::PyObject,
    imp: Imp,
    signature: Signature,
    text: String,
    kind: Kind,
    /// The interpreter binds it again and again without need: see `bound.rs`.
    bound_often: bool,
    name: Obj,
    qualname: Obj,
    module: Obj,
    /// A Python function with the same parameters: see [`twin`].
    twin: OnceCell<Obj>,
}

static FUNCTION: Static = Static::new();
static PARSE_SIGNATURE: Static = Static::new();

pub(super) unsafe extern "C" fn vectorcall(
    callable: *mut c::PyObject,
    args: *const *mut c::PyObject,
    nargsf: usize,
    kwnames: *mut c::PyObject,
) -> *mut c::PyObject {
    // SAFETY: the interpreter calls this with one of our functions and a valid argument vector.
    unsafe {
        let function = &*callable.cast::<FunctionObject>();
        let sig = &function.signature;
        let given = nargsf & !c::PY_VECTORCALL_ARGUMENTS_OFFSET;
        // (no arguments at all may come as a null pointer)
        let args = if args.is_null() {
            &[]
        } else {
            std::slice::from_raw_parts(args, given)
        };
        guard(std::ptr::null_mut(), || {
            let result = if kwnames.is_null() && given >= sig.least && given <= sig.most {
                // the caller's own vector: parameters beyond its end were not given
                let (bound, rest) = args.split_at(given.min(sig.positional));
                (function.imp)(&Args {
                    bound,
                    rest,
                    kwargs: None,
                })
            } else {
                bind_and_call(function, args, kwnames)
            };
            to_c(result)
        })
    }
}

/// Calls one of our functions as a method of `instance`, the other arguments being those of a vectorcall.
///
/// # Safety
/// `function` is one of ours, the argument vector valid, and all of it alive for the call.
#[inline]
pub(super) unsafe fn call_with_self(
    function: &Obj,
    instance: &Obj,
    args: *const *mut c::PyObject,
    nargsf: usize,
    kwnames: *mut c::PyObject,
) -> *mut c::PyObject {
    // SAFETY: the caller's promise.
    unsafe {
        let given = nargsf & !c::PY_VECTORCALL_ARGUMENTS_OFFSET;
        let total = given + count_names(kwnames);
        if total == 0 {
            return vectorcall(function.as_ptr(), &instance.as_ptr(), 1, std::ptr::null_mut());
        }
        if nargsf != given {
            // the caller lends us the place before its arguments
            let all = args.cast_mut().sub(1);
            let before = all.replace(instance.as_ptr());
            let result = vectorcall(function.as_ptr(), all, given + 1, kwnames);
            all.write(before);
            return result;
        }
        let mut all = vec![instance.as_ptr()];
        all.extend_from_slice(std::slice::from_raw_parts(args, total));
        vectorcall(function.as_ptr(), all.as_ptr(), given + 1, kwnames)
    }
}

/// Calls a class as `type.__call__` does, with the arguments of a vectorcall.
///
/// # Safety
/// `class` is a type, the argument vector valid, and all of it alive for the call.
#[cold]
pub(super) unsafe fn call_by_type(
    class: &Obj,
    args: *const *mut c::PyObject,
    nargsf: usize,
    kwnames: *mut c::PyObject,
) -> R<Obj> {
    let given = nargsf & !c::PY_VECTORCALL_ARGUMENTS_OFFSET;
    // SAFETY: the caller's promise: live references in a row, which `Obj` is one of; nothing is dropped.
    unsafe {
        let total = given + count_names(kwnames);
        let all: &[Obj] = if total == 0 {
            &[]
        } else {
            std::slice::from_raw_parts(args.cast(), total)
        };
        let (positional, named) = all.split_at(given);
        let args = Obj::tuple_of(positional)?;
        let kwargs = Obj::dict()?;
        if !named.is_empty() {
            for (name, value) in Obj::view(&kwnames).tuple_items().iter().zip(named) {
                kwargs.dict_set(name, value)?;
            }
        }
        match (*c::Py_TYPE(class.as_ptr())).tp_call {
            Some(call) => Obj::owned(call(class.as_ptr(), args.as_ptr(), kwargs.as_ptr())),
            None => Err(type_error("a class that can't be called")),
        }
    }
}

/// How many of the arguments of a vectorcall have a name.
///
/// # Safety
/// `kwnames` is null or a tuple.
#[inline(always)]
unsafe fn count_names(kwnames: *mut c::PyObject) -> usize {
    if kwnames.is_null() {
        0
    } else {
        // SAFETY: the caller's promise.
        unsafe { c::PyTuple_GET_SIZE(kwnames) as usize }
    }
}

/// The general case: defaults, keywords, `*args`, `**kwargs`.
///
/// # Safety
/// `kwnames` is null or a tuple of str whose values follow `args` in memory.
#[inline(never)]
unsafe fn bind_and_call(
    function: &FunctionObject,
    args: &[*mut c::PyObject],
    kwnames: *mut c::PyObject,
) -> R<Obj> {
    let sig = &function.signature;
    let mut bound = [std::ptr::null_mut(); MAX_PARAMS];
    let direct = args.len().min(sig.positional);
    bound[..direct].copy_from_slice(&args[..direct]);
    let mut rest: &[*mut c::PyObject] = &[];
    if args.len() > sig.positional {
        if !sig.varargs {
            return wrong_call(function, args, kwnames);
        }
        rest = &args[sig.positional..];
    }
    let mut kwargs = None;
    if !kwnames.is_null() {
        // SAFETY: a tuple, alive for the call; the values lie behind the positional ones.
        let (names, values) = unsafe {
            let names = Obj::view(&kwnames).tuple_items();
            (
                names,
                std::slice::from_raw_parts(args.as_ptr().add(args.len()), names.len()),
            )
        };
        for (name, value) in names.iter().zip(values) {
            match find(sig, name)? {
                Some(index) if bound[index].is_null() => bound[index] = *value,
                None if sig.varkw => {
                    let dict = match &kwargs {
                        Some(dict) => dict,
                        None => kwargs.insert(Obj::dict()?),
                    };
                    // SAFETY: alive for the call.
                    dict.dict_set(name, unsafe { Obj::view(value) })?;
                }
                // (given twice, or unknown)
                _ => return wrong_call(function, args, kwnames),
            }
        }
    }
    if sig
        .params
        .iter()
        .zip(&bound)
        .any(|(param, place)| param.required && place.is_null())
    {
        return wrong_call(function, args, kwnames);
    }
    (function.imp)(&Args {
        bound: &bound[..sig.params.len()],
        rest,
        kwargs,
    })
}

fn find(sig: &Signature, name: &Obj) -> R<Option<usize>> {
    let named = &sig.params[sig.positional_only..];
    if let Some(index) = named.iter().position(|param| param.name.is(name)) {
        return Ok(Some(index + sig.positional_only));
    }
    for (index, param) in named.iter().enumerate() {
        if param.name.eq(name)? {
            return Ok(Some(index + sig.positional_only));
        }
    }
    Ok(None)
}

/// What the interpreter says of such a call, down to "Did you mean": a function that takes the same is called the same way.
/// asyncio's own may take it (on 3.12 its methods without parameters look at no keywords): then so does ours.
#[cold]
fn wrong_call(function: &FunctionObject, args: &[*mut c::PyObject], kwnames: *mut c::PyObject) -> R<Obj> {
    // SAFETY: the caller's argument vector, alive for the call.
    let given: Vec<&Obj> = args.iter().map(|arg| unsafe { Obj::view(arg) }).collect();
    let keywords = Obj::dict()?;
    if !kwnames.is_null() {
        // SAFETY: a tuple of names; the values lie behind the positional arguments.
        let names = unsafe { Obj::view(&kwnames) }.tuple_items();
        for (index, name) in names.iter().enumerate() {
            // SAFETY: as above.
            let value = unsafe { Obj::view(&*args.as_ptr().add(args.len() + index)) };
            keywords.dict_set(name, value)?;
        }
    }
    let said = match c_counterpart(function, &given)? {
        Some((callable, given)) => callable.call_with(&Obj::tuple(&given)?, Some(&keywords)),
        None => twin(function)?.call_with(&Obj::tuple(&given)?, Some(&keywords)),
    };
    let is_taken = args.len() == 1 && function.signature.params.len() == 1;
    match said {
        Err(raised) if !is_taken || raised.matches(exc::type_error()) => Err(raised),
        Ok(_) if !is_taken => Err(type_error("wrong arguments")),
        said => {
            // (what it says of a future without a loop is no concern of anybody's)
            drop(said.map_err(Raised::take));
            (function.imp)(&Args {
                bound: args,
                rest: &[],
                kwargs: None,
            })
        }
    }
}

/// asyncio's own function or class, if that is written in C, which has other words; and what to call it with. A method is
/// called of a future that has never been initialized.
fn c_counterpart<'a>(function: &FunctionObject, given: &[&'a Obj]) -> R<Option<(Obj, Vec<&'a Obj>)>> {
    if !function.qualname.to_string()?.contains('.') {
        let theirs = Obj::import("_asyncio")?.getattr_opt(&function.name)?;
        // (under takeover it may be the very function)
        let theirs = theirs.filter(|theirs| !is_ours(theirs));
        return Ok(theirs.map(|theirs| (theirs, given.to_vec())));
    }
    if function.module.to_string()? != "_asyncio" {
        return Ok(None);
    }
    let Some((this, rest)) = given.split_first() else {
        return Ok(None);
    };
    let class: &Obj = if Task::class().is_instance(this) {
        &imports::C_TASK
    } else {
        &imports::C_FUTURE
    };
    if function.name.to_string()? == "__init__" {
        return Ok(Some((class.clone(), rest.to_vec())));
    }
    let unborn = class.call_method_str("__new__", &[class])?;
    Ok(unborn
        .getattr_opt(&function.name)?
        .map(|method| (method, rest.to_vec())))
}

unsafe extern "C" fn descr_get(
    op: *mut c::PyObject,
    instance: *mut c::PyObject,
    _owner: *mut c::PyObject,
) -> *mut c::PyObject {
    // SAFETY: one of our functions; binding as Python functions do.
    unsafe {
        if instance.is_null() {
            c::Py_INCREF(op);
            return op;
        }
        let (function, instance) = (Obj::view(&op), Obj::view(&instance));
        let bound = if (*op.cast::<FunctionObject>()).bound_often {
            bound::bind(function.clone(), instance.clone())
        } else {
            bound::method(function, instance)
        };
        to_c(bound)
    }
}

unsafe extern "C" fn repr(op: *mut c::PyObject) -> *mut c::PyObject {
    // SAFETY: one of our functions.
    let function = unsafe { &*op.cast::<FunctionObject>() };
    guard(std::ptr::null_mut(), || {
        let text = function
            .qualname
            .to_string()
            .and_then(|name| Obj::str(&format!("<function {name} at {op:p}>")));
        to_c(text)
    })
}

unsafe extern "C" fn get_attribute(op: *mut c::PyObject, closure: *mut c_void) -> *mut c::PyObject {
    // SAFETY: one of our functions; the closure is the number given below.
    let function = unsafe { &*op.cast::<FunctionObject>() };
    guard(std::ptr::null_mut(), || {
        let value = match closure as usize {
            0 => Ok(function.name.clone()),
            1 => Ok(function.qualname.clone()),
            2 => Ok(function.module.clone()),
            3 => signature(op, function),
            4 => twin(function).and_then(|twin| twin.getattr_str("__code__")),
            5 => twin(function).and_then(|twin| twin.getattr_str("__defaults__")),
            _ => twin(function).and_then(|twin| twin.getattr_str("__kwdefaults__")),
        };
        to_c(value)
    })
}

/// `__signature__`: parsed by inspect itself, when somebody asks.
#[cold]
fn signature(op: *mut c::PyObject, function: &FunctionObject) -> R<Obj> {
    let params = function.text.split_once('(').map_or("", |(_, rest)| rest);
    let inspect = Obj::import("inspect")?;
    if !PARSE_SIGNATURE.filled() {
        PARSE_SIGNATURE.fill(inspect.getattr_str("_signature_fromstr")?);
    }
    // SAFETY: alive.
    let this = unsafe { Obj::view(&op) };
    let text = Obj::str(&format!("({params}"))?;
    let signature =
        PARSE_SIGNATURE.call(&[&inspect.getattr_str("Signature")?, this, &text, &Obj::bool(false)])?;
    crate::docs::annotated(this, signature)
}

unsafe extern "C" fn traverse(op: *mut c::PyObject, visit: c::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: one of our functions. Names are strings and can't be part of a cycle.
    unsafe {
        let dict = (*op.cast::<FunctionObject>()).dict;
        if !dict.is_null() {
            let result = visit(dict, arg);
            if result != 0 {
                return result;
            }
        }
        visit(c::Py_TYPE(op).cast(), arg)
    }
}

unsafe extern "C" fn clear(op: *mut c::PyObject) -> c_int {
    // SAFETY: one of our functions.
    unsafe {
        let dict = std::mem::replace(&mut (*op.cast::<FunctionObject>()).dict, std::ptr::null_mut());
        c::Py_XDECREF(dict);
    }
    0
}

unsafe extern "C" fn dealloc(op: *mut c::PyObject) {
    // SAFETY: called once; the Rust fields are dropped in place, then the memory freed by the type.
    unsafe {
        c::PyObject_GC_UnTrack(op.cast());
        let function = op.cast::<FunctionObject>();
        if !(*function).weakrefs.is_null() {
            c::PyObject_ClearWeakRefs(op);
        }
        clear(op);
        std::ptr::drop_in_place(&raw mut (*function).signature);
        std::ptr::drop_in_place(&raw mut (*function).text);
        std::ptr::drop_in_place(&raw mut (*function).name);
        std::ptr::drop_in_place(&raw mut (*function).qualname);
        std::ptr::drop_in_place(&raw mut (*function).module);
        std::ptr::drop_in_place(&raw mut (*function).twin);
        let class = c::Py_TYPE(op);
        c::PyObject_GC_Del(op.cast());
        c::Py_DECREF(class.cast());
    }
}

/// Makes the type object. First thing in module initialisation.
pub(crate) fn init() -> R<()> {
    let attribute = |name: &'static std::ffi::CStr, which: usize| c::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get_attribute),
        set: None,
        doc: std::ptr::null(),
        closure: which as *mut c_void,
    };
    let member = |name: &'static std::ffi::CStr, offset: usize| c::PyMemberDef {
        name: name.as_ptr(),
        type_code: c::Py_T_PYSSIZET,
        offset: offset as isize,
        flags: c::Py_READONLY,
        doc: std::ptr::null(),
    };
    let getset = vec![
        attribute(c"__name__", 0),
        attribute(c"__qualname__", 1),
        attribute(c"__module__", 2),
        attribute(c"__signature__", 3),
        attribute(c"__code__", 4),
        attribute(c"__defaults__", 5),
        attribute(c"__kwdefaults__", 6),
        c::PyGetSetDef {
            name: c"__dict__".as_ptr(),
            get: Some(c::PyObject_GenericGetDict),
            set: Some(c::PyObject_GenericSetDict),
            doc: std::ptr::null(),
            closure: std::ptr::null_mut(),
        },
        // SAFETY: all-zero ends the table.
        unsafe { std::mem::zeroed() },
    ];
    let members = vec![
        member(
            c"__vectorcalloffset__",
            std::mem::offset_of!(FunctionObject, vectorcall),
        ),
        member(c"__dictoffset__", std::mem::offset_of!(FunctionObject, dict)),
        member(
            c"__weaklistoffset__",
            std::mem::offset_of!(FunctionObject, weakrefs),
        ),
        // SAFETY: as above.
        unsafe { std::mem::zeroed() },
    ];
    let methods = vec![
        c::PyMethodDef {
            ml_name: c"__reduce__".as_ptr(),
            ml_meth: c::PyMethodDefPointer { PyCFunction: reduce },
            ml_flags: c::METH_NOARGS,
            ml_doc: std::ptr::null(),
        },
        // SAFETY: as above.
        unsafe { std::mem::zeroed() },
    ];
    let slot = |slot, pfunc| c::PyType_Slot { slot, pfunc };
    let mut slots = [
        slot(c::Py_tp_dealloc, dealloc as *mut c_void),
        slot(c::Py_tp_traverse, traverse as *mut c_void),
        slot(c::Py_tp_clear, clear as *mut c_void),
        slot(c::Py_tp_call, c::PyVectorcall_Call as *mut c_void),
        slot(c::Py_tp_descr_get, descr_get as *mut c_void),
        slot(c::Py_tp_repr, repr as *mut c_void),
        slot(c::Py_tp_methods, methods.leak().as_mut_ptr().cast()),
        slot(c::Py_tp_getset, getset.leak().as_mut_ptr().cast()),
        slot(c::Py_tp_members, members.leak().as_mut_ptr().cast()),
        slot(0, std::ptr::null_mut()),
    ];
    let mut spec = c::PyType_Spec {
        name: c"aioxide._core.function".as_ptr(),
        basicsize: size_of::<FunctionObject>() as c_int,
        itemsize: 0,
        flags: (c::Py_TPFLAGS_DEFAULT
            | c::Py_TPFLAGS_HAVE_GC
            | c::Py_TPFLAGS_HAVE_VECTORCALL
            | c::Py_TPFLAGS_METHOD_DESCRIPTOR
            // or the interpreter will not specialise the look-up of a method
            | c::Py_TPFLAGS_IMMUTABLETYPE
            | c::Py_TPFLAGS_DISALLOW_INSTANTIATION) as _,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: a complete spec.
    FUNCTION.fill(unsafe { Obj::owned(c::PyType_FromSpec(&mut spec))? });
    Ok(())
}

/// Is it a function of ours?
pub(crate) fn is_ours(object: &Obj) -> bool {
    object.class().is(FUNCTION.get())
}

/// Makes a function. `sig`: `"name(param, other=None, *, key=1)"`; `class`: the qualname of its class.
pub(crate) fn make(sig: &str, module: &str, class: Option<&str>, imp: Imp, kind: Kind) -> R<Obj> {
    let name = sig.split('(').next().unwrap_or_default();
    let bound_often = cfg!(not(Py_3_14)) && matches!(name, "__aenter__" | "__aexit__");
    let qualname = class.map_or(name.to_owned(), |class| format!("{class}.{name}"));
    let (signature, name, qualname, module) = (
        Signature::parse(sig)?,
        Obj::interned(name)?,
        Obj::str(&qualname)?,
        Obj::interned(module)?,
    );
    // SAFETY: untracked memory of the type's size; every field is written before it is tracked.
    let function = unsafe {
        let ptr: *mut FunctionObject = super::object::gc_new(FUNCTION.get().as_ptr()).cast();
        let object = Obj::owned(ptr.cast())?;
        (&raw mut (*ptr).vectorcall).write(vectorcall);
        (&raw mut (*ptr).dict).write(std::ptr::null_mut());
        (&raw mut (*ptr).weakrefs).write(std::ptr::null_mut());
        (&raw mut (*ptr).imp).write(imp);
        (&raw mut (*ptr).signature).write(signature);
        (&raw mut (*ptr).text).write(sig.to_owned());
        (&raw mut (*ptr).kind).write(kind);
        (&raw mut (*ptr).bound_often).write(bound_often);
        (&raw mut (*ptr).name).write(name);
        (&raw mut (*ptr).qualname).write(qualname);
        (&raw mut (*ptr).module).write(module);
        (&raw mut (*ptr).twin).write(OnceCell::new());
        c::PyObject_GC_Track(ptr.cast());
        object
    };
    if kind == Kind::Async {
        mark_async(&function)?;
    }
    Ok(function)
}

/// What `iscoroutinefunction` looks for: asyncio's own marker, and inspect's (3.12+) or, before that, the
/// flags of a `__code__`.
fn mark_async(function: &Obj) -> R<()> {
    let marker = Obj::import("asyncio.coroutines")?.getattr_str("_is_coroutine")?;
    function.setattr_str("_is_coroutine", &marker)?;
    // all else that makes a callable "function-like" for inspect we have; `docs` knows better ones
    function.setattr_str("__annotations__", &Obj::dict()?)?;
    match Obj::import("inspect")?.getattr_opt(&Obj::str("markcoroutinefunction")?)? {
        Some(mark) => mark.call(&[function]).map(drop),
        None => Ok(()),
    }
}

/// A Python function with our name and parameters that does nothing. Who asks for a function's `__code__` wants to know
/// whether it is an `async def` or what it takes: `mock.create_autospec` does, and so do frameworks that inject arguments.
#[cold]
fn twin(function: &FunctionObject) -> R<&Obj> {
    if let Some(twin) = function.twin.get() {
        return Ok(twin);
    }
    let kind = if function.kind == Kind::Async {
        "async def"
    } else {
        "def"
    };
    let parameters = function.text.replace("<unrepresentable>", "None");
    let source = format!("{kind} {parameters}: pass");
    // what defaults name
    let socket = Obj::import("socket")?;
    let namespace = python_function::define(&source, &function.module.to_string()?, &[("socket", &socket)])?;
    let twin = namespace.call_method_str("pop", &[&function.name])?;
    let code = twin.getattr_str("__code__")?;
    let keywords = Obj::dict()?;
    keywords.dict_set(&Obj::interned("co_qualname")?, &function.qualname)?;
    let code = code
        .getattr_str("replace")?
        .call_with(&Obj::empty_tuple(), Some(&keywords))?;
    twin.setattr_str("__code__", &code)?;
    // (the interpreter names it so when it is called wrongly)
    twin.setattr_str("__qualname__", &function.qualname)?;
    Ok(function.twin.get_or_init(|| twin))
}

/// `__reduce__`: by where it is found, as Python's functions are pickled and copied. Under its name in asyncio there may
/// be asyncio's own, so it is looked for in our modules.
unsafe extern "C" fn reduce(op: *mut c::PyObject, _: *mut c::PyObject) -> *mut c::PyObject {
    // SAFETY: one of our functions.
    let function = unsafe { &*op.cast::<FunctionObject>() };
    guard(std::ptr::null_mut(), || {
        let place = || {
            if function.module.to_string()?.starts_with("aioxide") {
                return Ok(function.qualname.clone());
            }
            let find = Obj::import("aioxide._core")?.getattr_str("_find_function")?;
            Obj::tuple(&[&find, &Obj::tuple(&[&function.module, &function.qualname])?])
        };
        to_c(place())
    })
}

/// `_find_function(module, qualname)`: what `__reduce__` gives to those who unpickle.
pub(crate) fn find_function(args: &Args) -> R<Obj> {
    find_ours(&args.req(0)?.to_string()?, &args.req(1)?.to_string()?, |found| {
        Ok(is_ours(found))
    })
}

/// What `module.qualname` of asyncio's is with us, if `accept` does. It must accept things of ours and nothing
/// else: who unpickles what others have written, and lets us in, has not let in all that a module can reach.
pub(crate) fn find_ours(module: &str, qualname: &str, accept: fn(&Obj) -> R<bool>) -> R<Obj> {
    let Some(home) = home_of(module) else {
        return Err(not_ours(module, qualname));
    };
    let mut found = Obj::import(&home)?;
    for name in qualname.split('.') {
        found = found.getattr(&Obj::interned(name)?)?;
    }
    if accept(&found)? {
        Ok(found)
    } else {
        Err(not_ours(module, qualname))
    }
}

/// Where we have what asyncio has in `module`.
pub(crate) fn home_of(module: &str) -> Option<String> {
    match module.strip_prefix("asyncio") {
        Some(rest) if rest.is_empty() || rest.starts_with('.') => Some(format!("aioxide{rest}")),
        // where asyncio has its C classes
        None if module == "_asyncio" => Some("aioxide".to_owned()),
        _ => None,
    }
}

#[cold]
fn not_ours(module: &str, qualname: &str) -> Raised {
    attribute_error(&format!("aioxide has no {module}.{qualname}"))
}
