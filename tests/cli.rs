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
fn route_explains_a_decision_of_the_router() {
    let leveret = Leveret::with_file(&format!(
        "{RIGHT}[[exchange]]\nname = \"in\"\ntype = \"fanout\"\ninternal = true\nalternate = \"logs\"\n[[binding]]\nfrom = \"logs\"\nto_exchange = \"in\"\nkey = \"in\"\n"
    ));
    for (shows, arguments, code, stdout, stderr) in [
        (
            "a binding that takes it",
            &["--exchange", "logs", "--key", "disk.error"][..],
            0,
            "exchange 'logs' (topic), published to:\n  \
             to queue 'errors': pattern `*.error` matches `disk.error`: * = disk\n  \
             2 other bindings do not match\n\
             reaches 'errors'\n",
            "",
        ),
        (
            "none that does",
            &["--exchange", "logs", "--key", "disk.info"],
            0,
            "exchange 'logs' (topic), published to:\n  \
             none of its 3 bindings matches\n  \
             and it has no alternate exchange\n\
             reaches no queue\n",
            "",
        ),
        (
            "the default exchange and a queue that is not there",
            &["--exchange", "", "--key", "errors", "--key", "error"],
            0,
            "the default exchange takes each key as the name of a queue\n\
             reaches 'error', 'errors'\n\
             the file defines no queue 'error': dropped, unless a client declares it\n",
            "",
        ),
        (
            "an exchange that clients cannot publish to",
            &["--exchange", "in"],
            0,
            "exchange 'in' (fanout), published to:\n  \
             it has no bindings\n  \
             so its alternate 'logs' is taken\n\
             exchange 'logs' (topic), the alternate of 'in':\n  \
             none of its 3 bindings matches\n  \
             and it has no alternate exchange\n\
             reaches no queue\n\
             clients cannot publish to 'in', it is internal\n",
            "",
        ),
        (
            "an exchange that is not there",
            &["--exchange", "log"],
            1,
            "",
            "leveret: no exchange 'log', did you mean 'logs'?\n",
        ),
        (
            "a virtual host that is not there",
            &["--exchange", "logs", "--vhost", "shop"],
            1,
            "",
            "leveret: no vhost 'shop'\n",
        ),
    ] {
        let mut all = vec!["route", "leveret.toml"];
        all.extend(arguments);
        let expected = Outcome {
            code: Some(code),
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        };
        assert_eq!(leveret.run(&all), expected, "{shows}");
    }
}

#[test]
fn route_tells_where_a_hash_or_a_lot_leads() {
    let leveret = Leveret::with_file(
        "[[exchange]]\nname = \"ids\"\ntype = \"x-consistent-hash\"\n\
         arguments = { hash-property = \"message_id\" }\n\
         [[exchange]]\nname = \"lots\"\ntype = \"x-random\"\n\
         [[queue]]\nname = \"a\"\n[[queue]]\nname = \"b\"\n\
         [[binding]]\nfrom = \"ids\"\nto_queue = \"a\"\nkey = \"1\"\n\
         [[binding]]\nfrom = \"ids\"\nto_queue = \"b\"\nkey = \"1\"\n\
         [[binding]]\nfrom = \"lots\"\nto_queue = \"a\"\n\
         [[binding]]\nfrom = \"lots\"\nto_queue = \"b\"\n",
    );
    for (exchange, option, begin) in [
        (
            "ids",
            "--message-id",
            "exchange 'ids' (x-consistent-hash), published to:\n",
        ),
        (
            "lots",
            "--random",
            "exchange 'lots' (x-random), published to:\n",
        ),
    ] {
        let reached = |value: &str| {
            let outcome = leveret.run(&[
                "route",
                "leveret.toml",
                "--exchange",
                exchange,
                option,
                value,
            ]);
            assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
            assert!(outcome.stdout.starts_with(begin), "{}", outcome.stdout);
            let picked = outcome
                .stdout
                .contains("\n  1 other binding is not picked\n");
            assert!(picked, "{}", outcome.stdout);
            outcome.stdout
        };
        assert_eq!(reached("1"), reached("1"));
        let all: String = (0..20).map(|number| reached(&number.to_string())).collect();
        for line in ["\nreaches 'a'\n", "\nreaches 'b'\n"] {
            assert!(all.contains(line), "20 messages go both ways: {all}");
        }
    }
}

#[test]
fn route_has_an_object_for_programs() {
    let leveret = Leveret::with_file(RIGHT);
    let routed = |key: &str, exchange: &str| {
        let outcome = leveret.run(&[
            "route",
            "leveret.toml",
            "--exchange",
            exchange,
            "--key",
            key,
            "--json",
        ]);
        serde_json::from_str::<serde_json::Value>(&outcome.stdout).expect("an object")
    };
    assert_eq!(
        routed("audit", "logs"),
        serde_json::json!({
            "exchange": "logs",
            "internal": false,
            "queues": ["errors"],
            "undefined_queues": [],
            "steps": [{
                "exchange": "logs",
                "type": "topic",
                "routes_as": "topic",
                "via": "published",
                "from": null,
                "matched": [{
                    "to": { "queue": "errors" },
                    "key": "audit.#",
                    "reason": "pattern `audit.#` matches `audit`: # = no words",
                }],
                "unmatched": 1,
                "alternate": null,
                "alternate_outcome": "not needed",
            }],
        })
    );
    let missing = routed("nowhere", "");
    assert_eq!(missing["queues"], serde_json::json!([]));
    assert_eq!(missing["undefined_queues"], serde_json::json!(["nowhere"]));
}

/// The examples say in their comments where messages go: each
/// `leveret route …` with the `-> queues` below it.
#[test]
fn the_examples_route_as_they_say() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut predictions = 0;
    for entry in fs::read_dir(root.join("examples")).expect("there are examples") {
        let path = entry.expect("a readable directory").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let leveret = Leveret::new();
        let run = |arguments: &[&str]| outcome(leveret.command(arguments).current_dir(&root));
        let file = path.to_str().expect("a path in ASCII");
        assert_eq!(run(&["check", "--strict", file]).code, Some(0), "{file}");

        let text = fs::read_to_string(&path).expect("a text");
        let comments: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("#   "))
            .collect();
        for pair in comments.windows(2) {
            let (Some(command), Some(queues)) = (
                pair[0].strip_prefix("leveret route "),
                pair[1].trim().strip_prefix("-> "),
            ) else {
                continue;
            };
            let mut arguments = vec!["route", "--json"];
            arguments.extend(command.split(' '));
            let object: serde_json::Value =
                serde_json::from_str(&run(&arguments).stdout).expect("an object");
            let reached = object["queues"].as_array().expect("a list").iter();
            let mut reached: Vec<&str> = reached.filter_map(|queue| queue.as_str()).collect();
            let mut expected: Vec<&str> = queues
                .split(", ")
                .filter(|queue| *queue != "nothing")
                .collect();
            reached.sort_unstable();
            expected.sort_unstable();
            assert_eq!(reached, expected, "{command}");
            predictions += 1;
        }
    }
    assert!(predictions >= 9, "{predictions} predictions were found");
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
            &[
                "route",
                "leveret.toml",
                "--exchange",
                "logs",
                "--header",
                "eu",
            ],
            "expected NAME=VALUE",
        ),
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
        (
            &["route", "--help"],
            &[
                "<FILE>",
                "--exchange",
                "--key",
                "--header",
                "--vhost",
                "--json",
            ],
        ),
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
