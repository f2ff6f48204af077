//! The session fuzzer's body over random scripts and over the inputs kept in
//! `protocol/fuzz/regressions/sessions/`, so that a fault once found stays
//! found without a fuzzer.

#[path = "../protocol/fuzz/src/sessions.rs"]
mod sessions;

use std::path::Path;

use proptest::prelude::*;

proptest! {
    #[test]
    fn any_script_is_answered_in_whole_frames(script in proptest::collection::vec(any::<u8>(), 0..200)) {
        sessions::run(&script);
    }
}

#[test]
fn inputs_that_were_kept_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol/fuzz/regressions/sessions");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder is part of the source") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        sessions::run(&std::fs::read(path).expect("an input"));
        count += 1;
    }
    assert!(count > 0, "no input was found");
}
