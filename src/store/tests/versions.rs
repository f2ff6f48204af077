//! Files of earlier versions, as those versions wrote them.

use crate::model::{PageTag, Sequence};
use crate::store::RecoveredContent;

use super::{append, open, places, settle, wait};

/// Of version 1, which knew no times and no tags: thirteen messages, of which
/// the third is settled and one came back three times, another once; the first
/// four others are in a page as well.
const FORMAT_1: [(&str, &[u8]); 2] = [
    (
        "log-0000000000000001.log",
        include_bytes!("format_1/log-0000000000000001.log"),
    ),
    (
        "queue-0000000000000003-0000000000000000.seg",
        include_bytes!("format_1/queue-0000000000000003-0000000000000000.seg"),
    ),
];

#[test]
fn files_of_version_1_are_read_and_left_as_they_are() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, octets) in FORMAT_1 {
        std::fs::write(directory.path().join(name), octets).expect("a file");
    }
    let expected: Vec<u64> = (0..13).filter(|place| *place != 2).collect();
    let opened = open(directory.path());
    assert!(opened.report.clean, "{:?}", opened.report);
    assert!(opened.report.damages.is_empty(), "{:?}", opened.report);
    assert_eq!(places(&opened), expected);
    let queue = &opened.queues[0];
    let came_back = [(Sequence(5), (3, 0)), (Sequence(7), (1, 0))];
    assert_eq!(queue.deliveries, came_back.into());
    assert_eq!(queue.next, Sequence(13));
    assert_eq!(queue.runs[0].tag, PageTag::default());
    for run in &queue.runs {
        let messages = match &run.content {
            RecoveredContent::Paged(page) => opened.store.read_page(*page).messages,
            RecoveredContent::Resident(messages) => messages
                .iter()
                .map(|(_, message)| message.clone())
                .collect(),
        };
        assert!(messages.iter().all(|message| message.arrived() == 0));
    }
    // It goes on in files of its own version, and both are read the next time.
    settle(&opened.store, 0, 2);
    let ticket = append(&opened.store, 13, 2);
    wait(&opened.store, ticket);
    opened.store.close();
    drop(opened);
    let (name, octets) = FORMAT_1[1];
    let segment = std::fs::read(directory.path().join(name)).expect("it is there");
    assert_eq!(segment, octets);
    let opened = open(directory.path());
    let expected: Vec<u64> = (3..15).collect();
    assert_eq!(places(&opened), expected);
}
