//! "Error handling": set_exception_handler and what is called when nobody else can be told.

use super::class::this;
use super::handles;
use crate::ffi::errors::{exc, type_error};
use crate::ffi::function::Imp;
use crate::ffi::{Args, Obj, R};
use crate::imports::{self, names};
use crate::version;

/// What this file adds to the class.
pub(super) const METHODS: &[(&str, Imp)] = &[
    ("set_exception_handler(self, handler)", set_exception_handler),
    ("get_exception_handler(self)", |args| {
        Ok(this(args)?.1.exception_handler.get_or_none())
    }),
    (
        "default_exception_handler(self, context)",
        default_exception_handler,
    ),
    ("call_exception_handler(self, context)", call_exception_handler),
];

fn set_exception_handler(args: &Args) -> R<Obj> {
    let (_, core) = this(args)?;
    let handler = args.req(1)?;
    if handler.is_none() {
        core.exception_handler.put(None);
    } else if handler.callable() {
        core.exception_handler.set(handler.clone());
    } else {
        return Err(type_error(&format!(
            "A callable object or None is expected, got {}",
            handler.repr()?
        )));
    }
    Ok(Obj::none())
}

/// A callback has raised: `{'message', 'exception', 'handle'}` to the exception handler.
#[cold]
pub(crate) fn report_callback(loop_: &Obj, handle: &Obj, exception: &Obj) -> R<()> {
    let (callback, args, source_traceback) = handles::parts(handle);
    let text = if version::ARGUMENTS_SHOWN_IN_DEBUG.get() {
        let debug = loop_.call_method(&names::GET_DEBUG, &[])?;
        imports::FORMAT_CALLBACK_SOURCE.call_kw(&[&callback, &args, &debug], Some(&crate::kwnames::DEBUG))?
    } else {
        imports::FORMAT_CALLBACK_SOURCE.call(&[&callback, &args])?
    };
    let text = text.to_string()?;
    let context = Obj::dict()?;
    context.dict_set(
        &names::MESSAGE,
        &Obj::str(&format!("Exception in callback {text}"))?,
    )?;
    context.dict_set(&names::EXCEPTION, exception)?;
    context.dict_set(&names::HANDLE, handle)?;
    if let Some(traceback) = source_traceback {
        context.dict_set(&names::SOURCE_TRACEBACK_KEY, &traceback)?;
    }
    loop_.call_method(&names::CALL_EXCEPTION_HANDLER, &[&context])?;
    Ok(())
}

/// `loop.call_exception_handler(context)`: it never fails but for KeyboardInterrupt and SystemExit.
fn call_exception_handler(args: &Args) -> R<Obj> {
    let (loop_, core) = this(args)?;
    let context = args.req(1)?;
    let Some(handler) = core.exception_handler.get() else {
        if let Err(raised) = call_default(loop_, context) {
            if super::run::is_fatal(&raised) {
                return Err(raised);
            }
            let exception = raised.take();
            log_error("Exception in default exception handler", Some(&exception))?;
        }
        return Ok(Obj::none());
    };
    let Err(raised) = run_handler(&handler, loop_, context) else {
        return Ok(Obj::none());
    };
    if super::run::is_fatal(&raised) {
        return Err(raised);
    }
    let exception = raised.take();
    let second = Obj::dict()?;
    second.dict_set(
        &names::MESSAGE,
        &Obj::str("Unhandled error in exception handler")?,
    )?;
    second.dict_set(&names::EXCEPTION, &exception)?;
    second.dict_set(&names::CONTEXT, context)?;
    if let Err(raised) = call_default(loop_, &second) {
        if super::run::is_fatal(&raised) {
            return Err(raised);
        }
        let exception = raised.take();
        let text = "Exception in default exception handler while handling an unexpected error in custom exception handler";
        log_error(text, Some(&exception))?;
    }
    Ok(Obj::none())
}

/// `self.default_exception_handler(context)`: a derived class may have its own.
fn call_default(loop_: &Obj, context: &Obj) -> R<()> {
    loop_
        .call_method_str("default_exception_handler", &[context])
        .map(drop)
}

/// The user's handler, since 3.12 in the context of the task, future or handle that it is about.
fn run_handler(handler: &Obj, loop_: &Obj, context: &Obj) -> R<()> {
    if version::EXCEPTION_HANDLER_IN_CONTEXT.get() {
        for key in [&names::TASK, &names::FUTURE, &names::HANDLE] {
            let Some(thing) = context.call_method_str("get", &[key])?.non_none().cloned() else {
                continue;
            };
            if let Some(get_context) = thing.getattr_opt(&Obj::interned("get_context")?)? {
                let own = get_context.call0()?;
                if let Some(run) = own.getattr_opt(&Obj::interned("run")?)? {
                    return run.call(&[handler, loop_, context]).map(drop);
                }
            }
            break;
        }
    }
    handler.call(&[loop_, context]).map(drop)
}

fn log_error(text: &str, exception: Option<&Obj>) -> R<()> {
    let info = match exception {
        Some(exception) => exception.clone(),
        None => Obj::bool(false),
    };
    let kwnames = Obj::tuple(&[&Obj::interned("exc_info")?])?;
    imports::LOGGER.call_method_kw(
        &Obj::interned("error")?,
        &[&Obj::str(text)?, &info],
        Some(&kwnames),
    )?;
    Ok(())
}

/// `loop.default_exception_handler(context)`: logs message, exception and every other key, sorted.
fn default_exception_handler(args: &Args) -> R<Obj> {
    let (_, core) = this(args)?;
    let context = args.req(1)?;
    let get = |key: &str| context.call_method_str("get", &[&Obj::str(key)?]);
    let message = match get("message")? {
        message if message.truth()? => message.to_str()?.to_string()?,
        _ => "Unhandled exception in event loop".to_owned(),
    };
    let exception = get("exception")?;
    if !context.contains(&names::SOURCE_TRACEBACK_KEY)?
        && let Some(handle) = core.current_handle.get()
        && let (_, _, Some(traceback)) = handles::parts(&handle)
    {
        context.call_method_str("__setitem__", &[&Obj::str("handle_traceback")?, &traceback])?;
    }
    let mut lines = vec![message];
    for key in imports::SORTED.call(&[context])?.to_vec()? {
        let name = key.to_str()?.to_string()?;
        if name == "message" || name == "exception" {
            continue;
        }
        let value = context.call_method_str("__getitem__", &[&key])?;
        let text = match name.as_str() {
            "source_traceback" => created_at("Object created at (most recent call last):\n", &value)?,
            "handle_traceback" => created_at("Handle created at (most recent call last):\n", &value)?,
            _ => value.repr()?,
        };
        lines.push(format!("{name}: {text}"));
    }
    let exception = if exception.is_none() || !exception.isinstance(exc::base_exception())? {
        None
    } else {
        crate::diag::trace::on_event("exception");
        Some(exception)
    };
    log_error(&lines.join("\n"), exception.as_ref())?;
    Ok(Obj::none())
}

fn created_at(head: &str, traceback: &Obj) -> R<String> {
    let lines = imports::FORMAT_TRACEBACK.call(&[traceback])?;
    let text = Obj::str("")?.call_method_str("join", &[&lines])?.to_string()?;
    Ok(format!("{head}{}", text.trim_end()))
}
