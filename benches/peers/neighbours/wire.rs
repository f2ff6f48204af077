//! What a driver must know of a protocol.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::readers::Reader;

/// Octets of a stamp: sequence 8, due time 8. The body begins with it.
pub const STAMP_BYTES: usize = 16;

/// A protocol in which messages of one size look the same but for their stamp.
pub trait Wire: Sync {
    /// How it reads.
    type Reader: Reader;

    /// A connection that messages can be written to.
    ///
    /// # Errors
    /// If the peer cannot be reached or answers something else.
    fn open_sender(&self) -> io::Result<TcpStream>;

    /// A connection that has asked for messages, and what reads it.
    ///
    /// # Errors
    /// If the peer cannot be reached or answers something else.
    fn open_receiver(&self, body_bytes: usize) -> io::Result<(TcpStream, Self::Reader)>;

    /// A message as it is sent, and where its body begins.
    fn template(&self, body_bytes: usize) -> (Vec<u8>, usize);

    /// Asks on the sender's connection whether all that was written was taken.
    ///
    /// # Errors
    /// If the peer says no, or nothing.
    fn finish(&self, sender: &mut TcpStream) -> io::Result<()>;
}

/// A connection that gives up where a peer does not take or give anything for long.
///
/// # Errors
/// If nobody listens there.
pub fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// How long a peer may be silent.
pub const PATIENCE: Duration = Duration::from_secs(10);
