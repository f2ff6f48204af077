//! The sample file says what the program does.

use crate::config::Config;

use super::*;

const SAMPLE: &str = include_str!("../../../docs/leveret.sample.toml");

/// The sample with its settings uncommented: a `#` without a blank.
fn uncommented() -> String {
    let lines = SAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(setting)
            if setting.starts_with(|letter: char| !letter.is_whitespace() && letter != '#') =>
        {
            setting
        }
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_as_it_is_changes_nothing() {
    let file = BrokerFile::parse("sample", SAMPLE).expect("the sample is right");
    assert_eq!(file.config, Config::default());
    assert_eq!(file.topology, Topology::default());
    assert_eq!(file.warnings, []);
}

#[test]
fn the_sample_uncommented_shows_the_defaults() {
    let file = BrokerFile::parse("sample", &uncommented()).expect("the sample is right");
    assert_eq!(file.config, Config::default());
    assert_eq!(file.warnings, []);
    let Topology {
        exchanges,
        queues,
        bindings,
        ..
    } = file.topology;
    assert_eq!((exchanges.len(), queues.len(), bindings.len()), (4, 5, 7));
}

#[test]
fn the_sample_has_every_table_and_key() {
    for table in known("") {
        let headers = [format!("[{table}]"), format!("#[[{table}]]")];
        let header = headers
            .iter()
            .find(|header| SAMPLE.lines().any(|line| line == *header));
        let header = header.unwrap_or_else(|| panic!("'{table}' is not in the sample"));
        for key in known(header.trim_start_matches('#')) {
            assert!(documented(&key), "'{key}' of {header} is not in the sample");
        }
    }
}

#[test]
fn the_sample_has_every_key_of_policies() {
    for key in crate::policy::POLICY_KEYS {
        let mut words = SAMPLE.split(|letter: char| !(letter.is_alphanumeric() || letter == '-'));
        assert!(words.any(|word| word == key.name), "'{}'", key.name);
    }
}

/// What a table may contain: an unknown key in it is told.
fn known(header: &str) -> Vec<String> {
    let (_, findings) = read(&format!("{header}\nnonexistent-key = 1\n"));
    let known = findings
        .iter()
        .find_map(|finding| finding.split_once("known here are "));
    let (_, known) = known.expect("an unknown key is an error that names the known ones");
    known.split(", ").map(str::to_owned).collect()
}

/// Whether a line of the sample gives the key a value, as a setting or in prose.
fn documented(key: &str) -> bool {
    let setting = format!("{key} = ");
    SAMPLE.lines().any(|line| {
        let text = line.trim_start_matches('#').trim_start();
        text.starts_with(&setting) || text.contains(&format!("or one: {setting}"))
    })
}
