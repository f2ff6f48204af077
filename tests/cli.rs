//! The command line as a user meets it: output, exit codes, help.

use std::fs;
use std::path::PathBuf;

use assert_cmd::Command;
use tempfile::TempDir;

/// `leveret` in an empty directory and an empty environment.
struct Leveret {
    directory: TempDir,
}

/// What a run printed, and how it ended.
#[derive(Debug, PartialEq)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Leveret {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { directory }
    }

    /// A file named `leveret.toml` with that text.
    fn with_file(text: &str) -> Self {
        let this = Self::new();
        fs::write(this.path("leveret.toml"), text).expect("the directory takes a file");
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
        command
            .args(arguments)
            .env_clear()
            .current_dir(self.directory.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        outcome(&mut self.command(arguments))
    }
}

fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().expect("the binary runs");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

const RIGHT: &str = r#"
[[exchange]]
name = "logs"
type = "topic"

[[queue]]
name = "errors"

[[binding]]
from = "logs"
to_queue = "errors"
keys = ["*.error", "audit.#"]
"#;

const DOUBTFUL: &str = r#"
[[exchange]]
name = "logs"
type = "topic"
"#;

const WRONG: &str = r#"
[amqp]
adress = "127.0.0.1:5672"
heartbeat = 60
"#;

#[test]
fn check_prints_findings_and_what_there_is() {
    let warning = "leveret.toml:2:1: warning: nothing is bound to exchange 'logs', messages \
                   published to it are dropped\n";
    let errors = "leveret.toml:3:1: error: unknown key 'adress' in [amqp], did you mean 'address'?\n\
                  leveret.toml:4:13: error: 'heartbeat' in [amqp]: expected a duration such as \"10s\" \
                  in whole seconds, from \"0s\" to \"65535s\", found 60\n";
    for (shows, text, flags, code, stdout) in [
        (
            "a file with nothing wrong",
            RIGHT,
            &[][..],
            0,
            "leveret.toml: 1 exchange, 1 queue, 2 bindings, 1 user, no errors, no warnings\n"
                .to_owned(),
        ),
        (
            "an empty file",
            "",
            &["--strict"],
            0,
            "leveret.toml: no exchanges, no queues, no bindings, 1 user, no errors, no warnings\n"
                .to_owned(),
        ),
        (
            "warnings pass",
            DOUBTFUL,
            &[],
            0,
            format!(
                "{warning}leveret.toml: 1 exchange, no queues, no bindings, 1 user, no errors, 1 warning\n"
            ),
        ),
        (
            "warnings fail if they shall",
            DOUBTFUL,
            &["--strict"],
            1,
            format!(
                "{warning}leveret.toml: 1 exchange, no queues, no bindings, 1 user, no errors, 1 warning\n"
            ),
        ),
        (
            "errors fail",
            WRONG,
            &[],
            1,
            format!("{errors}leveret.toml: refused, 2 errors, no warnings\n"),
        ),
    ] {
        let leveret = Leveret::with_file(text);
        let mut arguments = vec!["check", "leveret.toml"];
        arguments.extend(flags);
        let expected = Outcome {
            code: Some(code),
            stdout,
            stderr: String::new(),
        };
        assert_eq!(leveret.run(&arguments), expected, "{shows}");
    }
}

#[test]
fn check_says_which_file_is_missing() {
    let outcome = Leveret::new().run(&["check", "nowhere.toml"]);
    assert_eq!(outcome.code, Some(1));
    assert_eq!(
        outcome.stdout,
        "nowhere.toml: error: No such file or directory (os error 2)\n\
         nowhere.toml: refused, 1 error, no warnings\n"
    );
}

#[test]
fn hash_password_prints_what_a_user_takes() {
    let leveret = Leveret::new();
    for input in [
        "hunter2",
        "hunter2\n",
        "hunter2\r\n",
        "hunter2\nsecond line\n",
    ] {
        let outcome = outcome(leveret.command(&["hash-password"]).write_stdin(input));
        assert_eq!(
            (outcome.code, outcome.stderr.as_str()),
            (Some(0), ""),
            "{input:?}"
        );
        let hash = outcome.stdout.strip_suffix('\n').expect("a line");
        let hash: leveret::config::PasswordHash = hash.parse().expect("a hash");
        assert!(hash.verify(b"hunter2"), "{input:?}");
    }
    let text = "[[user]]\nname = \"ada\"\npassword_hash = \"HASH\"\n";
    let hash = outcome(leveret.command(&["hash-password"]).write_stdin("hunter2")).stdout;
    fs::write(
        leveret.path("leveret.toml"),
        text.replace("HASH", hash.trim()),
    )
    .expect("a file");
    assert_eq!(
        leveret.run(&["check", "--strict", "leveret.toml"]).code,
        Some(0)
    );
}

#[test]
fn hash_password_refuses_nothing() {
    let refused = outcome(Leveret::new().command(&["hash-password"]).write_stdin("\n"));
    let expected = Outcome {
        code: Some(1),
        stdout: String::new(),
        stderr: "leveret: an empty password would let anybody in\n".to_owned(),
    };
    assert_eq!(refused, expected);
}

#[test]
fn serve_refuses_a_wrong_file_with_all_its_errors() {
    let leveret = Leveret::with_file(WRONG);
    let expected = "leveret: leveret.toml:3:1: unknown key 'adress' in [amqp], did you mean 'address'?\n\
                    leveret.toml:4:13: 'heartbeat' in [amqp]: expected a duration such as \"10s\" in \
                    whole seconds, from \"0s\" to \"65535s\", found 60\n";
    for arguments in [
        &["--config", "leveret.toml"][..],
        &["serve", "--config", "leveret.toml"],
    ] {
        let outcome = leveret.run(arguments);
        assert_eq!(
            (outcome.code, outcome.stderr.as_str()),
            (Some(1), expected),
            "{arguments:?}"
        );
    }
    let from_environment = outcome(leveret.command(&[]).env("LEVERET_CONFIG", "leveret.toml"));
    assert_eq!(from_environment.stderr, expected);
}

#[test]
fn wrong_flags_say_what_is_expected() {
    let leveret = Leveret::with_file(RIGHT);
    for (arguments, expected) in [
        (
            &["--amqp", "localhost"][..],
            "invalid value 'localhost' for '--amqp <ADDR:PORT>'",
        ),
        (
            &["--log-level", "loud"],
            "expected off, error, warn, info, debug or trace",
        ),
        (&["--log-format", "xml"], "[possible values: text, json]"),
        (
            &["serve", "--confg", "x"],
            "a similar argument exists: '--config'",
        ),
        (
            &["chek", "leveret.toml"],
            "a similar subcommand exists: 'check'",
        ),
        (&["check"], "required arguments were not provided"),
        (
            &["--config", "x", "check", "leveret.toml"],
            "cannot be used with",
        ),
    ] {
        let outcome = leveret.run(arguments);
        assert_eq!(outcome.code, Some(2), "{arguments:?}: {outcome:?}");
        assert!(
            outcome.stderr.contains(expected),
            "{arguments:?}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn the_environment_of_serve_is_in_nobody_elses_way() {
    let leveret = Leveret::with_file(RIGHT);
    let mut command = leveret.command(&["check", "leveret.toml"]);
    command
        .env("LEVERET_CONFIG", "nowhere.toml")
        .env("LEVERET_AMQP", "127.0.0.1:0");
    assert_eq!(outcome(&mut command).code, Some(0));
}

#[test]
fn help_names_commands_flags_and_environment() {
    let leveret = Leveret::new();
    for (arguments, expected) in [
        (
            &["--help"][..],
            &[
                "serve",
                "check",
                "hash-password",
                "bench",
                "--config",
                "--amqp",
            ][..],
        ),
        (
            &["serve", "--help"],
            &[
                "--config",
                "LEVERET_CONFIG",
                "--amqp",
                "LEVERET_AMQP",
                "--data-dir",
                "--log-level",
                "--log-format",
            ],
        ),
        (&["check", "--help"], &["--strict", "<FILE>"]),
    ] {
        let outcome = leveret.run(arguments);
        assert_eq!(outcome.code, Some(0));
        for word in expected {
            assert!(
                outcome.stdout.contains(word),
                "{word} is not in {}",
                outcome.stdout
            );
        }
    }
    let version = leveret.run(&["--version"]);
    assert_eq!(
        version.stdout,
        concat!("leveret ", env!("CARGO_PKG_VERSION"), "\n")
    );
}
