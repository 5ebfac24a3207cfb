//! What is not built yet, with an error that says so. Nothing here falls back to asyncio.

use crate::ffi::errors::not_implemented;
use crate::ffi::pyclass::Body;
use crate::ffi::{Args, Obj, R};

macro_rules! missing {
    ($($sig:literal $name:literal,)*) => {
        /// Adds a method for each that raises NotImplementedError.
        pub(super) fn add(body: &mut Body) -> R<()> {
            $(
                body.async_method($sig, |_: &Args| -> R<Obj> {
                    Err(not_implemented(concat!("aioxide does not implement loop.", $name, "() yet")))
                })?;
            )*
            Ok(())
        }
    };
}

missing! {
    "create_connection(self, protocol_factory, host=None, port=None, **kwargs)" "create_connection",
    "create_server(self, protocol_factory, host=None, port=None, **kwargs)" "create_server",
    "start_tls(self, transport, protocol, sslcontext, **kwargs)" "start_tls",
    "sendfile(self, transport, file, offset=0, count=None, *, fallback=True)" "sendfile",
    "create_unix_connection(self, protocol_factory, path=None, **kwargs)" "create_unix_connection",
    "create_unix_server(self, protocol_factory, path=None, **kwargs)" "create_unix_server",
    "connect_accepted_socket(self, protocol_factory, sock, **kwargs)" "connect_accepted_socket",
    "create_datagram_endpoint(self, protocol_factory, local_addr=None, remote_addr=None, **kwargs)" "create_datagram_endpoint",
    "connect_read_pipe(self, protocol_factory, pipe)" "connect_read_pipe",
    "connect_write_pipe(self, protocol_factory, pipe)" "connect_write_pipe",
    "subprocess_shell(self, protocol_factory, cmd, **kwargs)" "subprocess_shell",
    "subprocess_exec(self, protocol_factory, *args, **kwargs)" "subprocess_exec",
}
