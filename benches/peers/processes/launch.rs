//! Starting a program that must not outlive the suite: the suite runs itself, asks
//! the system to be killed when its parent dies, and then becomes the program.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Signal, set_parent_process_death_signal};

/// The suite's own first argument for this.
pub const WORD: &str = "launch";

/// A command that runs `program` this way, in a process group of its own; arguments
/// and environment can be added.
///
/// # Errors
/// If the suite does not know where it is itself.
pub fn command(program: &Path) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(WORD)
        .arg(std::process::id().to_string())
        .arg(program)
        .process_group(0);
    Ok(command)
}

/// In the child: becomes the program. Returns only if it cannot.
pub fn become_program(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("the program would outlive the suite: {error}");
        return ExitCode::FAILURE;
    }
    let parent = arguments.next();
    // The suite may have been killed before the system was asked.
    if parent.is_none_or(|parent| parent != *parent_id().to_string()) {
        return ExitCode::FAILURE;
    }
    let Some(program) = arguments.next() else {
        eprintln!("no program to launch");
        return ExitCode::FAILURE;
    };
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("cannot run {}: {error}", program.display());
    ExitCode::FAILURE
}
