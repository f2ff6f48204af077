//! A running `leveret` and its log.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::client::{Client, PATIENCE};
use crate::support::handshake::Login;

/// What the log says of each address; the address comes after it.
const LISTENING: &str = "listening for AMQP 0-9-1";

/// A process in an empty directory and an empty environment, killed at the end
/// of its test.
pub struct Serve {
    child: Child,
    directory: TempDir,
    log: Arc<Log>,
    /// Lines up to here were awaited already.
    seen: usize,
}

/// What is to be started.
pub struct Start {
    command: Command,
    directory: TempDir,
}

/// Standard error, line by line.
#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    grown: Condvar,
}

impl Start {
    /// `leveret` with these arguments.
    pub fn new(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
        command
            .args(arguments)
            .env_clear()
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        Self { command, directory }
    }

    /// With a file `leveret.toml` in its directory.
    pub fn file(self, text: &str) -> Self {
        fs::write(self.directory.path().join("leveret.toml"), text)
            .expect("the directory takes a file");
        self
    }

    /// With a variable in its environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Serve {
        let mut child = self.command.spawn().expect("the binary runs");
        let stderr = child.stderr.take().expect("it was asked for");
        let log = Arc::new(Log::default());
        let writes = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n') {
                let line = line.expect("a pipe that can be read");
                let line = String::from_utf8_lossy(&line).into_owned();
                writes.lines.lock().expect("no panic").0.push(line);
                writes.grown.notify_all();
            }
            writes.lines.lock().expect("no panic").1 = true;
            writes.grown.notify_all();
        });
        Serve {
            child,
            directory: self.directory,
            log,
            seen: 0,
        }
    }
}

impl Serve {
    /// `leveret serve` on a free port with these further arguments.
    pub fn new(arguments: &[&str]) -> Self {
        let mut all = vec!["serve", "--amqp", "127.0.0.1:0"];
        all.extend(arguments);
        Start::new(&all).start()
    }

    /// The same with a file.
    pub fn with_file(text: &str) -> Self {
        Start::new(&["serve", "--amqp=127.0.0.1:0", "--config=leveret.toml"])
            .file(text)
            .start()
    }

    /// Where it listens.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        let log = self.wait_for(0, LISTENING);
        let line = &log[log.len() - 1];
        let digits_and_more = line
            .split("address")
            .nth(1)
            .unwrap_or_else(|| panic!("no address in {line}"));
        let address: String = digits_and_more
            .chars()
            .skip_while(|letter| !letter.is_ascii_digit())
            .take_while(|letter| letter.is_ascii_digit() || ".:".contains(*letter))
            .collect();
        address
            .parse()
            .unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// A client that logged in as guest, with channel 1 open.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.client_with(&Login::default())
    }

    /// A client with channel 1 open.
    #[track_caller]
    pub fn client_with(&self, login: &Login) -> Client {
        let mut client = Client::connect_at(self.address(), login);
        client.open_channel(1);
        client
    }

    /// Writes the file anew and has it read.
    pub fn reload(&self, text: &str) {
        fs::write(self.path("leveret.toml"), text).expect("the directory takes a file");
        self.signal("HUP");
    }

    /// A path in the directory that it runs in.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its environment's variables, each as `NAME=VALUE`.
    pub fn environment(&self) -> Vec<String> {
        let path = format!("/proc/{}/environ", self.child.id());
        let environment = fs::read_to_string(path).expect("it runs");
        environment.split('\0').map(str::to_owned).collect()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success(), "kill -s {name} failed");
    }

    /// Waits for a line that contains that text, behind those awaited before,
    /// and returns it.
    #[track_caller]
    pub fn await_log(&mut self, text: &str) -> String {
        let mut lines = self.wait_for(self.seen, text);
        self.seen += lines.len();
        lines.pop().expect("one was found")
    }

    /// Waits for it to end; the exit status.
    #[track_caller]
    pub fn await_exit(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it still runs:\n{}",
                self.log_so_far()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The whole log of a process that ends soon.
    #[track_caller]
    pub fn whole_log(&mut self) -> String {
        self.await_exit(PATIENCE);
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().expect("no panic");
        while !lines.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the log does not end");
            lines = self
                .log
                .grown
                .wait_timeout(lines, left)
                .expect("no panic")
                .0;
        }
        lines.0.join("\n")
    }

    /// The log up to now.
    pub fn log_so_far(&self) -> String {
        self.log.lines.lock().expect("no panic").0.join("\n")
    }

    /// The lines from `first` to the one that contains that text, waited for.
    #[track_caller]
    fn wait_for(&self, first: usize, text: &str) -> Vec<String> {
        let deadline = Instant::now() + 2 * PATIENCE;
        let mut lines = self.log.lines.lock().expect("no panic");
        loop {
            let new = &lines.0[first..];
            if let Some(found) = new.iter().position(|line| line.contains(text)) {
                return new[..=found].to_vec();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !lines.1,
                "no line with {text:?} in\n{}",
                lines.0.join("\n")
            );
            lines = self
                .log
                .grown
                .wait_timeout(lines, left)
                .expect("no panic")
                .0;
        }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
