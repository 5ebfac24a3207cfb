//! Loads an echo server from one thread and says what that cost it: `benchmarks/network.py` runs it.
//!
//! Every connection sends `pipeline` messages of `size` bytes in one write, waits for all of them to come back,
//! and begins again. (`--answer`: a server that does not echo sends so many bytes for each.) With `--churn` a
//! connection is opened for one message and closed, `--rate` times a second at most; with `--knock` it has no message,
//! and has been served when the server has closed it. The server's CPU time is read from the kernel at the beginning
//! and the end of the window, so starting and connecting do not count.
//!
//! ```text
//! aioxide-load --to tcp:127.0.0.1:8000 --pid 1234 --connections 10 --size 1024 --seconds 0.25
//! {"messages": 25000, "seconds": 0.25, "cpu": 0.2, "bytes_per_connection": 0}
//! ```

mod args;
mod connection;
mod process;

use aioxide_core::{Clock, Events, Interest, Monotonic, Reactor};
use args::Args;
use connection::Connection;
use process::Process;
use std::collections::HashMap;
use std::io;
use std::time::Duration;

/// Before the window: caches are filled, adaptive things have adapted.
/// In seconds.
const WARM_UP: f64 = 0.06;
/// How long it waits when it is ahead of its rate.
const PAUSE: Duration = Duration::from_millis(1);

fn main() -> Result<(), String> {
    let args = Args::parse(std::env::args().skip(1))?;
    let figures = run(&args).map_err(|error| error.to_string())?;
    println!("{figures}");
    Ok(())
}

fn run(args: &Args) -> io::Result<String> {
    let server = Process(args.pid);
    let mut reactor: Reactor = Reactor::new()?;
    let poller = reactor.poller();
    let mut events = Events::new();
    let mut connections = HashMap::new();
    let mut buffer = vec![0; 256 * 1024];
    let before = server.resident()?;
    for _ in 0..args.connections + args.idle {
        let connection = Connection::open(args)?;
        reactor.set_interest(connection.fd(), Interest::READABLE)?;
        connections.insert(connection.fd(), connection);
    }
    if args.idle > 0 {
        // the server sees them all before it is weighed
        poller.wait(&mut events, Some(Duration::from_millis(500)))?;
    }
    let grown = server.resident()?.saturating_sub(before);
    for connection in connections.values_mut().take(args.connections) {
        connection.send(&mut buffer)?;
    }
    let mut window: Option<(f64, Duration, u64)> = None;
    let (clock, mut messages) = (Monotonic, 0_u64);
    let started = clock.now();
    // connections that have ended and are to be opened again
    let mut owed = 0;
    loop {
        let patience = if owed > 0 { PAUSE } else { Duration::from_secs(5) };
        poller.wait(&mut events, Some(patience))?;
        if owed == 0 && events.iter().next().is_none() {
            return Err(io::Error::other("the server has stopped answering"));
        }
        let mut ready = Vec::new();
        reactor.dispatch(&mut events, |fd, _| ready.push(fd));
        for fd in ready {
            let Some(connection) = connections.get_mut(&fd) else {
                continue;
            };
            if !connection.receive(&mut buffer)? {
                continue;
            }
            messages += args.pipeline as u64;
            if args.churn {
                reactor.set_interest(fd, Interest::EMPTY)?;
                connections.remove(&fd);
                owed += 1;
            } else {
                connection.send(&mut buffer)?;
            }
        }
        while owed > 0 && (messages as f64) < (clock.now() - started) * args.rate as f64 {
            let mut fresh = Connection::open(args)?;
            reactor.set_interest(fresh.fd(), Interest::READABLE)?;
            fresh.send(&mut buffer)?;
            connections.insert(fresh.fd(), fresh);
            owed -= 1;
        }
        match window {
            None if clock.now() - started > WARM_UP => {
                window = Some((clock.now(), server.cpu()?, messages));
            }
            Some((began, cpu, at)) if clock.now() - began >= args.window.as_secs_f64() => {
                let used = server.cpu()?.saturating_sub(cpu);
                return Ok(format!(
                    "{{\"messages\": {}, \"seconds\": {}, \"cpu\": {}, \"bytes_per_connection\": {}}}",
                    messages - at,
                    clock.now() - began,
                    used.as_secs_f64(),
                    grown / (args.connections + args.idle).max(1) as u64
                ));
            }
            _ => {}
        }
    }
}
