//! Children of the suite: each ends when its owner is dropped, and also when the
//! suite itself is killed.

pub mod interrupt;
pub mod launch;
mod usage;

pub use usage::{Usage, cost};

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process_group};

/// A child in a process group of its own, killed together with it on drop: what it
/// has stored is thrown away anyhow.
#[derive(Debug)]
pub struct Process {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Process {
    /// Starts what [`launch::command`] made; what it prints goes to files in that
    /// directory.
    ///
    /// # Errors
    /// If there is no such program, or no place for the files.
    pub fn start(mut command: Command, directory: &Path, name: &str) -> anyhow::Result<Self> {
        let [out, err] = ["out", "err"].map(|kind| directory.join(format!("{name}.{kind}")));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, out, err })
    }

    /// Its number; that of the program itself, as the launcher becomes it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until something listens on that port.
    ///
    /// # Errors
    /// If the process ends before, or nothing listens within a minute.
    pub fn await_port(&mut self, port: u16) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIME;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            interrupt::check()?;
            if !self.runs() {
                bail!("it ended: {}", self.last_words());
            }
            if Instant::now() > deadline {
                bail!("it does not listen: {}", self.last_words());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// What it printed to standard output.
    ///
    /// # Errors
    /// If the file is gone.
    pub fn output(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(&self.out)?)
    }

    /// The end of what it printed.
    pub fn last_words(&self) -> String {
        let texts = [&self.out, &self.err].map(|path| fs::read(path).unwrap_or_default());
        let text = texts.concat();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let first = lines.len().saturating_sub(LAST_LINES);
        lines.get(first..).unwrap_or_default().join(" / ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to kill.
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on.
///
/// # Errors
/// If there is none.
pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// Where a program is: the first of these paths that exists, or is found in `PATH`.
pub fn find_program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .collect();
    let places = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.into_iter().find(|place| place.is_file())
}

/// The first line that a program prints.
pub fn first_line(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().next().unwrap_or("?").trim().to_owned()
}

const START_TIME: Duration = Duration::from_secs(60);
/// How often something is looked at that is waited for.
pub const POLL: Duration = Duration::from_millis(20);
const LAST_LINES: usize = 3;
