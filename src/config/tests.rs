//! What the configuration's tables read and how they refuse.

use super::*;

/// The configuration and the findings, as a file of that text gives them.
fn read(text: &str) -> (Config, Vec<String>) {
    let (document, root) = match Document::parse("leveret.toml", text) {
        Ok(parsed) => parsed,
        Err(ConfigErrors(errors)) => {
            let errors = errors.iter().map(Diagnostic::with_severity);
            return (Config::default(), errors.collect());
        }
    };
    let config = {
        let mut reader = document.root(&root);
        let config = Config::read(&mut reader, &[VhostName::from("/")]);
        reader.finish();
        config
    };
    let diagnostics = document.into_diagnostics();
    (
        config,
        diagnostics.iter().map(Diagnostic::with_severity).collect(),
    )
}

#[test]
fn an_empty_file_is_the_default() {
    let (config, findings) = read("");
    assert_eq!(config, Config::default());
    assert_eq!(findings, [""; 0]);
    let guest = config
        .users
        .verify("guest", b"guest")
        .expect("there is a guest");
    assert!(guest.loopback_only && guest.may_open(&VhostName::from("/")));
}

#[test]
fn every_table_is_read() {
    let (config, findings) = read(
        r#"
        [server]
        product = "Test"
        version = "4.0.1"
        cluster_name = "here"
        data_dir = "/var/lib/leveret"
        workers = 2

        [amqp]
        address = ["0.0.0.0:5672", "[::1]:0"]
        frame_max = "1MiB"
        channel_max = 100
        heartbeat = "2m"
        handshake_timeout = "500ms"
        handshakes_max = 10

        [limits]
        message_size_max = "1KB"
        table_depth_max = 3
        table_entries_max = 0x10
        connections_max = "unlimited"
        connections_per_address_max = 1
        connections_per_user_max = 2
        connections_per_vhost_max = 3
        unsettled_per_channel_max = 4
        outbox_size_max = "64KiB"
        memory_max = "75 %"

        [store]
        fsync = "interval 50 ms"
        log_size = "1GiB"
        segment_size = "4MiB"
        hot_size = "128MiB"
        disk_free_min = "10GB"

        [log]
        level = "warn,leveret::session=trace"
        format = "json"
        "#,
    );
    assert_eq!(findings, [""; 0]);
    let expected = Config {
        server: ServerConfig {
            product: "Test".to_owned(),
            version: "4.0.1".to_owned(),
            cluster_name: "here".to_owned(),
            data_dir: PathBuf::from("/var/lib/leveret"),
            workers: 2,
        },
        amqp: AmqpConfig {
            addresses: vec![
                SocketAddr::from(([0, 0, 0, 0], 5672)),
                SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0)),
            ],
            frame_max: 1 << 20,
            channel_max: 100,
            heartbeat_seconds: 120,
            handshake_timeout: Duration::from_millis(500),
            handshakes_max: 10,
        },
        limits: LimitsConfig {
            message_bytes_max: 1000,
            table_depth_max: 3,
            table_entries_max: 16,
            connections_max: None,
            connections_per_address_max: Some(1),
            connections_per_user_max: Some(2),
            connections_per_vhost_max: Some(3),
            unsettled_per_channel_max: Some(4),
            outbox_bytes_max: 65_536,
            memory_max: MemoryMax::Percent(75),
        },
        store: StoreConfig {
            fsync: Fsync::Interval(Duration::from_millis(50)),
            log_bytes: 1 << 30,
            segment_bytes: 4 << 20,
            hot_bytes: 128 << 20,
            disk_free_min: Some(10_000_000_000),
        },
        log: LogConfig {
            level: "warn,leveret::session=trace".parse().expect("a filter"),
            format: LogFormat::Json,
        },
        users: Users::default(),
    };
    assert_eq!(config, expected);
}

#[test]
fn changed_tables_are_named() {
    let (old, _) = read("[amqp]\nheartbeat = \"60s\"\n[limits]\ntable_depth_max = 9\n");
    for (text, changed) in [
        ("[limits]\ntable_depth_max = 9\n", &[][..]),
        ("", &["[limits]"]),
        (
            "[server]\nworkers = 1\n[amqp]\nheartbeat = \"5s\"\n[limits]\ntable_depth_max = 9\n\
             [store]\nfsync = \"never\"\n[log]\nlevel = \"warn\"\n[[user]]\nname = \"guest\"\npassword = \"other\"\n",
            &["[server]", "[amqp]", "[store]", "[log]", "[[user]]"],
        ),
    ] {
        assert_eq!(old.changed_tables(&read(text).0), changed, "{text}");
    }
}

#[test]
fn errors_name_place_key_and_what_was_meant() {
    for (text, expected) in ERRORS {
        assert_eq!(read(text).1, *expected, "{text}");
    }
}

#[test]
fn secrets_are_never_quoted() {
    let canary = "canary-4711";
    for text in [
        format!("[[user]]\nname = \"a\"\npassword = [\"{canary}\"]"),
        format!("[[user]]\nname = \"a\"\npassword_hash = \"{canary}\""),
        format!("[[user]]\nname = \"a\"\npassword = \"{canary}\""),
        format!("[[user]]\nname = \"a\"\npassword = \"{canary}"),
        format!("[[user]]\nname = \"a\"\npassword = {canary}"),
    ] {
        let (config, findings) = read(&text);
        assert!(!findings.is_empty(), "{text}");
        assert!(!findings.join("\n").contains(canary), "{findings:?}");
        assert!(!format!("{config:?}").contains(canary), "{config:?}");
    }
}

const ERRORS: &[(&str, &[&str])] = &[
    (
        "[amqp]\nadress = \"127.0.0.1:5672\"\n",
        &["leveret.toml:2:1: error: unknown key 'adress' in [amqp], did you mean 'address'?"],
    ),
    (
        "[ampq]\n",
        &["leveret.toml:1:2: error: unknown table 'ampq', did you mean 'amqp'?"],
    ),
    (
        "[amqp]\nport = 5672\n",
        &["leveret.toml:2:1: error: unknown key 'port' in [amqp], did you mean 'address'?"],
    ),
    (
        "[amqp]\ncolour = 5672\n",
        &[
            "leveret.toml:2:1: error: unknown key 'colour' in [amqp], known here are address, frame_max, channel_max, heartbeat, handshake_timeout, handshakes_max",
        ],
    ),
    (
        "[amqp]\n  address = \"localhost\"\n",
        &[
            "leveret.toml:2:13: error: 'address' in [amqp]: expected an IP address and port such as \"127.0.0.1:5672\" or \"[::1]:5672\", or a list of such, found \"localhost\"",
        ],
    ),
    (
        "[amqp]\naddress = []\n",
        &[
            "leveret.toml:2:11: error: 'address' in [amqp]: expected an IP address and port such as \"127.0.0.1:5672\" or \"[::1]:5672\", or a list of such, found an empty list",
        ],
    ),
    (
        "amqp = 3\n",
        &["leveret.toml:1:8: error: 'amqp': expected a table, written as [amqp]"],
    ),
    (
        "[[amqp]]\nheartbeat = \"1s\"\n",
        &["leveret.toml:1:1: error: 'amqp': expected a table, written as [amqp]"],
    ),
    (
        "[user]\nname = \"a\"\n",
        &["leveret.toml:1:1: error: 'user': expected tables, each written as [[user]]"],
    ),
    (
        "user = [1]\n",
        &["leveret.toml:1:8: error: 'user': expected tables, each written as [[user]]"],
    ),
    (
        "[amqp]\nheartbeat = 60\n",
        &[
            "leveret.toml:2:13: error: 'heartbeat' in [amqp]: expected a duration such as \"10s\" in whole seconds, from \"0s\" to \"65535s\", found 60",
        ],
    ),
    (
        "[amqp]\nheartbeat = \"1500ms\"\n",
        &[
            "leveret.toml:2:13: error: 'heartbeat' in [amqp]: expected a duration such as \"10s\" in whole seconds, from \"0s\" to \"65535s\", found \"1500ms\"",
        ],
    ),
    (
        "[amqp]\nhandshake_timeout = \"1 hour\"\n",
        &[
            "leveret.toml:2:21: error: 'handshake_timeout' in [amqp]: expected a duration such as \"10s\", from \"100ms\" to \"10m\", found \"1 hour\"",
        ],
    ),
    (
        "[amqp]\nframe_max = \"1KiB\"\n",
        &[
            "leveret.toml:2:13: error: 'frame_max' in [amqp]: expected a size from \"4KiB\" to \"128MiB\", found \"1KiB\"",
        ],
    ),
    (
        "[amqp]\nframe_max = 131072\n",
        &[
            "leveret.toml:2:13: error: 'frame_max' in [amqp]: expected a size from \"4KiB\" to \"128MiB\", found 131072",
        ],
    ),
    (
        "[amqp]\nchannel_max = 0\n",
        &[
            "leveret.toml:2:15: error: 'channel_max' in [amqp]: expected a whole number from 1 to 65535, found 0",
        ],
    ),
    (
        "[amqp]\nchannel_max = 99999999999999999999\n",
        &[
            "leveret.toml:2:15: error: 'channel_max' in [amqp]: expected a whole number from 1 to 65535, found 99999999999999999999",
        ],
    ),
    (
        "[limits]\nconnections_max = \"none\"\n",
        &[
            "leveret.toml:2:19: error: 'connections_max' in [limits]: expected a whole number from 1, or \"unlimited\", found \"none\"",
        ],
    ),
    (
        "[limits]\nconnections_max = 0\n",
        &[
            "leveret.toml:2:19: error: 'connections_max' in [limits]: expected a whole number from 1, or \"unlimited\", found 0",
        ],
    ),
    (
        "[limits]\nmemory_max = \"101%\"\n",
        &[
            "leveret.toml:2:14: error: 'memory_max' in [limits]: expected a share such as \"40%\", a size from \"16MiB\" to \"1048576GiB\", or \"unlimited\", found \"101%\"",
        ],
    ),
    (
        "[limits]\nmemory_max = \"0%\"\n[store]\nhot_size = \"unlimited\"\n",
        &[
            "leveret.toml:2:14: error: 'memory_max' in [limits]: expected a share such as \"40%\", a size from \"16MiB\" to \"1048576GiB\", or \"unlimited\", found \"0%\"",
            "leveret.toml:4:12: error: 'hot_size' in [store]: expected a size from \"1MiB\" to \"1024GiB\", found \"unlimited\"",
        ],
    ),
    (
        "[store]\nfsync = \"often\"\n",
        &[
            "leveret.toml:2:9: error: 'fsync' in [store]: expected \"always\", \"never\", or \"interval\" with a duration from \"1ms\" to \"1m\" as in \"interval 50ms\", found \"often\"",
        ],
    ),
    (
        "[store]\nfsync = \"interval 2m\"\nfsyncs = 1\n",
        &[
            "leveret.toml:2:9: error: 'fsync' in [store]: expected \"always\", \"never\", or \"interval\" with a duration from \"1ms\" to \"1m\" as in \"interval 50ms\", found \"interval 2m\"",
            "leveret.toml:3:1: error: unknown key 'fsyncs' in [store], did you mean 'fsync'?",
        ],
    ),
    (
        "[store]\nlog_size = \"1KiB\"\ndisk_free_min = \"5%\"\n",
        &[
            "leveret.toml:2:12: error: 'log_size' in [store]: expected a size from \"16MiB\" to \"1024GiB\", found \"1KiB\"",
            "leveret.toml:3:17: error: 'disk_free_min' in [store]: expected \"auto\" or a size such as \"2GiB\", found \"5%\"",
        ],
    ),
    (
        "[store]\nlog_size = \"16MiB\"\nsegment_size = \"1GiB\"\n",
        &[
            "leveret.toml:3:16: error: 'segment_size' in [store]: expected a size from \"1MiB\" to \"256MiB\", found \"1GiB\"",
        ],
    ),
    (
        "[server]\nversion = \"3.13\"\n",
        &[
            "leveret.toml:2:11: error: 'version' in [server]: expected three numbers such as \"3.13.7\", found \"3.13\"",
        ],
    ),
    (
        "[server]\nproduct = \"\"\n",
        &[
            "leveret.toml:2:11: error: 'product' in [server]: expected a name in quotes, one line of 1 to 255 octets, found \"\"",
        ],
    ),
    (
        "[log]\nlevel = \"verbose\"\n",
        &[
            "leveret.toml:2:9: error: 'level' in [log]: expected off, error, warn, info, debug or trace, and possibly more for parts of the program as in \"info,leveret::session=debug\", found \"verbose\"",
        ],
    ),
    (
        "[log]\nformat = \"xml\"\n",
        &[
            "leveret.toml:2:10: error: 'format' in [log]: expected \"text\" or \"json\", found \"xml\"",
        ],
    ),
    (
        "[[user]]\nname = \"a\"\n",
        &[
            "leveret.toml:1:1: error: [[user]] needs a key 'password_hash', whose value 'leveret hash-password' prints",
        ],
    ),
    (
        "[[user]]\npassword = \"a\"\n",
        &["leveret.toml:1:1: error: [[user]] needs a key 'name'"],
    ),
    (
        "[[user]]\nname = \"a\"\npassword = \"\"\n",
        &["leveret.toml:3:12: error: 'password' in [[user]]: an empty one would let anybody in"],
    ),
    (
        "[[user]]\nname = \"a\"\npassword_hash = \"abc\"\n",
        &[
            "leveret.toml:3:17: error: 'password_hash' in [[user]]: expected an argon2 hash as 'leveret hash-password' prints it, found a string",
        ],
    ),
    (
        "[[user]]\nname = \"a\"\npassword = \"b\"\nvhosts = [\"/\", \"x\"]\n",
        &[
            "leveret.toml:3:12: warning: the password of user 'a' stands here in the clear, 'leveret hash-password' turns it into a password_hash",
            "leveret.toml:4:10: error: no [[vhost]] 'x' is defined",
        ],
    ),
    (
        "[[user]]\nname = \"a\"\npassword = \"b\"\n[[user]]\nname = \"a\"\npassword = \"c\"\n",
        &[
            "leveret.toml:3:12: warning: the password of user 'a' stands here in the clear, 'leveret hash-password' turns it into a password_hash",
            "leveret.toml:4:1: error: there is already a user 'a'",
            "leveret.toml:6:12: warning: the password of user 'a' stands here in the clear, 'leveret hash-password' turns it into a password_hash",
        ],
    ),
    (
        "[amqp]\nheartbeat = \n",
        &["leveret.toml:2:13: error: string values must be quoted, expected literal string"],
    ),
    (
        "[amqp]\nheartbeat = \"1s\"\nheartbeat = \"2s\"\n",
        &["leveret.toml:3:1: error: duplicate key 'heartbeat'"],
    ),
    (
        "[amqp\nchannel_max = 1\n[server]\nworkers = \"\n",
        &[
            "leveret.toml:1:6: error: unclosed table, expected `]`",
            "leveret.toml:4:12: error: invalid basic string, expected `\"`",
        ],
    ),
    (
        "[server]\nworker = 1\n\n[amqp]\nheartbeat = true\nframe_max = \"big\"\n",
        &[
            "leveret.toml:2:1: error: unknown key 'worker' in [server], did you mean 'workers'?",
            "leveret.toml:5:13: error: 'heartbeat' in [amqp]: expected a duration such as \"10s\" in whole seconds, from \"0s\" to \"65535s\", found true",
            "leveret.toml:6:13: error: 'frame_max' in [amqp]: expected a size from \"4KiB\" to \"128MiB\", found \"big\"",
        ],
    ),
];
