//! One conversation: send, receive as much, again.

use crate::args::{Args, Target};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Udp(UdpSocket),
}

/// A connection to the server.
pub(crate) struct Connection {
    socket: Socket,
    message: Vec<u8>,
    /// How many bytes answer it.
    answer: usize,
    /// Nothing is sent, and all that comes back is the end.
    knocks: bool,
    /// What is still to come back.
    missing: usize,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(args: &Args) -> io::Result<Self> {
        let socket = match &args.to {
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Socket::Tcp(stream)
            }
            Target::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                Socket::Unix(stream)
            }
            Target::Udp(address) => {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(address)?;
                socket.set_nonblocking(true)?;
                Socket::Udp(socket)
            }
        };
        let mut line = vec![b'x'; args.size];
        if let Some(last) = line.last_mut() {
            *last = b'\n';
        }
        Ok(Self {
            socket,
            message: line.repeat(args.pipeline),
            answer: args.answer.unwrap_or(args.size) * args.pipeline,
            knocks: args.knock,
            missing: 0,
        })
    }

    /// Its descriptor.
    pub(crate) fn fd(&self) -> RawFd {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_raw_fd(),
            Socket::Unix(socket) => socket.as_raw_fd(),
            Socket::Udp(socket) => socket.as_raw_fd(),
        }
    }

    /// Sends the next batch. What does not fit waits here: the server must read it before it can answer it.
    pub(crate) fn send(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        if self.knocks {
            return self.end();
        }
        self.missing = self.answer;
        let mut done = 0;
        while done < self.message.len() {
            let rest = &self.message[done..];
            let sent = match &mut self.socket {
                Socket::Tcp(socket) => socket.write(rest),
                Socket::Unix(socket) => socket.write(rest),
                Socket::Udp(socket) => socket.send(rest),
            };
            match sent {
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // the server is answering already: take that in
                    self.take_in(buffer)?;
                    std::thread::yield_now();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Receives. `true`: everything is back.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        self.take_in(buffer)?;
        Ok(self.missing == 0)
    }

    /// Says that nothing will be sent.
    fn end(&mut self) -> io::Result<()> {
        self.missing = 1;
        match &self.socket {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Socket::Unix(socket) => socket.shutdown(Shutdown::Write),
            Socket::Udp(_) => Err(io::Error::other("datagrams have no connection to end")),
        }
    }

    fn take_in(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let taken = match &mut self.socket {
            Socket::Tcp(socket) => socket.read(buffer),
            Socket::Unix(socket) => socket.read(buffer),
            Socket::Udp(socket) => socket.recv(buffer),
        };
        match taken {
            Ok(0) if self.knocks => {
                self.missing = 0;
                Ok(())
            }
            Ok(0) => Err(io::Error::other("the server has closed the connection")),
            Ok(count) => {
                self.missing = self.missing.saturating_sub(count);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}
