//! `leveret hash-password`: what to write instead of a password.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;

use anyhow::{Context, bail};
use console::Term;

use crate::config::hash_password;

/// Reads a password from the terminal, or the first line of standard input, and
/// prints its hash.
#[derive(Clone, Debug, clap::Args)]
pub struct HashPasswordArgs {}

/// Prints the hash for `password_hash` of a `[[user]]`.
///
/// # Errors
/// If there is no password to read, or the system gives no random salt.
pub fn run(_args: &HashPasswordArgs) -> anyhow::Result<ExitCode> {
    let password = if std::io::stdin().is_terminal() {
        ask()?
    } else {
        first_line(std::io::stdin().lock())?
    };
    if password.is_empty() {
        bail!("an empty password would let anybody in");
    }
    println!("{}", hash_password(password.as_bytes())?);
    Ok(ExitCode::SUCCESS)
}

fn ask() -> anyhow::Result<String> {
    let terminal = Term::stderr();
    terminal.write_str("Password: ")?;
    let password = terminal.read_secure_line()?;
    terminal.write_str("Again: ")?;
    if terminal.read_secure_line()? != password {
        bail!("the two passwords differ");
    }
    Ok(password)
}

fn first_line(input: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    input
        .take(INPUT_BYTES_MAX)
        .read_to_string(&mut text)
        .context("cannot read a password from standard input")?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// What is read of standard input; a SASL response is no longer either.
const INPUT_BYTES_MAX: u64 = 64 * 1024;
