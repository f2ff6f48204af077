//! The least that something between two sockets costs: a process that reads up to
//! 256 KiB from one and writes it to the other. What it moves are the frames in which
//! Leveret delivers such messages. No broker on this machine can be quicker.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;

use leveret_protocol::{ContentHeader, content};

use super::readers::RelayReader;
use super::wire::{self, Wire};
use super::{OwnNeighbour, invited};
use crate::peer::{Peer, Running};
use crate::processes::{free_port, launch};
use crate::scenarios::Scenario;
use crate::table::PeerNote;

/// The relay; it is this program itself.
#[derive(Debug)]
pub struct Relay;

/// The suite's own first argument for being the relay.
pub const WORD: &str = "relay";

impl Peer for Relay {
    fn name(&self) -> &str {
        WORD
    }

    fn takes_part(&self, scenario: &Scenario) -> bool {
        invited(WORD, scenario)
    }

    fn start(&self, directory: &Path) -> anyhow::Result<Box<dyn Running>> {
        let port = free_port()?;
        let mut command = launch::command(&std::env::current_exe()?)?;
        command.arg(WORD).arg(port.to_string());
        OwnNeighbour::start(command, directory, WORD, port, RelayWire { port })
    }

    fn note(&self) -> PeerNote {
        PeerNote {
            name: WORD.to_owned(),
            version: Some("this suite".to_owned()),
            settings: "no broker: copies the frames of deliveries from one socket to another, \
                       up to 256 KiB at a time, on one thread"
                .to_owned(),
            confirms: "there are none".to_owned(),
        }
    }
}

/// In the child: relays from the connection that begins with [`SENDER`] to the one that
/// begins with [`RECEIVER`], one pair after the other.
pub fn serve(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let port = arguments
        .next()
        .and_then(|port| port.to_str()?.parse().ok());
    let Some(port) = port else {
        eprintln!("no port to listen on");
        return ExitCode::FAILURE;
    };
    let error = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| {
        loop {
            pump(accept_pair(&listener)?);
        }
    });
    let Err(error): io::Result<std::convert::Infallible> = error;
    eprintln!("the relay ends: {error}");
    ExitCode::FAILURE
}

fn accept_pair(listener: &TcpListener) -> io::Result<(TcpStream, TcpStream)> {
    let (mut sender, mut receiver) = (None, None);
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut side = [0];
        // Somebody who only looks whether there is a listener says nothing.
        match stream.read(&mut side).map(|_| side) {
            Ok([SENDER]) => sender = Some(stream),
            Ok([RECEIVER]) => receiver = Some(stream),
            _ => {}
        }
        (sender, receiver) = match (sender, receiver) {
            (Some(sender), Some(receiver)) => return Ok((sender, receiver)),
            not_yet => not_yet,
        };
    }
}

/// Until one of them is gone.
fn pump((mut from, mut to): (TcpStream, TcpStream)) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count) = from.read(&mut buffer) {
        let octets = buffer.get(..count).unwrap_or_default();
        if octets.is_empty() || to.write_all(octets).is_err() {
            return;
        }
    }
}

struct RelayWire {
    port: u16,
}

impl Wire for RelayWire {
    type Reader = RelayReader;

    fn open_sender(&self) -> io::Result<TcpStream> {
        let mut stream = wire::connect(self.port)?;
        stream.write_all(&[SENDER])?;
        Ok(stream)
    }

    fn open_receiver(&self, body_bytes: usize) -> io::Result<(TcpStream, RelayReader)> {
        let mut stream = wire::connect(self.port)?;
        stream.write_all(&[RECEIVER])?;
        let (message, body_at) = self.template(body_bytes);
        let reader = RelayReader {
            message_bytes: message.len(),
            body_at,
        };
        Ok((stream, reader))
    }

    fn template(&self, body_bytes: usize) -> (Vec<u8>, usize) {
        let mut envelope = Vec::new();
        content::encode_envelope(&mut envelope, "", "leveret-peers-0");
        let mut header = Vec::new();
        ContentHeader {
            class_id: BASIC,
            body_bytes: body_bytes as u64,
            properties: &[0, 0],
        }
        .encode(&mut header);
        let mut message = Vec::new();
        content::encode_deliver_head(&mut message, 1, "1", 1, false, &envelope, &header);
        let body_at = message.len() + FRAME_HEADER_BYTES;
        message.clear();
        let body = vec![b'x'; body_bytes];
        content::encode_deliver(
            &mut message,
            1,
            "1",
            1,
            false,
            &envelope,
            &header,
            &body,
            FRAME_BYTES_MAX,
        );
        (message, body_at)
    }

    fn finish(&self, _: &mut TcpStream) -> io::Result<()> {
        Ok(())
    }
}

/// Class of `basic`.
const BASIC: u16 = 60;
const SENDER: u8 = b'S';
const RECEIVER: u8 = b'R';
/// As much as Leveret reads at once.
const BUFFER_BYTES: usize = 256 * 1_024;
/// What clients and brokers agree on by default.
const FRAME_BYTES_MAX: u32 = 128 * 1_024;
/// Type, channel and size, in front of a frame's payload.
const FRAME_HEADER_BYTES: usize = 7;
