//! A `leveret` process on a data directory, and its log.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::handshake::Login;

/// How long a broker may take to listen: recovery is promised within 1 s and
/// 1 s per GB of log, and the machine may be busy.
pub const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a broker may take to end after SIGTERM.
pub const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Lines of the log that a failure shows.
const TAIL_LINES: usize = 40;

/// A running broker, killed when dropped.
pub struct Broker {
    child: Child,
    log: Log,
}

/// What a process wrote to standard error; outlives the process.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Broker {
    /// Starts one on that data directory and waits for nothing.
    pub fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    /// One with a configuration file, once it listens.
    #[track_caller]
    pub fn configured(data_dir: &Path, config: &Path) -> Self {
        let config = config.to_str().expect("UTF-8");
        let broker = Self::start_with(data_dir, &["--config", config]);
        broker.address();
        broker
    }

    fn start_with(data_dir: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_leveret"))
            .args(["serve", "--amqp", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(arguments)
            .env_clear()
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stderr = child.stderr.take().expect("it was asked for");
        let log = Log::default();
        let writes = log.clone();
        std::thread::spawn(move || {
            // A line cut by SIGKILL is no line.
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writes.change(|lines| lines.lines.push(line));
            }
            writes.change(|lines| lines.ended = true);
        });
        Self { child, log }
    }

    /// The same, and waits until it listens.
    #[track_caller]
    pub fn listening(data_dir: &Path) -> Self {
        let broker = Self::start(data_dir);
        broker.address();
        broker
    }

    /// Where it listens.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.log.address().unwrap_or_else(|| {
            panic!(
                "the broker did not listen within {START_LIMIT:?}:\n{}",
                self.log.tail()
            )
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// A client that logged in as guest, with channel 1 open.
    #[track_caller]
    pub fn client(&self) -> Client {
        let mut client = Client::connect_at(self.address(), &Login::default());
        client.open_channel(1);
        client
    }

    /// SIGKILL; the moment before it was sent, and the exit status if the
    /// process had ended by itself before.
    pub fn kill(mut self) -> (Instant, Option<ExitStatus>) {
        let earlier = self.child.try_wait().expect("a child of ours");
        let at = Instant::now();
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
        (at, earlier)
    }

    /// SIGTERM, and waits for nothing.
    pub fn terminate(&self) {
        let process = self.child.id().to_string();
        let status = Command::new("kill")
            .args(["-s", "TERM", &process])
            .status()
            .expect("kill runs");
        assert!(status.success(), "kill -s TERM failed");
    }

    /// Waits for it to end.
    #[track_caller]
    pub fn await_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + STOP_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the broker still runs after {STOP_LIMIT:?}:\n{}",
                self.log.tail()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and the exit code 0 that it promises.
    #[track_caller]
    pub fn stop(mut self) {
        self.terminate();
        let status = self.await_exit();
        assert_eq!(status.code(), Some(0), "{status}:\n{}", self.log.tail());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    /// The address that the process listens on, or nothing if it ended before
    /// or took longer than [`START_LIMIT`].
    pub fn address(&self) -> Option<SocketAddr> {
        let deadline = Instant::now() + START_LIMIT;
        let (mutex, grown) = &*self.0;
        let mut lines = mutex.lock().expect("no panic");
        loop {
            if let Some(address) = lines.lines.iter().find_map(|line| address_in(line)) {
                return Some(address);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || lines.ended {
                return None;
            }
            lines = grown.wait_timeout(lines, left).expect("no panic").0;
        }
    }

    /// All of it, once the process has ended.
    #[track_caller]
    pub fn whole(&self) -> String {
        let (mutex, grown) = &*self.0;
        let deadline = Instant::now() + STOP_LIMIT;
        let mut lines = mutex.lock().expect("no panic");
        while !lines.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the log does not end");
            lines = grown.wait_timeout(lines, left).expect("no panic").0;
        }
        lines.lines.join("\n")
    }

    /// Its last lines, without refusals that the checks ask for.
    pub fn tail(&self) -> String {
        let lines = self.0.0.lock().expect("no panic");
        let asked_for = |line: &&String| !line.contains("NOT_FOUND");
        let lines: Vec<_> = lines.lines.iter().filter(asked_for).collect();
        let tail = lines.iter().skip(lines.len().saturating_sub(TAIL_LINES));
        tail.map(|line| line.as_str())
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn change(&self, change: impl FnOnce(&mut Lines)) {
        change(&mut self.0.0.lock().expect("no panic"));
        self.0.1.notify_all();
    }
}

/// The address in the line that says that the broker listens.
fn address_in(line: &str) -> Option<SocketAddr> {
    if !line.contains("listening for AMQP 0-9-1") {
        return None;
    }
    line.split("address")
        .nth(1)?
        .trim_start_matches(|letter: char| !letter.is_ascii_digit())
        .split(|letter: char| !letter.is_ascii_digit() && letter != '.' && letter != ':')
        .next()?
        .parse()
        .ok()
}
