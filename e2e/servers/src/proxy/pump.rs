//! Moves bytes between clients and the server, as the fault of the moment allows.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use super::{commands::Sent, parser::Parser};

/// What goes wrong on purpose.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Fault {
    #[default]
    None,
    Stall,
    LoseReplies,
    Refuse,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) fault: Fault,
    pub(super) sent: Vec<Sent>,
    pub(super) live: Vec<Connection>,
    pub(super) closed: bool,
    next: u64,
}

pub(super) struct Connection {
    id: u64,
    client: TcpStream,
    server: TcpStream,
    /// The client waits for something that was thrown away: later replies would answer the wrong commands.
    pub(super) lost_a_reply: bool,
}

/// All connections of one proxy.
#[derive(Default)]
pub(super) struct Pipe {
    state: Mutex<State>,
    changed: Condvar,
}

impl Pipe {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, fault: Fault) {
        self.state().fault = fault;
        self.changed.notify_all();
    }

    /// Closes the connections that `chosen` names.
    pub(super) fn cut(&self, chosen: impl Fn(&Connection) -> bool) {
        self.state().live.retain(|connection| {
            let cut = chosen(connection);
            if cut {
                connection.shut();
            }
            !cut
        });
        self.changed.notify_all();
    }

    /// Closes everything for good.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.cut(|_| true);
    }

    /// Serves a client with a connection to the server, in two threads that end with it.
    pub(super) fn join(self: &Arc<Self>, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut from_client, mut to_client) = (client.try_clone()?, client.try_clone()?);
        let (mut from_server, mut to_server) = (server.try_clone()?, server.try_clone()?);
        let id = self.admit(client, server);
        let pipe = Arc::clone(self);
        thread::spawn(move || {
            drop(pipe.carry_commands(id, &mut from_client, &mut to_server));
            pipe.cut(|connection| connection.id == id);
        });
        let pipe = Arc::clone(self);
        thread::spawn(move || {
            drop(pipe.carry_replies(id, &mut from_server, &mut to_client));
            pipe.cut(|connection| connection.id == id);
        });
        Ok(())
    }

    fn admit(&self, client: TcpStream, server: TcpStream) -> u64 {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        let connection = Connection { id, client, server, lost_a_reply: false };
        // A proxy that was told to refuse or close between the accepting and now keeps nobody.
        if state.closed || state.fault == Fault::Refuse {
            connection.shut();
        } else {
            state.live.push(connection);
        }
        id
    }

    fn carry_commands(&self, id: u64, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
        let mut parser = Parser::default();
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let count = read(client, &mut bytes)?;
            let at = Instant::now();
            let commands = parser.feed(&bytes[..count]).into_iter().filter(|words| !words.is_empty());
            self.state().sent.extend(commands.map(|words| Sent::read(&words, at)));
            drop(self.wait_while_stalled(id));
            server.write_all(&bytes[..count])?;
        }
    }

    fn carry_replies(&self, id: u64, server: &mut TcpStream, client: &mut TcpStream) -> io::Result<()> {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let count = read(server, &mut bytes)?;
            let lost = {
                let mut state = self.wait_while_stalled(id);
                let losing = state.fault == Fault::LoseReplies;
                let connection = state.live.iter_mut().find(|connection| connection.id == id);
                connection.is_some_and(|connection| {
                    connection.lost_a_reply |= losing;
                    connection.lost_a_reply
                })
            };
            if !lost {
                client.write_all(&bytes[..count])?;
            }
        }
    }

    /// Returns when bytes of this connection may flow, or when it is gone and they have nowhere to flow.
    fn wait_while_stalled(&self, id: u64) -> MutexGuard<'_, State> {
        let stalled = |state: &mut State| state.fault == Fault::Stall && state.live.iter().any(|live| live.id == id);
        self.changed.wait_while(self.state(), stalled).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn shut(&self) {
        // Errors say that it is shut already.
        drop(self.client.shutdown(Shutdown::Both));
        drop(self.server.shutdown(Shutdown::Both));
    }
}

/// Reads at least one byte: the end of a stream is an error here, as it ends both directions.
fn read(stream: &mut TcpStream, bytes: &mut [u8]) -> io::Result<usize> {
    match stream.read(bytes)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => Ok(count),
    }
}
