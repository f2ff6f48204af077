//! What the allocator is told. mimalloc takes its options from the environment
//! before anything else runs, and the crate has no other way that is safe: so the
//! process begins anew, with the same number, within a millisecond.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has the allocator give freed memory back soon. Its own second is long where
/// one thread takes memory and another frees it: with 20 million messages waiting
/// it kept as much as was in use. Who has set the option means it.
///
/// # Errors
/// If the process could not begin anew; it goes on as it was.
pub(super) fn give_back_soon() -> io::Result<()> {
    if std::env::var_os(OPTION).is_some() {
        return Ok(());
    }
    let mut command = Command::new(std::env::current_exe()?);
    let mut args = std::env::args_os();
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    Err(command.args(args).env(OPTION, MILLISECONDS).exec())
}

const OPTION: &str = "MIMALLOC_PURGE_DELAY";
const MILLISECONDS: &str = "10";
