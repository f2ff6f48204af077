//! The fuzz target's body over the inputs kept in `fuzz/regressions/`, so that a
//! fault once found stays found without nightly or a fuzzer.

#[path = "../fuzz/src/frames.rs"]
mod frames;

use std::fs;
use std::path::Path;

#[test]
fn inputs_that_were_kept_pass() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions/frames");
    let mut inputs = 0;
    for entry in fs::read_dir(directory).expect("the directory is part of the source") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        frames::run(&fs::read(path).expect("an input"));
        inputs += 1;
    }
    assert!(inputs > 0, "no input was found");
}

/// Every choice of reader over short inputs of every octet.
#[test]
fn short_inputs_pass() {
    frames::run(&[]);
    for choice in 0..=u8::MAX {
        for octet in 0..=u8::MAX {
            frames::run(&[choice, octet]);
            frames::run(&[choice, 0, octet, 0, octet]);
            frames::run(&[&[choice][..], &[octet; 64]].concat());
        }
    }
}
