//! Which line of a stack is the program's own: the one rule for all that names a line.
//!
//! A block in `json.dumps` is the doing of whoever called it, and a task that waits in a library's pool waits where the
//! program has asked the library. So what is named is the innermost function of the program itself; if there is none, as the
//! whole program is an installed package, the innermost of those; and else the innermost of all.

use crate::ffi::stack::Frame;
use crate::ffi::{Obj, R};
use aioxide_core::Published;

/// Where files lie that are Python's, or ours.
static FOREIGN: Published<Vec<String>> = Published::new();

/// Finds out which files are not the program's own. Called once.
pub(super) fn init() -> R<()> {
    let directory = |path: &Obj| -> R<String> {
        let directory = Obj::import("os.path")?.call_method_str("dirname", &[path])?;
        // (a path that is no text matches none)
        let text = directory.to_string().unwrap_or_else(|raised| {
            raised.ignore();
            "\0".to_owned()
        });
        Ok(format!("{text}/"))
    };
    let mut foreign = Vec::new();
    let modules = Obj::import("sys")?.getattr_str("modules")?;
    for name in ["os", "aioxide"] {
        // (an interpreter inside of a program may have its modules in no file)
        if let Some(module) = modules.dict_get(&Obj::str(name)?)?
            && let Some(path) = module.getattr_opt(&Obj::interned("__file__")?)?
        {
            foreign.push(directory(&path)?);
        }
    }
    FOREIGN.set(foreign);
    Ok(())
}

/// Is it of an installed package?
fn is_packaged(file: &str) -> bool {
    ["/site-packages/", "/dist-packages/"]
        .iter()
        .any(|part| file.contains(part))
}

/// Is it of the standard library, or ours?
fn is_foreign(file: &str) -> bool {
    file.starts_with("<frozen ")
        || file.starts_with("<aioxide")
        || FOREIGN
            .get()
            .is_some_and(|foreign| foreign.iter().any(|path| file.starts_with(path.as_str())))
}

/// Is a file part of Python, of ours, or of what is installed?
pub(crate) fn is_library(file: &str) -> bool {
    is_packaged(file) || is_foreign(file)
}

/// Something that is in a file.
pub(crate) trait InFile {
    /// Its name.
    fn file(&self) -> &str;
}

impl InFile for Frame {
    fn file(&self) -> &str {
        &self.file
    }
}

/// The program's own line, of those from inside out.
pub(crate) fn line<'a, T: InFile>(stack: impl IntoIterator<Item = &'a T, IntoIter: Clone>) -> Option<&'a T> {
    let stack = stack.into_iter();
    let first = |wanted: fn(&str) -> bool| stack.clone().find(|line| wanted(line.file()));
    first(|file| !is_library(file))
        .or_else(|| first(is_packaged))
        .or_else(|| stack.clone().next())
}
