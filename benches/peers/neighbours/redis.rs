//! Redis with a list as a queue: `RPUSH` for each message, pipelined and without
//! answers; `BLMPOP` for up to a hundred at once.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use super::readers::{FETCH, RedisReader, unexpected};
use super::wire::{self, Wire};
use super::{OwnNeighbour, invited};
use crate::peer::{Peer, Running};
use crate::processes::{find_program, first_line, free_port, launch};
use crate::scenarios::Scenario;
use crate::table::PeerNote;

/// An installed `redis-server`, 7 or later.
#[derive(Debug)]
pub struct Redis(PathBuf);

impl Redis {
    /// The one that is installed, if there is one.
    pub fn installed() -> Option<Self> {
        find_program(&["redis-server"]).map(Self)
    }
}

impl Peer for Redis {
    fn name(&self) -> &str {
        NAME
    }

    fn takes_part(&self, scenario: &Scenario) -> bool {
        invited(NAME, scenario)
    }

    fn start(&self, directory: &Path) -> anyhow::Result<Box<dyn Running>> {
        let port = free_port()?;
        let mut command = launch::command(&self.0)?;
        command
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--save",
                "",
            ])
            .arg("--dir")
            .arg(directory);
        OwnNeighbour::start(command, directory, NAME, port, RedisWire { port })
    }

    fn note(&self) -> PeerNote {
        PeerNote {
            name: NAME.to_owned(),
            version: Some(first_line(&self.0, &["--version"])),
            settings: "a list, nothing saved; `RPUSH` pipelined with `CLIENT REPLY OFF`, `BLMPOP` \
                       of 100, two in flight"
                .to_owned(),
            confirms: "not asked for: nothing is stored, what is fetched is gone".to_owned(),
        }
    }
}

struct RedisWire {
    port: u16,
}

impl Wire for RedisWire {
    type Reader = RedisReader;

    fn open_sender(&self) -> io::Result<TcpStream> {
        let mut stream = wire::connect(self.port)?;
        // What a failed run may have left.
        stream.write_all(b"DEL bench\r\n")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        if !answer.starts_with(b":") {
            return Err(unexpected(&answer));
        }
        stream.write_all(b"CLIENT REPLY OFF\r\n")?;
        Ok(stream)
    }

    fn open_receiver(&self, _: usize) -> io::Result<(TcpStream, RedisReader)> {
        let mut stream = wire::connect(self.port)?;
        for _ in 0..IN_FLIGHT {
            stream.write_all(FETCH)?;
        }
        Ok((stream, RedisReader::default()))
    }

    fn template(&self, body_bytes: usize) -> (Vec<u8>, usize) {
        let mut message =
            format!("*3\r\n$5\r\nRPUSH\r\n$5\r\nbench\r\n${body_bytes}\r\n").into_bytes();
        let body_at = message.len();
        message.resize(body_at + body_bytes, b'x');
        message.extend_from_slice(b"\r\n");
        (message, body_at)
    }

    fn finish(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(b"CLIENT REPLY ON\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        match &answer {
            b"+OK\r\n" => Ok(()),
            other => Err(unexpected(other)),
        }
    }
}

const NAME: &str = "redis";
/// Requests that the server has at any time, so that it need not wait for one.
const IN_FLIGHT: usize = 2;
