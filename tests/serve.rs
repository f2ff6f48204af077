//! The broker as a process: its log, its signals and how it ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running `leveret` with its file.
struct Process {
    child: Child,
    directory: TempDir,
    log: Receiver<String>,
}

impl Process {
    /// Starts on a free port with that file.
    fn start(file: &str, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("leveret.toml"), file).expect("a file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_leveret"))
            .args(["--config", "leveret.toml", "--amqp", "127.0.0.1:0"])
            .args(flags)
            .env_clear()
            .current_dir(directory.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stderr = child.stderr.take().expect("it is piped");
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            directory,
            log,
        }
    }

    /// The lines of the log up to the one that contains `text`.
    fn log_until(&self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.log.recv_timeout(left) else {
                panic!("no '{text}' in the log:\n{}", lines.join("\n"));
            };
            lines.push(line);
            if lines.last().is_some_and(|line| line.contains(text)) {
                return lines;
            }
        }
    }

    fn write(&self, file: &str) {
        fs::write(self.directory.path().join("leveret.toml"), file).expect("a file");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status();
        assert!(status.expect("there is a kill command").success());
    }

    fn wait(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the broker does not end");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where it has ended, as it should have.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

const FILE: &str = r#"
[[exchange]]
name = "logs"
type = "topic"

[[queue]]
name = "errors"

[[binding]]
from = "logs"
to_queue = "errors"
key = "*.error"
"#;

#[test]
fn it_listens_and_ends_with_sigterm() {
    let process = Process::start(FILE, &[]);
    let lines = process.log_until("listening for AMQP 0-9-1");
    let line = lines.last().expect("the line");
    let (_, address) = line.split_once("address=").expect("it names the address");
    let address: SocketAddr = address.trim().parse().expect("an address");
    TcpStream::connect(address).expect("it listens there");
    process.log_until("nothing survives a restart");
    process.signal("-TERM");
    process.log_until("shutting down");
    assert_eq!(process.wait().code(), Some(0));
}

#[test]
fn its_log_can_be_objects() {
    let process = Process::start("", &["--log-format", "json"]);
    for line in process.log_until("listening for AMQP 0-9-1") {
        let object: serde_json::Value = serde_json::from_str(&line).expect("an object");
        assert!(
            object["message"].is_string() && object["level"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn sighup_applies_a_new_file_and_says_what_changed() {
    let process = Process::start(FILE, &[]);
    process.log_until("listening");
    process.write(
        "[amqp]\nheartbeat = \"5s\"\n[[exchange]]\nname = \"logs\"\ntype = \"topic\"\n\
         [[queue]]\nname = \"all\"\n[[binding]]\nfrom = \"logs\"\nto_queue = \"all\"\nkey = \"#\"\n",
    );
    process.signal("-HUP");
    let lines = process.log_until("[amqp] changed").join("\n");
    for expected in [
        "added queue 'all' in vhost '/'",
        "added binding 'logs' -> queue 'all' with key '#' in vhost '/'",
        "removed binding 'logs' -> queue 'errors' with key '*.error' in vhost '/'",
        "queue 'errors' in vhost '/' is no longer in the file and stays",
    ] {
        assert!(lines.contains(expected), "{expected} is not in\n{lines}");
    }
}

#[test]
fn sighup_refuses_a_wrong_file_as_a_whole() {
    let process = Process::start(FILE, &[]);
    process.log_until("listening");

    process.write("[[queue]]\nname = \"new\"\n[amqp]\nadress = \"x\"\n");
    process.signal("-HUP");
    process.log_until("leveret.toml:4:1: unknown key 'adress' in [amqp], did you mean 'address'?");

    process.write(&format!(
        "{}[[queue]]\nname = \"new\"\n",
        FILE.replace("topic", "direct")
    ));
    process.signal("-HUP");
    process.log_until("received 'direct' but current is 'topic'");

    process.write(&format!("{FILE}[[queue]]\nname = \"new\"\n"));
    process.signal("-HUP");
    process.log_until("added queue 'new'");

    process.signal("-HUP");
    process.log_until("nothing to change");
}

#[test]
fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it has an address").to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_leveret"))
        .args(["--amqp", &address])
        .env_clear()
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains(&format!("cannot listen on {address}")),
        "{stderr}"
    );
}
