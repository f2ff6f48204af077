//! NATS without JetStream: nothing is stored, nobody waits for a slow consumer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use super::readers::{NatsReader, unexpected};
use super::wire::{self, Wire};
use super::{OwnNeighbour, invited};
use crate::peer::{Peer, Running};
use crate::processes::{find_program, first_line, free_port, launch};
use crate::scenarios::Scenario;
use crate::table::PeerNote;

/// An installed `nats-server`.
#[derive(Debug)]
pub struct Nats(PathBuf);

impl Nats {
    /// The one that is installed, if there is one.
    pub fn installed() -> Option<Self> {
        find_program(&["nats-server"]).map(Self)
    }
}

impl Peer for Nats {
    fn name(&self) -> &str {
        NAME
    }

    fn takes_part(&self, scenario: &Scenario) -> bool {
        invited(NAME, scenario)
    }

    fn start(&self, directory: &Path) -> anyhow::Result<Box<dyn Running>> {
        let port = free_port()?;
        let mut command = launch::command(&self.0)?;
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
        OwnNeighbour::start(command, directory, NAME, port, NatsWire { port })
    }

    fn note(&self) -> PeerNote {
        PeerNote {
            name: NAME.to_owned(),
            version: Some(first_line(&self.0, &["--version"])),
            settings: "core NATS, defaults; the sender waits for the receivers within a window, \
                       as NATS would cut them off"
                .to_owned(),
            confirms: "there are none: nothing is stored, or sent again".to_owned(),
        }
    }
}

struct NatsWire {
    port: u16,
}

impl NatsWire {
    /// A connection that the server has welcomed.
    fn open(&self) -> io::Result<TcpStream> {
        let mut stream = wire::connect(self.port)?;
        let connect = br#"CONNECT {"verbose":false,"pedantic":false,"tls_required":false}"#;
        stream.write_all(connect)?;
        stream.write_all(b"\r\n")?;
        self.finish(&mut stream)?;
        Ok(stream)
    }
}

impl Wire for NatsWire {
    type Reader = NatsReader;

    fn open_sender(&self) -> io::Result<TcpStream> {
        self.open()
    }

    fn open_receiver(&self, _: usize) -> io::Result<(TcpStream, NatsReader)> {
        let mut stream = self.open()?;
        stream.write_all(format!("SUB {SUBJECT} 1\r\n").as_bytes())?;
        self.finish(&mut stream)?;
        Ok((stream, NatsReader))
    }

    fn template(&self, body_bytes: usize) -> (Vec<u8>, usize) {
        let mut message = format!("PUB {SUBJECT} {body_bytes}\r\n").into_bytes();
        let body_at = message.len();
        message.resize(body_at + body_bytes, b'x');
        message.extend_from_slice(b"\r\n");
        (message, body_at)
    }

    /// The answer to a ping comes once all before it is handled.
    fn finish(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(b"PING\r\n")?;
        let mut said = Vec::new();
        let mut part = [0; 4_096];
        loop {
            let count = stream.read(&mut part)?;
            let new = part.get(..count).unwrap_or_default();
            said.extend_from_slice(new);
            if new.is_empty() || said.windows(4).any(|four| four == b"-ERR") {
                return Err(unexpected(&said));
            }
            if said.ends_with(b"PONG\r\n") {
                return Ok(());
            }
        }
    }
}

const NAME: &str = "nats";
const SUBJECT: &str = "bench";
