//! The layers of ARCHITECTURE.md hold: imports point downward only, and the
//! pure layers do no I/O and read no clock.

use std::fs;
use std::path::{Path, PathBuf};

/// Which of our modules each module may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("routing", &["model"]),
    ("queue", &["model"]),
    ("session", &["model"]),
    ("policy", &["model"]),
    ("config", &["model"]),
    ("store", &["model", "routing"]),
    (
        "broker",
        &["model", "routing", "queue", "policy", "config", "store"],
    ),
    (
        "gateway",
        &["model", "queue", "session", "policy", "broker"],
    ),
    (
        "topology",
        &["model", "routing", "policy", "config", "broker"],
    ),
    ("telemetry", &["config"]),
];

const PURE: &[&str] = &["model", "routing", "queue", "session", "policy"];

/// What a pure layer has no business with.
const IMPURE: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::net::",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "async fn",
    ".await",
    "getrandom",
    "rand::",
    "tracing::",
];

#[test]
fn imports_point_downward() {
    let modules: Vec<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    let mut wrong = Vec::new();
    for (module, may_use) in MAY_USE {
        for (file, line, text) in lines(module) {
            for other in &modules {
                let uses = text.contains(&format!("crate::{other}::"))
                    || text.contains(&format!("crate::{other};"));
                if uses && other != module && !may_use.contains(other) {
                    wrong.push(format!("{}:{line}: {module} uses {other}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_layers_do_no_io_and_read_no_clock() {
    let mut wrong = Vec::new();
    for module in PURE {
        for (file, line, text) in lines(module) {
            for impure in IMPURE {
                if text.contains(impure) {
                    wrong.push(format!("{}:{line}: {impure}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_stands_in_the_table() {
    let listed = fs::read_dir(source())
        .expect("src is there")
        .filter_map(Result::ok);
    for entry in listed.filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().into_string().expect("a UTF-8 name");
        // The commands are the top: they may use everything.
        let known = name == "cli" || MAY_USE.iter().any(|(module, _)| *module == name);
        assert!(known, "src/{name} has no place in the layers");
    }
}

/// The code of a module, tests and comments left out.
fn lines(module: &str) -> Vec<(PathBuf, usize, String)> {
    let mut found = Vec::new();
    collect(&source().join(module), &mut found);
    assert!(!found.is_empty(), "{module} has no code");
    found
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, usize, String)>) {
    for entry in fs::read_dir(folder)
        .expect("the folder is there")
        .filter_map(Result::ok)
    {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains("test") {
            continue;
        }
        if path.is_dir() {
            collect(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).expect("the file is readable");
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for (index, line) in code.lines().enumerate() {
            if !line.trim_start().starts_with("//") {
                found.push((path.clone(), index + 1, line.to_owned()));
            }
        }
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}
