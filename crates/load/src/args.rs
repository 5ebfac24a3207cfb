//! The command line.

use std::path::PathBuf;
use std::time::Duration;

/// Where the server is.
#[derive(Debug)]
pub(crate) enum Target {
    Tcp(String),
    Udp(String),
    Unix(PathBuf),
}

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) to: Target,
    /// The server, whose CPU time and memory are read.
    pub(crate) pid: u32,
    pub(crate) connections: usize,
    /// Connections that do nothing.
    pub(crate) idle: usize,
    /// Bytes of one message.
    pub(crate) size: usize,
    /// Bytes of the answer to one message, if it is not its echo.
    pub(crate) answer: Option<usize>,
    /// Messages in one write.
    pub(crate) pipeline: usize,
    /// A connection for each message.
    pub(crate) churn: bool,
    /// With `churn`: no message either; the client says at once that it will not send anything.
    pub(crate) knock: bool,
    /// With `churn`: at most so many connections a second.
    pub(crate) rate: usize,
    pub(crate) window: Duration,
}

impl Args {
    /// Reads `--name value` pairs.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self {
            to: Target::Tcp(String::new()),
            pid: 0,
            connections: 10,
            idle: 0,
            size: 1024,
            answer: None,
            pipeline: 1,
            churn: false,
            knock: false,
            rate: usize::MAX,
            window: Duration::from_millis(250),
        };
        while let Some(name) = words.next() {
            if name == "--churn" {
                args.churn = true;
                continue;
            }
            if name == "--knock" {
                (args.churn, args.knock) = (true, true);
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || {
                value
                    .parse::<usize>()
                    .map_err(|_| format!("{name}: {value} is not a number"))
            };
            match name.as_str() {
                "--to" => args.to = target(&value)?,
                "--pid" => args.pid = number()? as u32,
                "--connections" => args.connections = number()?,
                "--idle" => args.idle = number()?,
                "--size" => args.size = number()?,
                "--answer" => args.answer = Some(number()?),
                "--rate" => args.rate = number()?,
                "--pipeline" => args.pipeline = number()?,
                "--seconds" => {
                    let seconds = value
                        .parse()
                        .map_err(|_| format!("{value} is not a number of seconds"))?;
                    args.window = Duration::from_secs_f64(seconds);
                }
                _ => return Err(format!("{name} is unknown")),
            }
        }
        Ok(args)
    }
}

fn target(text: &str) -> Result<Target, String> {
    match text.split_once(':') {
        Some(("tcp", rest)) => Ok(Target::Tcp(rest.into())),
        Some(("udp", rest)) => Ok(Target::Udp(rest.into())),
        Some(("unix", rest)) => Ok(Target::Unix(rest.into())),
        _ => Err(format!("{text} is not tcp:HOST:PORT, udp:HOST:PORT or unix:PATH")),
    }
}
