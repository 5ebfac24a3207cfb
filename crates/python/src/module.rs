//! What the extension module exports: a list.

use crate::copying;
use crate::ffi::function::{self, Imp, Kind};
use crate::ffi::{Class, Obj, R, class};
use crate::futures::Future;
use crate::futures::iter::FutureIter;
use crate::hook::Hook;
use crate::tasks::{Task, gather};
use crate::{
    docs, event_loop, ffi, frames, futures, graph, imports, kwnames, locks, policy, queues, runners, servers,
    streams, subprocesses, takeover, taskgroups, tasks, threads, timeouts, tls, transports, version,
};

/// Fills the module. Called once.
pub(crate) fn init(module: &Obj) -> R<()> {
    ffi::object::init()?;
    ffi::threads::watch_forks();
    ffi::threads::init()?;
    version::init()?;
    imports::init()?;
    frames::init()?;
    kwnames::init()?;
    ffi::running::init()?;
    function::init()?;
    ffi::ended::init()?;
    classes(module)?;
    crate::diag::init(module)?;
    functions(module)
}

fn classes(module: &Obj) -> R<()> {
    class::create::<ffi::bound::Bound>(None)?;
    class::create::<ffi::Coroutine>(None)?;
    class::create::<ffi::coroutine_wrapper::CoroutineWrapper>(None)?;
    class::create::<Hook>(None)?;
    class::create::<FutureIter>(None)?;
    class::create::<Future>(None)?;
    class::create::<Task>(Some(Future::class().get()))?;
    class::create::<gather::Gathering>(Some(Future::class().get()))?;
    class::create::<event_loop::core::LoopCore>(None)?;
    event_loop::class::init()?;
    transports::init()?;
    tls::init()?;
    servers::init()?;
    streams::init()?;
    subprocesses::init()?;
    for (name, class) in [
        ("Future", Future::class().get()),
        ("Task", Task::class().get()),
        ("EventLoop", event_loop::class::EVENT_LOOP.get()),
        ("Handle", event_loop::handles::class()),
        ("TimerHandle", event_loop::handles::timer_class()),
        ("TransportSocket", transports::trsock::class()),
        ("SSLProtocol", tls::protocol::SslProtocol::class().get()),
    ] {
        module.setattr_str(name, class)?;
    }
    Ok(())
}

/// A function of the module: where asyncio has it, its signature, its body, its kind.
pub(crate) type Export = (&'static str, &'static str, Imp, Kind);

/// Puts functions into the extension module.
pub(crate) fn export(module: &Obj, functions: &[Export]) -> R<()> {
    for (home, sig, imp, kind) in functions {
        let function = function::make(sig, home, None, *imp, *kind)?;
        let name = sig.split('(').next().unwrap_or_default();
        module.setattr_str(name, &function)?;
    }
    Ok(())
}

fn functions(module: &Obj) -> R<()> {
    export(
        module,
        &[(
            "aioxide._core",
            "_find_function(module, qualname)",
            function::find_function,
            Kind::Plain,
        )],
    )?;
    copying::register(module)?;
    futures::register(module)?;
    tasks::register(module)?;
    timeouts::register(module)?;
    taskgroups::register(module)?;
    locks::register(module)?;
    queues::register(module)?;
    threads::register(module)?;
    runners::register(module)?;
    servers::register(module)?;
    streams::register(module)?;
    graph::register(module)?;
    policy::register(module)?;
    subprocesses::register(module)?;
    takeover::register(module)?;
    docs::copy(module)
}
