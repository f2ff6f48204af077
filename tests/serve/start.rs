//! Starting: where the settings come from, and what is said when it fails.

use std::net::TcpListener;

use super::process::{Serve, Start};
use crate::support::client::PATIENCE;

#[test]
fn without_a_command_it_serves() {
    let serve = Start::new(&["--amqp", "127.0.0.1:0"]).start();
    serve.client().sync(1);
}

/// It begins anew to say so to its allocator, as the same process.
#[test]
fn freed_memory_goes_back_soon_unless_somebody_says_when() {
    for (said, expected) in [(None, "10"), (Some("500"), "500")] {
        let mut start = Start::new(&["--amqp", "127.0.0.1:0"]);
        if let Some(said) = said {
            start = start.env("MIMALLOC_PURGE_DELAY", said);
        }
        let serve = start.start();
        serve.client().sync(1);
        let option = format!("MIMALLOC_PURGE_DELAY={expected}");
        let environment = serve.environment();
        assert!(environment.contains(&option), "{environment:?}");
    }
}

#[test]
fn it_listens_on_several_addresses() {
    let mut serve = Serve::new(&["--amqp=127.0.0.1:0,127.0.0.2:0"]);
    for _ in 0..3 {
        serve.await_log("listening for AMQP 0-9-1");
    }
    let log = serve.log_so_far();
    assert_eq!(log.matches("address=127.0.0.1:").count(), 2, "{log}");
    assert_eq!(log.matches("address=127.0.0.2:").count(), 1, "{log}");
}

#[test]
fn flags_go_over_the_environment_and_the_environment_over_the_file() {
    let file = "[amqp]\naddress = \"127.0.0.11:0\"\n[log]\nformat = \"json\"\n";
    let expect = |start: Start, text: &str| {
        let mut serve = start.file(file).start();
        let line = serve.await_log("listening for AMQP 0-9-1");
        assert!(line.contains(text), "{line}");
    };
    let config = "--config=leveret.toml";
    expect(Start::new(&[config]), r#""address":"127.0.0.11:"#);
    let with_environment = |arguments: &[&str]| {
        Start::new(arguments)
            .env("LEVERET_CONFIG", "leveret.toml")
            .env("LEVERET_AMQP", "127.0.0.12:0")
            .env("LEVERET_LOG_FORMAT", "text")
    };
    expect(with_environment(&["serve"]), "address=127.0.0.12:");
    expect(
        with_environment(&["serve", "--amqp=127.0.0.13:0", "--log-format=json"]),
        r#""address":"127.0.0.13:"#,
    );
}

#[test]
fn the_level_of_the_log_is_obeyed() {
    let file = "[amqp]\naddress = \"127.0.0.1:0\"\n[log]\nlevel = \"info\"\n\
                [store]\nfsync = \"never\"\n";
    let start = |arguments: &[&str]| {
        let mut serve = Start::new(arguments)
            .file(file)
            .env("LEVERET_LOG_LEVEL", "warn")
            .start();
        serve.await_log("power cut");
        serve.log_so_far()
    };
    let log = start(&["--config=leveret.toml"]);
    assert!(!log.contains("listening"), "{log}");
    let log = start(&["--config=leveret.toml", "--log-level=info"]);
    assert!(log.contains("listening"), "{log}");
}

#[test]
fn a_data_directory_is_accepted() {
    let serve = Serve::new(&["--data-dir", "somewhere"]);
    serve.client().sync(1);
}

#[test]
fn it_says_what_a_confirm_is_worth() {
    let mut serve = Serve::new(&[]);
    let line = serve.await_log("the store is open");
    assert!(line.contains("fsync=always"), "{line}");
    for (fsync, log) in [
        ("never", "fsync=never"),
        ("interval 50ms", "fsync=interval 50ms"),
    ] {
        let mut serve = Serve::with_file(&format!("[store]\nfsync = \"{fsync}\"\n"));
        let line = serve.await_log("a power cut may lose what was confirmed");
        assert!(line.contains("WARN") && line.contains(log), "{line}");
    }
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let wrong = "[amqp]\nadress = \"127.0.0.1:0\"\n\n[log]\nlevel = \"loud\"\n";
    for (shows, arguments, said) in [
        (
            "an address that is taken",
            &["serve", "--amqp", &address][..],
            &["cannot listen on ", &address, "Address already in use"][..],
        ),
        (
            "a file that is not there",
            &["serve", "--config=nowhere.toml"],
            &["nowhere.toml: No such file"],
        ),
        (
            "a file that is a directory",
            &["serve", "--config=."],
            &["leveret: .: Is a directory"],
        ),
        (
            "everything that is wrong with a file",
            &["serve", "--config=leveret.toml"],
            &[
                "leveret.toml:2:1: ",
                "did you mean 'address'?",
                "leveret.toml:5:9: ",
                "off, error, warn, info",
            ],
        ),
        (
            "an unknown flag",
            &["serve", "--ampq=127.0.0.1:0"],
            &["--ampq", "--amqp"],
        ),
        (
            "an unknown flag without a command",
            &["--no-such-flag"],
            &["--no-such-flag"],
        ),
        (
            "an address without a port",
            &["serve", "--amqp=127.0.0.1"],
            &["--amqp", "127.0.0.1"],
        ),
        (
            "a level that is none",
            &["serve", "--log-level=loud"],
            &["--log-level", "off, error, warn, info"],
        ),
    ] {
        let mut serve = Start::new(arguments).file(wrong).start();
        let status = serve.await_exit(PATIENCE);
        let log = serve.whole_log();
        assert!(!status.success(), "{shows}: {status}");
        assert!(!log.contains("panicked"), "{shows}:\n{log}");
        for text in said {
            assert!(log.contains(text), "{shows}: no {text:?} in\n{log}");
        }
    }
}
